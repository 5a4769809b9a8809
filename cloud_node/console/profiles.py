"""Which codec profiles the console can decode maps with."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from fusion.codec import Profile
from fusion.errors import FusionError
from fusion.review import Reviewer
from fusion.task import tasks_with_weights

_log = logging.getLogger(__name__)


def profiles_of(reviewers: Iterable[Reviewer]) -> dict[str, Profile]:
    """By fingerprint: those of the bundled trunks, and those that reviewers say they read (`preparer.profiles`)."""
    found = bundled_profiles()
    for reviewer in reviewers:
        found |= getattr(getattr(reviewer, "preparer", None), "profiles", {})
    return found


def bundled_profiles() -> dict[str, Profile]:
    """By fingerprint: those that come with the package; a damaged one is logged and left out."""
    found = {}
    for task in tasks_with_weights():
        weights = Path(str(resources.files("fusion").joinpath("weights", task)))
        for description in [*weights.glob("profile.json"), *weights.glob("reviewer/profiles/*/profile.json")]:
            try:
                profile = Profile.load(description.parent)
            except FusionError as error:
                _log.warning("%s", error)
                continue
            found[profile.sha256] = profile
    return found
