"""One item: what is shown of it, what is said when something cannot be, and what a form does."""

import json
import re
import sqlite3
from dataclasses import replace

import cv2
import numpy as np
import pytest

from cloud_node.ledger import Correction, open_ledger
from cloud_node.outcome import reviewed
from fusion.codec.points import encode_points
from fusion.codec.sound import encode_sound
from fusion.types import ItemState, KeptLanes, SoundClip
from fusion.wire.messages import Submission

from .conftest import BEGAN_NS, DAMAGED, EPOCH, PICTURE, REFUSED, UNKNOWN, fields_of, item, path_of


def lines(text):
    return re.findall(r'<p class="line">([^<]+)</p>', text)


def decoded(answer):
    assert answer.headers["content-type"] == "image/png"
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)


def test_heat_map_covers_the_frame_in_cells_and_is_clear_where_nothing_was_sent(local, profile, evidence_of):
    heat = decoded(local.get(f"{path_of(1)}/heat.png"))
    assert heat.shape == (*profile.map_size(0), 4)
    box, stride = evidence_of(1).box, profile.levels[0].stride
    middle = int((box.y1 + box.y2) / 2 / stride), int((box.x1 + box.x2) / 2 / stride)
    assert heat[middle][3] > 0
    corners = heat[[0, 0, -1, -1], [0, -1, 0, -1], 3]
    assert (corners == 0).sum() >= 3


def test_the_picture_is_shown_where_it_was_asked_for(local):
    assert decoded(local.get(f"{path_of(PICTURE)}/crop.png")).shape == (96, 96, 3)
    assert "crop.png" in local.get(path_of(PICTURE)).text
    assert local.get(f"{path_of(1)}/crop.png").status_code == 404
    assert "crop.png" not in local.get(path_of(1)).text


@pytest.fixture
def asked(ledger, outcomes, evidence_of):
    """Keeps what a device gave when it was asked about an item of its own."""

    def store(**came):
        submission = Submission.of(evidence_of(50))
        verdict = replace(outcomes[0].verdict, item=item(50), rationale="its <edge> is worn")
        ledger.store([reviewed(submission, submission.evidence(), verdict, outcomes[0].timings, KeptLanes(**came))])

    return store


def test_what_came_when_it_was_asked_for_is_shown_and_heard(local, asked):
    cloud = np.random.default_rng(0).uniform(-3, 3, (200, 3))
    clip = encode_sound(np.arange(-800, 800, dtype=np.int16), 16_000, 0)
    before = local.get(path_of(1)).text
    asked(points=encode_points(cloud), sound=clip)
    text = local.get(path_of(50)).text
    assert "LiDAR points" in text
    assert "LiDAR points" not in before
    assert "<audio controls" in text
    assert "its &lt;edge&gt; is worn" in text
    answer = local.get(f"{path_of(50)}/sound.wav")
    assert (answer.headers["content-type"], answer.content) == ("audio/wav", clip.encoded)
    assert lines(text) == []


def test_points_and_sound_that_cannot_be_read_are_lines(local, asked):
    points = encode_points(np.zeros((3, 3)))
    asked(points=replace(points, encoded=b"no points"), sound=SoundClip("wav-mulaw", b"no sound", 16_000, 0))
    told = lines(local.get(path_of(50)).text)
    assert [line.partition(":")[0] for line in told] == ["The LiDAR points cannot be read", "The sound cannot be read"]
    assert local.get(f"{path_of(50)}/sound.wav").status_code == 404


def test_no_sound_is_said_and_not_played(local):
    assert "No sound was sent." in local.get(path_of(1)).text
    assert local.get(f"{path_of(1)}/sound.wav").status_code == 404


def test_every_option_is_shown_with_its_probability(local, outcomes):
    text = local.get(path_of(1)).text
    for slot, answer in outcomes[0].verdict.slots.items():
        for option in (*answer.probabilities, "unsure"):
            assert f'name="answer.{slot}" value="{option}"' in text
        assert f'name="answer.{slot}" value="{answer.option}" checked' in text


def test_damaged_maps_are_a_line(local):
    answer = local.get(path_of(DAMAGED))
    assert answer.status_code == 200
    assert any("checksum" in line for line in lines(answer.text))
    assert "heat.png" not in answer.text


def test_maps_of_an_unknown_trunk_are_a_line(local):
    answer = local.get(path_of(UNKNOWN))
    assert any("cdcdcdcdcdcd" in line for line in lines(answer.text))


def test_an_item_without_verdict_tells_why_and_can_be_corrected(local, backing):
    answer = local.get(path_of(REFUSED))
    assert "quarantined" in answer.text
    assert 'id="confirm"' not in answer.text
    fields = fields_of(local, path_of(REFUSED))
    assert local.post(path_of(REFUSED), data={**fields, "action": "save"}).status_code == 400
    fields["answer.object"] = "cone"
    assert local.post(path_of(REFUSED), data={**fields, "action": "save"}).status_code == 303
    assert backing.reader.corrections(item(REFUSED))[0].answers == {"object": "cone"}


def test_evidence_that_was_not_kept_is_a_line(tmp_path, outcomes, visit, backing):
    path = tmp_path / "bare.db"
    bare = open_ledger(str(path), keep_evidence=False)
    bare.store(outcomes)
    object.__setattr__(backing, "reader", bare.reader())
    answer = visit().get(path_of(1))
    bare.close()
    assert any("not kept" in line for line in lines(answer.text))
    assert 'class="box"' in answer.text


def test_evidence_damaged_on_disk_is_a_line_and_not_an_error(local, tmp_path):
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("UPDATE evidence SET blob = x'00' WHERE id = 1")
    answer = local.get(path_of(1))
    assert answer.status_code == 200
    assert any("damaged" in line for line in lines(answer.text))
    assert local.get(f"{path_of(1)}/heat.png").status_code == 404


def test_a_damaged_row_is_an_error_in_one_line(local, tmp_path):
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("UPDATE outcomes SET reason = 'other' WHERE id = 1")
    answer = local.get(path_of(1))
    assert answer.status_code == 503
    assert "digest does not match" in answer.text


NOWHERE = (
    "/item/cart-1/x/1/1",
    f"/item/cart-1/{EPOCH}/99/1",
    f"/item/Cart/{EPOCH}/1/1",
    f"/item/cart-1/{EPOCH}/{'9' * 5000}/1",
    f"/item/cart-1/{EPOCH}/1/0",
    "/item",
    "/x",
)


@pytest.mark.parametrize("path", NOWHERE)
def test_what_is_not_there_is_not_found(local, path):
    assert local.get(path).status_code == 404


def test_json_tells_everything_but_the_evidence(local, outcomes, ledger):
    ledger.record_correction(Correction(item(1), "ann", BEGAN_NS, {"object": "cone"}, "why not"))
    told = local.get(f"{path_of(1)}.json").json()
    assert told["item"] == str(item(1))
    assert told["verdict"]["slots"]["object"]["probabilities"] == outcomes[0].verdict.slots["object"].probabilities
    assert told["corrections"] == [
        {"author": "ann", "at_ns": BEGAN_NS, "answers": {"object": "cone"}, "note": "why not"}
    ]
    assert "evidence" not in told
    assert json.loads(local.get("/item/cart-1/x/1/1.json").text) == {"error": "there is no item of that name"}


def test_confirming_keeps_the_verdict_and_goes_on(local, backing, outcomes):
    listed = local.get("/triage").text
    address = re.search(rf'href="({path_of(11)}\?[^"]+)"', listed)[1].replace("&amp;", "&")
    fields = fields_of(local, address)
    answer = local.post(address, data={**fields, "action": "confirm", "answer.object": "cone"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(path_of(10))
    (said,) = backing.reader.corrections(item(11))
    assert said.answers == {name: one.option for name, one in outcomes[10].verdict.slots.items()}
    assert (said.author, said.note) == ("local", "")
    back = local.get(answer.headers["location"])
    assert f'id="previous" href="{path_of(12)}?' in back.text


def test_the_way_goes_on_over_the_edge_of_a_page(local):
    address = re.search(rf'href="({path_of(10)}\?[^"]+)"', local.get("/triage?limit=3").text)[1].replace("&amp;", "&")
    seen = []
    while address:
        seen.append(int(address.split("/")[4]))
        following = re.search(r'id="next" href="([^"]+)"', local.get(address).text)
        address = following[1].replace("&amp;", "&") if following else None
    assert seen == [*range(10, 0, -1)]


def test_two_people_at_once_are_told_of_each_other(local, ledger, backing):
    fields = fields_of(local, path_of(1))
    ledger.record_correction(Correction(item(1), "bob", BEGAN_NS, {"object": "drum"}))
    mine = {**fields, "answer.object": "cone", "note": "mine", "action": "save"}
    answer = local.post(path_of(1), data=mine)
    assert answer.status_code == 409
    assert "bob" in answer.text
    assert 'value="cone" checked' in answer.text
    assert ">mine</textarea>" in answer.text
    assert len(backing.reader.corrections(item(1))) == 1
    again = local.post(path_of(1), data={**mine, "seen": "1"})
    assert again.status_code == 303
    assert [one.author for one in backing.reader.corrections(item(1))] == ["bob", "local"]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"answer.object": "elephant"}, "none of its options"),
        ({"note": "x" * 2001}, "2000 are allowed"),
        ({"note": "a\0b"}, "cannot be stored"),
        ({f"answer.{name}": "" for name in ("object", "condition", "asked", "action")}, "nothing was chosen"),
    ],
)
def test_a_form_that_cannot_be_kept_comes_back_with_its_reason(local, backing, changed, line):
    answer = local.post(path_of(1), data={**fields_of(local, path_of(1)), **changed, "action": "save"})
    assert answer.status_code == 400
    assert line in re.search(r'role="alert">([^<]+)<', answer.text)[1]
    assert backing.reader.corrections(item(1)) == []


def test_unsure_is_an_answer(local, backing):
    fields = {**fields_of(local, path_of(1)), "answer.object": "unsure", "action": "save"}
    assert local.post(path_of(1), data=fields).status_code == 303
    assert backing.reader.corrections(item(1))[0].answers["object"] == "unsure"
    assert 'name="answer.object" value="unsure" checked' in local.get(path_of(1)).text


def test_of_a_task_that_is_not_known_the_verdicts_options_stand(visit, backing):
    object.__setattr__(backing, "tasks", {})
    client = visit()
    assert 'name="answer.object" value="forklift"' in client.get(path_of(1)).text
    assert "nothing to choose from" in client.get(path_of(REFUSED)).text
    assert client.get("/triage").status_code == 200


def test_the_ledgers_page_counts(local):
    text = local.get("/").text
    assert ItemState.QUARANTINED in text
    assert "no service runs" in text
