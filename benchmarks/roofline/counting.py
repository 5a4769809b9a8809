"""Operations and bytes of a pass, by PyTorch's operators, and which attention ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop

from roofline.card import Card
from roofline.passes import running, wait
from roofline.rows import Row

CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default: "flash_for_cpu"}
ATTENTION_OPS = ("aten::_scaled_dot_product_", "aten::_flash_attention_forward", "aten::_efficient_attention_forward")
ATTENTION_KERNELS = ("flash", "fmha", "sdpa", "attention")


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
        moved = 0 if filled or "new_empty" in str(func) else sum(map(size_of, [*different(given), *made]))
        flop = operations(func, args, kwargs, out)
        self.moved, self.flop = self.moved + moved, self.flop + flop
        self.least_ms += self.card.floor_ms(flop, moved)
        return out


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

    wrapped._get_raw = True  # tensors, not their shapes
    return {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: wrapped}


def attention_of(run: Callable[[], Any], card: Card) -> str:
    """Which attention ran in a pass, by the profiler: operators, and kernels on a GPU."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if card.device.type == "cuda" else [])]
    with profile(activities=activities) as profiled, running(card.device):
        run()
        wait(card)
    names = {event.name for event in profiled.events()}
    found = sorted(name.removeprefix("aten::") for name in names if name.startswith(ATTENTION_OPS))
    kernels = {name for name in names if not name.startswith("aten::")}
    ran = sorted({name[:60] for name in kernels if any(part in name.lower() for part in ATTENTION_KERNELS)})
    if "aten::_scaled_dot_product_attention_math" in names:
        found = ["math", *found]
    return "; ".join([*found[:2], *ran[:2]]) or "none seen"


def operations(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    """Operations of one operator, 0 for those that are no matrix product, convolution or attention."""
    if func in CPU_ATTENTION:
        return int(sdpa_flop(*args[:3], out_val=out))
    counter = flop_registry.get(func._overloadpacket)
    return 0 if counter is None else int(counter(*args, **kwargs, out_val=out))


def size_of(x: Tensor) -> int:
    """What a tensor takes in memory; one that is expanded stands there once."""
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())


def different(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Each tensor once."""
    return list({(x.data_ptr(), x.shape): x for x in tensors}.values())


def weights_of(module: nn.Module) -> int:
    """Bytes of all parameters."""
    return sum(map(size_of, module.parameters()))


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors anywhere in `value`."""
    return [x for x in tree_leaves(value) if isinstance(x, Tensor)]
