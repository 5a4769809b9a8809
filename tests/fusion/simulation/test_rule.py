import pytest

from fusion.simulation import action_for
from fusion.simulation.scene_set import CLASSES
from fusion.simulation.stock import CLEARANCE, CONDITIONS
from fusion.task import Task


@pytest.mark.parametrize(
    ("label", "condition", "asked", "action"),
    [
        ("person", "obstructing", True, "stop"),
        ("forklift", "obstructing", False, "clear"),
        ("drum", "leaking", True, "contain"),
        ("crate", "dented", False, "repair"),
        ("pallet", "broken", False, "repair"),
        ("cone", "toppled", True, "upright"),
        ("cone", "ok", True, "report"),
        ("cone", "ok", False, "none"),
    ],
)
def test_action(label, condition, asked, action):
    assert action_for(label, condition, asked) == action


def test_everything_simulated_is_in_the_task():
    task = Task.load("yard")
    actions = next(slot for slot in task.slots if slot.name == "action").options
    assert task.classes == CLASSES
    assert set(CONDITIONS) == set(CLEARANCE) == set(CLASSES)
    for label, conditions in CONDITIONS.items():
        assert set(conditions) <= set(task.conditions)
        for condition in conditions:
            assert {action_for(label, condition, asked) for asked in (False, True)} <= set(actions)
