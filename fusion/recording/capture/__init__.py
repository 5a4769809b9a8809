"""Network captures: the container, and the UDP datagrams in it."""
