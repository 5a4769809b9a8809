"""The library: everything both nodes must agree on, the models, training and evaluation."""
