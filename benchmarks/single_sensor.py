"""What each sensor alone can tell of a yard object's condition, so that the task is known to need several.

Specialists that read one sensor are trained on the same detections of the same scenes: the camera from the trunk's
maps and the detector's own opinion, the LiDAR from the points in the box; one that reads both; and, as the floor,
one that only knows how often each condition occurs. Recall by condition on held-out scenes, mean and range of three
seeds. The voice needs no table: which object is asked for is only ever said.

    python benchmarks/single_sensor.py [--runs runs] [--out out/evaluate] [--epochs 8] [--seeds 3]

Needs the features that `fusion train fusion` and `fusion evaluate fusion` have cached.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fusion.model.item_points import ItemPointEncoder
from fusion.model.window import box_window, read_windows
from fusion.preparation.items import ITEM_POINTS, POINT_SCALE
from fusion.task import Task
from fusion.training.scene_features import FROM_DETECTOR, FeatureCache, open_cache

BINS = 3
SENSORS = {"camera": ("camera",), "lidar": ("lidar",), "camera + lidar": ("camera", "lidar")}


class Items:
    """Detections of clearly seen objects: `camera` (N, F), `points` (N, 96, 7), `valid` (N, 96), `truth` (N,)."""

    def __init__(self, cache: FeatureCache) -> None:
        parts = [_scene(cache, index) for index in tqdm(range(len(cache)), desc=str(cache.folder), unit="scene")]
        camera, points, valid, truth, scene = (np.concatenate(part) for part in zip(*parts, strict=True))
        self.camera, self.points = torch.from_numpy(camera), torch.from_numpy(points)
        self.valid, self.truth, self.scene = torch.from_numpy(valid), torch.from_numpy(truth), scene


def _scene(cache: FeatureCache, index: int) -> tuple[NDArray[np.generic], ...]:
    features = cache.features
    row_truth = np.asarray(features.row_truth[index])
    mine = (np.asarray(features.row_kind[index]) == FROM_DETECTOR) & (row_truth >= 0)
    rows = np.flatnonzero(mine)
    rows = rows[np.asarray(features.clear[index])[row_truth[rows]]]
    boxes = torch.from_numpy(np.asarray(features.boxes[index][rows], np.float32))[None]
    told = [np.asarray(features.class_scores[index][rows]), np.asarray(features.condition_scores[index][rows])]
    read = [np.asarray(boxes[0])]
    for codes in (features.p4, features.p5):
        values = torch.from_numpy(np.asarray(codes[index], np.float32))
        depth, height, width = values.shape
        window = box_window(boxes, height, width, BINS)
        read.append(read_windows(values.reshape(depth, -1).T[None], window)[0].numpy() / 8)
    valid = np.arange(ITEM_POINTS) < np.asarray(features.item_point_count[index][rows])[:, None]
    truth = np.asarray(features.condition[index])[row_truth[rows]].astype(np.int64)
    return (
        np.concatenate([*read, *told], 1).astype(np.float32),
        np.asarray(features.item_points[index][rows], np.float32),
        valid,
        truth,
        np.full(len(rows), index),
    )


class Specialist(nn.Module):
    """Reads the sensors it is built for, and answers with condition logits."""

    def __init__(self, sensors: Sequence[str], camera_width: int, conditions: int) -> None:
        super().__init__()
        self.sensors = sensors
        self.camera = nn.Sequential(nn.Linear(camera_width, 256), nn.GELU(), nn.Dropout(0.2), nn.Linear(256, 96))
        self.lidar = ItemPointEncoder(POINT_SCALE, 96)
        self.answer = nn.Sequential(nn.GELU(), nn.Linear(96 * len(sensors), 96), nn.GELU(), nn.Linear(96, conditions))

    def forward(self, camera: Tensor, points: Tensor, valid: Tensor) -> Tensor:
        """(B, F), (B, 96, 7), (B, 96) → (B, conditions)."""
        read = {"camera": lambda: self.camera(camera), "lidar": lambda: self.lidar(points, valid)}
        answer: Tensor = self.answer(torch.cat([read[name]() for name in self.sensors], 1))
        return answer


def train(sensors: Sequence[str], items: Items, conditions: int, epochs: int, seed: int) -> Specialist:
    """A specialist trained from random weights; rare conditions weigh as in the fusion model's loss."""
    torch.manual_seed(seed)
    model = Specialist(sensors, items.camera.shape[1], conditions)
    counts = torch.bincount(items.truth, minlength=conditions).float()
    weight = counts.clamp(min=1).rsqrt()
    weight = weight / (weight * counts).sum() * counts.sum()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.02)
    steps = len(items.truth) // 256
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in tqdm(range(epochs), desc=f"{' + '.join(sensors)}, seed {seed}", unit="epoch"):
        order = torch.randperm(len(items.truth), generator=generator)
        for rows in order.split(256)[:steps]:
            points = items.points[rows]
            points = torch.cat([points[..., :3] + 0.006 * torch.randn_like(points[..., :3]), points[..., 3:]], -1)
            logits = model(items.camera[rows], points, items.valid[rows])
            loss = functional.cross_entropy(logits, items.truth[rows], weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.inference_mode()
def recalls(model: Specialist, items: Items, conditions: int) -> NDArray[np.float64]:
    """Recall of every condition, their mean, and the plain accuracy: (conditions + 2,)."""
    rows = torch.arange(len(items.truth)).split(1024)
    found = torch.cat([model(items.camera[r], items.points[r], items.valid[r]).argmax(1) for r in rows])
    right = (found == items.truth).numpy()
    truth = items.truth.numpy()
    each = [right[truth == c].mean() for c in range(conditions)]
    return np.array([*each, np.mean(each), right.mean()])


def main() -> None:
    """Train and measure every specialist, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("out/evaluate"))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    task = Task.load("yard")
    learn, held = arguments.runs / "yard" / "features-train", arguments.out / "features-yard-test"
    if missing := [folder for folder in (learn, held) if not folder.is_dir()]:
        print(f"no features in {missing[0]}; run 'fusion train fusion' and 'fusion evaluate fusion' first; skipped")
        return
    items, unseen = Items(open_cache(learn)), Items(open_cache(held))
    conditions = len(task.conditions)
    share = torch.bincount(unseen.truth, minlength=conditions).numpy() / len(unseen.truth)
    print(f"{len(unseen.truth)} detections of {len(np.unique(unseen.scene))} held-out scenes\n")
    print(f"| sensors | {' | '.join(task.conditions)} | mean of recalls | accuracy |")
    print(f"|---|{'---|' * (conditions + 2)}")
    floor = [*(float(c == share.argmax()) for c in range(conditions)), 1 / conditions, float(share.max())]
    print(f"| none: the commonest | {' | '.join(f'{v:.2f}' for v in floor)} |")
    for name, sensors in SENSORS.items():
        runs = [train(sensors, items, conditions, arguments.epochs, seed) for seed in range(arguments.seeds)]
        table = np.stack([recalls(model, unseen, conditions) for model in runs])
        cells = (f"{v.mean():.2f} [{v.min():.2f}, {v.max():.2f}]" for v in table.T)
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
