"""Drawn boards with the six defects of the pcb task, in the form of DeepPCB's folder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion.recording.pictures.image_folder import ImageFolder, LabelForm
from fusion.task import Task
from fusion.training.bundle import bundle_folder

SIDE, PITCH = 640, 60
WHITE = (255, 255, 255)


def _defect(pixels: np.ndarray, kind: int, x: int, y: int) -> tuple[int, int, int, int]:
    """Draws a defect of a kind (1..6) at a trace's middle line; returns its corners."""
    if kind == 1:
        pixels[y - 9 : y + 9, x - 7 : x + 7] = 0
    elif kind == 2:
        pixels[y : y + PITCH, x - 5 : x + 5] = 255
        return x - 12, y, x + 12, y + PITCH
    elif kind == 3:
        pixels[y - 8 : y, x - 6 : x + 6] = 0
    elif kind == 4:
        pixels[y - 16 : y, x - 4 : x + 4] = 255
        return x - 12, y - 22, x + 12, y + 2
    elif kind == 5:
        cv2.circle(pixels, (x, y + PITCH // 2), 7, WHITE, -1)
        return x - 14, y + PITCH // 2 - 14, x + 14, y + PITCH // 2 + 14
    else:
        cv2.circle(pixels, (x, y), 3, (0, 0, 0), -1)
    return x - 14, y - 14, x + 14, y + 14


@pytest.fixture(scope="session")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of six defects each; every 20th of the list, the sixth here, validates."""
    root = tmp_path_factory.mktemp("boards")
    for part in ("images", "labels"):
        (root / part).mkdir()
    stems = [f"b{number}" for number in range(6)]
    for number, stem in enumerate(stems):
        rng, lines = np.random.default_rng(number), []
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        for y in range(40, SIDE - PITCH, PITCH):
            cv2.line(pixels, (0, y), (SIDE, y), WHITE, 14)
        for y in range(40, SIDE - 2 * PITCH, 3 * PITCH):
            for x in (int(rng.integers(40, 300)), int(rng.integers(340, 600))):
                kind = int(rng.integers(1, 7))
                lines.append(" ".join(map(str, (*_defect(pixels, kind, x, y), kind))))
        cv2.imwrite(str(root / "images" / f"{stem}.png"), pixels)
        (root / "labels" / f"{stem}.txt").write_text("\n".join(lines) + "\n")
    (root / "trainval.txt").write_text("\n".join(stems))
    return root


@pytest.fixture(scope="session")
def pcb() -> Task:
    return Task.load("pcb")


@pytest.fixture(scope="session")
def bundle(pcb: Task) -> Path:
    """The bundled trunk and reviewer."""
    return bundle_folder(pcb, None)


@pytest.fixture(scope="session")
def pictures(boards: Path, pcb: Task) -> ImageFolder:
    return ImageFolder(boards, form=LabelForm.DEEPPCB, classes=pcb.classes)
