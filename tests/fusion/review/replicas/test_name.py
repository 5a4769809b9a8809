"""The name of replicas: what it says, and what it cannot say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import ConfigError
from fusion.review.replicas.fleet import back_off_s
from fusion.review.replicas.name import ProcessName, RayName
from fusion.review.replicated import ScaleLimits


def test_a_name_nests_another_with_its_options():
    called = RayName.parse("[hf:/models/[x]?task=yard&side=224]?replicas=auto:2-8&gpus=0.5&address=ray-head:6379")
    assert called.reviewer == "hf:/models/[x]?task=yard&side=224"
    assert called.limits == ScaleLimits(2, 8, 1.0, 60.0)
    assert (called.gpus, called.address) == (0.5, "ray-head:6379")
    assert not called.limits.fixed
    assert RayName.parse("[mini:yard]").limits.fixed


@pytest.mark.parametrize("name", [ProcessName, RayName])
@given(inner=st.text(min_size=1), least=st.integers(1, 50), more=st.integers(0, 50))
def test_any_reviewer_can_be_nested(name, inner, least, more):
    if inner.startswith(("ray:", "process:")):
        return
    called = name.parse(f"[{inner}]?replicas=auto:{least}-{least + more}")
    assert (called.reviewer, called.limits.least, called.limits.most) == (inner, least, least + more)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("mini:yard?replicas=2", "which reviewer"),
        ("[]", "reviewer: "),
        ("[mini:yard]replicas=2", "which reviewer"),
        ("[mini:yard]?replicas=0", "at least 1"),
        ("[mini:yard]?replicas=auto:3-2", "least first"),
        ("[mini:yard]?replicas=many", "auto:LEAST-MOST"),
        ("[mini:yard]?gpus=1.5", "whole number"),
        ("[mini:yard]?replica=2", "replica"),
        ("[mini:yard]?replicas", "OPTION=VALUE"),
        ("[ray:[mini:yard]]", "of their own"),
        ("[process:[mini:yard]]", "of their own"),
    ],
)
@pytest.mark.parametrize("name", [ProcessName, RayName])
def test_what_is_wrong_is_said(name, argument, words):
    with pytest.raises(ConfigError, match=words) as told:
        name.parse(argument)
    assert str(told.value).startswith(f"reviewer {name.scheme}:")
    assert "\n" not in str(told.value)


def test_processes_have_no_cluster():
    with pytest.raises(ConfigError, match="address"):
        ProcessName.parse("[mini:yard]?address=auto")


def test_back_off_doubles_and_is_bounded():
    waits = [back_off_s(failures) for failures in range(1, 50)]
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waits == sorted(waits)
    assert waits[-1] == 60.0
