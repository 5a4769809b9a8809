"""Processes of this machine: which GPUs each has, what crosses, and what a service has to load for them."""

import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ModelError, UnavailableError
from fusion.review.mini import MiniReviewer
from fusion.review.rationale import Explains
from fusion.review.replicas import gpus, process_host
from fusion.review.replicas.actor import Fault, ReplicaActor
from fusion.review.replicas.gpus import VISIBLE, Gpus, gpus_here
from fusion.review.replicas.host import EndedError
from fusion.review.replicas.name import ProcessName
from fusion.review.replicas.process_host import ProcessHost
from fusion.review.replicas.replica import prepare
from fusion.review.replicas.reviewer import ProcessReviewer
from fusion.review.synthetic import synthetic_evidence
from fusion.task import Task

SHARES = st.sampled_from([0.25, 0.3, 0.5, 1.0, 2, 3])


@given(
    names=st.lists(st.integers(0, 99).map(str), unique=True, max_size=6),
    asked=st.lists(st.tuples(SHARES, st.integers(1, 4))),
)
def test_no_gpu_is_given_twice_to_whoever_asks_and_comes_back_whole(names, asked):
    there, held, used = Gpus(names), [], dict.fromkeys(names, 0.0)
    for each, replicas in asked:
        try:
            slots = there.reserve(each, replicas)
        except ModelError:
            continue
        held.append((each, slots))
        assert all(len(set(slot)) == len(slot) == max(1, each) for slot in slots)
        for name in (name for slot in slots for name in slot):
            used[name] += min(1, each)
    assert all(share <= 1 + 1e-6 for share in used.values())
    for each, slots in held:
        there.release(each, slots)
    assert len(there.reserve(1.0, len(names))) == len(names)


def test_shares_go_where_most_is_left():
    assert Gpus(["0", "1"]).reserve(0.5, 4) == [("0",), ("1",), ("0",), ("1",)]


def test_rows_that_are_made_where_they_are_scored_are_known_to_be_blind():
    told = ReplicaActor("fixed:yard", 1).load()
    assert not isinstance(told, Fault)
    task = Task.load("yard")
    rows = [synthetic_evidence(task, synthetic_profile(task="yard"), 1, pixels=shown)[0] for shown in (False, True)]
    assert [prepare(told, row).blind for row in rows] == [False, False]
    assert [prepare(replace(told, pixels_only=True), row).blind for row in rows] == [True, False]


def test_without_gpus_there_is_room_for_all():
    assert Gpus([]).reserve(0, 50) == [()] * 50


@pytest.mark.parametrize(
    ("told", "names"), [("", ()), ("2, 3", ("2", "3")), ("-1", ()), ("MIG-a,GPU-b", ("MIG-a", "GPU-b"))]
)
def test_gpus_are_those_that_cuda_may_see(monkeypatch, told, names):
    monkeypatch.setenv(VISIBLE, told)
    assert gpus_here() == names


def test_a_container_that_has_the_last_two_gpus_calls_them_as_cuda_does(monkeypatch, tmp_path):
    for name in ("nvidia6", "nvidia7", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    assert gpus_here() == ("0", "1")


def test_reviewers_of_one_service_share_its_gpus(monkeypatch):
    monkeypatch.setenv(VISIBLE, "70,71,72")
    first = ProcessHost(ProcessName.parse("[fixed:yard]?replicas=auto:1-2"))
    with pytest.raises(
        ModelError, match="2 GPUs are asked for and 3 are there, of which other reviewers have 2; gpus=0"
    ):
        ProcessHost(ProcessName.parse("[fixed:yard]?replicas=2"))
    second = ProcessHost(ProcessName.parse("[fixed:yard]?replicas=2&gpus=0.5"))
    assert not {name for slot in second._free for name in slot} & {name for slot in first._free for name in slot}
    for host in (second, first, first):  # closed twice it gives nothing back twice
        host.close()
    with pytest.raises(ModelError, match="4 GPUs are asked for and 3 are there; gpus=0"):
        ProcessHost(ProcessName.parse("[fixed:yard]?replicas=4"))
    ProcessHost(ProcessName.parse("[fixed:yard]?replicas=3")).close()


def test_a_place_is_kept_where_a_replica_cannot_begin(monkeypatch):
    """As where there is no room for another process; would fail if each attempt cost a GPU."""
    monkeypatch.setenv(VISIBLE, "80")
    host = ProcessHost(ProcessName.parse("[fixed:yard]"))
    with monkeypatch.context() as patch:
        patch.setattr(process_host.subprocess, "Popen", no_room)
        for _ in range(3):
            with pytest.raises(BlockingIOError):
                host.begin()
    made = host.begin()
    assert host.begin() is None  # its place is taken, until it has ended
    made.kill()
    made.ended.result(60)
    again = host.begin()
    assert again is not None
    again.kill()
    again.ended.result(60)
    host.close()


def descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def no_room(*_, **__):
    raise BlockingIOError("Resource temporarily unavailable")


@pytest.fixture
def actor(monkeypatch):
    monkeypatch.setenv(VISIBLE, "7")
    host = ProcessHost(ProcessName.parse("[fixed:yard]?gpus=0.5&cpus=3"))
    made = host.begin()
    yield made
    made.kill()
    made.ended.result(60)
    host.close()


def test_a_replica_sees_its_own_gpu_and_computes_with_its_threads(actor):
    told = actor.loaded.result(60)
    lines = Path(f"/proc/{told.process}/environ").read_text().split("\0")
    seen = dict(line.split("=", 1) for line in lines if "=" in line)
    assert (seen[VISIBLE], seen["OMP_NUM_THREADS"]) == ("7", "3")


@pytest.mark.parametrize("size", [1, 1 << 22], ids=["little", "more than its socket takes in"])
def test_one_that_is_stopped_holds_nobody_up_and_answers_no_more(actor, size):
    """Would fail if a late answer were taken for that of the next call."""
    told = actor.loaded.result(60)
    os.kill(told.process, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        actor.call("review", [bytes(size)], 0.5)
    with suppress(ProcessLookupError):  # it is killed already
        os.kill(told.process, signal.SIGCONT)
    with pytest.raises((EOFError, OSError)):
        actor.call("review", [], 60)
    assert "SIGKILL" in actor.ended.result(60)


def test_a_call_that_its_process_does_not_survive_has_no_answer(actor):
    told = actor.loaded.result(60)
    os.kill(told.process, signal.SIGKILL)
    with pytest.raises(EndedError, match="SIGKILL, as by the kernel when memory runs out"):
        actor.call("example", 1, 60)
    assert "memory" in actor.ended.result(60)


def test_what_a_replica_started_itself_ends_with_it(monkeypatch, tmp_path):
    """Such as a model's own workers, which would keep its GPU and the service's line."""
    (tmp_path / "sitecustomize.py").write_text(
        "import subprocess, sys\n"
        "if 'fusion.review.replicas.process' in ' '.join(sys.orig_argv):\n"
        f"    made = subprocess.Popen(['sleep', '600'], close_fds=False)\n"
        f"    open({str(tmp_path / 'helper')!r}, 'w').write(str(made.pid))\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    host = ProcessHost(ProcessName.parse("[fixed:yard]?gpus=0"))
    made = host.begin()
    told = made.loaded.result(60)
    helper = psutil.Process(int((tmp_path / "helper").read_text()))
    os.kill(told.process, signal.SIGKILL)
    made.ended.result(60)
    helper.wait(60)
    host.close()


def test_a_gpu_is_free_for_others_when_its_process_has_ended(monkeypatch):
    monkeypatch.setenv(VISIBLE, "90")
    host = ProcessHost(ProcessName.parse("[fixed:yard]"))
    made = host.begin()
    made.loaded.result(60)
    host.close()  # who has it goes on: nobody has killed it
    with pytest.raises(ModelError, match="other reviewers have 1"):
        ProcessHost(ProcessName.parse("[fixed:yard]"))
    made.kill()
    made.ended.result(60)
    ProcessHost(ProcessName.parse("[fixed:yard]")).close()


def test_what_cannot_be_sent_costs_no_replica(actor):
    actor.loaded.result(60)
    with pytest.raises(ModelError, match="cannot be sent to a replica"):
        actor.call("review", [lambda: None], 60)
    assert actor.call("review", [], 60) == []


def test_one_that_is_killed_while_it_loads_says_how(actor):
    actor.kill()
    with pytest.raises(UnavailableError, match="SIGKILL"):
        actor.loaded.result(60)


def test_restarts_leave_nothing_behind():
    host, before = ProcessHost(ProcessName.parse("[fixed:yard]?gpus=0")), None
    for number in range(4):
        made = host.begin()
        made.loaded.result(60)
        made.kill()
        made.ended.result(60)
        if number == 0:
            before = descriptors()
    assert descriptors() == before
    host.close()


TALKER = '''
import time
from fusion.review.fixed import FixedReviewer

class Talker(FixedReviewer):
    """Says why at once where it may say one word, else thinks until it is told to stop."""

    def explain(self, row, answers, max_tokens, carry_on=lambda: True):
        began = time.monotonic()
        while max_tokens > 1 and carry_on() and time.monotonic() - began < 60:
            time.sleep(0.005)
        return f"{row.item}: {len(answers)}" if max_tokens == 1 else ""
'''


def an_item():
    return synthetic_evidence(Task.load("yard"), synthetic_profile(task="yard"), 1)[0]


@pytest.fixture
def talker(tmp_path, monkeypatch):
    found = tmp_path / "talker-1.dist-info"
    found.mkdir()
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: talker\nVersion: 1\n")
    (found / "entry_points.txt").write_text("[fusion.reviewers]\ntalker = talking:Talker\n")
    (tmp_path / "talking.py").write_text(TALKER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    reviewer = ProcessReviewer.load("[talker:yard]?gpus=0")
    yield reviewer
    reviewer.close()


def test_it_can_be_asked_why_and_be_interrupted_at_it(talker):
    assert isinstance(talker, Explains)
    row = talker.prepare(an_item())
    (answers,) = talker.score([row])
    for _ in range(3):
        assert talker.explain(row, answers, 1) == f"{row.item}: {len(answers)}"
        asked = []
        assert talker.explain(row, answers, 48, lambda asked=asked: asked.append(1) or len(asked) < 3) == ""
        assert len(asked) == 3
        assert talker.score([row]) == [answers]  # to stop was told for that call alone


def test_a_rationale_that_takes_longer_than_a_batch_may_costs_no_replica(talker):
    (replica,) = talker.replicas()
    replica._timeout_s = 0.5
    row = talker.prepare(an_item())
    (answers,) = talker.score([row])
    assert replica.explain(row, answers, 48) == ""
    assert talker.replicas() == (replica,)


def test_rows_that_are_prepared_here_are_those_of_the_reviewer_and_nothing_of_torch_is_loaded():
    """The service starts sooner and is smaller for it."""
    code = (
        "import pickle, sys\n"
        "from fusion.review import load_reviewer\n"
        "reviewer = load_reviewer('process:[mini:yard]?gpus=0')\n"
        "assert reviewer.preparer is not None\n"
        "row = reviewer.prepare(reviewer.example(3))\n"
        "reviewer.close()\n"
        "assert 'torch' not in sys.modules\n"
        "sys.stdout.buffer.write(pickle.dumps((row.tokens, [level.tobytes() for level in row.payload.maps])))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    plain = MiniReviewer.load("yard")
    row = plain.prepare(plain.example(3))
    assert pickle.loads(done.stdout) == (row.tokens, [level.tobytes() for level in row.payload.maps])
