"""A reading → what a model takes: numpy and OpenCV only, the same functions for training and device."""

from fusion.preparation.image import (
    MAX_PIXELS,
    InputBuffer,
    Placement,
    decode_image,
    letterbox,
    to_input,
)
from fusion.preparation.image_header import ImageHeader, read_header
from fusion.preparation.lidar import MAX_POINTS, points_input
from fusion.preparation.speech import SAMPLE_RATE_HZ, WINDOW_SAMPLES, speech_present, speech_window

__all__ = [
    "MAX_PIXELS",
    "MAX_POINTS",
    "SAMPLE_RATE_HZ",
    "WINDOW_SAMPLES",
    "ImageHeader",
    "InputBuffer",
    "Placement",
    "decode_image",
    "letterbox",
    "points_input",
    "read_header",
    "speech_present",
    "speech_window",
    "to_input",
]
