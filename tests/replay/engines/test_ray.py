"""Ray actors write the bytes of local workers, into a folder they see or one they do not, and may die once."""

import warnings
from importlib.util import find_spec

import pytest

from fusion.review.replicas.cluster import Cluster
from replay.running.folder import RunFolder
from replay.running.plan import Plan, Variant
from replay.running.stamp import Stamps
from replay.running.workers.crew import Done, drive
from replay.running.workers.lock import locked
from replay.running.workers.on_ray import Files, JobActor
from replay.running.workers.progress import Silent
from replay.running.workers.work import Work
from replay.sources.jobs import jobs_of

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def instance(plugin):
    """Held open for the module, so that Ray starts once."""
    if find_spec("ray") is None:
        missing = "NOT TESTED: --engine ray needs Ray; run  pip install 'fusion-stack[scale]'"
        warnings.warn(missing, stacklevel=1)
        pytest.skip(missing)
    cluster = Cluster.open("")
    yield cluster
    cluster.close()


def work_of(parts, out) -> Work:
    variant = Variant(reviewer="fixed:yard")
    plan = Plan("yard", jobs_of([str(parts[0])]), (variant,))
    return Work(plan, out, {(job.name, ""): Stamps(plan).of(job, variant) for job in plan.jobs})


def test_an_actor_writes_where_the_run_is_and_keeps_its_files_where_it_is_not(parts, tmp_path) -> None:
    """The far end alone, without Ray."""
    out = tmp_path / "out"
    work = work_of(parts, out)
    (job,) = work.plan.jobs
    with locked(out) as held:
        assert isinstance(JobActor(work, held.token).run(job), Done)
        seen = RunFolder(out).job(job.name)
        assert {path.name for path in seen.iterdir()} >= {"spool.db", "ledger.db", "done.json"}
        elsewhere = JobActor(work, "another folder's")
        files = elsewhere.run(job)
    assert isinstance(files, Files)
    assert files.names[-1] == f"recordings/{job.name}/done.json"
    assert f"recordings/{job.name}/spool.db" in files.names
    done = elsewhere.read(files.names[-1], 0, 1000)
    assert done == (seen / "done.json").read_bytes()
    assert elsewhere.read(files.names[-1], 7, 10) == done[7:17]
    assert elsewhere.read(files.names[-1], len(done), 10) == b""
    assert elsewhere.progress().job == job.name
    assert elsewhere.progress(0.01) is None, "what was told is not told again: the other end asks as soon as it is told"
    elsewhere.remove(files.names)
    with pytest.raises(FileNotFoundError):
        elsewhere.read(files.names[-1], 0, 10)


def test_two_actors_write_the_bytes_of_one_worker(instance, parts, reference, replay_run, tmp_path) -> None:
    assert replay_run(parts, tmp_path, "--engine", "ray", "--workers", "2", "--quiet") == 0
    assert (tmp_path / "results.json").read_bytes() == reference.results


def test_an_actor_that_sees_no_folder_sends_its_files_and_one_that_dies_is_replaced(
    instance, parts, deadly, replay_run, tmp_path, capfd, monkeypatch
) -> None:
    from replay.running.workers import on_ray

    monkeypatch.setattr(on_ray, "PIECE_BYTES", 20_000)
    variant = Variant(reviewer="fixed:yard")
    plan = Plan("yard", jobs_of([str(parts[1]), str(deadly("once", 1))]), (variant,))
    out, made = tmp_path / "out", Stamps(plan)
    work = Work(plan, out, {(job.name, ""): made.of(job, variant) for job in plan.jobs})
    stale = ("done.json", "facts.json", "evidence.mcap", "spool.db-wal")  # of an earlier run, cut off
    for job in plan.jobs:
        place = RunFolder.of(out, variant).job(job.name)
        place.mkdir(parents=True)
        for name in stale:
            (place / name).write_text('{"key": "old"}')
    with locked(out):
        crew = on_ray.RayCrew(1, work, "another folder's", "")
        try:
            assert drive(crew, plan.jobs, Silent(2)) == {}
        finally:
            crew.close()
    assert "once: its worker died" in capfd.readouterr().err
    for job in plan.jobs:
        folder = RunFolder.of(out, variant)
        assert folder.done(job.name)["stamp"]["reviewers"].startswith("fixed:yard")
        left = {path.name for path in folder.job(job.name).iterdir()}
        assert left >= {"spool.db", "ledger.db", "done.json"}
        assert left.isdisjoint(stale[1:])
    RunFolder.of(out, variant).write_manifest(plan, variant, "both")
    sources = [job.source for job in plan.jobs]
    before = [path.stat().st_mtime_ns for path in sorted(out.rglob("ledger.db"))]
    assert replay_run(sources, out, "--reviewer", "fixed:yard") == 0
    assert [path.stat().st_mtime_ns for path in sorted(out.rglob("ledger.db"))] == before
    assert "2 of 2 recordings are done already" in capfd.readouterr().err
