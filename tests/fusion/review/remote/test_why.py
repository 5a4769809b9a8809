"""A reason from a chat server, which may say anything."""

import time

import pytest

from fusion.errors import UnavailableError
from fusion.review.rationale import MAX_CHARACTERS, Explains
from fusion.review.remote.why import reason_in


@pytest.fixture
def answered(make_reviewer, make_evidence):
    reviewer = make_reviewer(retries=0)
    row = reviewer.prepare(make_evidence(1))
    return reviewer, row, reviewer.score([row])[0]


def test_the_verdict_is_told_and_the_reason_kept(server, chat, answered):
    reviewer, row, answers = answered
    assert isinstance(reviewer, Explains)
    server.answer = lambda body, count: chat.Answer(chat.completion({"because": "a dark <stain>\nbelow it"}))
    assert reviewer.explain(row, answers, 30) == "a dark stain below it"
    body = server.asked[-1]
    text, image = body["messages"][0]["content"]
    assert f'"object": "{answers["object"].option}"' in text["text"]
    assert image == server.asked[0]["messages"][0]["content"][1]
    assert 30 <= body["max_tokens"] < 60
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["because"]
    assert "logprobs" not in body
    server.answer = lambda body, count: chat.Answer()
    assert reviewer.score([row])[0] == answers


def test_a_server_without_schemas_is_asked_without(server, chat, answered):
    reviewer, row, answers = answered

    def answer(body, count):
        refused = "response_format" in body
        return (
            chat.Answer({"error": "no response_format"}, 400) if refused else chat.Answer(chat.completion("It leaks."))
        )

    server.answer = answer
    assert reviewer.explain(row, answers, 30) == "It leaks."


def test_it_stops_when_told_to_and_tells_a_failure(server, chat, answered, make_evidence):
    reviewer, row, answers = answered
    server.answer = lambda body, count: chat.Answer(delay_s=0.5)
    began, left = time.monotonic(), iter([True, False])
    assert reviewer.explain(row, answers, 30, lambda: next(left)) == ""
    assert time.monotonic() - began < 30
    server.answer = lambda body, count: chat.Answer({"error": "down"}, 503)
    with pytest.raises(UnavailableError, match="503"):
        reviewer.explain(row, answers, 30)
    assert reviewer.explain(reviewer.prepare(make_evidence(2, shown=False)), answers, 30) == ""


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ('{"because": "it leaks"}', "it leaks"),
        ('```json\n{"because": "it leaks"}\n```', "it leaks"),
        ('{"because": "it leaks and', "it leaks and..."),
        ('{"because": 7}', ""),
        ("{}", ""),
        ("", ""),
        ("Rust.", "Rust."),
        ("{" * 5000, ""),
    ],
)
def test_what_is_kept_of_an_answer(said, kept):
    assert reason_in(said) == kept
    assert len(reason_in(said + "x" * 5000)) <= MAX_CHARACTERS
