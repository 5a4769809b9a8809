"""What rivals run inside: our own reviewer, from the bytes of evidence to answers as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusion.errors import FusionError
from fusion.review import load_reviewer
from fusion.wire.convert import parse_evidence


class Scorer:
    """Loads `reviewer` and bounds its threads."""

    def __init__(self, reviewer: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.reviewer = load_reviewer(reviewer)
        self.score([])

    def score(self, blobs: Sequence[bytes]) -> list[dict[str, Any]]:
        """Answers a blob; an `error` instead for one that cannot be read."""
        rows: list[Any] = []
        for blob in blobs:
            try:
                rows.append(self.reviewer.prepare(parse_evidence(blob)))
            except FusionError as error:
                rows.append({"error": str(error)})
        sound = [row for row in rows if not isinstance(row, dict)]
        answers = iter(self.reviewer.score(sound) if sound else [])
        return [row if isinstance(row, dict) else _plain(next(answers)) for row in rows]


def _plain(answers: Any) -> dict[str, Any]:
    return {
        name: {"option": answer.option, "probabilities": dict(answer.probabilities)} for name, answer in answers.items()
    }
