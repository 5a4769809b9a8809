"""Speech tokens from a pretrained network of transformers: wav2vec 2.0, HuBERT, WavLM or Whisper."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fusion.encoders.registry import Positions
from fusion.encoders.spotting import SpottingEncoder, halved
from fusion.encoders.waves import WaveListener
from fusion.encoders.whisper import WhisperListener
from fusion.errors import ModelError
from fusion.preparation.fusion_spec import FusionSpec

_UNUSED = ("masked_spec_embed", "decoder.")
"""Weights that nothing here reads; checkpoints may lack them."""
_ADVICE = "give a folder that save_pretrained wrote, or a hub name that can be fetched"


class PretrainedSpeechEncoder(SpottingEncoder):
    """Frames of a pretrained network, taken together by twos.

    `name_or_path` is a folder or a hub name that `transformers.AutoModel` loads. The network is frozen and always in
    evaluation mode unless it is `trainable`. `fresh` builds it from its configuration alone, for weights that come
    from elsewhere. Raises `ModelError` for what cannot be loaded or is no such network.

    Sound comes in windows of one length, padded with zeros before it. Networks whose front end normalises over time
    (`feat_extract_norm` "group": wav2vec2-base, hubert-base, wavlm-base) hear the padding: their frames change with its
    length, so train and run them on the same windows, filled in the same way. With "layer" (most large ones) it changes
    nothing, in steps of 640 samples; see `fusion.encoders.waves.WaveListener`.
    """

    @classmethod
    def from_spec(
        cls,
        spec: FusionSpec,
        _positions: Positions,
        /,
        *,
        network: str,
        trainable: bool = False,
        fresh: bool = False,
    ) -> Self:
        """Ears for the words and intents of `spec` over the pretrained `network`, a folder or a hub name."""
        sizes = (spec.width, len(spec.words), len(spec.intents), spec.samples, spec.dropout)
        return cls(network, *sizes, trainable=trainable, fresh=fresh)

    def __init__(
        self,
        name_or_path: str | Path,
        width: int,
        words: int,
        intents: int,
        samples: int,
        dropout: float = 0.0,
        *,
        trainable: bool = False,
        fresh: bool = False,
    ) -> None:
        super().__init__()
        self.trainable = trainable
        self.listener = _listener(str(name_or_path), samples, fresh=fresh)
        for value in self.listener.parameters():
            value.requires_grad_(trainable and value.requires_grad)
        self.narrow = nn.Conv1d(self.listener.width, width, 3, stride=2, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.add_heads(width, words, intents, halved(self.listener.frames))
        self.train()

    def frames_of(self, pcm: Tensor, _position: Tensor, /) -> tuple[Tensor, Tensor | None]:
        """Frames every 40 ms; the network has its own idea of time."""
        x, valid = self.listener(pcm)  # (B, F, width of the network)
        if valid is not None:
            x = torch.where(valid[..., None], x, torch.zeros_like(x))
            valid = torch.cat([valid[:, ::2][:, :-1], torch.ones_like(valid[:, :1])], 1)
        frames: Tensor = self.dropout(self.narrow(x.transpose(1, 2)).transpose(1, 2))
        return frames, valid

    def train(self, mode: bool = True) -> Self:
        """As for every module, but a frozen network stays in evaluation mode."""
        super().train(mode)
        self.listener.train(mode and self.trainable)
        return self


def _listener(name: str, samples: int, *, fresh: bool) -> WaveListener | WhisperListener:
    from transformers import AutoConfig

    config = _loaded(name, AutoConfig.from_pretrained)
    waves = hasattr(config, "feat_extract_norm") and hasattr(config, "conv_stride")
    if config.model_type != "whisper" and not waves:
        raise ModelError(f"{name}: a {config.model_type} is no audio encoder that can be used; {_ADVICE}")
    model = _model(name, config, fresh=fresh)
    if not waves:
        return WhisperListener(model, samples)
    return WaveListener(model, samples, normalised=_wants_normalised(name))


def _model(name: str, config: Any, *, fresh: bool) -> Any:
    from transformers import AutoModel

    if fresh:
        return AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    model, report = _loaded(
        name, AutoModel.from_pretrained, config=config, dtype=torch.float32, output_loading_info=True
    )
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(_UNUSED))
    if missing:
        raise ModelError(f"{name}: its weights lack {', '.join(missing[:3])} (of {len(missing)}); {_ADVICE}")
    return model


def _wants_normalised(name: str) -> bool:
    """Whether sound is given mean 0 and variance 1; networks that do not say were trained so."""
    from transformers import AutoFeatureExtractor

    try:
        return bool(getattr(AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False), "do_normalize", True))
    except (OSError, ValueError):
        return True


def _loaded(name: str, load: Any, **options: Any) -> Any:
    try:
        return load(name, trust_remote_code=False, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"{name}: no speech network could be loaded ({reason}); {_ADVICE}") from None
