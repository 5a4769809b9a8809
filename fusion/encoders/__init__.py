"""One encoder a sensor: a reading becomes tokens with positions. Needs torch; devices run the exported graphs."""
