"""Sets the screener's threshold so that a stated share of defects at most is missed: `edge-node calibrate`."""
