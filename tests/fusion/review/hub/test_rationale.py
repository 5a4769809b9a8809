"""A rationale in a pretrained model's own words, whatever its weights."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ModelError
from fusion.review.hub.continuation import Continuation
from fusion.review.hub.reviewer import HubReviewer
from fusion.review.hub.tiny import TINY_FAMILIES, save_tiny
from fusion.review.rationale import MAX_CHARACTERS, PLAIN, Explains, plain, told_verdict
from fusion.review.synthetic import synthetic_evidence
from fusion.task import Task
from fusion.types import Box2D, PixelCrop

LINE = re.compile(rf"[A-Za-z]( ?[{PLAIN}])*")


def item(seed, *, pixels=True):
    evidence = synthetic_evidence(Task.load("yard"), synthetic_profile(task="yard"), seed)[0]
    picture = np.random.default_rng(seed).integers(0, 255, (80, 80, 3), np.uint8)
    crop = PixelCrop(cv2.imencode(".png", picture)[1].tobytes(), "png", Box2D(0, 0, 80, 80))
    return replace(evidence, pixels=crop if pixels else None)


@pytest.fixture(scope="module", params=TINY_FAMILIES)
def reviewer(request, tmp_path_factory):
    folder = save_tiny(request.param, tmp_path_factory.mktemp("hub") / request.param)
    return HubReviewer.load(f"{folder}?task=yard&side=56")


def test_it_is_one_plain_line_within_its_tokens_and_changes_nothing(reviewer):
    assert isinstance(reviewer, Explains)
    rows = [reviewer.prepare(item(seed)) for seed in (1, 2)]
    before = reviewer.score(rows)
    for limit in (1, 5, 24):
        asked = []
        text = reviewer.explain(rows[0], before[0], limit, lambda asked=asked: asked.append(1) or True)
        assert LINE.fullmatch(text)
        assert len(text) <= MAX_CHARACTERS
        assert 1 <= len(asked) <= limit
        json.loads(told_verdict(before[0]) + text + '"}')
    assert reviewer.score(rows) == before
    assert reviewer.explain(rows[0], before[0], 24) == text


def test_what_is_kept_from_token_to_token_is_the_whole_row_read_again(reviewer):
    batch, prefix = reviewer._batch([reviewer.prepare(item(1)).payload]), reviewer._prefix
    words = reviewer.network.tokenizer.encode('{"object": "drum', add_special_tokens=False)
    with torch.inference_mode():
        step_by_step = Continuation(reviewer.network, batch, prefix, words[:1])
        for word in words[1:]:
            step_by_step.follow(word)
        at_once = Continuation(reviewer.network, batch, prefix, words)
    torch.testing.assert_close(step_by_step.logits, at_once.logits, atol=2e-4, rtol=1e-3)


def test_it_reads_the_picture_and_the_verdict(reviewer):
    with torch.inference_mode():
        told = []
        for seed, option in ((1, "drum"), (2, "drum"), (1, "cone")):
            batch = reviewer._batch([reviewer.prepare(item(seed)).payload])
            words = reviewer.network.tokenizer.encode(f'{{"object": "{option}', add_special_tokens=False)
            told.append(Continuation(reviewer.network, batch, reviewer._prefix, words).logits)
    assert not torch.allclose(told[0], told[1], atol=1e-4)
    assert not torch.allclose(told[0], told[2], atol=1e-4)


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    folder = save_tiny("llava", tmp_path_factory.mktemp("hub") / "one")
    return HubReviewer.load(f"{folder}?task=yard&side=56")


def test_it_stops_when_told_to(llava):
    row = llava.prepare(item(1))
    answers = llava.score([row])[0]
    left = iter([True, True, False])
    assert llava.explain(row, answers, 24, lambda: next(left)) == ""
    assert llava.explain(llava.prepare(item(1, pixels=False)), answers, 24) == ""


def test_scores_that_are_no_numbers_are_an_error(tmp_path):
    reviewer = HubReviewer.load(f"{save_tiny('llava', tmp_path / 'nan')}?task=yard&side=56")
    row = reviewer.prepare(item(1))
    answers = reviewer.score([row])[0]
    with torch.no_grad():
        reviewer.network.vlm.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="no numbers"):
        reviewer.explain(row, answers, 8)


def test_without_xgrammar_one_line_says_what_to_install(tmp_path, monkeypatch):
    reviewer = HubReviewer.load(f"{save_tiny('llava', tmp_path / 'bare')}?task=yard&side=56")
    row = reviewer.prepare(item(1))
    monkeypatch.setitem(sys.modules, "xgrammar", None)
    with pytest.raises(ModelError, match=r"pip install 'fusion-stack\[hub\]'"):
        reviewer.explain(row, reviewer.score([row])[0], 8)


def test_what_is_not_plain_is_taken_out():
    assert plain('<b>rust</b>\n"under"  the\u202e lid ', cut=False) == "b rust /b under the lid"
    assert plain("the lid", cut=True) == "the lid..."
    assert plain("\n", cut=True) == ""
    assert len(plain("a" * 5000, cut=False)) == MAX_CHARACTERS
