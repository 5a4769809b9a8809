"""Which readings belong to one moment: the same code on a device, in replay and in training."""

from fusion.synchronization.settings import SynchronizerSettings
from fusion.synchronization.synchronizer import JUMP_NS, Aligned, SyncCounts, Synchronizer

__all__ = ["JUMP_NS", "Aligned", "SyncCounts", "Synchronizer", "SynchronizerSettings"]
