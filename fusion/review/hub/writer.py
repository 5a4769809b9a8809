"""Writes a rationale token by token, held to a grammar, so that whatever the weights say it ends as JSON would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fusion.errors import ModelError
from fusion.review.batch import EvidenceBatch
from fusion.review.hub import attention
from fusion.review.hub.continuation import Continuation
from fusion.review.hub.network import HubNetwork
from fusion.review.rationale import PLAIN, CarryOn, plain, told_verdict
from fusion.types import SlotAnswer

_GRAMMAR = rf"""root ::= [A-Za-z] (" "? [{PLAIN}])* "\"}}" """
"""The rest of `{"slot": "option", ..., "because": "`. A class of characters, and no counted length: that compiles in
milliseconds whatever the vocabulary; the length is bounded in tokens."""

_END = '"}'


class RationaleWriter:
    """A compiled grammar for one model. Raises `ModelError` where xgrammar is not installed."""

    def __init__(self, network: HubNetwork) -> None:
        try:
            import xgrammar
        except ImportError:
            raise ModelError("a rationale needs xgrammar; install it: pip install 'fusion-stack[hub]'") from None
        self._network = network
        self._xgrammar: Any = xgrammar
        self._words = network.vocabulary
        told = xgrammar.TokenizerInfo.from_huggingface(network.tokenizer, vocab_size=self._words)
        self._grammar = xgrammar.GrammarCompiler(told).compile_grammar(_GRAMMAR)

    @torch.inference_mode()
    def write(
        self,
        batch: EvidenceBatch,
        prefix: attention.Prefix,
        answers: Mapping[str, SlotAnswer],
        max_tokens: int,
        carry_on: CarryOn,
    ) -> str:
        """Why the one row of `batch` was given `answers`; empty when told not to carry on."""
        begun = self._network.tokenizer.encode(told_verdict(answers), add_special_tokens=False)
        matcher = self._xgrammar.GrammarMatcher(self._grammar, terminate_without_stop_token=True)
        mask = self._xgrammar.allocate_token_bitmask(1, self._words)
        written: list[int] = []
        reading = Continuation(self._network, batch, prefix, begun)
        while len(written) < max_tokens and not matcher.is_terminated():
            if not carry_on():
                return ""
            if written:
                reading.follow(written[-1])
            written.append(self._next(reading.logits.cpu(), matcher, mask))
        text = self._network.tokenizer.decode(written, clean_up_tokenization_spaces=False)
        ended = matcher.is_terminated()
        return plain(text.removesuffix(_END) if ended else text, cut=not ended)

    def _next(self, logits: torch.Tensor, matcher: Any, mask: torch.Tensor) -> int:
        """The most probable token that the grammar allows."""
        if not torch.isfinite(logits).all():
            raise ModelError("its scores are no numbers, so it cannot say why")
        matcher.fill_next_token_bitmask(mask)
        self._xgrammar.apply_token_bitmask_inplace(logits[None], mask)
        token = int(logits.argmax())
        if not matcher.accept_token(token):
            raise ModelError("its tokenizer cannot write what a rationale is made of")
        return token
