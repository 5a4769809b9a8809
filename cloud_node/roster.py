"""The reviewers of a service: which of them reads a piece of evidence, and what is served at all."""

from __future__ import annotations

from collections.abc import Sequence

from fusion.errors import ModelError, ProtocolError, UnknownProfileError
from fusion.review import Reviewer, serves
from fusion.types import Evidence
from fusion.wire.checks import FieldCheck
from fusion.wire.limits import MAX_VERSION


class Roster:
    """Reviewers in the order of the configuration; several may share a task (the current and the previous trunk).

    Raises `ModelError` for a reviewer whose verdicts could not be sent, or not told from another's.
    """

    def __init__(self, reviewers: Sequence[Reviewer]) -> None:
        check = FieldCheck("a reviewer", ModelError)
        for reviewer in reviewers:
            check.name("name", reviewer.name, MAX_VERSION)
            if not reviewer.profiles:
                check.fail("profiles", f"of {reviewer.name} is empty: it serves no trunk")
        names = [reviewer.name for reviewer in reviewers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ModelError(f"reviewer {twice[0]} is listed twice; verdicts would not tell which of them answered")
        self.reviewers = tuple(reviewers)

    def profiles_of(self, task: str) -> tuple[str, ...]:
        """The trunks served for a task; raises `ProtocolError` naming the tasks when it is none of them."""
        profiles = {profile for reviewer in self._of(task) for profile in reviewer.profiles}
        if not profiles:
            raise ProtocolError(f"task {task!r} is not served; served: {self._tasks()}")
        return tuple(sorted(profiles))

    def choose(self, evidence: Evidence) -> Reviewer:
        """Who reads this evidence; raises `UnknownProfileError` naming what is served."""
        reviewers = self._of(evidence.task)
        for reviewer in reviewers:
            if serves(reviewer, evidence.profile):
                return reviewer
        if not reviewers:
            raise UnknownProfileError(f"{evidence.item}: task {evidence.task!r} is not served; served: {self._tasks()}")
        served = ", ".join(self.profiles_of(evidence.task))
        raise UnknownProfileError(f"{evidence.item}: profile {evidence.profile} is not served; served: {served}")

    def _of(self, task: str) -> list[Reviewer]:
        return [reviewer for reviewer in self.reviewers if reviewer.task.name == task]

    def _tasks(self) -> str:
        return ", ".join(sorted({reviewer.task.name for reviewer in self.reviewers}))
