"""Tiny models of every family with random weights, as real Hugging Face folders: for tests, and to try `hf:` out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from fusion.review.prompt import BEGIN, END, IMAGE, PAD

TINY_FAMILIES = ("llava", "idefics3", "smolvlm", "qwen2_5_vl", "qwen3_vl", "mllama")
TINY_SIDE = 56
_WORDS = "the drum crate cone ok yes no none report condition object action asked What is it One of Answer as JSON"
_CHAT = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}{{ '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_PICTURES_FIRST = (
    "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'].upper() + ': ' }}{% endif %}"
    "{% for c in m['content'] if c['type'] == 'image' %}{{ 'IMAGE\n' }}{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""As LLaVA-1.5 has it: pictures before text, whatever their order, and no beginning of its own."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Width and depth of the text model, and what its tokenizer learns: at most `vocabulary` tokens, from `words`.

    `more` says otherwise what else a configuration has, in its own names.
    """

    hidden: int = 48
    layers: int = 3
    vocabulary: int = 340
    words: str = _WORDS
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> dict[str, Any]:
        """As configurations of text models name it; heads of 12 numbers at 48, of 64 at 256 and more."""
        heads = max(4, self.hidden // 64)
        return {
            "hidden_size": self.hidden,
            "intermediate_size": 4 * self.hidden // 3,
            "num_hidden_layers": self.layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads // 2 if heads % 2 == 0 else heads,
            "max_position_embeddings": 2048,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            **self.more,
        }

    @property
    def rotary(self) -> list[int]:
        """How many pairs of a head's numbers turn by time, row and column."""
        pairs = self.hidden // self.text["num_attention_heads"] // 2
        side = pairs // 3
        return [pairs - 2 * side, side, side]


def save_tiny(family: str, folder: Path, seed: int = 0, shape: Shape = Shape()) -> Path:
    """Write a model and its processor; returns the folder."""
    model, processor = make_random(family, seed, shape)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make_random(family: str, seed: int = 0, shape: Shape = Shape()) -> tuple[Any, Any]:
    """A model, on torch's default device and in its default type, and its processor."""
    torch.manual_seed(seed)
    model, processor = {
        "llava": _llava, "idefics3": _idefics3, "smolvlm": _smolvlm, "qwen2_5_vl": _qwen2_5_vl,
        "qwen3_vl": _qwen3_vl, "mllama": _mllama,
    }[family](shape)  # fmt: skip
    for name, parameter in model.named_parameters():  # as they begin, nothing would tell two pictures apart
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15 * (48 / shape.hidden) ** 0.5)
        elif name.endswith("_gate"):
            torch.nn.init.ones_(parameter)
    return model, processor


def tokenizer(shape: Shape, *special: str) -> Any:
    """A byte-level BPE with a few merges, so that words are of one to several tokens."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary, special_tokens=[PAD, BEGIN, END, *special], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    inner.train_from_iterator([shape.words] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=PAD, bos_token=BEGIN, eos_token=END)


def _roles() -> tuple[str, ...]:
    return "<|user|>", "<|assistant|>", "<|end|>"


def _llava(shape: Shape) -> tuple[Any, Any]:
    from transformers import (
        CLIPImageProcessor,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        SiglipVisionConfig,
    )

    words = tokenizer(shape, "<image>", *_roles())
    words._tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 1)])
    image = words.convert_tokens_to_ids("<image>")
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=TINY_SIDE,
        patch_size=14, vision_use_head=False,
    )  # fmt: skip
    text = LlamaConfig(**{"vocab_size": len(words), **shape.text})
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=image, image_seq_length=16,
        vision_feature_select_strategy="full", vision_feature_layer=-1,
    )  # fmt: skip
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": TINY_SIDE}, crop_size={"height": TINY_SIDE, "width": TINY_SIDE}
        ),
        tokenizer=words, patch_size=14, vision_feature_select_strategy="full", image_token=IMAGE,
        chat_template=_PICTURES_FIRST.replace("IMAGE", "<image>"),
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


def _idefics3(shape: Shape) -> tuple[Any, Any]:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor, Idefics3Processor

    return _idefics(shape, Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor, Idefics3Processor)


def _smolvlm(shape: Shape) -> tuple[Any, Any]:
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    return _idefics(
        shape, SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessor, SmolVLMProcessor,
        video_processor=SmolVLMVideoProcessor(),
    )  # fmt: skip


def _idefics(
    shape: Shape, config_class: Any, model_class: Any, image_class: Any, processor_class: Any, **more: Any
) -> tuple[Any, Any]:
    words = tokenizer(shape, "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *_roles())
    config = config_class(
        vision_config={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "image_size": TINY_SIDE, "patch_size": 14},
        text_config={"model_type": "llama", "vocab_size": len(words), **shape.text},
        image_token_id=words.convert_tokens_to_ids("<image>"), scale_factor=2, pad_token_id=0,
    )  # fmt: skip
    processor = processor_class(
        image_processor=image_class(size={"longest_edge": TINY_SIDE}, max_image_size={"longest_edge": TINY_SIDE}),
        tokenizer=words, image_seq_len=4, chat_template=_CHAT.replace("IMAGE", "<image>"), **more,
    )  # fmt: skip
    return model_class(config), processor


def _qwen2_5_vl(shape: Shape) -> tuple[Any, Any]:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

    words, ids = _qwen_words(shape)
    config = Qwen2_5_VLConfig(
        text_config={"vocab_size": len(words), "rope_scaling": {"type": "mrope", "mrope_section": shape.rotary},
                     **shape.text},
        vision_config={"hidden_size": 32, "out_hidden_size": shape.hidden, "depth": 2, "num_heads": 2,
                       "intermediate_size": 48, "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]},
        **ids,
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config), _qwen_processor(Qwen2_5_VLProcessor, words, 14)


def _qwen3_vl(shape: Shape) -> tuple[Any, Any]:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

    words, ids = _qwen_words(shape)
    config = Qwen3VLConfig(
        text_config={"vocab_size": len(words), "head_dim": shape.hidden // shape.text["num_attention_heads"],
                     "rope_scaling": {"rope_type": "default", "mrope_section": shape.rotary}, **shape.text},
        vision_config={"hidden_size": 32, "out_hidden_size": shape.hidden, "depth": 3, "num_heads": 2,
                       "intermediate_size": 48, "patch_size": 14, "deepstack_visual_indexes": [0, 1],
                       "num_position_embeddings": 64},
        **ids,
    )  # fmt: skip
    return Qwen3VLForConditionalGeneration(config), _qwen_processor(Qwen3VLProcessor, words, 14)


def _qwen_words(shape: Shape) -> tuple[Any, dict[str, int]]:
    words = tokenizer(shape, "<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>", *_roles())
    of = words.convert_tokens_to_ids
    ids = {
        "image_token_id": of("<|image_pad|>"),
        "video_token_id": of("<|video_pad|>"),
        "vision_start_token_id": of("<|vision_start|>"),
        "vision_end_token_id": of("<|vision_end|>"),
    }
    return words, ids


def _qwen_processor(processor_class: Any, words: Any, patch: int) -> Any:
    from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    return processor_class(
        image_processor=Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=112 * 112, patch_size=patch),
        tokenizer=words,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=_CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )


def _mllama(shape: Shape) -> tuple[Any, Any]:
    from transformers import MllamaConfig, MllamaForConditionalGeneration, MllamaImageProcessor, MllamaProcessor

    words = tokenizer(shape, "<|image|>", *_roles())
    config = MllamaConfig(
        vision_config={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_global_layers": 1,
                       "attention_heads": 2, "image_size": TINY_SIDE, "patch_size": 14, "vision_output_dim": 64,
                       "intermediate_layers_indices": [0], "max_num_tiles": 2,
                       "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]]},
        text_config={"vocab_size": len(words), "cross_attention_layers": [1],
                     "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, **shape.text},
        image_token_index=words.convert_tokens_to_ids("<|image|>"),
    )  # fmt: skip
    processor = MllamaProcessor(
        image_processor=MllamaImageProcessor(size={"height": TINY_SIDE, "width": TINY_SIDE}, max_image_tiles=2),
        tokenizer=words,
        chat_template=_CHAT.replace("IMAGE", "<|image|>"),
    )
    return MllamaForConditionalGeneration(config), processor
