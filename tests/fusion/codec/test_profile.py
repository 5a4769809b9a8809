import hashlib
import json
import zipfile
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.codec import Level, Profile
from fusion.errors import ModelError


def test_a_saved_profile_comes_back_and_its_bytes_are_stable(profile, tmp_path):
    profile.save(tmp_path / "a")
    profile.save(tmp_path / "b")
    for name in ("profile.json", "profile.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    loaded = Profile.load(tmp_path / "a")
    assert loaded.sha256 == profile.sha256
    assert (loaded.task, loaded.image_width, loaded.image_height) == ("synthetic", 640, 384)
    for mine, theirs in zip(profile.levels, loaded.levels, strict=True):
        assert (mine.stride, mine.channels, mine.clip, mine.name) == (
            theirs.stride,
            theirs.channels,
            theirs.clip,
            theirs.name,
        )
        assert np.array_equal(mine.step, theirs.step)
        assert np.array_equal(mine.frequencies, theirs.frequencies)


def test_anything_that_changes_the_meaning_changes_the_fingerprint(profile):
    first = profile.levels[0]
    table = first.frequencies.copy()
    table[0, 0] += 1
    step = first.step.copy()
    step[3] *= np.float32(1.001)
    changed = [
        replace(profile, levels=(replace(first, frequencies=table), *profile.levels[1:])),
        replace(profile, levels=(replace(first, step=step), *profile.levels[1:])),
        replace(profile, trunk_sha256="0" * 64),
        replace(profile, task="other"),
        replace(profile, image_width=1280),
    ]
    assert len({profile.fingerprint(), *(p.fingerprint() for p in changed)}) == 6


def edit_json(folder, **changes):
    path = folder / "profile.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_changed_or_damaged_profile_is_refused(profile, tmp_path):
    profile.save(tmp_path)
    edit_json(tmp_path, task="another")
    with pytest.raises(ModelError, match="does not match its sha256"):
        Profile.load(tmp_path)
    edit_json(tmp_path, format=99)
    with pytest.raises(ModelError, match="format 99"):
        Profile.load(tmp_path)
    profile.save(tmp_path)
    edit_json(tmp_path, levels=[{"stride": 8}])
    with pytest.raises(ModelError, match="not a codec profile"):
        Profile.load(tmp_path)
    profile.save(tmp_path)
    arrays = tmp_path / "profile.npz"
    arrays.write_bytes(arrays.read_bytes()[:-900])
    with pytest.raises(ModelError, match=r"profile\.npz: damaged"):
        Profile.load(tmp_path)
    arrays.unlink()
    with pytest.raises(ModelError, match=r"profile\.npz: No such file"):
        Profile.load(tmp_path)
    (tmp_path / "profile.json").write_text("{")
    with pytest.raises(ModelError, match="not a codec profile"):
        Profile.load(tmp_path)
    with pytest.raises(ModelError, match="No such file"):
        Profile.load(tmp_path / "nowhere")


def _damaged(data, cut, flips):
    """`data` cut short, with some of its bytes changed."""
    changed = bytearray(data[: max(0, len(data) - cut)])
    for place, bits in flips:
        if changed:
            changed[int(place * (len(changed) - 1))] ^= bits
    return bytes(changed)


places = st.one_of(st.floats(0, 0.03), st.floats(0.9, 1), st.floats(0, 1))  # headers at the front, the index at the end


@given(
    st.sampled_from(["profile.json", "profile.npz"]),
    st.one_of(st.just(0), st.integers(0, 4000)),
    st.lists(st.tuples(places, st.integers(1, 255)), max_size=4),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_damaged_is_a_model_error(small_profile, tmp_path, name, cut, flips):
    small_profile.save(tmp_path)
    path = tmp_path / name
    path.write_bytes(_damaged(path.read_bytes(), cut, flips))
    with suppress(ModelError):
        assert Profile.load(tmp_path).sha256 == small_profile.sha256


@pytest.mark.parametrize(
    ("place", "value"),
    [(6, b"\x01"), (8, b"\x63"), (8, b"\x0c"), (8, b"\x0e"), (4, b"\xff")],  # encrypted, and compressed by other means
)
def test_an_archive_that_cannot_be_unpacked_is_damaged(small_profile, tmp_path, place, value):
    small_profile.save(tmp_path)
    path = tmp_path / "profile.npz"
    data = bytearray(path.read_bytes())
    for start, skip in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):  # a member's own header, and the index
        at = data.find(start)
        data[at + skip + place : at + skip + place + 1] = value
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"profile\.npz: damaged"):
        Profile.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"no array", b"\x93NUMPY\x01\x00\x08\x00{'descr\n", b"\x93NUMPY\x01\x00\x04\x00((((", b""]
)
def test_a_member_that_is_no_array_is_damaged(small_profile, tmp_path, content):
    small_profile.save(tmp_path)
    with zipfile.ZipFile(tmp_path / "profile.npz", "w") as archive:
        archive.writestr("step0.npy", content)
    with pytest.raises(ModelError, match="damaged"):
        Profile.load(tmp_path)


@pytest.mark.parametrize(
    "field", [{"image_width": float("inf")}, {"levels": [{"stride": float("nan")}]}, {"levels": 3}]
)
def test_a_number_that_is_none_is_refused(small_profile, tmp_path, field):
    small_profile.save(tmp_path)
    edit_json(tmp_path, **field)
    with pytest.raises(ModelError, match="not a codec profile"):
        Profile.load(tmp_path)


def test_an_array_bomb_is_refused(profile, tmp_path):
    profile.save(tmp_path)
    with zipfile.ZipFile(tmp_path / "profile.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("step0.npy", bytes(32 << 20))
    with pytest.raises(ModelError, match="more than 16 MiB"):
        Profile.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": 7}, "stride 7"),
        ({"clip": 0}, "clip 0"),
        ({"channels": 3}, "3 channels"),
        ({"step": np.array([0.5, 0.0], np.float32)}, "finite step"),
        ({"step": np.array([0.5, np.nan], np.float32)}, "finite step"),
        ({"frequencies": np.array([[1, 0, 1], [1, 1, 1]], np.int32)}, ">= 1"),
        ({"frequencies": np.array([[1, 1 << 24, 1], [1, 1, 1]], np.int32)}, "at most"),
        ({"frequencies": np.ones((2, 3), np.float32)}, "type float32"),
    ],
)
def test_a_wrong_level_is_named(change, message):
    good = {
        "stride": 8,
        "channels": 2,
        "step": np.ones(2, np.float32),
        "clip": 1,
        "frequencies": np.ones((2, 3), np.int32),
    }
    Level(**good)
    with pytest.raises(ModelError, match=message):
        Level(**{**good, **change})


def test_an_image_that_does_not_divide_is_refused(profile):
    with pytest.raises(ModelError, match="650x384"):
        replace(profile, image_width=650)


def test_the_graph_must_be_the_profiles_own(profile, tmp_path):
    graph = tmp_path / "detector.onnx"
    with pytest.raises(ModelError, match="incomplete"):
        profile.check_trunk(graph)
    graph.write_bytes(b"graph")
    replace(profile, trunk_sha256=hashlib.sha256(b"graph").hexdigest()).check_trunk(graph)
    with pytest.raises(ModelError, match="not the trunk"):
        profile.check_trunk(graph)
