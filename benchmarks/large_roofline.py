"""The `large` fusion model on a GPU against the roofline: what the card could do at best, and what of it is reached.

    python benchmarks/large_roofline.py --out out/roofline.json          on a GPU, bfloat16, batch 1 and 32
    python benchmarks/large_roofline.py --device cpu --size small        whether it runs at all, in float32

Random weights, random pictures and sweeps, cameras placed as on nuScenes' car. Weights are stored in bfloat16 but for
those of normalisations, and the forward pass runs under autocast: matrix products, convolutions and attention in
bfloat16, normalisations and sampling in float32. `--weights float32` stores float32, cast anew in every pass.

The roofline (Williams et al., 2009) is time = max(operations / peak rate, bytes / bandwidth), counted twice. `floor`:
all operations, and parameters, inputs and outputs moved once: what no program beats. `floor by op`: the same for every
operator alone, summed, its inputs read and its outputs written: what no program beats that runs PyTorch's operators one
by one, as eager mode does. Operations are those of matrix products, convolutions and attention, as
`torch.utils.flop_counter` counts them. Views move nothing. `share` is floor by measured time.

`graph` rows replay a CUDA graph of a pass that knows that all sensors are there, so nothing waits for the host.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop
from tqdm import tqdm

from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, invert, rigid, rotation_z
from fusion.model import build, memory
from fusion.model.build import FusionModel, build_fusion
from fusion.model.sizes import bev_spec
from fusion.preparation.fusion_spec import FusionSpec
from fusion.preparation.surround import InputSize, camera_view
from fusion.task import Task

ROOT = Path(__file__).resolve().parents[1]
PEAKS = {"H100": (989.0, 3.35), "H200": (989.0, 4.8), "A100": (312.0, 2.04), "L40S": (362.0, 0.864)}
"""Dense bfloat16 TFLOP/s and TB/s by a part of the device's name: data sheets of the SXM boards, L40S of its card."""
AZIMUTHS_DEG = (0.0, -55.0, -110.0, 180.0, 110.0, 55.0)
"""Where nuScenes' cameras look, about."""
CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default: "flash_for_cpu"}
ATTENTION_OPS = ("aten::_scaled_dot_product_", "aten::_flash_attention_forward", "aten::_efficient_attention_forward")
ATTENTION_KERNELS = ("flash", "fmha", "sdpa", "attention")
NORMALISATIONS = (nn.LayerNorm, nn.BatchNorm2d)
SECONDS_A_ROW, SECONDS_A_PART, SPARE_S = 3.0, 1.0, 8.0
CPU_AUTOCAST = False
"""Few processors compute in bfloat16, and the others take minutes for a pass."""
Batch = dict[str, Tensor]


class OverTimeError(BaseException):
    """The time limit of a step has passed; no `Exception`, so that no library takes it for its own."""


@dataclass(slots=True)
class Row:
    """What was measured of one pass: milliseconds, and its floors in milliseconds; gigabytes of memory."""

    name: str
    batch: int
    sensors: str
    median_ms: float
    p99_ms: float
    rounds: int
    floor_ms: float = 0.0
    floor_by_op_ms: float = 0.0
    gigaflop: float = 0.0
    least_gb: float = 0.0
    moved_gb: float = 0.0
    bound: str = ""
    attention: str = ""
    memory_gb: float = 0.0
    note: str = ""

    @property
    def share(self) -> float:
        """Floor by measured time."""
        return self.floor_ms / self.median_ms if self.median_ms else 0.0


@dataclass(frozen=True, slots=True)
class Card:
    """The device and its two ceilings."""

    device: torch.device
    name: str
    teraflops: float
    terabytes: float

    def floor_ms(self, flop: float, moved: float) -> float:
        """Milliseconds that `flop` operations and `moved` bytes take at least."""
        return 1e3 * max(flop / (self.teraflops * 1e12), moved / (self.terabytes * 1e12))


class Traffic(TorchDispatchMode):
    """Sums up, operator by operator, bytes read and written and the time they take at least."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card, self.moved, self.flop, self.least_ms = card, 0, 0, 0.0

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count one operator and run it."""
        kwargs = kwargs or {}
        given = [x for x in tree_leaves([args, kwargs]) if isinstance(x, Tensor)]
        out = func(*args, **kwargs)
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        old = {x.untyped_storage().data_ptr() for x in given}
        changes = func._schema.is_mutable
        if not made or (not changes and all(x.untyped_storage().data_ptr() in old for x in made)):
            return out
        filled = not given and "empty" in str(func)
        moved = 0 if filled or "new_empty" in str(func) else sum(map(_bytes, [*_different(given), *made]))
        flop = operations(func, args, kwargs, out)
        self.moved, self.flop = self.moved + moved, self.flop + flop
        self.least_ms += self.card.floor_ms(flop, moved)
        return out


def operations(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    """Operations of one operator, 0 for those that are no matrix product, convolution or attention."""
    if func in CPU_ATTENTION:
        return int(sdpa_flop(*args[:3], out_val=out))
    counter = flop_registry.get(func._overloadpacket)
    return 0 if counter is None else int(counter(*args, **kwargs, out_val=out))


def _bytes(x: Tensor) -> int:
    """What a tensor takes in memory; one that is expanded stands there once."""
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())


def _different(tensors: Sequence[Tensor]) -> list[Tensor]:
    return list({(x.data_ptr(), x.shape): x for x in tensors}.values())


def find_card(arguments: argparse.Namespace) -> Card:
    """The device and its ceilings: what the arguments say, else what its data sheet does."""
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    known = next((peak for part, peak in PEAKS.items() if part in name), None)
    rate, width = arguments.peak_tflops, arguments.peak_tbs
    if known is None and not (rate and width):
        rate, width = rate or 0.1, width or 0.02
        print(
            f"no data sheet of {name!r} here: {rate} TFLOP/s and {width} TB/s are taken; give --peak-tflops, --peak-tbs"
        )
    return Card(device, name, rate or (known or (0, 0))[0], width or (known or (0, 0))[1])


def registered() -> None:
    """Tell Python of this checkout's entry points where it is not installed."""
    if entry_points(group="fusion.encoders"):
        return
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups.items()]
    folder = Path(tempfile.mkdtemp()) / "fusion_stack-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: fusion-stack\nVersion: 0\n", encoding="utf-8")
    (folder / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    sys.path.append(str(folder.parent))


def make_model(spec: FusionSpec, card: Card, weights: torch.dtype) -> FusionModel:
    """The model with random weights, stored as `weights` but for those of normalisations."""
    torch.manual_seed(7)
    model = build_fusion(spec).eval().to(card.device).requires_grad_(requires_grad=False)
    for module in model.modules():
        if not isinstance(module, NORMALISATIONS):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(weights)
    return model


def make_batch(spec: FusionSpec, device: torch.device, count: int) -> Batch:
    """Random pictures and sweeps of `count` samples; cameras look as those of nuScenes' car do."""
    cameras = spec.sensors["camera"]
    generator = torch.Generator(device).manual_seed(count)
    rays, views = zip(*(_view(spec, azimuth) for azimuth in AZIMUTHS_DEG[:cameras]), strict=True)
    picture = (count, cameras, 3, spec.image_height, spec.image_width)
    return {
        "images": torch.randint(0, 256, picture, generator=generator, device=device, dtype=torch.uint8),
        "rays": torch.tensor(np.stack(rays), device=device).expand(count, -1, -1, -1).contiguous(),
        "image_from_ego": torch.tensor(np.stack(views), device=device).expand(count, -1, -1, -1).contiguous(),
        "camera_available": torch.ones(count, cameras, dtype=torch.bool, device=device),
        "camera_age": torch.rand(count, cameras, generator=generator, device=device) * 0.1,
        "points": _sweep(spec, generator, device, count),
        "points_valid": torch.ones(count, spec.points, dtype=torch.bool, device=device),
        "lidar_available": torch.ones(count, dtype=torch.bool, device=device),
        "lidar_age": torch.zeros(count, device=device),
    }


def _view(spec: FusionSpec, azimuth_deg: float) -> tuple[Any, Any]:
    turn = rotation_z(np.deg2rad(azimuth_deg))
    place = rigid(turn, turn @ np.array([1.0, 0.0, 1.5])) @ invert(CAMERA_OPTICAL_FROM_BODY)
    camera = CameraCalibration.pinhole(1600, 900, np.deg2rad(65.0), place)
    view = camera_view(camera, InputSize(spec.image_width, spec.image_height))
    return view.rays, view.image_from_ego.astype(np.float32)


def _sweep(spec: FusionSpec, generator: torch.Generator, device: torch.device, count: int) -> Tensor:
    """Points (count, N, 4): dense near, thin far, from the ground up to three metres."""
    drawn = torch.rand(count, spec.points, 4, generator=generator, device=device)
    reach, angle = 2.0 * 35.0 ** drawn[..., 0], 2 * torch.pi * drawn[..., 1]
    height = 3.0 * drawn[..., 2] ** 3 - 0.2
    return torch.stack([reach * angle.cos(), reach * angle.sin(), height, drawn[..., 3]], -1)


def without_camera(batch: Batch, every: int) -> Batch:
    """`batch` with the first camera absent in every `every`-th sample."""
    there = batch["camera_available"].clone()
    there[::every, 0] = False
    return {**batch, "camera_available": there}


@contextmanager
def running(device: torch.device) -> Iterator[None]:
    """No gradients, and bfloat16 where it loses nothing that matters."""
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or CPU_AUTOCAST):
        yield


@contextmanager
def everything_there() -> Iterator[None]:
    """All sensors of all samples are there, and the host need not ask the device: no token is looked for or masked."""
    with (
        mock.patch.object(memory, "_dropped", lambda keys, values, _mask: (keys, values, None)),
        mock.patch.object(build, "_for_rows", lambda encoder, _rows, inputs: list(encoder(*inputs))),
    ):
        yield


def timed(run: Callable[[], Any], card: Card, rounds: int, most_s: float = SECONDS_A_ROW) -> tuple[float, float, int]:
    """Median and 99th percentile of milliseconds, and of how many rounds."""
    for _ in range(2):
        started = time.perf_counter()
        run()
        _wait(card)
        once = time.perf_counter() - started
    rounds = max(5, min(rounds, int(most_s / max(once, 1e-4))))
    if card.device.type == "cpu":
        took = []
        for _ in range(rounds):
            started = time.perf_counter()
            run()
            took.append(1e3 * (time.perf_counter() - started))
    else:
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
        for start, end in events:
            start.record()
            run()
            end.record()
        torch.cuda.synchronize()
        took = [start.elapsed_time(end) for start, end in events]
    return float(np.median(took)), float(np.percentile(took, 99)), rounds


def _wait(card: Card) -> None:
    if card.device.type == "cuda":
        torch.cuda.synchronize()


def count(row: Row, run: Callable[[], Any], card: Card, fixed: int) -> None:
    """Fill in the floors of `run`; `fixed` bytes of parameters, inputs and outputs move in any case."""
    counted = FlopCounterMode(display=False, custom_mapping=_custom())
    with running(card.device), counted, Traffic(card) as traffic:
        run()
    flop = counted.get_total_flops()
    row.gigaflop, row.least_gb, row.moved_gb = flop / 1e9, fixed / 1e9, traffic.moved / 1e9
    row.floor_ms, row.floor_by_op_ms = card.floor_ms(flop, fixed), traffic.least_ms
    row.bound = "arithmetic" if flop / card.teraflops > fixed / card.terabytes else "bytes"
    if traffic.flop != flop:
        row.note = f"by op {traffic.flop / 1e9:.0f} GFLOP were seen"


def _custom() -> dict[Any, Any]:
    def attention(query: Any, key: Any, value: Any, *_rest: Any, out_val: Any = None, **_named: Any) -> int:
        return int(sdpa_flop(query, key, value, out_val=out_val))

    def wrapped(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        return attention(*args, out_val=out_val, **kwargs)

    wrapped._get_raw = True  # type: ignore[attr-defined]  # tensors, not their shapes
    return {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: wrapped}


def attention_of(run: Callable[[], Any], card: Card) -> str:
    """Which attention ran in a pass, by the profiler: operators, and kernels on a GPU."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if card.device.type == "cuda" else [])]
    with profile(activities=activities) as profiled, running(card.device):
        run()
        _wait(card)
    names = {event.name for event in profiled.events()}
    found = sorted(name.removeprefix("aten::") for name in names if name.startswith(ATTENTION_OPS))
    kernels = {name for name in names if not name.startswith("aten::")}
    ran = sorted({name[:60] for name in kernels if any(part in name.lower() for part in ATTENTION_KERNELS)})
    if "aten::_scaled_dot_product_attention_math" in names:
        found = ["math", *found]
    return "; ".join([*found[:2], *ran[:2]]) or "none seen"


@dataclass(slots=True)
class Bench:
    """One model and all that is measured of it."""

    model: FusionModel
    card: Card
    rounds: int
    rows: list[Row] = field(default_factory=list)

    def whole(self, batch: Batch, sensors: str, name: str = "eager", *, fixed: bool = True) -> Row:
        """Time a pass over `batch`, with floors and attention kernels unless `fixed` is off."""
        count_of = len(batch["images"])
        row = self.measured(name, lambda: self.model(batch), count_of, sensors)
        if fixed:
            with running(self.card.device):
                moved = self.least_bytes(batch, self.model(batch)[0])
            count(row, lambda: self.model(batch), self.card, moved)
            row.attention = attention_of(lambda: self.model(batch), self.card)
        return row

    def measured(
        self, name: str, run: Callable[[], Any], batch: int, sensors: str, most_s: float = SECONDS_A_ROW
    ) -> Row:
        """Time `run` and note its peak memory."""
        cuda = self.card.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        with running(self.card.device):
            median, p99, rounds = timed(run, self.card, self.rounds, most_s)
        row = Row(name, batch, sensors, median, p99, rounds)
        if cuda:
            row.memory_gb = torch.cuda.max_memory_allocated() / 1e9
        self.rows.append(row)
        return row

    def least_bytes(self, batch: Batch, outputs: Any) -> int:
        """Parameters, inputs and outputs once."""
        return _weights(self.model) + sum(map(_bytes, batch.values())) + sum(map(_bytes, _tensors(outputs)))

    def parts(self, batch: Batch) -> None:
        """Time the parts one by one, on what a pass over `batch` gives them."""
        fuser = self.model.fuser
        encoders = dict(self.model.encoders.items())
        modules = {**encoders, "queries": fuser.queries, "memory": fuser.memory, "heads": fuser.heads}
        given = self._given({**modules, "layer": fuser.layers[0]}, batch)
        for name, module in modules.items():
            self._part(name, [module], given[name], len(batch["images"]))
        layers = cast("Sequence[nn.Module]", fuser.layers)
        row = self._part(f"{len(layers)} fusion layers", layers, given["layer"], len(batch["images"]))
        row.attention = attention_of(lambda: layers[0](*given["layer"]), self.card)

    def _part(self, name: str, modules: Sequence[nn.Module], given: Sequence[Any], batch: int) -> Row:
        def run() -> Any:
            first, *rest = given
            out = modules[0](first, *rest)
            for module in modules[1:]:
                out = module(out, *rest)
            return out

        row = self.measured(f"· {name}", run, batch, "all", SECONDS_A_PART)
        with running(self.card.device):
            out = run()
        tensors = _different([*_tensors(given), *_tensors(out)])
        count(row, run, self.card, sum(map(_weights, modules)) + sum(map(_bytes, tensors)))
        return row

    def _given(self, modules: Mapping[str, nn.Module], batch: Batch) -> dict[str, Sequence[Any]]:
        found: dict[str, Sequence[Any]] = {}
        hooks = [
            module.register_forward_pre_hook(lambda _module, args, name=name: found.setdefault(name, args) and None)
            for name, module in modules.items()
        ]
        with running(self.card.device):
            self.model(batch)
        for hook in hooks:
            hook.remove()
        return found

    def graph(self, batch: Batch, name: str) -> None:
        """Time the replay of a CUDA graph; a pass that cannot be captured is a row that says so."""
        count_of = len(batch["images"])
        if self.card.device.type != "cuda":
            return
        try:
            with everything_there(), running(self.card.device):
                graph = _captured(lambda: self.model(batch))
        except RuntimeError as error:
            self.rows.append(Row(name, count_of, "all", 0, 0, 0, note=f"not captured: {str(error).splitlines()[0]}"))
            return
        self.measured(name, graph.replay, count_of, "all")

    def compiled(self, batch: Batch, limit_s: float) -> bool:
        """Compile the repeated and the wide parts in place, one by one until `limit_s` have passed, and time a pass."""
        fuser = self.model.fuser
        parts = {"layers": list(fuser.layers), "heads": [fuser.heads], "queries": [fuser.queries]}
        parts |= {
            name: [self.model.encoders[name]] for name in reversed(list(self.model.encoders))
        }  # camera last: longest
        started, done = time.perf_counter(), list[str]()
        given = self._given({name: modules[0] for name, modules in parts.items()}, batch)
        for name, modules in parts.items():
            try:
                with limited(limit_s - (time.perf_counter() - started)), running(self.card.device):
                    for module in modules:
                        module.compile(dynamic=False)
                        module(*given[name])
                done.append(name)
            except (Exception, OverTimeError) as error:  # noqa: BLE001 the compiler's errors have no root
                for module in modules:
                    module._compiled_call_impl = None
                print(f"{name} stays as it is: {type(error).__name__} {str(error).splitlines()[:1]}")
        took = time.perf_counter() - started
        if done:
            row = self.whole(batch, "all", "torch.compile", fixed=False)
            row.note = f"{', '.join(done)} compiled in {took:.0f} s"
        return bool(done)

    def eager(self) -> None:
        """Undo `compiled`."""
        for module in self.model.modules():
            module._compiled_call_impl = None

    def largest(self, spec: FusionSpec, start: int, limit_s: float) -> None:
        """Double the batch until it does not fit or `limit_s` have passed; the last that fits is a row."""
        size, started, best, note = start * 2, time.perf_counter(), None, "time was up: more may fit"
        while time.perf_counter() - started < limit_s and self.card.device.type == "cuda":
            torch.cuda.empty_cache()
            try:
                batch = make_batch(spec, self.card.device, size)
                best = replace(self, rounds=5, rows=[]).whole(batch, "all", fixed=False)
            except RuntimeError as error:
                fits = isinstance(error, torch.cuda.OutOfMemoryError)
                note = "the largest power of two that fits" if fits else f"twice as many: {str(error)[:80]}"
                break
            finally:
                batch = {}
            size *= 2
        if best is not None:
            best.note = note
            self.rows.append(best)


def _captured(run: Callable[[], Any]) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `OverTimeError` inside after `seconds`."""
    if seconds <= 0:
        raise OverTimeError("no time left")

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise OverTimeError("the time limit has passed")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _weights(module: nn.Module) -> int:
    return sum(map(_bytes, module.parameters()))


def _tensors(value: Any) -> list[Tensor]:
    return [x for x in tree_leaves(value) if isinstance(x, Tensor)]


def ceilings(card: Card) -> dict[str, float]:
    """What the card does at best when asked: TFLOP/s of a large product, TB/s of a large copy, bytes counted twice."""
    if card.device.type == "cpu":
        return {}
    a, b = (torch.randn(8192, 8192, device=card.device, dtype=torch.bfloat16) for _ in range(2))
    product = timed(lambda: a @ b, card, 20)[0]
    source = torch.randint(0, 256, (2 << 30,), device=card.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source), card, 20)[0]
    return {"tflops": 2 * 8192**3 / product / 1e9, "tbs": 2 * source.numel() / copy / 1e9}


def off_by(spec: FusionSpec, card: Card, batch: Batch, model: FusionModel) -> float:
    """How far the box maps are from float32's, ‖a - b‖ / ‖b‖, on the first sample; of random weights, so a check."""
    first = {name: value[:1] for name, value in batch.items()}
    exact = make_model(spec, card, torch.float32)
    exact.load_state_dict(model.state_dict())
    with torch.no_grad():
        wanted = exact(first)[0].box.float()
    with running(card.device):
        got = model(first)[0].box.float()
    return float((got - wanted).norm() / wanted.norm())


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    titles = "pass|batch|sensors|ms p50|p99|n|GFLOP|GB least|GB by op|floor ms|by op ms|bound|share|TFLOP/s|peak GB"
    columns = [*titles.split("|"), "attention", "note"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        rate = row.gigaflop / row.median_ms if row.median_ms else 0.0
        lines.append(
            f"| {row.name} | {row.batch} | {row.sensors} | {row.median_ms:.2f} | {row.p99_ms:.2f} | {row.rounds} "
            f"| {row.gigaflop:.0f} | {row.least_gb:.3f} | {row.moved_gb:.2f} | {row.floor_ms:.3f} "
            f"| {row.floor_by_op_ms:.2f} | {row.bound} | {100 * row.share:.1f} % | {rate:.0f} | {row.memory_gb:.2f} "
            f"| {row.attention} | {row.note} |"
        )
    return "\n".join(lines)


def measure(
    bench: Bench, spec: FusionSpec, arguments: argparse.Namespace, until: float, save: Callable[[], None]
) -> None:
    """All rows, compiling last in what time is left; nothing is begun after `until`. `save` is called after each step,
    so that a run which is cut off has told what it knew.
    """

    def left() -> float:
        return until - time.perf_counter()

    batches = {count: make_batch(spec, bench.card.device, count) for count in arguments.batches}
    steps: list[tuple[str, Callable[[], object]]] = []
    for size, batch in batches.items():
        missing = without_camera(batch, 2)
        some = "one camera absent" if size == 1 else "one camera absent in half"
        steps += [
            (f"eager, batch {size}", lambda batch=batch: bench.whole(batch, "all")),
            (f"{some}, batch {size}", lambda missing=missing, some=some: bench.whole(missing, some)),
            (f"graph, batch {size}", lambda batch=batch: bench.graph(batch, "graph of eager")),
        ]
        steps.append((f"parts, batch {size}", lambda batch=batch: bench.parts(batch)))
    steps.append(("largest batch", lambda: bench.largest(spec, max(batches), arguments.largest_s)))
    for size, batch in sorted(batches.items(), reverse=True):
        limit = partial(min, arguments.compile_s)
        steps.append((f"compiled, batch {size}", lambda b=batch, f=limit: compile_rows(bench, b, f(left() - SPARE_S))))
    bar = tqdm(steps, unit="step", disable=None)
    for name, step in bar:
        bar.set_description(name)
        if left() < 0:
            bench.rows.append(Row(name, 0, "", 0, 0, 0, note="skipped: time was up"))
            continue
        try:
            step()
        except Exception as error:  # noqa: BLE001 what was measured before is worth having
            bench.rows.append(Row(name, 0, "", 0, 0, 0, note=f"failed: {type(error).__name__} {str(error)[:120]}"))
        fill_in(bench.rows)
        save()


def compile_rows(bench: Bench, batch: Batch, limit_s: float) -> None:
    """The compiled pass and the graph of it, unless compiling is off."""
    if limit_s > 0 and bench.compiled(batch, limit_s):
        bench.graph(batch, "graph of torch.compile")
    bench.eager()
    torch.compiler.reset()


def fill_in(rows: Sequence[Row]) -> None:
    """Give rows that only were timed the floor of the eager pass over the same batch."""
    whole = {row.batch: row for row in rows if row.name == "eager" and row.sensors == "all" and row.gigaflop}
    for row in rows:
        if not row.gigaflop and row.sensors == "all" and not row.name.startswith("·") and whole:
            base = whole.get(row.batch) or whole[max(whole)]
            scale = row.batch / base.batch
            row.gigaflop, row.bound = base.gigaflop * scale, base.bound
            # Beyond the batches counted, parameters are counted once a batch of that size: no matter, where rate binds.
            row.floor_ms = base.floor_ms * scale


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--task", default="nuscenes")
    parser.add_argument("--size", default="large")
    parser.add_argument("--batches", type=int, nargs="+", default=None, help="1 and 32; 1 on a CPU")
    parser.add_argument("--rounds", type=int, default=50, help=f"at most, and no more than {SECONDS_A_ROW:.0f} s a row")
    parser.add_argument("--weights", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="dense bfloat16; default by the device's name")
    parser.add_argument("--peak-tbs", type=float, default=0.0, help="memory bandwidth; default by the device's name")
    parser.add_argument(
        "--compile-s", type=float, default=20.0, help="seconds to compile in, a batch; 0 for not at all"
    )
    parser.add_argument("--seconds", type=float, default=45.0, help="for all; what is not begun by then is left out")
    parser.add_argument("--largest-s", type=float, default=6.0, help="seconds to look for the largest batch in")
    parser.add_argument("--out", type=Path, help="a .json for all figures")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here; '--device cpu --size small' shows whether it runs at all; skipped")
        return
    started = time.perf_counter()
    registered()
    card = find_card(arguments)
    arguments.batches = arguments.batches or ([1, 32] if card.device.type == "cuda" else [1])
    spec = bev_spec(Task.load(arguments.task), arguments.size)
    if card.device.type == "cpu":
        arguments.weights = "float32"
    model = make_model(spec, card, getattr(torch, arguments.weights))
    bench = Bench(model, card, arguments.rounds)
    reached = ceilings(card)
    apart = off_by(spec, card, make_batch(spec, card.device, 1), model)
    facts = {
        "device": card.name,
        "torch": torch.__version__,
        "peak": {"tflops": card.teraflops, "tbs": card.terabytes},
        "reached": reached,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights": arguments.weights,
        "boxes_off_by": apart,
    }
    print(json.dumps(facts), flush=True)
    shown = 0

    def save() -> None:
        nonlocal shown
        for row in bench.rows[shown:]:
            print(f"{row.name}, batch {row.batch}, {row.sensors}: {row.median_ms:.2f} ms {row.note}", flush=True)
        shown = len(bench.rows)
        if arguments.out:
            write(arguments.out, {**facts, "seconds": time.perf_counter() - started}, bench.rows)

    measure(bench, spec, arguments, started + arguments.seconds, save)
    how = "no autocast" if card.device.type == "cpu" else "autocast to bfloat16"
    took = time.perf_counter() - started
    print(f"\n{spec.name} of {spec.task}, {card.name}, weights in {arguments.weights}, {how}; {took:.0f} s\n")
    print(table(bench.rows))


def write(path: Path, facts: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """All figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**facts, "rows": [asdict(row) | {"share": row.share} for row in rows]}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
