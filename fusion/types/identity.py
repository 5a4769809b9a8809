"""Who a sample is, and who an item is."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Self

from fusion.errors import InputError

_DEVICE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_EPOCH = re.compile(r"[0-9a-f]{16}")
_SEQUENCE = re.compile(r"[0-9]{1,19}")
_ITEM = re.compile(r"[0-9]{1,5}")
MAX_ITEMS_PER_SAMPLE = 0xFFFF


def new_epoch() -> str:
    """A fresh random epoch (16 hex digits), drawn once when a spool is born."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True, order=True)
class SampleId:
    """One sample of one device: `device/epoch/sequence`.

    The epoch is born with the spool, so a wiped device can never repeat an id. Sequences count
    from 1 without gaps within an epoch.
    """

    device: str
    epoch: str
    sequence: int

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise InputError(f"device name {self.device!r} is not [a-z0-9][a-z0-9_.-]* of at most 63 characters")
        if not _EPOCH.fullmatch(self.epoch):
            raise InputError(f"epoch {self.epoch!r} of device {self.device} is not 16 hex digits")
        if not 1 <= self.sequence < 1 << 63:
            raise InputError(f"sequence {self.sequence} of device {self.device} is outside 1..2^63-1")

    def __str__(self) -> str:
        return f"{self.device}/{self.epoch}/{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `device/epoch/sequence`; raises `InputError` on anything else."""
        parts = text.split("/")
        if len(parts) != 3 or not _SEQUENCE.fullmatch(parts[2]):
            raise InputError(f"{text!r} is not a sample id of the form device/epoch/sequence")
        return cls(parts[0], parts[1], int(parts[2]))


@dataclass(frozen=True, slots=True, order=True)
class ItemId:
    """One item of a sample, 1..n: the idempotency key from the spool to the ledger."""

    sample: SampleId
    item: int

    def __post_init__(self) -> None:
        if not 1 <= self.item <= MAX_ITEMS_PER_SAMPLE:
            raise InputError(f"item {self.item} of sample {self.sample} is outside 1..{MAX_ITEMS_PER_SAMPLE}")

    def __str__(self) -> str:
        return f"{self.sample}#{self.item}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `device/epoch/sequence#item`; raises `InputError` on anything else."""
        sample, _, item = text.rpartition("#")
        if not _ITEM.fullmatch(item):
            raise InputError(f"{text!r} is not an item id of the form device/epoch/sequence#item")
        return cls(SampleId.parse(sample), int(item))
