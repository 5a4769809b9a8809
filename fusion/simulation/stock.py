"""Draws one object of a class in a condition: shape, paint, damage and look-alikes."""

from __future__ import annotations

import numpy as np

from fusion.simulation.cone import ConePaint, cone_mesh
from fusion.simulation.draws import Draws, hsv
from fusion.simulation.drum import Dent, DrumPaint, Mark, drum_mesh, leak, lookalike
from fusion.simulation.figures import PartPaint, forklift_mesh, person_mesh
from fusion.simulation.mesh import floats
from fusion.simulation.noise import draw_texture
from fusion.simulation.thing import Thing, toppled
from fusion.simulation.woodwork import CrateShape, PalletShape, WoodPaint, crate_mesh, pallet_mesh

CONDITIONS: dict[str, dict[str, float]] = {
    "drum": {"ok": 0.36, "leaking": 0.24, "dented": 0.2, "toppled": 0.2},
    "pallet": {"ok": 0.42, "broken": 0.3, "obstructing": 0.28},
    "crate": {"ok": 0.34, "dented": 0.22, "broken": 0.22, "obstructing": 0.22},
    "cone": {"ok": 0.6, "toppled": 0.4},
    "person": {"ok": 0.55, "obstructing": 0.45},
    "forklift": {"ok": 0.55, "obstructing": 0.45},
}
"""How likely each condition is, by class."""

CLEARANCE = {"drum": 0.4, "pallet": 0.75, "crate": 0.7, "cone": 0.35, "person": 0.4, "forklift": 1.35}
"""Radius in metres of the free disc an object needs about its middle, by class."""

LIQUIDS = (
    (0.020, 0.014, 0.008),
    (0.012, 0.016, 0.012),
    (0.06, 0.022, 0.008),
    (0.045, 0.026, 0.006),
    (0.03, 0.035, 0.006),
    (0.02, 0.04, 0.02),
    (0.05, 0.012, 0.012),
    (0.022, 0.022, 0.026),
)
"""Linear RGB of what leaks; even entries train, odd ones test."""


def make(draws: Draws, label: str, condition: str) -> Thing:
    """A new object at the origin of the yard, its damaged side towards -x."""
    makers = {
        "drum": _drum,
        "pallet": _pallet,
        "crate": _crate,
        "cone": _cone,
        "person": _person,
        "forklift": _forklift,
    }
    return makers[label](draws, condition)


def _drum(draws: Draws, condition: str) -> Thing:
    radius, height = draws.held(0.27, 0.33), draws.held(0.8, 1.0)
    dent = None
    if condition == "dented":
        depth = draws.held(0.09, 0.14)
        dent = Dent(
            np.pi + draws.uniform(-0.35, 0.35), height * draws.uniform(0.4, 0.62), draws.held(0.25, 0.34), depth
        )
    colour = draws.colour((0.3, 0.8), (0.55, 0.9))
    marks, nuisance = _marks(draws, condition, height)
    band = draws.colour((0.0, 0.7), (0.4, 0.95)) if draws.chance(0.4) else colour
    low = draws.held(0.3, 0.6) * height
    paint = DrumPaint(
        colour,
        band,
        (low, low + draws.uniform(0.1, 0.3) * height),
        radius,
        draws.held(0.1, 0.4),
        draws.held(0.0, 1.0),
        draw_texture(draws),
        marks,
        floats([draws.held(0.3, 0.6), 0.45]),
    )
    mesh = drum_mesh(radius, height, draws.held(0.008, 0.018), dent)
    if condition == "toppled":
        laid, back = toppled(mesh, np.pi / 2)
        return Thing("drum", condition, laid, paint, back, nuisance=nuisance)
    leaks = marks[0].colour if condition == "leaking" else None
    return Thing("drum", condition, mesh, paint, nuisance=nuisance, leaks=leaks)


def _marks(draws: Draws, condition: str, height: float) -> tuple[tuple[Mark, ...], str]:
    if condition == "leaking":
        liquid = np.asarray(draws.held_choice(LIQUIDS), np.float32)
        return (leak(draws, height, liquid),), ""
    share = 0.5 if condition == "ok" else 0.2
    if not draws.chance(share):
        return (), ""
    kind = draws.weighted({"shade": 1.0, "label": 1.0, "splash": 1.0, "ring": 1.3})
    return (lookalike(draws, kind, height),), kind


def _wood(draws: Draws, parts: int) -> WoodPaint:
    colour = hsv(draws.held(0.05, 0.13), draws.held(0.25, 0.6), draws.held(0.45, 0.85))
    tones = np.ones(3, np.float32)
    tones[1] = draws.uniform(0.75, 1.1)
    tones[2] = 0.12
    reflectivity = floats([0.5, 0.5, 0.2][:parts])
    return WoodPaint(colour, tones, draws.held(0.08, 0.24), draw_texture(draws), reflectivity)


def _pallet(draws: Draws, condition: str) -> Thing:
    shape = PalletShape(
        draws.held(1.0, 1.3),
        draws.held(0.75, 1.0),
        draws.held(0.13, 0.16),
        int(draws.rng.integers(5, 8)),
        int(draws.rng.integers(1, 6)),
    )
    return Thing("pallet", condition, pallet_mesh(shape, draws, broken=condition == "broken"), _wood(draws, 2))


def _crate(draws: Draws, condition: str) -> Thing:
    shape = CrateShape(
        draws.held(0.7, 1.1),
        draws.held(0.7, 1.15),
        draws.held(0.65, 1.05),
        int(draws.rng.integers(4, 7)),
        draws.held(0.01, 0.035),
    )
    return Thing("crate", condition, crate_mesh(shape, draws, condition), _wood(draws, 3))


def _cone(draws: Draws, condition: str) -> Thing:
    height, foot = draws.held(0.6, 0.9), draws.held(0.34, 0.46)
    colour = hsv(draws.held(0.0, 0.09), draws.uniform(0.85, 0.97), draws.uniform(0.8, 1.0))
    low = draws.held(0.3, 0.45) * height
    bands = [[low, low + 0.18 * height]] + ([[low + 0.3 * height, low + 0.42 * height]] if draws.chance(0.5) else [])
    foot_colour = colour if draws.chance(0.5) else floats([0.03, 0.03, 0.03])
    paint = ConePaint(colour, foot_colour, floats(bands), draw_texture(draws), floats([0.7, 0.3]))
    slender = draws.held(0.34, 0.42)
    mesh = cone_mesh(height, foot, slender)
    if condition == "toppled":
        laid, back = toppled(mesh, np.pi / 2 + float(np.arctan2(foot / 2 - 0.03, height)))
        return Thing("cone", condition, laid, paint, back)
    return Thing("cone", condition, mesh, paint)


def _person(draws: Draws, condition: str) -> Thing:
    walking = draws.chance(0.5)
    mesh = person_mesh(
        draws.held(1.6, 1.92), draws.held(0.9, 1.2), draws.held(0.25, 0.5) if walking else 0.04, draws.uniform(0.1, 0.5)
    )
    vest = hsv(draws.held(0.04, 0.26), 0.9, 0.95) if draws.chance(0.75) else draws.colour((0.2, 0.7), (0.2, 0.7))
    helmet = draws.colour((0.0, 0.9), (0.7, 1.0))
    skin = hsv(draws.held(0.04, 0.08), draws.uniform(0.35, 0.6), draws.uniform(0.35, 0.9))
    trousers, sleeves = draws.colour((0.1, 0.6), (0.12, 0.45)), draws.colour((0.1, 0.7), (0.15, 0.7))
    colours = np.stack([trousers, vest, skin, helmet, sleeves, floats([0.02, 0.02, 0.02])])
    bands = floats([[1.0, 1.06], [1.2, 1.26]]) if draws.chance(0.7) else np.zeros((0, 2), np.float32)
    paint = PartPaint(
        colours,
        floats([0, 0, 0, 0.25, 0, 0.1]),
        0.06,
        draw_texture(draws),
        floats([0.35, 0.7, 0.5, 0.5, 0.4, 0.2]),
        bands,
        1,
    )
    return Thing("person", condition, mesh, paint)


def _forklift(draws: Draws, condition: str) -> Thing:
    mesh = forklift_mesh(draws.held(1.9, 2.3), draws.held(1.05, 1.25), draws.held(1.95, 2.2), draws.held(0.0, 0.7))
    body = draws.colour((0.6, 0.95), (0.55, 0.95))
    colours = np.stack([body, *(np.full(3, v, np.float32) for v in (0.03, 0.015, 0.09, 0.02))])
    paint = PartPaint(
        colours,
        floats([0.35, 0.15, 0.0, 0.2, 0.1]),
        draws.held(0.04, 0.14),
        draw_texture(draws),
        floats([0.5, 0.25, 0.12, 0.35, 0.2]),
        np.zeros((0, 2), np.float32),
    )
    return Thing("forklift", condition, mesh, paint)
