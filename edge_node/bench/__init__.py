"""`edge-node bench`: what a sample costs on this machine, from decoded readings to a decision."""
