"""`peft`'s LoRA in a language model: put in, merged, written and read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from fusion.errors import ConfigError, ModelError
from fusion.review.folder import first_line
from fusion.training.lora.recipe import ALL_LINEAR, PROJECTOR, LoraRecipe

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"


def require_peft() -> None:
    """Raises `ConfigError` that says what to install."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"fusion train lora needs the package peft ({error}); install it with: pip install 'fusion-stack[train]'"
        ) from None


def put_in(network: nn.Module, text: nn.Module, recipe: LoraRecipe) -> Any:
    """The `PeftModel` around `network`, in which layers of its language model `text`, and of its projector where that
    is asked for, now have adapters that change nothing yet (torch's seed). All else stops learning.

    Raises `ConfigError` for targets that it does not have.
    """
    from peft import LoraConfig, get_peft_model

    chosen = _chosen(network, text, recipe.targets)
    config = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=0.0, target_modules=chosen)
    wrapped = get_peft_model(network, config)
    wrapped.eval()
    return wrapped


def read_into(network: nn.Module, folder: Path) -> Any:
    """The same with an adapter that `write` wrote. Raises `ModelError`."""
    from peft import PeftModel
    from safetensors import SafetensorError

    for name in (WEIGHTS, SETTINGS):
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name}: missing, so there is no adapter here; give what 'train lora' wrote")
    try:
        wrapped = PeftModel.from_pretrained(network, str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder}: the adapter cannot be put into its base ({first_line(error)})") from None
    wrapped.eval()
    return wrapped


def write(wrapped: Any, folder: Path) -> None:
    """The adapter alone, as safetensors, in peft's own form but for where its base was on this machine."""
    wrapped.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty card
    told = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    told["base_model_name_or_path"] = None
    (folder / SETTINGS).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def merge(wrapped: Any) -> None:
    """Add the adapter to the weights and take it out: the language model has its first architecture again.

    Raises `ModelError` where that makes numbers that are none.
    """
    try:
        wrapped.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ModelError(f"the adapter cannot be merged ({first_line(error)}); learn more slowly") from None


def learnt_in(wrapped: nn.Module) -> dict[str, nn.Parameter]:
    """The adapter's parameters by name."""
    return {name: parameter for name, parameter in wrapped.named_parameters() if parameter.requires_grad}


def refuse_quantized(settings: Mapping[str, Any], where: str) -> None:
    """Raises `ModelError` for the `config.json` of a model whose weights are in few bits."""
    texts = (settings, settings.get("text_config") or {})
    if any(part.get("quantization_config") for part in texts):
        raise ModelError(
            f"{where}: is quantized, and an adapter merged into its weights would be rounded away; give the model "
            "in float32, bfloat16 or float16, and quantize what comes of it"
        )


def _chosen(network: nn.Module, text: nn.Module, targets: Sequence[str]) -> str:
    """A pattern of the full names of the linear layers that `targets` name."""
    within = {id(module) for module in text.modules()}
    linear = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    projector = [name for name in linear if name.startswith(f"{PROJECTOR}.")]
    layers = [name for name, module in linear.items() if id(module) in within]
    last = {name.rpartition(".")[2] for name in layers}
    unknown = [name for name in targets if name not in {*last, ALL_LINEAR, PROJECTOR}]
    if unknown or not targets:
        raise ConfigError(
            f"fusion train lora: --target-modules {','.join(unknown) or 'none'}: the language model has no such linear "
            f"layer; it has {', '.join(sorted(last))}; {ALL_LINEAR} are all of these, {PROJECTOR} reads the evidence"
        )
    chosen = [name for name in layers if ALL_LINEAR in targets or name.rpartition(".")[2] in targets]
    return "|".join(re.escape(name) for name in [*chosen, *(projector if PROJECTOR in targets else [])])
