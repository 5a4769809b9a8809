"""A student that learns from a larger teacher: from its maps, its class scores and its boxes.

The maps are ultralytics' own part (`ultralytics.nn.distill_model`): the student's neck, through two 1x1 convolutions,
meets the teacher's, cells weighted by the teacher's best score. Added here, at the anchors the teacher is sure of and
weighted by how sure: its class probabilities as soft targets (as in Yang et al., Bridging Cross-task Protocol
Inconsistency for Distillation in Dense Object Detection, ICCV 2023: a binary task a class, weighted by anchor), and
its distances to a box's sides as a distribution (Zheng et al., Localization Distillation for Dense Object Detection,
CVPR 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from ultralytics.nn.distill_model import DistillationModel
from ultralytics.nn.tasks import DetectionModel

from fusion.training.detection.architectures import Network
from fusion.training.detection.checkpoint import read_checkpoint
from fusion.training.detection.low_precision import LowPrecisionTrainer, to_float

SURE = 0.1
"""The best class score from which on the teacher is listened to about an anchor."""
CLASSES, BOXES = "dis_cls", "dis_box"
"""Their names in the log; ultralytics calls that of the maps `dis_loss`."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What each term weighs beside the loss on labels, whose parts weigh 7.5 (boxes), 0.5 (classes) and 1.5 (sides).

    The defaults are those that taught best in a short training (docs/results.md): there the head's terms help and the
    maps' term, at ultralytics' own 6.0, keeps the student from learning its task.
    """

    maps: float = 0.0
    classes: float = 2.0
    boxes: float = 3.0


def sureness(scores: Tensor) -> Tensor:
    """How much the teacher is listened to at each anchor, (B, A): its best probability, 0 below `SURE`.

    `scores` (B, C, A) are logits.
    """
    best = scores.sigmoid().amax(1)
    return best * (best >= SURE)


def class_term(student: Tensor, teacher: Tensor, sure: Tensor) -> Tensor:
    """Divergence of the student's class probabilities from the teacher's, a scalar; 0 where they agree.

    Logits (B, C, A); summed over classes, averaged over anchors by `sure` (B, A).
    """
    soft = teacher.sigmoid()
    apart = soft * (functional.logsigmoid(teacher) - functional.logsigmoid(student))
    apart = apart + (1 - soft) * (functional.logsigmoid(-teacher) - functional.logsigmoid(-student))
    return _average(apart.sum(1), sure)


def box_term(student: Tensor, teacher: Tensor, sure: Tensor, bins: int) -> Tensor:
    """Divergence of the student's boxes from the teacher's, a scalar; 0 where they agree.

    (B, 4 * bins, A): logits over `bins` distances a side, or with one bin the distances themselves in cells; averaged
    over sides, and over anchors by `sure` (B, A).
    """
    if bins == 1:
        return _average(functional.smooth_l1_loss(student, teacher, reduction="none").mean(1), sure)
    batch, _, anchors = student.shape
    ours, theirs = (sides.reshape(batch, 4, bins, anchors).log_softmax(2) for sides in (student, teacher))
    return _average((theirs.exp() * (theirs - ours)).sum(2).mean(1), sure)


def _average(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1.0)


def _bins(network: Network) -> int:
    return int(network.model[-1].reg_max)


class FrozenTeacher(DetectionModel):  # type: ignore[misc]
    """A teacher's network: it answers in bfloat16 and never learns."""

    def _predict_once(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return super()._predict_once(x, *args, **kwargs)


class TaughtStudent(DistillationModel):  # type: ignore[misc]
    """Student and teacher while the student learns; checkpoints of it hold the student alone."""

    def __init__(self, teacher: Network, student: Network, lesson: Lesson) -> None:
        teacher.__class__ = FrozenTeacher
        super().__init__(teacher_model=teacher, student_model=student)
        self.lesson = lesson

    def decouple_outputs(self, preds: Any, branch: str = "one2one") -> Any:
        """As in ultralytics, in float32."""
        return to_float(super().decouple_outputs(preds, branch))

    def loss(self, batch: Any, preds: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on labels and each term's part, and the same detached by name; no lesson while validating."""
        total, told = super().loss(batch, preds)
        terms = self._terms() if self.training else {CLASSES: total.new_zeros(1), BOXES: total.new_zeros(1)}
        told |= {name: term.detach() for name, term in terms.items()}
        return torch.cat([total, *(term * len(batch["img"]) for term in terms.values())]), told

    def _terms(self) -> dict[str, Tensor]:
        """Both terms of the head's answers that `loss` has just caught, weighted, (1,) each."""
        head = len(self.feats_idx) - 1
        learnt, taught = (
            self.decouple_outputs(caught[head], branch="one2many")
            for caught in (self._student_feats, self._teacher_feats)
        )
        sure = sureness(taught["scores"])
        classes = class_term(learnt["scores"], taught["scores"], sure)
        boxes = box_term(learnt["boxes"], taught["boxes"], sure, _bins(self.student_model))
        return {CLASSES: self.lesson.classes * classes[None], BOXES: self.lesson.boxes * boxes[None]}


class DistillationTrainer(LowPrecisionTrainer):
    """Trains a student of the teacher whose checkpoint the argument `distill_model` names."""

    model: Any

    def __init__(self, *arguments: Any, lesson: Lesson, **options: Any) -> None:
        self.lesson = lesson
        super().__init__(*arguments, **options)

    def setup_model(self) -> Any:
        """Put the student beside its teacher; of a run gone on with, the projector as it was."""
        checkpoint = super().setup_model()
        before = self.model
        student = before.student_model if isinstance(before, DistillationModel) else before
        student.args = self.args
        student.nc, student.names = self.data["nc"], self.data["names"]
        taught = TaughtStudent(read_checkpoint(Path(self.args.distill_model)), student, self.lesson)
        if isinstance(before, DistillationModel):
            taught.projector.load_state_dict(before.projector.state_dict())
        taught.criterion = None
        self.model = taught
        return checkpoint
