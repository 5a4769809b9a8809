"""How far an item's fused token lies from those of the training set.

The Mahalanobis distance to the nearest class mean under one covariance (Lee et al. 2018, arXiv 1807.03888), by which
of camera and LiDAR were there: tokens with and without LiDAR lie in different places. In units of the distance that one
in a hundred ordinary items exceeds, so that 1 means the same with any sensors and any model.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.errors import ModelError
from fusion.types import Float32Array, Float64Array, Modality

FILE = "novelty.npz"
ORDINARY = 0.99
"""Share of ordinary items within a distance of 1."""
_SEEING = (Modality.CAMERA, Modality.LIDAR)
_FLOOR = 1e-6
_MAX_ARRAY_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class TokenCloud:
    """Where the items' tokens of one set of sensors lie: `means` (K, D), one a class; `precision` (D, D), the inverse
    of the covariance about them; `scale`, the distance that is told as 1.
    """

    means: Float32Array
    precision: Float32Array
    scale: float = 1.0

    @classmethod
    def fit(cls, tokens: Float32Array, labels: NDArray[np.integer[Any]]) -> Self:
        """Of training `tokens` (N, D) of classes `labels` (N,). Raises `ModelError` for fewer tokens than 2 D."""
        if len(tokens) < 2 * tokens.shape[1]:
            raise ModelError(f"{len(tokens)} tokens of width {tokens.shape[1]} are too few for their covariance")
        wide, (classes, members) = tokens.astype(np.float64), np.unique(labels, return_inverse=True)
        means = np.stack([wide[members == place].mean(0) for place in range(len(classes))])
        covariance = np.cov((wide - means[members]).T)
        floor = _FLOOR * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        return cls(means.astype(np.float32), np.linalg.inv(covariance + floor).astype(np.float32))

    def scaled(self, ordinary: Float32Array) -> Self:
        """With the scale that leaves the share `ORDINARY` of the tokens (N, D), unseen in training, within 1."""
        return type(self)(
            self.means, self.precision, float(np.quantile(self.distances(ordinary) * self.scale, ORDINARY))
        )

    def distances(self, tokens: Float32Array) -> NDArray[np.float64]:
        """Of tokens (N, D): (N,). Raises `ModelError` on another width."""
        if tokens.ndim != 2 or tokens.shape[1] != self.means.shape[1]:
            raise ModelError(
                f"{FILE}: made for tokens of width {self.means.shape[1]}, the fuser gives {tokens.shape[1:]}"
            )
        white = _product(tokens.astype(np.float64), self._whitening)
        squared = ((white[:, None] - self._white_means) ** 2).sum(-1).min(1)
        return np.asarray(np.sqrt(squared / self.means.shape[1]) / self.scale)

    @cached_property
    def _whitening(self) -> Float64Array:
        """(D, D), after which the precision is the identity."""
        return np.linalg.cholesky(self.precision.astype(np.float64))

    @cached_property
    def _white_means(self) -> Float64Array:
        return _product(self.means.astype(np.float64), self._whitening)


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceTokens:
    """The clouds of one fusion model, by sensors (`sensors_key`)."""

    clouds: Mapping[str, TokenCloud]

    @classmethod
    def find(cls, folder: Path, fuser: Path) -> Self | None:
        """Those in a model folder with the graph `fuser`, None where it has none of either.

        Raises `ModelError` for a file that is wrong, or was made for another graph.
        """
        path = folder / FILE
        if not path.is_file() or not fuser.is_file():
            return None
        try:
            arrays = _read(path)
            keys = [name.removeprefix("means ") for name in arrays if name.startswith("means ")]
            clouds = {
                key: TokenCloud(
                    np.asarray(arrays[f"means {key}"], np.float32),
                    np.asarray(arrays[f"precision {key}"], np.float32),
                    float(arrays[f"scale {key}"]),
                )
                for key in keys
            }
            made_for = bytes(arrays["fuser"]).hex()
        except Exception as error:  # noqa: BLE001 a damaged archive raises zlib's, tokenize's and others' errors, too
            raise ModelError(f"{path}: not a file of reference tokens ({error})") from None
        for key, cloud in clouds.items():
            _check(path, key, cloud)
        if made_for != hashlib.sha256(fuser.read_bytes()).hexdigest():
            raise ModelError(f"{path}: made for another {fuser.name}; make it again with 'fusion train novelty'")
        return cls(clouds)

    def save(self, folder: Path, fuser: Path) -> None:
        """Write `novelty.npz`, for the graph `fuser` alone; the same clouds give the same bytes."""
        arrays: dict[str, NDArray[Any]] = {
            "fuser": np.frombuffer(hashlib.sha256(fuser.read_bytes()).digest(), np.uint8)
        }
        for key, cloud in self.clouds.items():
            arrays |= {f"means {key}": cloud.means, f"precision {key}": cloud.precision}
            arrays[f"scale {key}"] = np.array(cloud.scale)
        np.savez_compressed(folder / FILE, allow_pickle=False, **arrays)

    def distances(self, tokens: Sequence[Float32Array], present: Collection[Modality]) -> tuple[float | None, ...]:
        """Of tokens (D,) made from the sensors `present`, 1 being far; None where these sensors were never learnt."""
        cloud = self.clouds.get(sensors_key(present))
        if cloud is None or not len(tokens):
            return (None,) * len(tokens)
        return tuple(map(float, cloud.distances(np.stack(tokens))))


def sensors_key(present: Collection[Modality]) -> str:
    """`camera+lidar`, `camera`, `lidar` or nothing; an utterance moves tokens little."""
    return "+".join(modality.value for modality in _SEEING if modality in present)


def _product(left: Float64Array, right: Float64Array) -> Float64Array:
    """Without BLAS, whose threads go on spinning and take the processors from the next inference."""
    return np.asarray(np.einsum("nd,de->ne", left, right, optimize=False))


def _read(path: Path) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > _MAX_ARRAY_BYTES:
            raise ValueError(f"its arrays unpack to more than {_MAX_ARRAY_BYTES >> 20} MiB")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _check(path: Path, key: str, cloud: TokenCloud) -> None:
    means, precision = cloud.means, cloud.precision
    fits = means.ndim == 2 and precision.shape == (means.shape[1],) * 2
    if not fits or not (np.isfinite(means).all() and np.isfinite(precision).all() and cloud.scale > 0):
        raise ModelError(f"{path}: means {means.shape} and precision {precision.shape} of {key} do not fit together")
    if np.linalg.eigvalsh(precision.astype(np.float64))[0] <= 0:
        raise ModelError(f"{path}: the precision of {key} is not that of a distance; make it again")
