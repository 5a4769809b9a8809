"""The Rerun file, read back with Rerun's own reader."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.task import Task
from fusion.types import Image
from replay.export.rerun import encoded, export, verdict_words, write_rerun
from replay.results.answers import Outcome, outcome

chunks = pytest.importorskip("rerun.chunk")


class Scene:
    """Columns of a file's entities: `scene.column("/world/lidar", "positions")` is one list a row, in time order."""

    def __init__(self, path):
        self.batches = {}
        for chunk in chunks.RrdReader(path).stream():
            self.batches.setdefault(chunk.entity_path, []).append(chunk.to_record_batch())

    def column(self, entity, component):
        rows = []
        for batch in self.batches[entity]:
            times = batch.column("recording").to_pylist() if "recording" in batch.schema.names else [0] * len(batch)
            for name in batch.schema.names:
                if name.endswith(f":{component}"):
                    rows += zip(times, batch.column(name).to_pylist(), strict=True)
        return [value for _, value in sorted(rows, key=lambda row: row[0])]


@pytest.fixture
def scene(drawn_run, drawn_recording, tmp_path):
    path = tmp_path / "deep" / "scene.rrd"
    write_rerun(drawn_run, drawn_run.recordings[0], drawn_recording, path)
    return Scene(path)


def test_rerun_verifies_the_file(drawn_run, drawn_recording, tmp_path):
    path = tmp_path / "scene.rrd"
    write_rerun(drawn_run, drawn_run.recordings[0], drawn_recording, path)
    command = [sys.executable, "-m", "rerun", "rrd", "verify", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "verified without error" in done.stdout + done.stderr


def test_the_viewer_tells_runs_variants_recordings_and_stretches_apart(drawn_run, drawn_recording, tmp_path):
    one = drawn_run.recordings[0]

    def shards(*sources):
        return tuple(replace(one, name=f"{number}", source=source) for number, source in enumerate(sources))

    runs = [
        replace(drawn_run, variant="strict"),
        replace(drawn_run, variant="loose"),
        replace(drawn_run, settings={"edge.engine.threads": "2"}),
        replace(drawn_run, recordings=(replace(one, source="other/held-out.mcap"),)),
        replace(drawn_run, recordings=(replace(one, from_s=0.3),)),
        replace(drawn_run, recordings=(replace(one, to_s=0.3),)),
        replace(drawn_run, recordings=shards("a/held-out.mcap", "b/held-out.mcap")),
        drawn_run,
    ]
    found = []
    for number, run in enumerate(runs):
        opened = {one.name: lambda: drawn_recording for one in run.recordings}
        for path in export(run, opened, tmp_path / str(number)).files:
            found += [entry.recording_id for entry in chunks.RrdReader(path).recordings()]
    assert len(set(found)) == len(found) == 9
    assert found[0].startswith("yard-drawn-strict-")
    assert found[4].startswith("yard-drawn-0.3s-end-")
    (again,) = export(drawn_run, {"drawn": lambda: drawn_recording}, tmp_path / "again").files
    assert [entry.recording_id for entry in chunks.RrdReader(again).recordings()] == found[-1:]


def test_every_sample_is_on_the_recordings_timeline(scene, drawn_run):
    (picture,) = {tuple(b.schema.names) for b in scene.batches["/world/front/picture"]}
    assert "recording" in picture
    assert len(scene.column("/world/front/picture", "blob")) == len(drawn_run.samples)
    assert len(scene.column("/edge/decision", "scalars")) == len(drawn_run.samples)


def test_pictures_are_the_recorded_bytes(scene, drawn_recording):
    blobs = scene.column("/world/front/picture", "blob")
    assert [bytes(blob[0]) for blob in blobs] == [drawn_recording.image(i).encoded for i in range(12)]


def test_points_and_true_boxes_are_in_the_ego_frame(scene, drawn_recording):
    positions = np.array(scene.column("/world/lidar", "positions")[0])
    expected = drawn_recording.points(0).points[:, :3] + [0.1, 0, 1.6]
    assert np.abs(positions - expected).max() <= 0.5 / 64 + 1e-4
    things = drawn_recording.objects(3)
    centres = scene.column("/world/truth", "centers")[3]
    assert np.allclose(centres, [[t.box3d.x, t.box3d.y, t.box3d.z] for t in things], atol=1e-5)


def test_verdicts_are_boxes_and_words(scene, drawn_run):
    answered = [item for item in drawn_run.items if item.verdict]
    labels = [text for row in scene.column("/world/front/verdicts", "labels") if row for text in row]
    assert sorted(labels) == sorted(verdict_words(item) for item in answered)
    levels = [level for row in scene.column("/log/verdicts", "level") for level in row]
    wrong = sum(outcome(item) is Outcome.WRONG for item in answered)
    assert (levels.count("WARN"), len(levels)) == (wrong, len(answered))
    others = [text for row in scene.column("/world/front/detections", "labels") if row for text in row]
    assert len(others) == len(drawn_run.items) - len(answered)


def test_an_utterance_is_told_once(scene):
    told = [text for row in scene.column("/log/said", "text") for text in row]
    assert told == ["“check the left crate” (inspect)", "“count the drums” (inspect)"]


def test_points_are_thinned_to_the_budget(drawn_run, drawn_recording, tmp_path, monkeypatch):
    monkeypatch.setattr("replay.export.rerun.POINT_BUDGET", 12_000)
    write_rerun(drawn_run, drawn_run.recordings[0], drawn_recording, tmp_path / "s.rrd")
    sweeps = Scene(tmp_path / "s.rrd").column("/world/lidar", "positions")
    assert 4_000 < sum(map(len, sweeps)) <= 12_000 + len(sweeps)


def test_a_camera_alone_makes_a_scene(draw, drawn_run, tmp_path):
    sensors = {"front": drawn_run.task.sensors["front"]}
    recording = draw.recording(3, lidar=False, speech=False)
    task = Task.model_validate({**drawn_run.task.model_dump(), "sensors": sensors})
    run = draw.run(recording, task)
    write_rerun(run, run.recordings[0], recording, tmp_path / "s.rrd")
    scene = Scene(tmp_path / "s.rrd")
    assert "/world/lidar" not in scene.batches or not scene.column("/world/lidar", "positions")
    assert len(scene.column("/world/front/picture", "blob")) == 3


def test_a_picture_rerun_cannot_show_becomes_a_jpeg(drawn_recording):
    pixels = drawn_recording.image(0).pixels
    data, media_type = encoded(Image(pixels, b"RIFF....WEBP", "webp"))
    assert media_type == "image/jpeg"
    assert data[:2] == b"\xff\xd8"
    assert encoded(drawn_recording.image(0)) == (drawn_recording.image(0).encoded, "image/jpeg")


def test_a_place_that_cannot_be_written_is_one_clear_line(drawn_run, drawn_recording, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"s\.rrd: the scene cannot be written"):
        write_rerun(drawn_run, drawn_run.recordings[0], drawn_recording, tmp_path / "file" / "s.rrd")
