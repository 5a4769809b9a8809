"""Detectors: from labelled pictures to a trunk that a device runs, in three YOLO families."""
