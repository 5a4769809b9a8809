"""`edge-node doctor`: is this machine fit for the job, and which engine serves it best."""
