"""Caps on what crosses the wire. Both sides keep them: a device before it spools, the service before it decodes."""

from fusion.codec import MAX_WINDOW_CELLS

MAX_MESSAGE_BYTES = 1 << 20
"""One gRPC message; a larger one would end the whole stream."""

MAX_EVIDENCE_BYTES = 256 << 10
"""One serialised Evidence, pixels, points and sound included."""

MAX_PIXELS_BYTES = 128 << 10
MAX_POINTS_BYTES = 32 << 10
MAX_SOUND_BYTES = 64 << 10
MAX_TEXT = 1000
MAX_NAME = 64
MAX_VERSION = 200
MAX_NAMES = 256
MAX_MODELS = 32
MAX_SENSORS = 64
MAX_PROFILES = 64
MAX_LEVELS = 8
MAX_LAYERS = 8
MAX_STEP_EXPONENT = 7
MAX_CELLS = MAX_WINDOW_CELLS
MAX_EXTENT = 1 << 14
"""Pixels or cells along a side."""

MAX_TOKENS = 256
MAX_TOKEN_WIDTH = 4096
MAX_SLOTS = 64
MAX_DEADLINE_MS = 7 * 24 * 3600 * 1000
MAX_RETRY_S = 600.0
"""The longest that a peer's RetryInfo is heeded: nobody is put off for ever by a wrong number."""

MIN_STEP_M, MAX_STEP_M = 1e-4, 1.0
"""Metres between steps of the `points` lane."""
