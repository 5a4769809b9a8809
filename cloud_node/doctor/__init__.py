"""Whether a machine is fit to serve reviews: `cloud-node doctor`."""
