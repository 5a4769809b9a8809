"""How evidence becomes a row, apart from the model: numpy only, and it pickles.

A service that has the weights in another process prepares rows by these while that one scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fusion.codec import Profile
from fusion.errors import EvidenceError, UnknownProfileError
from fusion.review.base import PreparedItem
from fusion.review.crop import decode_crop
from fusion.review.features import ReviewFeatures, extract_features
from fusion.review.layout import FeatureLayout
from fusion.review.price import HubPrice, MiniPrice
from fusion.types import Evidence

_NO_OPINION = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class FeaturePreparer:
    """Rows of a reviewer called `name` that reads maps, tokens, opinion and crop of items of `task`."""

    name: str
    task: str
    price: MiniPrice | HubPrice
    profiles: Mapping[str, Profile]
    layout: FeatureLayout

    def __call__(self, evidence: Evidence) -> PreparedItem:
        """Decode and check one row. Raises `EvidenceError`, or `UnknownProfileError` for another trunk."""
        _check_task(self.task, evidence)
        profile = self.profiles.get(evidence.profile)
        if profile is None:
            served = ", ".join(sorted(sha256[:12] for sha256 in self.profiles))
            raise UnknownProfileError(
                f"{evidence.item}: trunk {evidence.profile[:12]!r} is not served by {self.name}; served: {served}"
            )
        return PreparedItem(evidence.item, self.price(evidence), extract_features(evidence, profile, self.layout))


@dataclass(frozen=True, slots=True, eq=False)
class CropPreparer:
    """Rows of a reviewer that reads the crop alone, scaled to `side` pixels."""

    task: str
    price: HubPrice
    side: int

    def __call__(self, evidence: Evidence) -> PreparedItem:
        """Decode and check one row; without a crop there is nothing in it. Raises `EvidenceError`."""
        _check_task(self.task, evidence)
        crop = None if evidence.pixels is None else decode_crop(evidence.pixels, self.side, str(evidence.item))
        features = ReviewFeatures(_NO_OPINION, crop=crop)
        return PreparedItem(evidence.item, self.price(evidence), features, blind=crop is None)


def _check_task(task: str, evidence: Evidence) -> None:
    if evidence.task != task:
        raise EvidenceError(f"{evidence.item}: task {evidence.task!r} sent to a reviewer of {task!r}")
