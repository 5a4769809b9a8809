"""What is wrong with a salvaged recording, however often, in one line and bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field

SAID = 3
"""Problems that are told in full; of the others only how many there are."""


@dataclass(slots=True)
class DamageLog:
    """Problems in the order in which they were met; `str()` is one line, empty when there was none."""

    said: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, problem: str) -> None:
        """Note a problem; one that was told already counts once."""
        if problem in self.said:
            return
        self.count += 1
        if len(self.said) < SAID:
            self.said.append(problem)

    def __bool__(self) -> bool:
        return bool(self.count)

    def __str__(self) -> str:
        more = f"; and {self.count - len(self.said)} more" if self.count > len(self.said) else ""
        return "; ".join(self.said) + more
