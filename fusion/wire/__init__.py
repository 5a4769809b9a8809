"""The wire: messages between a device and the review service. The only package that knows the protobuf stubs."""

PROTOCOL_VERSION = 1
"""What Hello and Welcome must agree on."""
