"""From a server's reply to the probabilities of options."""

import json

import numpy as np
import pytest

from fusion.errors import UnavailableError
from fusion.review.remote.logprobs import Token, spread
from fusion.review.remote.reply import Reply
from fusion.task import Task

YARD = Task.load("yard")


@pytest.fixture
def table(chat):
    def read(content, logprobs=None, slot=0):
        return Reply.read(json.dumps(chat.completion(content, logprobs)).encode()).tables(YARD, 0.7)[slot]

    return read


def told(*tops):
    return tuple(Token(text.encode(), {t.encode(): p for t, p in top.items()}) for text, top in tops)


def just(text):
    return text, {text: 1.0}


def test_without_probabilities_the_told_option_has_the_assumed_confidence(table, chat):
    got = table(chat.SURE)
    assert got == pytest.approx([0.7, *[0.05] * 6])
    assert table(f"Here:\n```json\n{json.dumps(chat.SURE)}\n```") == pytest.approx(got)
    assert table({**chat.SURE, "object": " Drum "}) == pytest.approx(got)


@pytest.mark.parametrize(
    "form",
    [
        '{"answers": %s}',
        '[{"object": "crate"}, %s]',
        "%s (see {picture})",
        '%s {"because": "it leaks"}',
        '{"why": {"box": [{"x": 1}]}, "answers": %s}',
    ],
)
def test_the_answer_is_found_among_other_braces(table, chat, form):
    assert table(form % json.dumps(chat.SURE)) == pytest.approx(table(chat.SURE))
    assert table(form % json.dumps({**chat.SURE, "box": {"x": 1}})) == pytest.approx(table(chat.SURE))


def test_probabilities_are_read_of_an_option_in_capitals(table, chat):
    logprobs = chat.tokens('{"asked": "', ("No", {"No": 0.6, "Yes": 0.2, "no": 0.1}), '"}')
    assert table('{"asked": "No"}', logprobs, 2) == pytest.approx([7 / 9, 2 / 9])


@pytest.mark.parametrize(
    "content",
    ["", "drum", "{", '{"object": ', {}, {"object": "dragon"}, {"object": 3}, {"object": None}, "[" * 10_000, None],
)
def test_what_says_nothing_of_a_slot_leaves_it_unknown(content, chat):
    content = {"choices": [{"message": {"content": None}}]} if content is None else chat.completion(content)
    for got in Reply.read(json.dumps(content).encode()).tables(YARD, 0.7):
        assert np.ptp(got) == 0


def test_one_slot_may_be_unknown_and_the_others_told(chat):
    content = chat.completion({"object": "drum", "asked": "yes", "action": "dance"})
    reply = Reply.read(json.dumps(content).encode())
    assert [round(float(t.max()), 3) for t in reply.tables(YARD, 0.7)] == [0.7, 0.167, 0.7, 0.143]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"choices": []}', b'{"error": "x"}', b"null"])
def test_what_is_no_chat_completion_is_the_servers_fault(body):
    with pytest.raises(UnavailableError, match="no chat completion"):
        Reply.read(body)


def test_probabilities_are_read_where_the_options_part(table, chat):
    got = table(
        '{"asked": "no"}', chat.tokens('{"', "asked", '": "', ("no", {"no": 0.6, "yes": 0.2, "x": 0.1}), '"}'), 2
    )
    assert got == pytest.approx([0.75, 0.25])


def test_options_out_of_the_list_share_what_it_leaves():
    tokens = told(just('{"a": "'), ("drum", {"drum": 0.5, "cone": 0.3, "the": 0.1}), just('"'))
    got = spread(tokens, "a", ["drum", "cone", "crate", "pallet"], "drum")
    assert got == pytest.approx(np.array([0.5, 0.3, 0.05, 0.05]) / 0.9)


def test_options_that_begin_alike_are_followed_until_they_part():
    tokens = told(
        just('{"a":'),
        (' "c', {' "c': 0.8, ' "dr': 0.2}),
        ("r", {"r": 0.6, "one": 0.4}),
        ("ane", {"ane": 0.9, "ate": 0.1}),
        just('"}'),
    )
    got = spread(tokens, "a", ["crane", "crate", "cone", "drum"], "crane")
    assert got == pytest.approx([0.8 * 0.6 * 0.9, 0.8 * 0.6 * 0.1, 0.8 * 0.4, 0.2])


def test_a_common_beginning_tells_nothing():
    tokens = told(just('{"a": "'), ("no-", {"no-": 0.5, "x": 0.5}), ("hat", {"hat": 0.75, "vest": 0.25}), just('"'))
    assert spread(tokens, "a", ["no-hat", "no-vest"], "no-hat") == pytest.approx([0.75, 0.25])


def test_an_option_that_another_begins_with_ends_with_the_mark():
    tokens = told(just('{"a": "'), just("no"), ('"}', {'"}': 0.7, "ne": 0.3}))
    assert spread(tokens, "a", ["no", "none"], "no") == pytest.approx([0.7, 0.3])


def test_alternatives_that_could_begin_several_are_shared():
    tokens = told(just('{"a": "'), ("drum", {"drum": 0.6, "c": 0.4}), just('"'))
    assert spread(tokens, "a", ["drum", "cone", "crate"], "drum") == pytest.approx([0.6, 0.2, 0.2])


def test_a_told_token_out_of_its_own_list_counts_by_its_own_probability(table, chat):
    logprobs = chat.tokens('{"asked": "', ("no", {"yes": 0.5, "maybe": 0.2}), '"}')
    logprobs["content"][1]["logprob"] = float(np.log(0.1))
    assert table('{"asked": "no"}', logprobs, 2) == pytest.approx([1 / 6, 5 / 6])


@pytest.mark.parametrize(
    "logprobs",
    [
        {"content": None},
        {"content": [{"token": "x"}]},
        {"content": [{"token": "no", "logprob": float("nan")}]},
        {"content": [{"token": "other words", "logprob": 0.0}]},
        {"content": [3]},
        [],
        {"content": [{"token": '{"asked": "no', "logprob": 0.0}, {"token": "t a mark", "logprob": 0.0}]},
    ],
)
def test_probabilities_that_do_not_fit_the_text_are_not_used(table, logprobs):
    assert table('{"asked": "no"}', logprobs, 2) == pytest.approx([0.7, 0.3])


def test_answers_of_the_real_form_sum_to_one():
    rng = np.random.default_rng(3)
    options = YARD.slots[0].options
    for _ in range(50):
        top = dict(zip(options, rng.dirichlet(np.ones(8))[:7].tolist(), strict=True))
        option = max(top, key=top.get)
        got = spread(told(just('{"object": "'), (option, top), just('"}')), "object", options, option)
        assert sum(got) == pytest.approx(1)
        assert got == pytest.approx(np.array(list(top.values())) / sum(top.values()))
