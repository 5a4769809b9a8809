"""How fusion models are optimised: AdamW without decay of biases and norms, a warm-up, a cosine, clipped gradients, and
half the precision where that is faster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

_LAST_SHARE = 0.02
"""Of the learning rate, at the end of the cosine."""
FP32, BF16 = "fp32", "bf16"
PRECISIONS = (FP32, BF16)
"""What a forward pass computes in. Weights, their gradients and the optimizer are float32 in both."""


def best_precision(device: str) -> str:
    """bf16 on a GPU that has it, else fp32."""
    on_gpu = torch.device(device).type == "cuda"
    return BF16 if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else FP32


def autocast(device: str, precision: str) -> torch.autocast:
    """The context of a forward pass on `device` in one of `PRECISIONS`."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == BF16)


def adamw(module: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """An optimizer of everything in `module` that is not frozen; only matrices and filters decay."""
    learnt = [p for p in module.parameters() if p.requires_grad]
    decayed, plain = [p for p in learnt if p.ndim > 1], [p for p in learnt if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))


def set_rate(optimizer: torch.optim.Optimizer, learning_rate: float, warmup: int, step: int, total: int) -> None:
    """The rate of `step` of `total`."""
    warm = min(1.0, (step + 1) / max(1, warmup))
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total))))
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * warm * (_LAST_SHARE + (1 - _LAST_SHARE) * cosine)


def warm_cosine(optimizer: torch.optim.Optimizer, warmup: float, total: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Each group's rate over `total` steps: up over the share `warmup` of them, then half a cosine to a hundredth."""
    warm = max(1, round(warmup * total))

    def share(step: int) -> float:
        return min((step + 1) / warm, 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def take_step(optimizer: torch.optim.Optimizer, module: nn.Module, loss: Tensor, clip: float) -> None:
    """One step down `loss`, the gradient's norm at most `clip`."""
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
    optimizer.step()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What `optimizer` remembers, copied: `PARAMETER.KEY` → tensor."""
    slots = optimizer.state_dict()["state"]
    return {f"{i}.{key}": value.detach().cpu().clone() for i, slot in slots.items() for key, value in slot.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give back what `optimizer_tensors` took."""
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        slots.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
