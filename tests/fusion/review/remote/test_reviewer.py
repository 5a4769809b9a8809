"""The reviewer on a real HTTP server that behaves, or does not."""

import base64
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import cv2
import numpy as np
import pytest

from fusion.errors import ConfigError, EvidenceError, ModelError, UnavailableError
from fusion.preparation import decode_image
from fusion.review import RowsError, check_answers
from fusion.review.remote.reviewer import OpenAiReviewer
from fusion.review.remote.transport import MAX_REPLY_BYTES


def score(reviewer, evidence):
    return reviewer.score([reviewer.prepare(one) for one in evidence])


def failures(reviewer, evidence):
    with pytest.raises(RowsError) as raised:
        score(reviewer, evidence)
    return raised.value.rows


def picture(body):
    return body["messages"][0]["content"][1]["image_url"]["url"]


def test_what_is_asked(server, make_reviewer, make_evidence, chat, yard):
    score(make_reviewer(), [make_evidence(1)])
    (body,) = server.asked
    assert (body["model"], body["temperature"], body["stream"]) == ("org/model", 0, False)
    assert 0 < body["max_tokens"] < 300
    assert len(json.dumps(chat.SURE, indent=2)) < body["max_tokens"]
    assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
    form = body["response_format"]["json_schema"]
    assert form["strict"] is True
    assert form["schema"]["required"] == [slot.name for slot in yard.slots]
    assert form["schema"]["properties"]["asked"] == {"type": "string", "enum": ["no", "yes"]}
    text, image = body["messages"][0]["content"]
    assert all(slot.question in text["text"] for slot in yard.slots)
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,")


def test_answers_with_and_without_probabilities_and_of_items_without_a_crop(
    server, make_reviewer, make_evidence, chat, yard
):
    told = chat.tokens('{"object": "', ("drum", {"drum": 0.5, "crate": 0.25}), '"}')
    texts = {1: chat.completion('{"object": "drum"}', told), 2: chat.completion(chat.SURE), 3: chat.completion("no")}
    evidence = [make_evidence(n, shown=n != 4) for n in (1, 2, 3, 4)]
    reviewer = make_reviewer()
    shown = {reviewer.prepare(one).payload: n for n, one in enumerate(evidence, 1)}
    assert [reviewer.prepare(one).blind for one in evidence] == [False, False, False, True]
    server.answer = lambda body, _: chat.Answer(texts[shown[picture(body)]])
    answers = score(reviewer, evidence)
    for row in answers:
        check_answers(yard, row)
    assert answers[0]["object"].probabilities["crate"] == pytest.approx(0.25)
    assert answers[1]["action"].option == "contain"
    assert answers[1]["action"].confidence == pytest.approx(0.7)
    for row in answers[2:]:
        assert row["object"].confidence == pytest.approx(1 / 7)
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("form", "size", "same"), [(".jpg", 96, 1), (".png", 96, 1), (".jpg", 300, 0), (".bmp", 96, 0)]
)
def test_a_small_jpeg_or_png_goes_as_it_came(make_reviewer, make_evidence, chat, form, size, same):
    crop = chat.crop(5, size, form)
    sent = make_reviewer().prepare(make_evidence(1, crop)).payload
    kind, _, data = sent.partition(";base64,")
    encoded = base64.b64decode(data)
    assert (encoded == crop.encoded) == bool(same)
    decoded = decode_image(encoded).pixels
    assert decoded.shape == ((size, size // 2, 3) if size < 224 else (224, 112, 3))
    assert kind == ("data:image/png" if form == ".png" else "data:image/jpeg")
    if form == ".bmp":
        expected = cv2.imdecode(np.frombuffer(crop.encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert decoded.mean((0, 1)) == pytest.approx(expected.mean((0, 1)), abs=5)  # red and blue are not exchanged


def test_what_is_no_whole_picture_is_never_sent(make_reviewer, make_evidence, chat):
    whole = chat.crop()
    reviewer = make_reviewer()
    with pytest.raises(EvidenceError, match="crop"):
        reviewer.prepare(make_evidence(1, type(whole)(whole.encoded[:-40], "jpeg", whole.area)))


def test_rows_are_asked_at_the_same_time_over_connections_that_are_kept(server, make_reviewer, make_evidence, chat):
    server.answer = lambda *_: chat.Answer(delay_s=0.1)
    reviewer = make_reviewer(concurrent=4)
    for _ in range(2):
        score(reviewer, [make_evidence(n) for n in range(12)])
    assert server.most_at_work == 4
    assert len(server.peers) == 4


def test_connections_that_ended_meanwhile_are_not_used_whoever_calls(server, make_reviewer, make_evidence, chat):
    server.answer = lambda _, count: chat.Answer(hang_up=count <= 4, delay_s=1.3 if count == 5 else 0)
    reviewer = make_reviewer(retries=0, concurrent=4, timeout_s=1)
    rows = [reviewer.prepare(make_evidence(n)) for n in range(4)]
    score(reviewer, [make_evidence(n) for n in range(4)])
    time.sleep(0.05)  # for the server to hang up
    failures(reviewer, [make_evidence(1)])  # too slow
    with ThreadPoolExecutor(1) as another:
        assert len(another.submit(reviewer.score, rows).result(10)) == 4
    assert len(server.asked) == 9


def test_the_rows_that_fail_are_told_apart_and_no_row_is_asked_again(server, make_reviewer, make_evidence, chat):
    reviewer = make_reviewer(retries=0, concurrent=1)
    server.answer = lambda _, count: chat.Answer(status=500 if count == 2 else 200)
    rows = failures(reviewer, [make_evidence(n) for n in range(4)])
    assert [isinstance(row, UnavailableError) for row in rows] == [False, True, False, False]
    assert f"http://127.0.0.1:{server.port}/v1 answers 500" in str(rows[1])
    assert len(server.asked) == 4


@pytest.mark.parametrize("trouble", [{"status": 503}, {"status": 429}, {"cut": True}])
def test_passing_trouble_is_retried_after_a_growing_wait(server, make_reviewer, make_evidence, chat, naps, trouble):
    server.answer = lambda _, count: chat.Answer(**trouble) if count < 3 else chat.Answer()
    assert score(make_reviewer(), [make_evidence(1)])[0]["object"].option == "drum"
    assert naps == pytest.approx([0.2, 0.4])


def test_the_servers_wish_to_wait_is_honoured_within_the_timeout(server, make_reviewer, make_evidence, chat, naps):
    waits = iter(["3", "Thu, 01 Jan 1970 00:00:05 GMT", None, "11", "soon"])

    def answer(*_):
        wait = next(waits)
        return chat.Answer() if wait is None else chat.Answer(status=429, headers={"Retry-After": wait})

    server.answer = answer
    reviewer = make_reviewer(retries=2, timeout_s=10)
    score(reviewer, [make_evidence(1)])
    assert naps == pytest.approx([3, 5])
    (row,) = failures(reviewer, [make_evidence(1)])
    assert "answers 429" in str(row)
    assert len(naps) == 2  # eleven seconds are more than the row has


@pytest.mark.parametrize("wait", ["inf", "1e400", "-inf", "nan", "1e300", "Thu, 01 Jan 9999 00:00:05 GMT"])
def test_a_wish_that_cannot_be_meant_hurts_no_row(server, make_reviewer, make_evidence, chat, wait):
    server.answer = lambda _, count: (
        chat.Answer(status=503, headers={"Retry-After": wait}) if count < 2 else chat.Answer()
    )
    reviewer = make_reviewer(retries=2, timeout_s=10)
    rows = (
        reviewer.score([reviewer.prepare(make_evidence(1))])
        if wait in {"inf", "1e400", "-inf", "nan"}
        else failures(reviewer, [make_evidence(1)])
    )
    assert isinstance(rows[0], dict | UnavailableError)  # answered, or it comes again


def test_a_server_that_is_not_there_and_one_that_is_slow(server, make_reviewer, make_evidence, chat, naps):
    (row,) = failures(make_reviewer(url="http://127.0.0.1:1/v1"), [make_evidence(1)])
    assert "http://127.0.0.1:1/v1 cannot be reached (ConnectError" in str(row)
    assert len(naps) == 2
    server.answer = lambda *_: chat.Answer(delay_s=1)
    (row,) = failures(make_reviewer(timeout_s=0.5), [make_evidence(1)])
    assert "gave no answer within 0.5 s" in str(row)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("refusals", "asked"),
    [
        ({"response_format": "response_format is not supported"}, [(True, 20), (False, 20)]),
        ({"top_logprobs": "top_n_tokens must be <= 5"}, [(True, 20), (True, 5), (True, 0)]),
        ({"response_format": "bad request", "logprobs": "bad request"}, [(True, 20), (False, 20), (False, 0)]),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_what_a_server_does_not_have_is_done_without_and_remembered(
    server, make_reviewer, make_evidence, chat, refusals, asked, status
):
    def answer(body, _):
        words = next((text for field, text in refusals.items() if field in body), None)
        return chat.Answer() if words is None else chat.Answer({"error": {"message": words}}, status)

    def wishes(bodies):
        return [("response_format" in body, body.get("top_logprobs", 0)) for body in bodies]

    server.answer = answer
    reviewer = make_reviewer()
    score(reviewer, [make_evidence(1)])
    assert wishes(server.asked) == asked
    score(reviewer, [make_evidence(2)])
    assert wishes(server.asked[len(asked) :]) == asked[-1:]


def test_five_alternatives_are_taken_where_twenty_are_refused(server, make_reviewer, make_evidence, chat):
    def answer(body, _):
        return chat.Answer("logprobs: at most 5", 400) if body["top_logprobs"] > 5 else chat.Answer()

    server.answer = answer
    score(make_reviewer(), [make_evidence(1)])
    assert [body["top_logprobs"] for body in server.asked] == [20, 5]


def test_a_picture_that_is_refused_is_to_blame_only_where_others_are_answered(
    server, make_reviewer, make_evidence, chat
):
    reviewer = make_reviewer(concurrent=1)
    bad = reviewer.prepare(make_evidence(2)).payload
    server.answer = lambda body, _: chat.Answer("too small", 400) if picture(body) == bad else chat.Answer()
    (row,) = failures(reviewer, [make_evidence(2)])
    assert isinstance(row, UnavailableError)
    good, row = failures(reviewer, [make_evidence(1), make_evidence(2)])
    assert good["object"].option == "drum"
    assert isinstance(row, ModelError)
    assert "too small" in str(row)
    score(reviewer, [make_evidence(3)])
    assert "response_format" in server.asked[-1]  # the picture's fault is not remembered as the server's


def test_the_breaker_opens_refuses_tries_one_and_closes(server, make_reviewer, make_evidence, chat, clock, caplog):
    reviewer = make_reviewer(retries=0, failures=3, open_s=30, concurrent=1)
    server.answer = lambda *_: chat.Answer(status=502)
    batch = [make_evidence(n) for n in range(6)]
    rows = failures(reviewer, batch)
    assert len(server.asked) == 3
    assert "failed 3 times in a row, asked again in 30 s: answers 502" in str(rows[5])
    (unseen,) = failures(reviewer, [make_evidence(9, shown=False)])
    assert "failed 3 times" in str(unseen)
    clock.advance(31 * 10**9)
    assert score(reviewer, [make_evidence(9, shown=False)])[0]["object"].confidence == pytest.approx(1 / 7)
    failures(reviewer, batch)
    assert len(server.asked) == 4  # one went first, for nothing
    clock.advance(31 * 10**9)
    server.answer = lambda *_: chat.Answer()
    assert len(score(reviewer, batch)) == 6
    assert len(server.asked) == 10
    assert [r.levelname for r in caplog.records if "remote" in r.name] == ["WARNING"] * 3
    assert "answers again" in caplog.text


def test_a_picture_that_is_refused_does_not_keep_the_breaker_open(server, make_reviewer, make_evidence, chat, clock):
    reviewer = make_reviewer(retries=0, failures=3, open_s=30)
    batch = [make_evidence(n) for n in range(4)]
    bad = {reviewer.prepare(one).payload for one in batch[:2]}
    server.answer = lambda *_: chat.Answer(status=502)
    failures(reviewer, batch)
    server.answer = lambda body, _: chat.Answer("too small", 400) if picture(body) in bad else chat.Answer()
    clock.advance(31 * 10**9)
    rows = failures(reviewer, batch)
    assert [type(row) for row in rows] == [ModelError, ModelError, dict, dict]
    assert len(score(reviewer, batch[2:])) == 2


def test_a_server_that_refuses_every_picture_is_left_alone_again(server, make_reviewer, make_evidence, chat, clock):
    reviewer = make_reviewer(retries=0, failures=3, open_s=30)
    batch = [make_evidence(n) for n in range(4)]
    server.answer = lambda *_: chat.Answer(status=502)
    failures(reviewer, batch)
    server.answer = lambda *_: chat.Answer("no such model", 400)
    clock.advance(31 * 10**9)
    assert all("refuses what it is asked: " in str(row) for row in failures(reviewer, batch))
    count = len(server.asked)
    rows = failures(reviewer, batch)
    assert len(server.asked) == count
    assert all(isinstance(row, UnavailableError) and "no such model" in str(row) for row in rows)


def test_an_answer_between_failures_keeps_the_breaker_closed(server, make_reviewer, make_evidence, chat):
    reviewer = make_reviewer(retries=0, failures=2, concurrent=1)
    server.answer = lambda _, count: chat.Answer(status=200 if count % 2 else 500)
    failures(reviewer, [make_evidence(n) for n in range(8)])
    assert len(server.asked) == 8


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"body": b"<html>hello"}, "no chat completion"),
        ({"body": b" " * (MAX_REPLY_BYTES + 1)}, f"more than {MAX_REPLY_BYTES} bytes"),
        ({"headers": {"Content-Encoding": "gzip"}}, "encoding that was not asked for"),
        ({"status": 307, "headers": {"Location": "http://127.0.0.1:1/v1"}}, "redirect, which is not followed"),
        ({"status": 404, "body": {"error": "no model"}}, '404: {"error": "no model"}'),
        ({"status": 401, "body": b"hunter2 is wrong"}, "401: it wants another key"),
    ],
)
def test_what_trying_again_does_not_mend_fails_at_once(server, make_reviewer, make_evidence, chat, answer, said):
    server.answer = lambda *_: chat.Answer(**answer)
    (row,) = failures(make_reviewer(), [make_evidence(1)])
    assert isinstance(row, UnavailableError)
    assert said in str(row)
    assert len(server.asked) == 1


def test_the_key_is_sent_and_never_shown(server, make_reviewer, make_evidence, chat, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MINE", "hunter2")
    server.answer = lambda *_: chat.Answer(b"Bearer hunter2\nis not welcome", 500)
    reviewer = make_reviewer(key_env="MINE", retries=0, failures=1)
    (row,) = failures(reviewer, [make_evidence(1)])
    assert server.headers[0]["Authorization"] == "Bearer hunter2"
    assert "Bearer [key] is not welcome" in str(row)
    assert "hunter2" not in f"{row!r} {reviewer!r} {vars(reviewer)} {reviewer.name} {caplog.text}"


def test_it_is_loaded_by_its_name_without_its_server(make_evidence, yard):
    reviewer = OpenAiReviewer.load("http://127.0.0.1:1/v1#m?task=yard")
    assert reviewer.task == yard
    assert reviewer.cost(make_evidence(1, shown=False)) == 1
    assert 64 < reviewer.cost(make_evidence(1)) < 512
    reviewer.close()
    with pytest.raises(ConfigError, match="no task named"):
        OpenAiReviewer.load("http://127.0.0.1:1/v1#m?task=none")
    declared = metadata.EntryPoint("openai", "fusion.review.remote.reviewer:OpenAiReviewer", "fusion.reviewers")
    assert declared.load() is OpenAiReviewer
