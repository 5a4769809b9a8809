"""Who runs what next: every job ends once, in order where nothing dies, and a deadly one is given up."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import RecordingError
from replay.running.plan import Job
from replay.running.workers.dispatch import ATTEMPTS, Dispatch
from replay.running.workers.failure import LostWorkerError

FATES = st.sampled_from(["done", "failed", "lost"])


def jobs(count: int) -> list[Job]:
    return [Job(f"j{n}", f"/r/j{n}.mcap") for n in range(count)]


@given(st.integers(0, 6), st.integers(1, 4), st.data())
def test_every_job_comes_to_an_end_whatever_happens(count: int, workers: int, data: st.DataObject) -> None:
    dispatch, running, given_out, done, lost = Dispatch(jobs(count)), [], Counter(), set(), Counter()
    while not dispatch.over:
        while len(running) < workers and (job := dispatch.next()):
            running.append(job.name)
            given_out[job.name] += 1
        name = running.pop(data.draw(st.integers(0, len(running) - 1)))
        fate = data.draw(FATES)
        if fate == "done":
            dispatch.done(name)
            done.add(name)
        elif fate == "failed":
            dispatch.failed(name, RecordingError(name))
        else:
            lost[name] += 1
            assert dispatch.lost(name, "killed by SIGKILL") == (lost[name] < ATTEMPTS)
    assert done | set(dispatch.failures) == {job.name for job in jobs(count)}
    assert not done & set(dispatch.failures)
    assert all(times <= ATTEMPTS for times in given_out.values())
    for name, error in dispatch.failures.items():
        assert isinstance(error, LostWorkerError if lost[name] == ATTEMPTS else RecordingError)


def test_jobs_are_given_in_the_order_of_the_plan() -> None:
    dispatch = Dispatch(jobs(3))
    assert [dispatch.next(), dispatch.next(), dispatch.next(), dispatch.next()] == [*jobs(3), None]


def test_one_whose_worker_died_is_next() -> None:
    dispatch = Dispatch(jobs(3))
    dispatch.next()
    assert dispatch.lost("j0", "killed by SIGKILL")
    assert dispatch.next() == jobs(1)[0]
    assert not dispatch.lost("j0", "killed by SIGKILL")
    told = str(dispatch.failures["j0"])
    assert "/r/j0.mcap" in told
    assert "SIGKILL" in told
