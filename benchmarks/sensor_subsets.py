"""The fusion model with every set of sensors, late and badly calibrated ones, against specialists and simpler fusion.

All arms get the same cached tokens of the frozen trunk and frozen ears, the same number of steps, batches and seeds:
specialists trained on one set of sensors only, models that concatenate what sensors tell or fuse answers late, other
rates of modality dropout, and few labels with and without self-supervised pretraining.

    python benchmarks/sensor_subsets.py prepare   # frozen ears' tokens; late and miscalibrated test scenes
    python benchmarks/sensor_subsets.py train     # every arm and seed; a CPU takes hours, a GPU minutes
    python benchmarks/sensor_subsets.py measure   # on the 2,000 test scenes
    python benchmarks/sensor_subsets.py report    # the tables of docs/results.md

Needs the features that `fusion train fusion` and `fusion evaluate fusion` have cached.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from subset_figures import Log, figures, resamples
from subset_rivals import answers, concatenated, count, fused, half_size, late_answers
from tqdm import tqdm

from fusion.model.build import FusionModel
from fusion.preparation.fusion_spec import FusionSpec
from fusion.simulation.commands import Command
from fusion.task import Task
from fusion.training.fixed_budget import Budget, train_on_budget
from fusion.training.fusion_data import ModalityDropout, Presence, SceneSampler
from fusion.training.pretrain import pretrain
from fusion.training.scene_features import FeatureCache, open_cache
from fusion.training.sounds import HeardTable, HeardTokens, heard_sounds, pooled_utterances, recorded_sounds, said_in

CAMERA, LIDAR = Presence(lidar=False, speech=False), Presence(camera=False, speech=False)
SUBSETS: Mapping[str, Presence] = {
    "camera": CAMERA,
    "lidar": LIDAR,
    "camera+lidar": Presence(speech=False),
    "camera+speech": Presence(lidar=False),
    "lidar+speech": Presence(camera=False),
    "all": Presence(),
}
LATE_MS, TURNED_DEG = (100, 200, 500), (0.5, 1.0, 2.0)
CART_M_S = 1.0
"""The patrol's speed; what a late reading shows has moved by it, and nobody makes up for that."""
ALWAYS = ModalityDropout(0.0, 0.0)


@dataclass(frozen=True)
class Arm:
    """One competitor: how it is built, which sensors it learns from, and how often it goes without one."""

    build: Callable[[FusionSpec, torch.Tensor], FusionModel] = fused
    given: Presence = field(default_factory=Presence)
    dropout: ModalityDropout = field(default_factory=ModalityDropout)
    labels: float = 1.0
    start: str = ""
    objective: str = ""


ARMS: Mapping[str, Arm] = {
    "pre-masked": Arm(dropout=ALWAYS, objective="masked"),
    "pre-contrastive": Arm(dropout=ALWAYS, objective="contrastive"),
    "fused": Arm(),
    "all": Arm(dropout=ModalityDropout(0.0)),
    "camera": Arm(given=CAMERA, dropout=ALWAYS),
    "lidar": Arm(given=LIDAR, dropout=ALWAYS),
    "camera+lidar": Arm(given=SUBSETS["camera+lidar"], dropout=ALWAYS),
    "camera+speech": Arm(given=SUBSETS["camera+speech"], dropout=ALWAYS),
    "lidar+speech": Arm(given=SUBSETS["lidar+speech"], dropout=ALWAYS),
    "concat": Arm(concatenated),
    "late-camera": Arm(half_size, SUBSETS["camera+speech"], ModalityDropout(0.0)),
    "late-lidar": Arm(half_size, SUBSETS["lidar+speech"], ModalityDropout(0.0)),
    "dropout-25": Arm(dropout=ModalityDropout(0.25)),
    "dropout-75": Arm(dropout=ModalityDropout(0.75)),
    "labels-10": Arm(labels=0.1),
    "labels-10-masked": Arm(labels=0.1, start="pre-masked"),
    "labels-10-contrastive": Arm(labels=0.1, start="pre-contrastive"),
}


@dataclass(frozen=True)
class Case:
    """One way the test scenes are seen: `scenes` names a cache, `sound` a table of heard recordings."""

    presence: Presence = field(default_factory=Presence)
    scenes: str = "as-is"
    ages: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sound: str = "recorded"


CASES: dict[str, Case] = {name: Case(presence) for name, presence in SUBSETS.items()}
CASES["noisy speech"] = Case(sound="noisy")
for _ms in LATE_MS:
    CASES[f"camera {_ms} ms late"] = Case(scenes=f"camera-late-{_ms}", ages=(_ms / 1000, 0.0, 0.0))
    CASES[f"lidar {_ms} ms late"] = Case(scenes=f"lidar-late-{_ms}", ages=(0.0, _ms / 1000, 0.0))
for _deg in TURNED_DEG:
    CASES[f"camera turned {_deg} deg"] = Case(scenes=f"turned-{_deg}")
DISTURBED = [name for name in CASES if name not in SUBSETS]


def cases_of(arm: str) -> list[str]:
    """The cases an arm is measured on."""
    if arm in {"fused", "concat", "late"}:
        return list(CASES)
    if arm == "all":
        return [*SUBSETS, *DISTURBED]
    if arm in SUBSETS:
        return [arm]
    return list(SUBSETS) if arm.startswith("dropout") else ["camera", "lidar", "all"]


# --- prepare


def prepare(arguments: argparse.Namespace) -> None:
    """Everything arms and measuring need besides the cached features."""
    from fusion.model.checkpoint import load_fusion
    from fusion.training.utterances import load_bank

    task, out = Task.load("yard"), arguments.out
    out.mkdir(parents=True, exist_ok=True)
    model = load_fusion(arguments.bundle)
    bank = load_bank(arguments.runs / "yard" / "utterances.npz", task)
    test = open_cache(arguments.test)
    if not (out / "pool.safetensors").is_file():
        _save_heard(out / "pool", pooled_utterances(model.speech, bank, count=arguments.pool))
    said, sounds = said_in(test, model.spec.intents), recorded_sounds(test)
    if not (out / "recorded.safetensors").is_file():
        _save_heard(out / "recorded", heard_sounds(model.speech, sounds, said))
    if not (out / "noisy.safetensors").is_file():
        rng = np.random.default_rng(31)
        noise = [bank.mix(None, rng).sound for _ in sounds]
        loud = [_at_zero_db(s, n) for s, n in zip(sounds, noise, strict=True)]
        _save_heard(out / "noisy", heard_sounds(model.speech, loud, said))
    for name in dict.fromkeys(case.scenes for case in CASES.values()):
        if name != "as-is":
            _disturbed_cache(name, arguments)


def _at_zero_db(sound: Any, noise: Any) -> Any:
    """`noise` as strong as `sound` put over it."""
    level = np.sqrt(np.mean(sound**2) / max(float(np.mean(noise**2)), 1e-12))
    return np.clip(sound + noise * np.float32(level), -1, 1).astype(np.float32)


def _disturbed_cache(name: str, arguments: argparse.Namespace) -> FeatureCache:
    """The test scenes with a late or turned sensor, perceived anew."""
    from fusion.codec import Profile
    from fusion.engines import load_engine
    from fusion.perception.detector import DetectorStage
    from fusion.simulation.scene_set import read_scene
    from fusion.training.scene_features import META_NAME, SceneReader, write_cache

    folder = arguments.out / f"features-{name}"
    if (folder / META_NAME).is_file():
        return open_cache(folder)
    task, test = Task.load("yard"), open_cache(arguments.test)
    profile = Profile.load(arguments.bundle)
    engine = load_engine(arguments.bundle / "detector.onnx", backend="auto", threads=arguments.threads)
    reader = SceneReader(task, DetectorStage(engine, task, profile), profile)
    numbers = {stem: index for index, stem in enumerate(test.stems)}

    def read(stem: str) -> Any:
        return disturbed(read_scene(arguments.scenes, stem), name, np.random.default_rng([37, numbers[stem]]))

    return write_cache(folder, list(test.stems), read, reader, {"disturbed": name, "profile": profile.sha256})


def disturbed(sample: Any, name: str, rng: np.random.Generator) -> Any:
    """`sample` as seen with a sensor that is late, the cart moving on at `CART_M_S`, or whose calibration is off by a
    random turn.
    """
    kind, _, amount = name.rpartition("-")
    rig = sample.rig
    if kind == "turned":
        cameras = {
            key: replace(c, ego_from_camera=_turned(c.ego_from_camera, float(amount), rng))
            for key, c in rig.cameras.items()
        }
        return replace(sample, rig=replace(rig, cameras=cameras))
    moved = np.array([CART_M_S * float(amount) / 1000, 0.0, 0.0])
    if kind == "lidar-late":
        return replace(sample, rig=replace(rig, ego_from_lidar=_shifted(rig.ego_from_lidar, moved)))
    objects = tuple(
        t if t.box3d is None else replace(t, box3d=replace(t.box3d, x=t.box3d.x - moved[0]))
        for t in sample.truth.objects
    )
    rig = replace(rig, ego_from_lidar=_shifted(rig.ego_from_lidar, -moved))
    return replace(sample, rig=rig, truth=replace(sample.truth, objects=objects))


def _shifted(poses: Mapping[str, Any], by: Any) -> dict[str, Any]:
    result = {}
    for key, pose in poses.items():
        result[key] = pose.copy()
        result[key][:3, 3] += by
    return result


def _turned(pose: Any, degrees: float, rng: np.random.Generator) -> Any:
    import cv2

    axis = rng.normal(size=3)
    turn, _ = cv2.Rodrigues(np.radians(degrees) * axis / np.linalg.norm(axis))
    result = pose.copy()
    result[:3, :3] = turn @ pose[:3, :3]
    return result


def _save_heard(path: Path, table: HeardTable) -> None:
    save_file({"tokens": table.tokens, "positions": table.positions}, path.with_suffix(".safetensors"))
    said = [[command.text, command.intent] for command in table.commands]
    path.with_suffix(".json").write_text(json.dumps(said), encoding="utf-8")


def _load_heard(path: Path) -> HeardTable:
    tensors = load_file(path.with_suffix(".safetensors"))
    said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return HeardTable(tensors["tokens"], tensors["positions"], tuple(Command(*pair, 0) for pair in said))


# --- train


def train(arguments: argparse.Namespace) -> None:
    """Every arm and seed that has no weights yet, `--jobs` at a time; those that others begin with come first."""
    chosen = arguments.arms or list(ARMS)
    jobs = [(arm, seed) for seed in range(arguments.seeds) for arm in chosen]
    jobs = [job for job in jobs if not _weights(arguments, *job).is_file()]
    first, then = ([job for job in jobs if bool(ARMS[job[0]].objective) is pre] for pre in (True, False))
    waiting = [job for job in then if ARMS[job[0]].start]
    rest = [job for job in then if not ARMS[job[0]].start]
    if arguments.jobs == 1:
        for job in (*first, *rest, *waiting):
            _train_one(arguments, *job)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(arguments.jobs, maxtasksperchild=1) as pool:
        done = pool.starmap_async(_train_one, [(arguments, *job) for job in (*first, *rest, *waiting)], chunksize=1)
        done.get()


def _train_one(arguments: argparse.Namespace, name: str, seed: int) -> None:
    torch.set_num_threads(arguments.threads)
    arm, began = ARMS[name], time.monotonic()
    spec, pool = FusionSpec.load(arguments.bundle), _load_heard(arguments.out / "pool")
    cache = open_cache(arguments.train)
    torch.manual_seed(seed)
    model = arm.build(spec, pool.positions)
    if arm.start:
        _begin(model, _weights(arguments, arm.start, seed))
    device = arguments.device
    sounds = HeardTokens(cache, spec, pool=pool, device=device)
    sampler = SceneSampler(cache, spec, sounds=sounds, given=arm.given, dropout=arm.dropout, device=device)
    budget = Budget(steps=arguments.steps, batch=arguments.batch, seed=seed, half=arguments.half)
    title = f"{name} {seed}"
    if arm.objective:
        pretrain(model, sampler, budget, arm.objective, name=title)
        made = model
    else:
        scenes = range(round(arm.labels * len(cache)))
        made = train_on_budget(model, sampler, budget, scenes=scenes, name=title)
    path = _weights(arguments, name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: (v.half() if v.is_floating_point() else v).cpu().contiguous() for k, v in made.state_dict().items()}
    facts = {"parameters": str(count(made)), "seconds": f"{time.monotonic() - began:.1f}", "steps": str(budget.steps)}
    save_file(_once(tensors), path, facts)


def _begin(model: FusionModel, path: Path, patience_s: float = 600.0) -> None:
    """Take over pretrained weights, once they are there."""
    end = time.monotonic() + patience_s
    while not path.is_file() and time.monotonic() < end:
        time.sleep(1.0)
    _load(model, path)


def _once(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without the second names of shared position encodings."""
    return {k: v for k, v in tensors.items() if not k.startswith(("fuser.queries.ray.", "fuser.queries.plane."))}


def _load(model: FusionModel, path: Path) -> None:
    tensors = load_file(path)
    own = model.state_dict()
    lacking = set(_once(own)) - set(tensors)
    assert not lacking, f"{path} lacks {sorted(lacking)[:3]}"
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()}, strict=False)


def _weights(arguments: argparse.Namespace, name: str, seed: int) -> Path:
    folder: Path = arguments.out / "weights"
    return folder / f"{name}-{seed}.safetensors"


# --- measure


def measure(arguments: argparse.Namespace) -> None:
    """Every trained arm on its cases; what is measured already is kept."""
    torch.set_num_threads(arguments.threads)
    spec = FusionSpec.load(arguments.bundle)
    (arguments.out / "measured").mkdir(parents=True, exist_ok=True)
    names = [n for n in ARMS if not ARMS[n].objective and not n.startswith("late")]
    jobs = [
        (name, seed, case)
        for name in (*names, "late")
        for seed in range(arguments.seeds)
        for case in cases_of(name)
        if not _measured(arguments, name, seed, case).is_file() and _there(arguments, name, seed)
    ]
    jobs.sort(key=lambda job: (CASES[job[2]].scenes, CASES[job[2]].sound))
    samplers: dict[tuple[str, str], SceneSampler] = {}
    for name, seed, case in tqdm(jobs, desc="measure", unit="case"):
        key = (CASES[case].scenes, CASES[case].sound)
        if key not in samplers:
            samplers = {key: _sampler(arguments, spec, *key)}
        _measure_one(arguments, name, seed, case, samplers[key])


def _there(arguments: argparse.Namespace, name: str, seed: int) -> bool:
    parts = ("late-camera", "late-lidar") if name == "late" else (name,)
    return all(_weights(arguments, part, seed).is_file() for part in parts)


def _sampler(arguments: argparse.Namespace, spec: FusionSpec, scenes: str, sound: str) -> SceneSampler:
    folder = arguments.test if scenes == "as-is" else arguments.out / f"features-{scenes}"
    cache = open_cache(folder)
    heard = HeardTokens(cache, spec, recordings=_load_heard(arguments.out / sound))
    return SceneSampler(cache, spec, sounds=heard)


def _built(arguments: argparse.Namespace, name: str, seed: int) -> FusionModel:
    spec = FusionSpec.load(arguments.bundle)
    model = ARMS[name].build(spec, _load_heard(arguments.out / "pool").positions)
    _load(model, _weights(arguments, name, seed))
    return model.eval()


@torch.inference_mode()
def _measure_one(arguments: argparse.Namespace, name: str, seed: int, case: str, sampler: SceneSampler) -> None:
    parts = ("late-camera", "late-lidar") if name == "late" else (name,)
    models = [_built(arguments, part, seed) for part in parts]
    log, told = Log({}), CASES[case]
    for start in range(0, len(sampler.cache), 64):
        scenes = range(start, min(start + 64, len(sampler.cache)))
        batch = sampler.gather([sampler.evaluation(i, told.presence, told.ages) for i in scenes])
        log.add(start, late_answers(models, batch) if name == "late" else answers(models[0], batch), batch)
    np.savez_compressed(_measured(arguments, name, seed, case), **log.arrays())


def _measured(arguments: argparse.Namespace, name: str, seed: int, case: str) -> Path:
    return Path(arguments.out / "measured" / f"{name}-{seed}-{case.replace(' ', '_')}.npz")


# --- report


class Results:
    """Every figure of every arm and case, with its resamples: (seeds, 1 + draws)."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._task = Task.load("yard")
        self._scenes = len(open_cache(arguments.test))
        self._weights = resamples(self._scenes)
        self._kept: dict[tuple[str, str], dict[str, np.ndarray[Any, Any]]] = {}

    def of(self, arm: str, case: str) -> dict[str, np.ndarray[Any, Any]]:
        """By figure: the mean over seeds of each resample; the first is what was measured."""
        if (arm, case) not in self._kept:
            paths = [_measured(self._arguments, arm, seed, case) for seed in range(self._arguments.seeds)]
            each = [self._figures(path) for path in paths if path.is_file()]
            self._kept[arm, case] = {n: np.stack([e[n] for e in each]) for n in each[0]} if each else {}
        return {name: values.mean(0) for name, values in self._kept[arm, case].items()}

    def seeds(self, arm: str, case: str) -> int:
        self.of(arm, case)
        return next((len(v) for v in self._kept[arm, case].values()), 0)

    def _figures(self, path: Path) -> dict[str, np.ndarray[Any, Any]]:
        with np.load(path) as file:
            rows = {name: file[name] for name in file.files}
        return figures(rows, self._scenes, len(self._task.classes), len(self._task.conditions)).values(self._weights)

    def cell(self, arm: str, case: str, name: str) -> str:
        found = self.of(arm, case).get(name)
        return "–" if found is None else f"{found[0]:.3f}"

    def gain(self, arm: str, case: str, rival: str, rival_case: str, name: str) -> str:
        """The difference to a rival, with its paired interval."""
        mine, other = self.of(arm, case).get(name), self.of(rival, rival_case).get(name)
        if mine is None or other is None:
            return "–"
        difference = mine - other
        low, high = np.quantile(difference[1:], [0.025, 0.975])
        return f"{difference[0]:+.3f} [{low:+.3f}, {high:+.3f}]"


def report(arguments: argparse.Namespace) -> None:
    """The tables, as Markdown."""
    results = Results(arguments)
    task = Task.load("yard")
    print(f"{len(open_cache(arguments.test))} test scenes, seeds: {results.seeds('fused', 'all')}\n")
    _subsets(results)
    _conditions_table(results, task)
    _rivals(results)
    _disturbances(results)
    _sweep(results)
    _labels(results)


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


FIGURES = ("mAP", "condition", "condition balanced", "asked")


def _subsets(results: Results) -> None:
    rows = []
    for case in SUBSETS:
        cells = [results.cell("fused", case, f) for f in FIGURES]
        gains = [results.gain("fused", case, case, case, f) for f in FIGURES[:2]]
        rows.append([case, *cells, *gains])
    print("### One model, any sensors, and specialists\n")
    _rows(["sensors", *FIGURES, "mAP minus specialist", "condition minus specialist"], rows)
    rows = [
        [f"all minus {single}", *(results.gain("fused", "all", single, single, f) for f in FIGURES[:3])]
        for single in ("camera", "lidar")
    ]
    _rows(["", *FIGURES[:3]], rows)
    quiet = [results.gain("fused", case, "fused", "all", "mAP") for case in ("camera+lidar", "noisy speech")]
    print(f"Detection (mAP) without a microphone minus with: {quiet[0]}; with noise as loud as speech: {quiet[1]}\n")


def _conditions_table(results: Results, task: Task) -> None:
    rows = []
    for label, arm, case in (
        ("camera specialist", "camera", "camera"),
        ("LiDAR specialist", "lidar", "lidar"),
        ("fused, camera only", "fused", "camera"),
        ("fused, LiDAR only", "fused", "lidar"),
        ("fused, camera + LiDAR", "fused", "camera+lidar"),
    ):
        rows.append([label, *(results.cell(arm, case, f"condition {i}") for i in range(len(task.conditions)))])
    print("### Recall by condition (an object that is missed counts as wrong)\n")
    _rows(["", *task.conditions], rows)


def _rivals(results: Results) -> None:
    print("### Other ways of fusing\n")
    rows = [
        [
            case,
            *(results.cell(arm, case, f) for arm in ("fused", "concat", "late") for f in ("mAP", "condition")),
            *(results.gain("fused", case, rival, case, "condition") for rival in ("concat", "late")),
        ]
        for case in SUBSETS
    ]
    names = [f"{arm} {f}" for arm in ("fused", "concat", "late") for f in ("mAP", "condition")]
    _rows(["sensors", *names, "condition minus concat", "condition minus late"], rows)


def _disturbances(results: Results) -> None:
    print("### Late and miscalibrated sensors\n")
    arms = ("fused", "all", "concat", "late")
    cases = ["all", *DISTURBED]
    rows = [
        [case, *(f"{results.cell(arm, case, 'mAP')} / {results.cell(arm, case, 'condition')}" for arm in arms)]
        for case in cases
    ]
    _rows(["case (mAP / condition)", "fused", "fused, no dropout", "concat", "late"], rows)


def _sweep(results: Results) -> None:
    print("### Modality dropout\n")
    arms = {"0": "all", "0.25": "dropout-25", "0.5": "fused", "0.75": "dropout-75"}
    cases = ("camera+lidar", "camera", "lidar")
    rows = []
    for rate, arm in arms.items():
        cells = [f"{results.cell(arm, case, 'mAP')} / {results.cell(arm, case, 'condition')}" for case in cases]
        mean = [np.mean([results.of(arm, c)["mAP"][0] for c in cases]) if results.of(arm, "lidar") else float("nan")]
        rows.append([rate, *cells, f"{mean[0]:.3f}"])
    _rows(["rate (mAP / condition)", *cases, "mean mAP"], rows)


def _labels(results: Results) -> None:
    print("### A tenth of the labels\n")
    rows = []
    for label, arm in (
        ("10 % of the labels", "labels-10"),
        ("... after masked modelling", "labels-10-masked"),
        ("... after contrastive learning", "labels-10-contrastive"),
        ("all labels", "fused"),
    ):
        cells = [
            f"{results.cell(arm, case, 'mAP')} / {results.cell(arm, case, 'condition')}"
            for case in ("all", "camera", "lidar")
        ]
        gains = [results.gain(arm, "all", "labels-10", "all", f) for f in ("mAP", "condition")]
        rows.append([label, *cells, *gains])
    _rows(["", "all (mAP / condition)", "camera", "lidar", "mAP gained", "condition gained"], rows)


STEPS = {"prepare": prepare, "train": train, "measure": measure, "report": report}


def main() -> None:
    """One of the four steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=list(STEPS), nargs="?", default="report")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--train", type=Path, help="cached features; default: RUNS/yard/features-train")
    parser.add_argument("--test", type=Path, help="cached features; default: RUNS/features-yard-test")
    parser.add_argument("--scenes", type=Path, help="the test scenes; default: RUNS/scenes-yard")
    parser.add_argument("--bundle", type=Path, default=Path("fusion/weights/yard"))
    parser.add_argument("--out", type=Path, default=Path("out/subsets"))
    parser.add_argument("--arms", nargs="*", help="only these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pool", type=int, default=1500, help="utterances heard once, for training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--half", action="store_true", help="bfloat16")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.train = arguments.train or arguments.runs / "yard" / "features-train"
    arguments.test = arguments.test or arguments.runs / "features-yard-test"
    arguments.scenes = arguments.scenes or arguments.runs / "scenes-yard"
    if not arguments.train.is_dir() and not arguments.test.is_dir():
        print(
            f"no features in {arguments.train}; run 'fusion train fusion' and 'fusion evaluate fusion' first; skipped"
        )
        return
    STEPS[arguments.step](arguments)


if __name__ == "__main__":
    main()
