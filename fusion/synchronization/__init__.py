"""Which readings belong to one moment: the same code on a device, in replay and in training."""

from fusion.synchronization.counts import JUMP_NS, StampFault, SyncCounts
from fusion.synchronization.settings import SynchronizerSettings
from fusion.synchronization.synchronizer import Aligned, Synchronizer

__all__ = ["JUMP_NS", "Aligned", "StampFault", "SyncCounts", "Synchronizer", "SynchronizerSettings"]
