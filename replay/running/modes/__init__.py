"""Other ways to run a plan than both nodes in one process: the device alone, the service alone, a service elsewhere."""
