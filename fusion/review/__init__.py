"""The reviewer as a model: what the cloud serves, training trains and replay runs."""

from fusion.review.base import (
    ANY_PROFILE,
    PreparedItem,
    Reviewer,
    RowsError,
    check_answers,
    is_blind,
    load_reviewer,
    scores_here,
    serves,
    waits_elsewhere,
)
from fusion.review.replicated import LostError, Replicated, ScaleLimits, replicated

__all__ = [
    "ANY_PROFILE",
    "LostError",
    "PreparedItem",
    "Replicated",
    "Reviewer",
    "RowsError",
    "ScaleLimits",
    "check_answers",
    "is_blind",
    "load_reviewer",
    "replicated",
    "scores_here",
    "serves",
    "waits_elsewhere",
]
