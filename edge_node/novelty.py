"""How far an item's fused token lies from those of the training set: the Mahalanobis distance over sqrt(D).

Lee et al. 2018 (arXiv 1807.03888) use it on a classifier's features; over sqrt(D) a typical token is about 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion.errors import ModelError
from fusion.types import Float32Array

FILE = "novelty.npz"


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceTokens:
    """`mean` (D,) and `precision` (D, D), the inverse covariance, of the training set's item tokens."""

    mean: Float32Array
    precision: Float32Array

    @classmethod
    def find(cls, folder: Path) -> ReferenceTokens | None:
        """The statistics in a model folder, None where it has none. Raises `ModelError` for a file that is wrong."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                mean, precision = np.asarray(arrays["mean"], np.float32), np.asarray(arrays["precision"], np.float32)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{path}: not a file of reference tokens ({error})") from None
        if mean.ndim != 1 or precision.shape != (mean.size, mean.size) or not np.isfinite(precision).all():
            raise ModelError(f"{path}: mean {mean.shape} and precision {precision.shape} do not fit together")
        return cls(mean, precision)

    def distance(self, token: Float32Array) -> float:
        """Distance of a token (D,); about 1 for an ordinary one. Raises `ModelError` on another width."""
        if token.shape != self.mean.shape:
            raise ModelError(f"{FILE}: made for tokens of width {self.mean.size}, the fuser gives {token.shape}")
        off = token - self.mean
        return float(np.sqrt(max(0.0, float(off @ self.precision @ off)) / self.mean.size))
