"""A long recording loses nothing to the bounds a device has, and is reviewed while it is still read."""

from cloud_node.direct import DirectService
from replay.running import lane, review
from replay.running.plan import Job, Plan, Variant

FIXED = ("--reviewer", "fixed:yard", "--quiet")


def test_history_is_kept_unless_somebody_wants_less() -> None:
    job = Job("a", "a.mcap")
    wanted = Variant(sets=("edge.spool.history_samples=10",))
    plan = Plan("yard", (job,), (Variant(), wanted))
    kept, less = (one.edge.spool.history_samples for one in plan.prepared(job))
    assert kept > 10**9
    assert less == 10


def test_reviews_on_the_way_are_those_at_the_end(parts, replay_run, tmp_path, monkeypatch) -> None:
    """The same handfuls, so the same batches and bytes."""
    asked: list[list[int]] = []
    real = DirectService.review

    def noted(self, submissions, pixels=None):
        asked[-1].append(len(submissions))
        return real(self, submissions, pixels)

    monkeypatch.setattr(DirectService, "review", noted)
    monkeypatch.setattr(lane, "COMMIT_EVERY", 1)
    monkeypatch.setattr(review, "REVIEW_TOGETHER", 2)
    bytes_of = []
    for at in (10**9, 3):
        asked.append([])
        monkeypatch.setattr(review, "REVIEW_AT", at)
        assert replay_run(parts[:1], tmp_path / str(at), *FIXED) == 0
        bytes_of.append((tmp_path / str(at) / "results.json").read_bytes())
    assert bytes_of[0] == bytes_of[1]
    assert asked[0] == asked[1]
    assert len(asked[0]) > 1


def test_little_waits_while_a_recording_is_read(parts, replay_run, tmp_path, monkeypatch) -> None:
    most = []
    real = review.AtTheEnd.advance

    def noted(self, now_ns):
        real(self, now_ns)
        most.append(self._spool.waiting())

    monkeypatch.setattr(review.AtTheEnd, "advance", noted)
    monkeypatch.setattr(lane, "COMMIT_EVERY", 1)
    monkeypatch.setattr(review, "REVIEW_TOGETHER", 2)
    monkeypatch.setattr(review, "REVIEW_AT", 3)
    assert replay_run(parts[:1], tmp_path, *FIXED) == 0
    assert most
    assert max(most) < 3
