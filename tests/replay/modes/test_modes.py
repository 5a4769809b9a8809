"""The device alone, then the service alone, come to what both come to together."""

import json
import re
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

import fusion
from replay.cli import main
from replay.running import player


def verdicts(results):
    return {item["id"]: item["verdict"] for item in results["items"] if item["verdict"]}


def test_the_device_alone_decides_the_same_and_loses_nothing(ways, both, edge):
    together, alone = ways.read(both), ways.read(edge)
    waiting = [item["id"] for item in alone["items"] if item["state"] == "pending"]
    assert waiting == [item["id"] for item in together["items"] if item["state"] == "reviewed"] != []
    answered = ("state", "verdict", "lanes", "uncertain")
    assert [{k: v for k, v in item.items() if k not in answered} for item in alone["items"]] == [
        {k: v for k, v in item.items() if k not in answered} for item in together["items"]
    ]
    summary = ways.read(edge, "summary.json")
    assert summary["waiting"] == len(waiting)
    assert summary["lost"] == summary["duplicates"] == summary["reviewed"] == summary["pixels_sent"] == 0
    assert summary["defects_missed"] + summary["defects_waiting"] == summary["defects"] > 0
    assert ways.read(edge, "run.json")["mode"] == "edge-only"
    page = (edge / "report.html").read_text()
    assert f"{len(waiting)} items wait in evidence files" in page.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert '<li class="fails">' not in page


@pytest.fixture(scope="module")
def keen(ways, recording, tmp_path_factory):
    """The folder of a run of the device alone that sends whatever could be a defect."""
    out = tmp_path_factory.mktemp("keen")
    assert ways.run(recording, "--edge-only", "--set", "edge.screening.suspect_above=0.5", "--out", out) == 0
    return out


def test_what_waits_for_a_reviewer_is_missed_neither_in_figures_nor_in_the_report(ways, keen):
    fates, summary = Counter(one["fate"] for one in ways.read(keen)["defects"]), ways.read(keen, "summary.json")
    assert fates["sent"] == summary["defects_waiting"] > 0
    assert fates.total() - fates["sent"] == summary["defects_missed"]
    tile = (keen / "report.html").read_text().split("Defects missed")[1]
    assert re.search(r">(\d+)<", tile)[1] == str(summary["defects_missed"])
    assert f"{fates['sent']} wait for a reviewer" in tile


def test_of_two_runs_of_the_device_alone_it_is_told_what_only_one_would_send(ways, edge, keen, tmp_path):
    lost = {one["name"] for one in ways.read(edge)["defects"] if one["fate"] != "sent"}
    lost &= {one["name"] for one in ways.read(keen)["defects"] if one["fate"] == "sent"}
    assert lost
    assert main(["compare", str(keen), str(edge), "--json", str(tmp_path / "told.json")]) == 1
    told = json.loads((tmp_path / "told.json").read_text())
    assert {one["name"] for one in told["fates"] if one["before"] == "sent"} == lost
    assert next(one for one in told["defects"] if one["name"] == "newly_missed")["count"] == len(lost)


@pytest.mark.parametrize("source", ["the evidence file", "the folder of the device's run", "the folder of both's run"])
def test_the_service_alone_answers_the_same_byte_for_byte(ways, both, edge, evidence, tmp_path, source):
    given = {"the evidence file": evidence, "the folder of the device's run": edge}.get(source, both)
    assert ways.run(given, "--cloud-only", "--out", tmp_path) == 0
    assert (tmp_path / "results.json").read_bytes() == (both / "results.json").read_bytes()
    ours, theirs = ways.read(tmp_path, "summary.json"), ways.read(both, "summary.json")
    counts = ("items", "reviewed", "waiting", "lost", "duplicates", "evidence_bytes_total", "defects_missed")
    assert [ours[key] for key in counts] == [theirs[key] for key in counts]
    assert ways.read(tmp_path, "run.json")["mode"] == "cloud-only"
    if given != both:  # what a service did not ask for then is not in its ledger
        assert ours["pixels_sent"] == theirs["pixels_sent"] > 0


def test_evidence_alone_is_enough_when_the_recording_is_gone_or_another(
    ways, recording, both, cut, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(recording, "second.mcap")
    assert ways.run("second.mcap", "--edge-only", "--out", "edge") == 0
    cut(tmp_path / "second.mcap", 3, 4)
    evidence = shutil.copy("edge/recordings/second/evidence.mcap", "moved.mcap")
    assert ways.run(evidence, "--cloud-only", "--out", "cloud") == 0
    found, wanted = ways.read(tmp_path / "cloud"), ways.read(both)
    assert found == wanted


@pytest.mark.parametrize("source", ["the evidence file", "the folder of the device's run"])
def test_a_task_by_file_is_the_task_of_its_name(ways, both, edge, evidence, tmp_path, source):
    task = shutil.copy(Path(fusion.__file__).parent / "tasks" / "yard.toml", tmp_path / "mine.toml")
    given = evidence if source == "the evidence file" else edge
    assert ways.run(given, "--cloud-only", "--task", task, "--out", tmp_path / "out") == 0
    found, wanted = ways.read(tmp_path / "out"), ways.read(both)
    assert found["items"] == wanted["items"]


def test_another_confidence_floor_asks_what_was_answered_then_again(ways, both, edge, tmp_path):
    floor = ["--set", "cloud.review.confidence_floor=1.0"]
    assert ways.run(edge, "--cloud-only", *floor, "--out", tmp_path / "kept") == 0
    assert ways.run(both, "--cloud-only", *floor, "--out", tmp_path / "asked") == 0
    kept, asked = ways.read(tmp_path / "kept"), ways.read(tmp_path / "asked")
    assert all(item["uncertain"] for item in kept["items"] if item["verdict"])
    seen = [item for item in kept["items"] if "pixels" in item["lanes"]]
    assert len(seen) == len(verdicts(kept))
    shown_then = {item["id"] for item in ways.read(both)["items"] if "pixels" in item["lanes"]}
    assert {item["id"] for item in asked["items"] if "pixels" in item["lanes"]} == shown_then
    assert kept["settings"] == {"cloud.review.confidence_floor": "1.0"}


def test_a_mode_runs_anew_what_another_mode_ran_and_not_what_it_ran_itself(ways, edge, evidence, recording, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(edge, out)
    there = out / "recordings" / "second" / evidence.name
    before = there.stat().st_mtime_ns
    assert ways.run(recording, "--edge-only", "--out", out) == 0
    assert there.stat().st_mtime_ns == before
    assert ways.run(evidence, "--cloud-only", "--out", out) == 0
    assert ways.read(out, "summary.json")["reviewed"] == ways.read(edge, "summary.json")["waiting"]
    assert ways.run(recording, "--edge-only", "--out", out) == 0
    assert not (out / "recordings" / "second" / "ledger.db").exists()
    assert ways.read(out) == ways.read(edge)


def test_evidence_that_was_only_looked_at_is_not_reviewed_again(ways, both, tmp_path):
    """Whoever looks into a database leaves files beside it that hold nothing."""
    source, out = shutil.copytree(both, tmp_path / "source"), tmp_path / "out"
    place, made = source / "recordings" / "second", out / "recordings" / "second" / "ledger.db"
    fixed = ("--cloud-only", "--reviewer", "fixed:yard", "--out", out)
    before = {file.name for file in place.iterdir()}
    assert ways.run(source, *fixed) == 0
    done_ns = made.stat().st_mtime_ns
    for name in ("spool.db", "ledger.db"):
        db = sqlite3.connect(f"{(place / name).as_uri()}?mode=ro", uri=True)
        db.execute("SELECT * FROM sqlite_master").fetchall()
        db.close()
    (place / "spool.db.lock").touch()
    (place / "evidence.mcap.part").touch()
    assert {file.name for file in place.iterdir()} >= {"spool.db-wal", "spool.db-shm", "spool.db.lock"} - before
    assert ways.run(source, *fixed) == 0
    assert made.stat().st_mtime_ns == done_ns
    with closing(sqlite3.connect(place / "spool.db")) as db, closing(sqlite3.connect(place / "spool.db")):
        db.execute("UPDATE items SET note = 'changed'")
        db.commit()
        assert (place / "spool.db-wal").stat().st_size > 0
        assert ways.run(source, *fixed) == 0
    assert made.stat().st_mtime_ns != done_ns


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["{recording}", "--edge-only", "--reviewer", "mini:yard"],
            2,
            "--reviewer mini:yard: the service does not run",
        ),
        (["{recording}", "--edge-only", "--set", "cloud.threads=1"], 2, "cloud.threads=1: the service does not run"),
        (["{evidence}", "--cloud-only", "--set", "edge.device=a"], 2, "edge.device=a: the device does not run"),
        (["{evidence}", "--cloud-only", "--models", "there"], 2, "--models there: the device does not run"),
        (["{evidence}", "--cloud-only", "--task", "pcb"], 3, "give --task yard"),
        (["{recording}", "--cloud-only"], 3, "holds no evidence"),
        (["{evidence}", "--cloud-only", "--from", "1"], 2, "--from: recorded evidence is reviewed as it is"),
        (["{evidence}", "--cloud-only", "--shard", "1"], 2, "--shard: recorded evidence is reviewed as it is"),
        (["nowhere.mcap", "--cloud-only"], 3, "nowhere.mcap: no such file"),
        (["{tmp}", "--cloud-only"], 3, "not the folder of a run"),
        (["{edge}", "--cloud-only", "--out", "{edge}"], 3, "give another --out"),
        (["{recording}", "--pace", "2"], 2, "go with --live"),
        (["{recording}", "--live", "somewhere"], 2, "give HOST:PORT"),
        (["{recording}", "--live", "a:1", "--tls-key", "k.pem"], 2, "--tls-authority is missing"),
        (["{recording}", "--live", "a:1", "--set", "edge.spool.path=x"], 2, "a live run sets it itself"),
        (["{recording}", "--live", "a:1", "--tls-authority", "none.pem"], 2, "none.pem: cannot be read"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    ways, recording, evidence, edge, tmp_path, capsys, arguments, code, words
):
    places = {"recording": recording, "evidence": evidence, "edge": edge, "tmp": tmp_path}
    filled = [argument.format(**places) for argument in arguments]
    before = (edge / "results.json").read_bytes()
    given = filled if "--out" in filled else [*filled, "--out", str(tmp_path / "out")]
    assert ways.run(*given) == code
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("replay: ")
    assert words in told
    assert (edge / "results.json").read_bytes() == before
    assert evidence.is_file()


def test_a_run_that_kept_no_evidence_says_what_to_do(ways, both, tmp_path, capsys):
    old = tmp_path / "old"
    shutil.copytree(both, old)
    with sqlite3.connect(old / "recordings" / "second" / "ledger.db") as db:
        db.execute("DELETE FROM evidence")
    db.close()
    assert ways.run(old, "--cloud-only", "--out", tmp_path / "new") == 3
    assert "kept no evidence of it" in capsys.readouterr().err
    assert not (tmp_path / "new" / "recordings" / "second" / "spool.db").exists()
    manifest = json.loads((old / "run.json").read_text())
    (old / "run.json").write_text(json.dumps(manifest | {"mode": "live"}))
    assert ways.run(old, "--cloud-only", "--out", tmp_path / "new") == 3
    assert "went to its service" in capsys.readouterr().err


def test_shards_have_evidence_too(ways, recording, tmp_path):
    """And the folder's name may have any character that a URL gives a meaning."""
    edge, cloud = tmp_path / "a#1?b%41", tmp_path / "cloud"
    assert ways.run(recording, "--edge-only", "--shard", "0.5", "--out", edge) == 0
    assert [one.name for one in sorted((edge / "recordings").iterdir())] == ["second@0", "second@1"]
    assert ways.run(edge, "--cloud-only", "--out", cloud) == 0
    waiting, summary = ways.read(edge, "summary.json")["waiting"], ways.read(cloud, "summary.json")
    assert summary["reviewed"] == waiting > 0


def test_what_was_not_run_to_its_end_is_not_taken_for_a_whole(ways, both, tmp_path, capsys):
    cut = tmp_path / "cut"
    shutil.copytree(both, cut)
    (cut / "recordings/second/done.json").unlink()
    assert ways.run(cut, "--cloud-only", "--out", tmp_path / "new") == 3
    assert "was not run to its end" in capsys.readouterr().err
    assert main(["export", str(cut), "--as", "parquet"]) == 3
    assert "none of its recordings was run to its end" in capsys.readouterr().err


def test_a_recording_that_was_replaced_has_not_the_truth_of_a_runs_evidence(ways, recording, cut, tmp_path, capsys):
    there = Path(shutil.copy(recording, tmp_path / "there.mcap"))
    assert ways.run(there, "--out", tmp_path / "run") == 0
    cut(there, 3, 4)
    assert ways.run(tmp_path / "run", "--cloud-only", "--out", tmp_path / "new") != 0
    assert "is not what" in capsys.readouterr().err


def test_a_recording_that_changes_while_it_is_run_is_not_done(ways, recording, tmp_path, capsys, monkeypatch):
    there = Path(shutil.copy(recording, tmp_path / "there.mcap"))
    real = player.with_rates

    def replaced(*given):
        shutil.copy(there, tmp_path / "same")
        (tmp_path / "same").replace(there)
        return real(*given)

    monkeypatch.setattr(player, "with_rates", replaced)
    assert ways.run(there, "--out", tmp_path / "run") != 0
    assert "changed while it was run" in capsys.readouterr().err
    assert not (tmp_path / "run/recordings/there/done.json").exists()
