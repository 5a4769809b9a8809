"""The edge daemon: what runs on a device."""
