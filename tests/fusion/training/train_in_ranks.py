"""What `test_ranks.py` has `torchrun` run in each process: the training in a file, which may lose one."""

import os
import pickle
import sys
from pathlib import Path
from typing import Any, NamedTuple

from fusion.console import guarded
from fusion.preparation.fusion_spec import FusionSpec
from fusion.task import Task
from fusion.training.driving.frames import DrivingFrames
from fusion.training.driving.ground import GroundRecipe, train_ground
from fusion.training.driving.spec import FrameSpec
from fusion.training.ranks import joined


class Job(NamedTuple):
    """The second process dies when it takes frame number `dies_at` of the run, None for never."""

    recording: Path
    shapes: FrameSpec
    spec: FusionSpec
    recipe: GroundRecipe
    out: Path
    resume: bool = False
    dies_at: int | None = None


class MortalFrames(DrivingFrames):
    taken = 0
    dies_at: int | None = None

    def frame(self, *given: Any) -> Any:
        self.taken += 1
        if self.taken == self.dies_at:
            os._exit(9)
        return super().frame(*given)


def main() -> None:
    job = Job(*pickle.loads(Path(sys.argv[1]).read_bytes()))
    with joined(job.recipe.device) as ranks:
        frames = MortalFrames(job.recording, Task.load("kitti"), job.shapes, quiet=True)
        frames.dies_at = None if ranks.first else job.dies_at
        train_ground(frames, job.out, job.recipe, spec=job.spec, ranks=ranks, resume=job.resume)


if __name__ == "__main__":
    sys.exit(guarded("fusion", main))
