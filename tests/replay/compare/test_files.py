"""Results read back, kept as golden files, and wrong files: one line each, with the code of the kind of error."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

import fusion
from fusion.task import Task
from fusion.types import Box3D
from replay.cli import main
from replay.compare.comparison import compare
from replay.compare.golden import write_golden
from replay.compare.sides import read_side
from replay.compare.tolerances import Tolerances
from replay.results import file
from replay.results.reading import read_results
from replay.results.records import DefectResult, Fate, RunResults
from replay.running.folder import RunFolder
from replay.running.lane import epoch_of
from replay.running.plan import Job, Plan, Variant


@pytest.fixture
def written(drawn_run, tmp_path):
    """A folder with the results of the drawn run, and the run."""
    items = [
        replace(item, truth=None, margin=n / 1000, box3d=Box3D(n / 7, 1.0, 0.5, 1.0, 1.0, 1.0, 0.1) if n % 2 else None)
        for n, item in enumerate(drawn_run.items)
    ]
    defect = DefectResult("3", "drawn", "drum", "leaking", 7, 2, Fate.FOUND)
    one = replace(drawn_run.recordings[0], items=tuple(items), defects=(defect,), ages_ms={"front": 0.0, "mic": None})
    run = RunResults(drawn_run.task, (one,), {}, {"edge.screening.seed": "3"})
    folder = tmp_path / "run"
    folder.mkdir()
    file.write_results(run, folder / file.NAME)
    return folder, run


def test_results_come_back_as_they_were_written(written):
    folder, run = written
    found = read_results(folder / file.NAME)
    assert found.task.name == run.task.name
    assert found.settings == run.settings
    assert found.defects == run.defects
    assert found.recordings[0].ages_ms == {"front": 0.0, "mic": None}
    same = [replace(item, box3d=None, crop_bytes=0, verdict_latency_ms=0.0) for item in run.items]
    assert [replace(item, box3d=None) for item in found.items] == same
    assert [bool(item.box3d) for item in found.items] == [bool(item.box3d) for item in run.items]
    again = folder / "again.json"
    assert file.write_results(found, again) == json.loads((folder / file.NAME).read_text())["sha256"]


@pytest.mark.parametrize("name", ["golden.json", "golden.json.gz"])
def test_a_golden_file_is_small_and_within_every_tolerance(written, name, capsys):
    folder, run = written
    golden = folder / name
    assert main(["golden", str(folder), "-o", str(golden)]) == 0
    assert golden.stat().st_size < (folder / file.NAME).stat().st_size / (8 if name.endswith("gz") else 1.1)
    assert main(["compare", str(golden), str(folder)]) == 0
    assert f"{len(run.items)} items in both runs" in capsys.readouterr().out
    assert write_golden(folder, folder / f"again-{name}") == golden.stat().st_size
    assert (folder / f"again-{name}").read_bytes() == golden.read_bytes()


def test_a_golden_file_is_made_of_a_results_file_too(written):
    folder, _ = written
    assert main(["golden", str(folder), "-o", str(folder / "golden.json.gz")]) == 0
    kept = (folder / "golden.json.gz").read_bytes()
    for source in (folder / file.NAME, folder / "golden.json.gz"):
        assert main(["golden", str(source), "-o", str(folder / "again.json.gz")]) == 0
        assert (folder / "again.json.gz").read_bytes() == kept


def test_the_kept_golden_runs_are_small():
    kept = Path(__file__).parents[1] / "golden"
    assert sum(path.stat().st_size for path in kept.iterdir()) < 300_000


def broken(folder, how):
    path = folder / file.NAME
    content = json.loads(path.read_text())
    del content["sha256"]
    how(content)
    path.write_text(json.dumps({"sha256": file.digest(content), **content}))


def raw(text):
    return lambda folder: (folder / file.NAME).write_bytes(text)


WRONG = {
    "empty": (raw(b""), "not a results file"),
    "no JSON": (raw(b"\x1f\x8bnot"), "not a results file"),
    "a list": (raw(b"[1]"), "names no format"),
    "old": (lambda folder: broken(folder, lambda c: c.update(format=1)), "format 1"),
    "cut short": (lambda folder: raw((folder / file.NAME).read_bytes()[:5000])(folder), "not a results file"),
    "edited": (
        lambda folder: raw((folder / file.NAME).read_bytes().replace(b'"drum"', b'"drun"', 1))(folder),
        "was changed after it was written",
    ),
    "a state": (lambda folder: broken(folder, lambda c: c["items"][4].update(state="lost")), "items.4.state"),
    "a box": (lambda folder: broken(folder, lambda c: c["items"][4].update(box=[1, 2, 3])), "items.4.box"),
    "no items": (lambda folder: broken(folder, lambda c: c.pop("items")), "items"),
    "a task": (lambda folder: broken(folder, lambda c: c.update(task="moon")), "moon"),
    "a recording": (lambda folder: broken(folder, lambda c: c["items"][0].update(recording="x")), "'x'"),
    "nothing": (lambda folder: (folder / file.NAME).unlink(), "no results.json in it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_one_line(written, name, capsys):
    folder, _ = written
    damage, words = WRONG[name]
    damage(folder)
    assert main(["compare", str(folder), str(folder)]) == 3
    told = capsys.readouterr().err.strip()
    assert told.startswith(f"replay: {folder}")
    assert words in told
    assert "\n" not in told


def test_a_damaged_gzip_is_one_line(written, tmp_path, capsys):
    folder, _ = written
    path = tmp_path / "golden.json.gz"
    write_golden(folder, path)
    path.write_bytes(path.read_bytes()[:-40])
    assert main(["compare", str(path), str(folder)]) == 3
    path.write_bytes(gzip.compress(b"{}"))
    assert main(["compare", str(path), str(folder)]) == 3
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["compare", "nowhere", "{run}"], 3),
        (["compare", "{run}", "{run}", "--tolerances", "nowhere.toml"], 2),
        (["compare", "{run}", "{run}", "--json", "/proc/none/out.json"], 3),
        (["compare", "{run}", "{run}", "--html", "/proc/none/out.html"], 3),
        (["golden", "nowhere", "-o", "out.json"], 3),
        (["golden", "{run}", "-o", "/proc/none/golden.json"], 3),
    ],
)
def test_an_error_is_no_difference(written, arguments, code, capsys):
    filled = [argument.format(run=written[0]) for argument in arguments]
    assert main(filled) == code
    told = capsys.readouterr().err.strip()
    assert told.startswith("replay: ")
    assert "\n" not in told


def test_runs_of_two_tasks_are_not_compared(written, tmp_path, capsys):
    folder, run = written
    other = tmp_path / "other.json"
    content = json.loads((folder / file.NAME).read_text())
    del content["sha256"]
    content["task"] = "pcb"
    other.write_text(json.dumps({"sha256": file.digest(content), **content}))
    assert main(["compare", str(folder), str(other)]) == 3
    assert "one of yard" in capsys.readouterr().err
    assert run.task.name == "yard"


@pytest.mark.parametrize(
    ("mode", "noted", "causes"),
    [("live", "a" * 64, []), ("live", "b" * 64, ["input"]), ("live", None, []), ("demo", None, []),
     ("both", "a" * 64, ["input"])],
)  # fmt: skip
def test_ids_that_a_daemon_drew_tell_of_no_other_content(written, tmp_path, mode, noted, causes):
    """A live run notes what it read, a demo does not; in one process the ids follow from it."""
    folder, run = written
    live, job, variant = RunFolder(folder), Job("drawn", "held-out.mcap"), Variant(sets=("edge.screening.seed=3",))
    live.write_manifest(Plan("yard", (job,), (variant,)), variant, mode)
    if noted:
        live.mark_done("drawn", "key", stamp={"recording": noted})
    epoch = epoch_of("a" * 64, job)
    items = tuple(replace(item, id=f"cart/{epoch}/{n}#1") for n, item in enumerate(run.items))
    known = tmp_path / "known.json"
    file.write_results(RunResults(run.task, (replace(run.recordings[0], items=items),), {}, run.settings), known)
    for sides in ((folder, known), (known, folder)):
        found = compare(*map(read_side, sides), Tolerances())
        assert [cause.kind for cause in found.causes if cause.certain] == causes


@pytest.mark.parametrize("name", ["mine", "yard"])
def test_a_run_of_a_users_own_task_is_compared_by_that_task(written, name, tmp_path, capsys, monkeypatch):
    """Also one that is called like a bundled one and asks something else."""
    folder, run = written
    path = tmp_path / "tasks" / "own.toml"
    path.parent.mkdir()
    text = (Path(fusion.__file__).parent / "tasks" / "yard.toml").read_text()
    path.write_text(text.replace('name = "yard"', f'name = "{name}"').replace("What is it?", "What may it be?"))
    task, variant = Task.load(str(path)), Variant(sets=("edge.screening.seed=3",))
    file.write_results(replace(run, task=task), folder / file.NAME)
    monkeypatch.chdir(path.parent)
    RunFolder(folder).write_manifest(Plan(path.name, (Job("drawn", "drawn.mcap"),), (variant,)), variant, "both")
    monkeypatch.chdir(tmp_path)
    assert read_side(folder).results.task == task
    assert main(["compare", str(folder), str(folder)]) == 0
    assert main(["golden", str(folder), "-o", "golden.json.gz"]) == 0
    assert main(["compare", "golden.json.gz", str(folder), "--task", str(path)]) == 0
    assert read_side(Path("golden.json.gz"), str(path)).results.task == task
    capsys.readouterr()
    if name == "mine":
        assert main(["compare", "golden.json.gz", str(folder)]) == 3
        assert "no task named 'mine'" in (told := capsys.readouterr().err)
        assert "give the task's file with --task" in told
    assert main(["compare", "golden.json.gz", str(folder), "--task", "pcb"]) == 3
    assert f"a run of task {name}, and pcb is task pcb" in capsys.readouterr().err
    path.unlink()
    assert main(["compare", str(folder), str(folder)]) == 3
    assert f"{path}: cannot be read" in capsys.readouterr().err


def test_what_a_run_tells_of_itself_goes_first(written, tmp_path):
    """Sensors that are late or missing, other settings, other content."""
    _, run = written
    late = replace(run.recordings[0], ages_ms={"front": 0.0}, damage="cut short at byte 7")
    before = replace(run.recordings[0], ages_ms={"front": 0.0, "roof": 0.0, "mic": 3.0})
    one, two, three = (tmp_path / f"{n}.json" for n in range(3))
    file.write_results(RunResults(run.task, (before,), {}, {}), one)
    file.write_results(RunResults(run.task, (late,), {}, {"models": "other"}), two)
    aged = replace(before, ages_ms={"front": 0.0, "roof": 100.0, "mic": 3.0})
    file.write_results(RunResults(run.task, (aged,), {}, {}), three)
    found = compare(read_side(one), read_side(two), Tolerances())
    assert [cause.kind for cause in found.causes] == ["settings", "damage", "sensor-absent", "sensor-absent"]
    assert "models: default before, other now" in found.causes[0].because
    found = compare(read_side(one), read_side(three), Tolerances())
    assert [(cause.kind, cause.certain) for cause in found.causes] == [("sensor-late", True)]
    assert "roof in drawn: 0 ms old before, 100 ms now" in found.causes[0].because
