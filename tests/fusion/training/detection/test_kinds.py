"""Kinds: class and condition in one name, and back."""

import numpy as np
import pytest

from fusion.errors import ModelError
from fusion.training.detection.kinds import class_of, condition_of, kind_of, membership, sorted_kinds, unfit
from fusion.types import TruthObject

CLASSES, CONDITIONS = ("drum", "cone"), ("ok", "dented")


def test_a_kind_names_class_and_condition() -> None:
    kind = kind_of(TruthObject(1, "drum", "dented"))
    assert (kind, class_of(kind), condition_of(kind)) == ("drum/dented", "drum", "dented")
    plain = kind_of(TruthObject(1, "open"))
    assert (plain, class_of(plain), condition_of(plain)) == ("open", "open", "")


def test_kinds_are_sorted_by_class_then_condition() -> None:
    found = sorted_kinds(["cone/ok", "drum/dented", "drum/ok", "drum/ok"], CLASSES, CONDITIONS)
    assert found == ("drum/ok", "drum/dented", "cone/ok")
    assert sorted_kinds(["cone", "drum"], CLASSES, ()) == ("drum", "cone")


def test_a_kind_the_task_does_not_know_is_named() -> None:
    with pytest.raises(ModelError, match="cone/rusty"):
        sorted_kinds(["drum/ok", "cone/rusty"], CLASSES, CONDITIONS)


@pytest.mark.parametrize(
    ("kinds", "why"),
    [
        (("drum/ok", "drum/dented", "cone/ok"), ""),
        (("drum", "cone"), ""),
        (("drum/ok", "drum/dented"), "nothing of it is a cone"),
        (("cone", "drum"), "they are cone, drum, of drum, cone"),
        (("drum", "drum", "cone"), "they are drum, drum, cone, of drum, cone"),
        (("drum/ok", "drum/rusty", "cone"), "the task has no drum/rusty"),
        (tuple("abcdefghij"), "the task has no a, b, c, d, e, f, g, h and 2 more"),
    ],
)
def test_every_class_owns_a_kind(kinds: tuple[str, ...], why: str) -> None:
    assert unfit(kinds, CLASSES, CONDITIONS) == why


def test_each_kind_belongs_to_one_class_and_one_condition() -> None:
    kinds = ("drum/ok", "drum/dented", "cone/ok")
    np.testing.assert_array_equal(membership(kinds, CLASSES), [[1, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(membership(kinds, CONDITIONS, by_condition=True), [[1, 0, 1], [0, 1, 0]])
