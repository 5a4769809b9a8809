"""Measures one model: eager, in parts, as a CUDA graph, compiled, at the largest batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import nn

from fusion.model.build import FusionModel
from fusion.preparation.fusion_spec import FusionSpec
from roofline.card import Card
from roofline.counting import attention_of, count, different, size_of, tensors_in, weights_of
from roofline.inputs import Batch, make_batch
from roofline.passes import SECONDS_A_ROW, OverTimeError, captured, everything_there, limited, running, timed
from roofline.rows import Row

SECONDS_A_PART = 1.0


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
        return weights_of(self.model) + sum(map(size_of, batch.values())) + sum(map(size_of, tensors_in(outputs)))

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
        tensors = different([*tensors_in(given), *tensors_in(out)])
        count(row, run, self.card, sum(map(weights_of, modules)) + sum(map(size_of, tensors)))
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
                graph = captured(lambda: self.model(batch))
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
            except (RuntimeError, OverTimeError) as error:  # the compiler's own are RuntimeErrors
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
