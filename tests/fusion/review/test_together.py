"""A verdict never contradicts itself, and stays the most probable of those that do not."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import ModelError
from fusion.review.together import choose, combinations_of, load_together, save_together
from fusion.task import Task

PCB = Task.load("pcb")


@given(st.integers(0, 10_000))
def test_the_choice_is_the_best_of_the_allowed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = (3, 4, 2)
    tables = [rng.dirichlet(np.ones(n), size=5) for n in sizes]
    everything = list(product(*map(range, sizes)))
    allowed = combinations_of(np.array([everything[i] for i in rng.integers(len(everything), size=6)]))
    chosen = choose(tables, allowed)
    for row, answer in enumerate(chosen):
        best = max(allowed.tolist(), key=lambda one: np.prod([t[row, i] for t, i in zip(tables, one, strict=True)]))
        assert answer.tolist() == best


def test_without_combinations_every_slot_answers_for_itself() -> None:
    tables = [np.array([[0.2, 0.8]]), np.array([[0.1, 0.6, 0.3]])]
    assert choose(tables, None).tolist() == [[1, 1]]


def test_combinations_survive_the_disk_and_a_stranger_is_refused(tmp_path: Path) -> None:
    together = combinations_of(np.array([[0, 6], [1, 2], [1, 2]]))
    save_together(tmp_path, PCB, together)
    assert np.array_equal(load_together(tmp_path, PCB), together)
    with pytest.raises(ModelError, match=r"together\.json"):
        load_together(tmp_path, Task.load("yard"))
    assert load_together(tmp_path / "none", PCB) is None


@pytest.mark.parametrize("slots", [("defect",), ("type", "defect"), ("defect", "type", "type")])
def test_answers_are_of_the_tasks_slots_in_their_order(tmp_path: Path, slots: tuple[str, ...]) -> None:
    options = {slot.name: slot.options[0] for slot in PCB.slots}
    written = {"slots": slots, "answers": [[options[name] for name in slots]]}
    (tmp_path / "together.json").write_text(json.dumps(written))
    with pytest.raises(ModelError, match=r"together\.json: not the answers of task pcb .*defect, type"):
        load_together(tmp_path, PCB)
