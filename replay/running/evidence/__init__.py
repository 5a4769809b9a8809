"""Evidence files: what a device decided and would have sent, in one MCAP that a service reviews later."""
