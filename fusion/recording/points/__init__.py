"""Point-cloud files, and calibration pairs of a picture and a cloud."""
