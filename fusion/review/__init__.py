"""The reviewer as a model: what the cloud serves, training trains and replay runs."""

from fusion.review.base import (
    ANY_PROFILE,
    PreparedItem,
    Reviewer,
    RowsError,
    check_answers,
    load_reviewer,
    serves,
    waits_elsewhere,
)

__all__ = [
    "ANY_PROFILE",
    "PreparedItem",
    "Reviewer",
    "RowsError",
    "check_answers",
    "load_reviewer",
    "serves",
    "waits_elsewhere",
]
