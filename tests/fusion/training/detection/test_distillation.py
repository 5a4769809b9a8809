"""A student learns from a teacher: what the terms say, whom they teach, and that no checkpoint holds the teacher."""

import csv
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ultralytics.nn.distill_model import DistillationModel, FeatureHook
from ultralytics.nn.tasks import DetectionModel, load_checkpoint
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.torch_utils import ModelEMA

from fusion.cli import main
from fusion.errors import ConfigError, ModelError
from fusion.training.detection.architectures import new_network, parameters
from fusion.training.detection.checkpoint import read_checkpoint, write_checkpoint
from fusion.training.detection.distill import ALONE, DISTILLED, TABLE_NAME, TEACHER, Wanted, distill_detector
from fusion.training.detection.distillation import (
    DistillationTrainer,
    Lesson,
    TaughtStudent,
    box_term,
    class_term,
    sureness,
)
from fusion.training.detection.origin import begin
from fusion.training.detection.recipe import DetectorRecipe
from fusion.training.detection.train import train_detector

GENERATOR = torch.Generator().manual_seed(4)
LOGITS = torch.randn(2, 3, 20, generator=GENERATOR)
SIDES = torch.randn(2, 4 * 8, 20, generator=GENERATOR)


def test_terms_are_nothing_where_both_agree_and_something_elsewhere() -> None:
    sure = sureness(LOGITS)
    assert class_term(LOGITS, LOGITS, sure).item() == pytest.approx(0, abs=1e-6)
    assert box_term(SIDES, SIDES, sure, 8).item() == pytest.approx(0, abs=1e-6)
    assert box_term(SIDES, SIDES, sure, 1).item() == 0
    assert class_term(LOGITS + 1, LOGITS, sure) > 0.01
    assert box_term(SIDES.flip(1), SIDES, sure, 8) > 0.01
    assert box_term(SIDES + 1, SIDES, sure, 1) > 0.01


def test_a_teacher_that_is_not_sure_is_not_listened_to() -> None:
    unsure = torch.full((1, 2, 5), -6.0)
    unsure[0, 1, 3] = 2.0
    sure = sureness(unsure)
    assert sure[0].nonzero().flatten().tolist() == [3]
    off = unsure.clone()
    off[0, :, :3] += 4
    assert class_term(off, unsure, sure).item() == pytest.approx(0, abs=1e-6)
    assert class_term(off, unsure, sureness(unsure - 9)) == 0


def test_the_class_term_is_the_mean_divergence_of_a_coin_a_class() -> None:
    """Against torch's own: KL of two Bernoulli distributions, weighted by sureness."""
    teacher, student = LOGITS, LOGITS.roll(1, 2)
    sure = sureness(teacher)
    coins = [torch.distributions.Bernoulli(logits=x) for x in (teacher, student)]
    expected = (torch.distributions.kl_divergence(*coins).sum(1) * sure).sum() / sure.sum()
    torch.testing.assert_close(class_term(student, teacher, sure), expected)


@pytest.mark.parametrize("sizes", [("yolov8s", "yolov8n"), ("yolo11n", "yolo11n"), ("yolo26n", "yolo26n")])
def test_gradients_reach_the_student_and_never_the_teacher(sizes: tuple[str, str]) -> None:
    torch.manual_seed(0)
    teacher, student = (new_network(name, 2) for name in sizes)
    for level in range(3):
        teacher.model[-1].cv3[level][-1].bias.data += 9  # sure of everything
    student.args = SimpleNamespace(**DEFAULT_CFG_DICT | {"imgsz": 64})
    before = [p.clone() for p in teacher.parameters()]
    model = TaughtStudent(teacher, student.train(), Lesson(maps=6.0)).train()
    batch = {"img": torch.rand(2, 3, 64, 64), "batch_idx": torch.zeros(0), "cls": torch.zeros(0, 1)}
    loss, told = model.loss(batch | {"bboxes": torch.zeros(0, 4)})
    assert list(told)[-3:] == ["dis_loss", "dis_cls", "dis_box"]
    assert all(told[name] > 0 for name in ("dis_loss", "dis_cls", "dis_box"))
    for term in loss[-2:]:
        student.zero_grad()
        term.backward(retain_graph=True)
        head = student.model[-1]
        assert student.model[0].conv.weight.grad.abs().sum() > 0
        reached = [branch[0][-1].weight.grad for branch in (head.cv2, head.cv3)]
        assert any(grad is not None and grad.abs().sum() > 0 for grad in reached)
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    assert not teacher.training
    model.eval()
    assert model.loss(batch | {"bboxes": torch.zeros(0, 4)})[1]["dis_cls"] == 0


@pytest.fixture(scope="module")
def runs(taught: Path, task_file: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`fusion distill --compare` with the taught detector as the teacher, one epoch each."""
    out = tmp_path_factory.mktemp("distill")
    command = ["distill", "--task", task_file, "--teacher", taught, "--data", root, "--out", out, "--compare"]
    command += [
        "--image-size",
        64,
        "--batch",
        16,
        "--epochs",
        1,
        "--threads",
        1,
        "--classes-weight",
        0.7,
        "--maps-weight",
        6,
    ]
    assert main(list(map(str, command))) == 0
    return out / "squares" / "distill"


def test_the_table_tells_what_the_teacher_was_worth(runs: Path, taught: Path) -> None:
    rows = json.loads((runs / TABLE_NAME).read_text())
    assert list(rows) == [TEACHER, ALONE, DISTILLED]
    assert rows[TEACHER]["map50"] > 0.5
    assert rows[TEACHER]["bytes"] == taught.stat().st_size
    for name in (ALONE, DISTILLED):
        assert rows[name]["parameters"] == parameters(new_network("yolov8n", 2))
        assert 0 <= rows[name]["map50_95"] <= rows[name]["map50"] <= 1
        assert rows[name]["trained"]["epochs"] == 1
    assert rows[DISTILLED]["trained"]["lesson"] == {"maps": 6.0, "classes": 0.7, "boxes": 3.0}


def test_every_term_is_logged(runs: Path) -> None:
    with (runs / "distilled" / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    for term in ("box_loss", "cls_loss", "dfl_loss", "dis_loss", "dis_cls", "dis_box"):
        assert float(row[f"train/{term}"]) > 0, term
    with (runs / "alone" / "results.csv").open() as file:
        assert "train/dis_cls" not in next(csv.DictReader(file))


def test_the_students_checkpoint_holds_no_teacher(runs: Path) -> None:
    for name in ("best", "last"):
        path = runs / "distilled" / "weights" / f"{name}.pt"
        stored = torch.load(path, weights_only=False)["model"]
        assert type(stored) is DetectionModel
        assert not any("teacher" in key or "projector" in key for key in stored.state_dict())
        assert parameters(stored) == parameters(new_network("yolov8n", 2))
        hooks = [hook for module in stored.modules() for hook in module._forward_hooks.values()]
        assert not any(isinstance(hook, FeatureHook) for hook in hooks)
        assert path.stat().st_size < 1.1 * (runs / "alone" / "weights" / f"{name}.pt").stat().st_size


def test_a_stopped_run_kept_no_teacher_either_and_goes_on(
    taught: Path, data_yaml: Path, recipe: DetectorRecipe, tmp_path: Path
) -> None:
    class Stopped(DistillationTrainer):
        def save_model(self) -> bool:
            super().save_model()
            raise KeyboardInterrupt

    recipe = replace(recipe, epochs=2, batch=28)
    run = partial(train_detector, data_yaml, tmp_path / "run", recipe, extra={"distill_model": str(taught), "dis": 6.0})
    with pytest.raises(KeyboardInterrupt):
        run(trainer=partial(Stopped, lesson=Lesson()))
    stopped = load_checkpoint(tmp_path / "run" / "weights" / "last.pt")[0]
    assert isinstance(stopped, DistillationModel)
    assert stopped.teacher_model is None
    best = run(trainer=partial(DistillationTrainer, lesson=Lesson()), resume=True)
    assert type(read_checkpoint(best)) is DetectionModel
    with (tmp_path / "run" / "results.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    changed = best.stat().st_mtime_ns
    assert run(trainer=partial(DistillationTrainer, lesson=Lesson()), resume=True) == best  # finished: nothing to do
    assert best.stat().st_mtime_ns == changed


def test_a_teacher_of_another_kind_is_refused_before_anything_is_trained(
    data_yaml: Path, recipe: DetectorRecipe, tmp_path: Path, random_checkpoint
) -> None:
    def refused(teacher: str | Path, **others: object) -> str:
        with pytest.raises((ModelError, ConfigError)) as caught:
            distill_detector(data_yaml, tmp_path / "out", Wanted(str(teacher), recipe, **others))
        assert not list(tmp_path.glob("out/**/*.pt"))
        return str(caught.value)

    assert "a yolo11n cannot teach a yolov8n; teacher and student must be of one family" in refused("yolo11n")
    assert "a yolo26n cannot teach a yolov8n" in refused(random_checkpoint("yolo26n"))
    assert "the teacher knows green, red; the data has red, green" in refused(
        random_checkpoint("yolov8n", ("green", "red"))
    )
    assert "one already; leave it out" in refused(random_checkpoint("yolov8n"), teacher_epochs=3)
    assert "no such checkpoint" in refused(tmp_path / "none.pt")


def test_a_bundle_can_teach(
    bundle: Path, taught: Path, data_yaml: Path, recipe: DetectorRecipe, tmp_path: Path
) -> None:
    from fusion.training.detection.warm_start import bundle_network

    with pytest.raises(ModelError, match=r"card\.json: does not tell the detector's architecture"):
        bundle_network(bundle, ["red", "green"])
    card = bundle / "card.json"
    try:
        card.write_text(json.dumps({"Recipe": {"architecture": "yolov8n"}}))
        with pytest.raises(ModelError, match="does not tell the detector's classes, and its task 'squares'"):
            bundle_network(bundle, ["red", "green"])
        classes = {"0": "red", "1": "green"}
        card.write_text(json.dumps({"Recipe": {"architecture": "yolov8n.yaml"}, "Classes": classes}))
        network = bundle_network(bundle, ["red", "green"])
        for others in (["green", "red"], ["red", "green", "blue"]):
            with pytest.raises(ModelError, match="it knows red, green; the data has"):
                bundle_network(bundle, others)
        rows = distill_detector(data_yaml, tmp_path, Wanted(str(bundle), replace(recipe, epochs=1, batch=28)))
    finally:
        card.unlink()
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(picture)[0], read_checkpoint(taught)(picture)[0], atol=0.3, rtol=5e-2)
    assert rows[TEACHER]["trained"] == {"from": "the bundle squares"}
    assert rows[TEACHER]["map50"] > 0.5
    assert list(rows) == [TEACHER, DISTILLED]


def test_a_student_begins_with_a_bundle_and_its_teacher_stays_as_it_is(
    bundle: Path, taught: Path, data_yaml: Path, recipe: DetectorRecipe, tmp_path: Path
) -> None:
    student = new_network("yolov8n", 2)
    student.args = SimpleNamespace(**DEFAULT_CFG_DICT | {"imgsz": 64})
    teacher = read_checkpoint(taught)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    model = TaughtStudent(teacher, student.train(), Lesson()).train()
    pictures = torch.rand(4, 3, 64, 64)
    trainer = SimpleNamespace(
        model=model,
        ema=ModelEMA(model),
        data={"names": {0: "red", 1: "green"}, "nc": 2},
        train_loader=[{"img": pictures}],
        preprocess_batch=lambda batch: batch,
    )
    begin(bundle, trainer)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    with torch.no_grad():
        expected = read_checkpoint(taught)(pictures)[0]
        for learnt in (student.eval(), trainer.ema.ema.student_model):
            torch.testing.assert_close(learnt(pictures)[0], expected, atol=0.3, rtol=5e-2)

    small = replace(recipe, epochs=1, batch=28, learning_rate=1e-6, start=str(bundle))
    rows = distill_detector(data_yaml, tmp_path, Wanted(str(taught), small))
    assert rows[DISTILLED]["map50"] > 0.5  # as the bundle, and not as one that begins with nothing
    assert json.loads((tmp_path / TABLE_NAME).read_text())[DISTILLED]["trained"]["start"] == bundle.name


def test_a_start_that_the_student_cannot_have_is_refused_before_the_teacher_is_trained(
    bundle: Path, taught: Path, data_yaml: Path, recipe: DetectorRecipe, tmp_path: Path, random_checkpoint
) -> None:
    def refused(**others: str) -> str:
        with pytest.raises((ModelError, ConfigError)) as caught:
            distill_detector(data_yaml, tmp_path / "out", Wanted("yolov8s", replace(recipe, epochs=1, **others)))
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    fused = write_checkpoint(read_checkpoint(taught).fuse(verbose=False), tmp_path / "fused.pt")
    assert "its batch norms were folded away" in refused(architecture="", start=str(fused))
    start = str(random_checkpoint("yolov8s"))
    assert "is a yolov8s, not a yolov8n; leave out --architecture" in refused(start=start)
    told = refused(architecture="yolov8s", start=str(bundle))
    assert f"{bundle}: no yolov8s can begin with it: weights (16, 3, 3, 3) do not fit (32, 3, 3, 3)" in told
