"""How good the models are, on held-out data, with intervals."""
