"""Measures every trained arm on its cases."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Sequence
from itertools import product, starmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fusion.model.build import FusionModel
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training.fusion_data import Presence, SceneSampler
from fusion.training.scene_features import open_cache
from fusion.training.sounds import HeardTokens, heard_sounds, recorded_sounds, said_in
from subsets.arms import ARMS, CASES, cases_of
from subsets.figures import Log, figures, resamples
from subsets.files import load_heard, load_weights, measured_path, weights_path
from subsets.rivals import Merge, answers, late_answers, merged, single_answers


def measure(arguments: argparse.Namespace) -> None:
    """Every trained arm on its cases; what is measured already is kept."""
    (arguments.out / "measured").mkdir(parents=True, exist_ok=True)
    names = arguments.arms or [*(n for n in ARMS if not ARMS[n].objective and not n.startswith("late")), "late"]
    jobs = [
        (name, seed, case)
        for name in names
        for seed in range(arguments.seeds)
        for case in arguments.cases or cases_of(name)
        if not measured_path(arguments, name, seed, case).is_file()
        and _there(arguments, name, seed)
        and _folder(arguments, case).is_dir()
    ]
    groups = {key: [job for job in jobs if _seen(job[2]) == key] for key in dict.fromkeys(_seen(j[2]) for j in jobs)}
    if arguments.jobs == 1:
        for jobs in tqdm(groups.values(), desc="measure", unit="set of scenes"):
            _measure_all(arguments, jobs)
        return
    shares = [jobs[i :: arguments.jobs] for jobs in groups.values() for i in range(arguments.jobs)]
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        pool.starmap(_measure_all, [(arguments, share) for share in shares if share], chunksize=1)


def tune(arguments: argparse.Namespace) -> None:
    """How late fusion weighs its two models best on validation scenes, by mAP and condition with all sensors."""
    torch.set_num_threads(arguments.threads)
    from fusion.model.checkpoint import load_fusion

    spec, cache = FusionSpec.load(arguments.bundle), open_cache(arguments.runs / "yard" / "features-val")
    heard = heard_sounds(load_fusion(arguments.bundle).speech, recorded_sounds(cache), said_in(cache, spec.intents))
    sampler = SceneSampler(cache, spec, sounds=HeardTokens(cache, spec, recordings=heard))
    models = [_built(arguments, name, 0) for name in ("late-camera", "late-lidar")]
    told = []
    for start in range(0, len(cache), 50):
        batch = sampler.gather([sampler.evaluation(i, Presence()) for i in range(start, min(start + 50, len(cache)))])
        told.append((start, single_answers(models, batch), batch))
    found = {}
    for merge in starmap(Merge, product((0.0, 0.25, 0.5), (0.0, 0.25, 0.5, 0.75), (0.0, 0.5, 1.0), (0.0, 0.3, 1.0))):
        log = Log({})
        for start, pair, batch in told:
            log.add(start, merged(*pair, batch, merge), batch)
        sizes = len(cache), len(spec.classes), len(spec.conditions)
        values = figures(log.arrays(), *sizes).values(np.ones((1, len(cache))))
        found[merge] = float(values["mAP"][0] + values["condition"][0])
    for merge in sorted(found, key=lambda m: -found[m])[:5]:
        print(f"{found[merge]:.4f} {merge}")


def _seen(case: str) -> tuple[str, str]:
    """The cache and the sounds of a case."""
    return CASES[case].scenes, CASES[case].sound


def _measure_all(arguments: argparse.Namespace, jobs: Sequence[tuple[str, int, str]]) -> None:
    """Arms, seeds and cases of one set of scenes."""
    torch.set_num_threads(arguments.threads)
    sampler = _sampler(arguments, jobs[0][2])
    weights = resamples(len(sampler.cache))
    for name, seed, case in tqdm(jobs, desc="measure", unit="case"):
        rows = _answers(arguments, name, seed, case, sampler)
        sizes = len(sampler.cache), len(sampler.spec.classes), len(sampler.spec.conditions)
        np.savez(measured_path(arguments, name, seed, case), **figures(rows, *sizes).values(weights))


def _folder(arguments: argparse.Namespace, case: str) -> Path:
    scenes = CASES[case].scenes
    return Path(arguments.test if scenes == "as-is" else arguments.out / f"features-{scenes}")


def _there(arguments: argparse.Namespace, name: str, seed: int) -> bool:
    parts = ("late-camera", "late-lidar") if name == "late" else (name,)
    return all(weights_path(arguments, part, seed).is_file() for part in parts)


def _sampler(arguments: argparse.Namespace, case: str) -> SceneSampler:
    cache, spec = open_cache(_folder(arguments, case)), FusionSpec.load(arguments.bundle)
    heard = load_heard(arguments.out / CASES[case].sound)
    heard = HeardTokens(cache, spec, recordings=heard, device=arguments.device)
    return SceneSampler(cache, spec, sounds=heard, device=arguments.device)


def _built(arguments: argparse.Namespace, name: str, seed: int) -> FusionModel:
    spec = FusionSpec.load(arguments.bundle)
    model = ARMS[name].build(spec, load_heard(arguments.out / "pool").positions)
    load_weights(model, weights_path(arguments, name, seed))
    return model.eval().to(arguments.device)


@torch.inference_mode()
def _answers(
    arguments: argparse.Namespace, name: str, seed: int, case: str, sampler: SceneSampler
) -> dict[str, np.ndarray[Any, Any]]:
    """What an arm says of every scene, beside the truth."""
    parts = ("late-camera", "late-lidar") if name == "late" else (name,)
    models = [_built(arguments, part, seed) for part in parts]
    log, told = Log({}), CASES[case]
    for start in range(0, len(sampler.cache), 64):
        scenes = range(start, min(start + 64, len(sampler.cache)))
        batch = sampler.gather([sampler.evaluation(i, told.presence, told.ages) for i in scenes])
        log.add(start, late_answers(models, batch) if name == "late" else answers(models[0], batch), batch)
    return log.arrays()
