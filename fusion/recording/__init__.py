"""Recordings: the native MCAP format, image folders and data sets of others, all read through one interface."""

from fusion.recording.base import RecordingInfo, RecordingReader, SensorInfo, TimeGap, open_recording

__all__ = ["RecordingInfo", "RecordingReader", "SensorInfo", "TimeGap", "open_recording"]
