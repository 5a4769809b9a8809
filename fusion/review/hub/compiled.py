"""Layers of a text model as fewer, larger kernels (torch.compile), for a GPU."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fusion.errors import ModelError
from fusion.review.hub import attention

_SHAPES = 128
"""How many forms of a layer may be compiled before the rest stays as it is: each layer counts as one."""


def compile_layers(text: Any) -> None:
    """Have each layer of `text` compiled at its first use, all but its attention, for any number of tokens.

    Raises `ModelError` where there is no C compiler, which torch needs for it.
    """
    if not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        raise ModelError("torch needs a C compiler to compile layers; install gcc, or add compile=no to the name")
    import torch._dynamo
    from transformers import AttentionInterface

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _SHAPES)
    as_it_is: Any = torch.compiler.disable  # untyped
    AttentionInterface.register(attention.NAME, as_it_is(attention.attend))
    for layer in text.layers:
        layer.compile(dynamic=True)


@contextmanager
def as_written() -> Iterator[None]:
    """Within it nothing that was compiled is used: for what comes seldom and would be compiled anew."""
    with torch.compiler.set_stance("force_eager"):
        yield
