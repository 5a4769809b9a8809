"""The parts alone: settings, users, the view from above, sound, numbers."""

import io
import json
import math
import re
import stat
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.cli import main
from cloud_node.config import CloudSettings
from cloud_node.console.live import HEIGHT, WIDTH, polyline
from cloud_node.console.top_view import MOST_POINTS, top_view
from cloud_node.console.users import Role, UserFile, new_user, password_fits, read_users, write_users
from cloud_node.console.wording import duration, reason, share
from cloud_node.fleet import MOST_AWAY, Fleet
from cloud_node.overview import HISTORY, quantile
from fusion.config import from_overrides
from fusion.errors import ConfigError, InputError
from fusion.types import Box3D, LedgerCounts, SendReason
from fusion.wire.messages import Hello, LedgerReport

from .conftest import PASSWORD


def settings(*overrides):
    return from_overrides(CloudSettings, [f"console.{one}" for one in overrides]).console


def test_there_is_no_console_unless_it_is_asked_for():
    assert settings().listen == ""


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        (["listen=0.0.0.0:8447"], "cloud-node user"),
        (["listen=[::]:8447"], "cloud-node user"),
        (["listen=review.example:8447"], "cloud-node user"),
        (["listen=127.0.0.1:8447", "behind_proxy=true"], "cloud-node user"),
        (["listen=0.0.0.0:8447", "users=users.json"], "console.tls"),
        (["listen=8447"], "listen"),
        (["listen=127.0.0.1:8447", 'hosts=["https://review.example"]'], "console.hosts"),
        (["listen=127.0.0.1:8447", 'hosts=[""]'], "console.hosts"),
    ],
)
def test_a_console_that_would_not_be_safe_is_refused(overrides, advice):
    with pytest.raises(ConfigError, match=re.escape(advice)) as caught:
        settings(*overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["listen=127.0.0.1:8447"],
        ["listen=[::1]:8447"],
        ["listen=localhost:8447", "users=users.json"],
        ["listen=0.0.0.0:8447", "users=users.json", "behind_proxy=true"],
        ["listen=0.0.0.0:8447", "users=users.json", "tls.certificate=a.pem", "tls.key=b.pem"],
    ],
)
def test_a_console_that_is_safe_is_taken(overrides):
    assert settings(*overrides).listen


def test_a_password_fits_its_user_alone():
    ann = new_user("ann", Role.REVIEWER, PASSWORD)
    assert password_fits(ann, PASSWORD)
    assert not password_fits(ann, PASSWORD + " ")
    assert not password_fits(None, PASSWORD)
    assert new_user("ann", Role.REVIEWER, PASSWORD).digest != ann.digest


@pytest.mark.parametrize(
    ("name", "password"), [("", PASSWORD), ("a b", PASSWORD), ("x" * 64, PASSWORD), ("ann", "short")]
)
def test_users_that_will_not_do_are_refused(name, password):
    with pytest.raises(InputError):
        new_user(name, Role.VIEWER, password)


def test_a_users_file_is_private_and_read_again_when_it_changes(users, users_made):
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    assert read_users(users) == users_made
    assert PASSWORD not in users.read_text()
    file = UserFile(users)
    write_users(users, {"vic": users_made["vic"]})
    assert file.find("ann") is None
    assert file.find("vic") == users_made["vic"]
    users.write_text("{")
    assert file.find("vic") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "users": {"a": {}}}'])
def test_a_file_that_is_none_is_named(tmp_path, text):
    (tmp_path / "users.json").write_text(text)
    with pytest.raises(ConfigError, match=r"users\.json"):
        read_users(tmp_path / "users.json")


def test_the_command_makes_changes_and_removes_users(tmp_path, monkeypatch, capsys):
    def user(*arguments, password=PASSWORD):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{password}\n"))
        return main(["user", *arguments, "--file", str(tmp_path / "u.json")])

    assert user("ann", "--role", "reviewer") == 0
    assert user("vic") == 0
    told = json.loads((tmp_path / "u.json").read_text())["users"]
    assert {name: entry["role"] for name, entry in told.items()} == {"ann": "reviewer", "vic": "viewer"}
    capsys.readouterr()
    assert user("bob", password="short") == 3
    assert capsys.readouterr().err.count("\n") == 1
    assert user("ann", "--remove") == 0
    assert user("ann", "--remove") == 3
    assert list(json.loads((tmp_path / "u.json").read_text())["users"]) == ["vic"]


def numbers(text):
    return np.array([[float(one) for one in pair.split(",")] for pair in text.split()])


def test_from_above_ahead_is_up_and_left_is_left():
    view = top_view(Box3D(5.0, 2.0, 0.5, 4.0, 2.0, 1.0, 0.0))
    box = numbers(view.box)
    assert box.mean(0) == pytest.approx([-2.0, -5.0])
    assert np.ptp(box, 0) == pytest.approx([2.0, 4.0])
    assert numbers(view.nose)[1] == pytest.approx([-2.0, -7.0])
    assert view.left < -3.0
    assert view.left + view.width > 0
    assert view.top < -7.0
    assert "5.0 m ahead" in view.words
    assert "to the left" in view.words


def test_from_above_a_turn_to_the_left_points_left():
    nose = numbers(top_view(Box3D(5.0, 0.0, 0.5, 4.0, 2.0, 1.0, math.pi / 2)).nose)
    assert nose[1] - nose[0] == pytest.approx([-2.0, 0.0], abs=0.02)


@given(st.floats(-400, 400), st.floats(-400, 400), st.floats(-7, 7), st.floats(0, 50), st.floats(0, 50))
def test_from_above_everything_is_within_the_view(x, y, yaw, length, width):
    view = top_view(Box3D(x, y, 0, length, width, 1, yaw))
    places = np.concatenate([numbers(view.box), [[0, 0]]])
    assert (places >= [view.left - 0.01, view.top - 0.01]).all()
    assert (places <= [view.left + view.width + 0.01, view.top + view.height + 0.01]).all()
    assert 0 < len(view.rings) <= 21


def test_from_above_points_are_shown_thinned_and_only_finite():
    points = np.random.default_rng(0).normal(size=(3 * MOST_POINTS, 3)).astype(np.float32)
    points[0] = np.nan
    view = top_view(None, points)
    assert 0 < view.dots.count("M") <= MOST_POINTS
    assert "nan" not in view.dots
    assert top_view(None, None) is None
    assert top_view(None, points[:0]) is None


@given(st.lists(st.floats(0, 1e6), max_size=HISTORY))
def test_a_curve_stays_in_its_picture(readings):
    places = numbers(polyline(readings)) if readings else np.zeros((0, 2))
    assert len(places) == len(readings)
    assert (places >= [-0.1, 0]).all()
    assert (places <= [WIDTH + 0.1, HEIGHT]).all()


def test_a_quantile_lies_in_its_bucket():
    buckets = {0.1: 50.0, 0.2: 99.0, math.inf: 100.0}
    assert quantile(buckets, 0.5) == pytest.approx(0.1)
    assert quantile(buckets, 0.25) == pytest.approx(0.05)
    assert quantile(buckets, 1.0) == 0.2
    assert quantile({}, 0.5) is None
    assert quantile({1.0: 0.0}, 0.5) is None


def test_words():
    assert [duration(ns) for ns in (4e5, 31e6, 2.1e9, 3e11, 7.2e12, 2e14)] == [
        "0.4 ms", "31 ms", "2.1 s", "5 min", "2 h", "2 d",
    ]  # fmt: skip
    assert (share(0.0), share(0.001), share(0.5)) == ("0 %", "<1 %", "50 %")
    assert all(reason(one.value) != one.value for one in SendReason)
    assert reason("other") == "other"


def test_a_fleet_forgets_those_longest_away_first():
    fleet = Fleet()
    for number in range(MOST_AWAY + 2):
        fleet.connected(Hello(f"d{number}", "0" * 16, "yard"), number)
    assert len(fleet.rows()) == MOST_AWAY + 2  # who is connected is never forgotten
    fleet.left("d7", "cut", 1)
    for number in range(MOST_AWAY + 2):
        if number not in {7, 11}:
            fleet.left(f"d{number}", "cut", 2 + number)
    names = {row.device for row in fleet.rows()}
    assert len(names) == MOST_AWAY + 1
    assert "d7" not in names
    assert {"d9", "d11"} <= names
    assert fleet.numbers == (1, MOST_AWAY + 1)
    assert [row.device for row in fleet.here()] == ["d11"]


def test_a_device_that_comes_back_keeps_what_it_told_until_its_spool_is_another():
    fleet, counts = Fleet(), LedgerCounts(7, 0, {})
    fleet.connected(Hello("d", "0" * 16, "yard"), 1)
    fleet.reported("d", LedgerReport(counts), 2)
    fleet.left("d", "cut", 3)
    (row,) = fleet.rows()
    assert (row.connected, row.left_ns, row.how, row.counts) == (False, 3, "cut", counts)
    fleet.connected(Hello("d", "0" * 16, "yard"), 4)
    fleet.seen("d", 5)
    (row,) = fleet.here()
    assert (row.connected_ns, row.seen_ns, row.counts, row.told_ns) == (4, 5, counts, 2)
    fleet.connected(Hello("d", "1" * 16, "yard"), 6)
    assert (fleet.numbers, fleet.here()[0].counts) == ((1, 1), None)
