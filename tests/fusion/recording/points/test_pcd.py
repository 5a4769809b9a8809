"""PCD files: every form and type, times, viewpoints, and what is cut or wrong."""

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import InputError, RecordingError
from fusion.recording import open_recording
from fusion.recording.points.lzf import unpack_lzf
from fusion.recording.points.pcd import read_header, read_points
from fusion.recording.points.pcd_reader import PcdReader, time_in
from fusion.task import Task
from fusion.types import Modality

DATA = Path(__file__).parents[4] / "../shared/data/opencalib"
FORMS = ("ascii", "binary", "binary_compressed")
KIND = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("ring", "<u2")]
START_S = 1_700_000_000.0


def points(count=6, extra=(), **values):
    made = np.zeros(count, KIND + list(extra))
    for i, axis in enumerate("xyz"):
        made[axis] = np.arange(count) * 10 + i + 1
    made["intensity"] = np.arange(count) * 51
    made["ring"] = np.arange(count)
    for name, value in values.items():
        made[name] = value
    return made


def pack_lzf(data):
    """LZF with back references wherever the last 3 bytes came before: plain, but a true compressor."""
    out, literals, at, seen = bytearray(), bytearray(), 0, {}

    def flush():
        for i in range(0, len(literals), 32):
            run = literals[i : i + 32]
            out.append(len(run) - 1)
            out.extend(run)
        literals.clear()

    while at < len(data):
        key = data[at : at + 3]
        found = seen.get(key, -1)
        distance = at - found - 1
        if len(key) == 3 and found >= 0 and distance < 8192:
            length = 3
            while length < 264 and at + length < len(data) and data[found + length] == data[at + length]:
                length += 1
            flush()
            if length - 2 < 7:
                out.append((length - 2) << 5 | distance >> 8)
            else:
                out.extend((7 << 5 | distance >> 8, length - 2 - 7))
            out.append(distance & 255)
            seen[key] = at
            at += length
        else:
            seen[key] = at
            literals.append(data[at])
            at += 1
    flush()
    return bytes(out)


def header(made, form, **changes):
    kind = made.dtype
    types = [kind[name] for name in kind.names]
    bases = [t.subdtype[0] if t.subdtype else t for t in types]
    lines = {
        "VERSION": "0.7",
        "FIELDS": " ".join(kind.names),
        "SIZE": " ".join(str(b.itemsize) for b in bases),
        "TYPE": " ".join(b.kind.upper() for b in bases),
        "COUNT": " ".join(str(t.shape[0] if t.shape else 1) for t in types),
        "WIDTH": str(len(made)),
        "HEIGHT": "1",
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": str(len(made)),
        "DATA": form,
    }
    lines |= changes
    text = "".join(f"{key} {value}\n" for key, value in lines.items() if value is not None)
    return f"# .PCD v0.7 - Point Cloud Data file format\n{text}".encode()


def body(made, form):
    if form == "ascii":
        rows = (" ".join(str(v) for value in row for v in np.atleast_1d(value)) for row in made)
        return "".join(f"{row}\n" for row in rows).encode()
    if form == "binary":
        return made.tobytes()
    plain = b"".join(np.ascontiguousarray(made[name]).tobytes() for name in made.dtype.names)
    packed = pack_lzf(plain)
    return struct.pack("<II", len(packed), len(plain)) + packed


def write(path, made, form="binary", **changes):
    path.write_bytes(header(made, form, **changes) + body(made, form))
    return path


def sweep(path):
    ((cursor, reading),) = list(open_recording(path).readings())
    assert (cursor, reading.sensor, reading.modality) == (1, "lidar", Modality.LIDAR)
    return reading


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_a_sweep(tmp_path, form):
    cloud = sweep(write(tmp_path / "a.pcd", points(), form)).payload
    assert cloud.points.dtype == np.float32
    expected = np.stack([points()["x"], points()["y"], points()["z"], np.arange(6) / 5], axis=1)
    assert np.allclose(cloud.points, expected)
    assert cloud.offsets_s is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", ["<f4", "<f8", "<i1", "<u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"])
def test_coordinates_of_every_type(tmp_path, form, number):
    kind = [("normal", "<f4", 3), ("z", number), ("_", "<u1", 5), ("y", number), ("x", number)]
    made = np.zeros(3, kind)
    made["x"], made["y"], made["z"], made["normal"] = [1, 2, 3], [4, 5, 6], [7, 8, 9], 0.5
    cloud = sweep(write(tmp_path / "a.pcd", made, form)).payload
    assert cloud.points[:, :3].tolist() == [[1, 4, 7], [2, 5, 8], [3, 6, 9]]
    assert not cloud.points[:, 3].any()


@pytest.mark.parametrize("form", FORMS)
def test_no_returns_are_dropped_and_counted(tmp_path, form):
    made = points(extra=[("t", "<u4")], t=np.arange(6) * 1000)
    made["x"][1], made["z"][2] = np.nan, np.inf
    made["x"][3] = made["y"][3] = made["z"][3] = 0
    path = write(tmp_path / "a.pcd", made, form)
    cloud = sweep(path).payload
    assert len(cloud.points) == 3
    assert np.allclose(cloud.offsets_s * 1e6, [0, 4, 5])
    assert open_recording(path).info().notes["no returns of lidar"] == "3 of 6 points left out (zero or not finite)"


def test_times_come_from_the_points(tmp_path):
    made = points(extra=[("timestamp", "<f8")], timestamp=START_S + np.array([0.5, 0.25, 0.3, 0.4, 0.26, 0.27]))
    path = write(tmp_path / "a.pcd", made)
    reading = sweep(path)
    assert reading.capture_time_ns == 1_700_000_000_250_000_000
    assert np.allclose(reading.payload.offsets_s, [0.25, 0, 0.05, 0.15, 0.01, 0.02], atol=1e-6)
    assert "times" not in open_recording(path).info().notes


@pytest.mark.parametrize(
    ("name", "time_ns"),
    [
        ("1700000000.25", 1_700_000_000_250_000_000),
        ("scan_1700000000_250000000", 1_700_000_000_250_000_000),
        ("1700000000250000000", 1_700_000_000_250_000_000),
        ("lidar-1700000000250000", 1_700_000_000_250_000_000),
        ("0000000007", None),
        ("000001", None),
        ("1", None),
        ("0000000001.5", None),
    ],
)
def test_times_in_names(name, time_ns):
    assert time_in(name) == time_ns


def test_a_folder_is_in_the_order_of_the_times_in_its_names(tmp_path):
    for i, name in enumerate(("1700000000.5", "1700000000.25", "1700000001.0")):
        write(tmp_path / f"{name}.pcd", points(i + 1))
    reader = open_recording(tmp_path)
    whole = [(c, r.capture_time_ns - 1_700_000_000_000_000_000, len(r.payload.points)) for c, r in reader.readings()]
    assert whole == [(1, 250_000_000, 2), (2, 500_000_000, 1), (3, 1_000_000_000, 3)]
    assert [c for c, _ in reader.readings(2)] == [3]
    assert list(reader.readings(3)) == []
    info = reader.info()
    assert "times" not in info.notes
    assert info.continuous
    assert reader.sizes() == {"lidar": sum(p.stat().st_size for p in tmp_path.iterdir())}


@pytest.mark.parametrize(
    ("parts", "expected_ns"),
    [
        (("950000000", "50000000", "0"), [0, 50_000_000, 950_000_000]),
        (("950000000", "050000000", "1"), [50_000_000, 100_000_000, 950_000_000]),
        (("5", "25", "1234567"), [123_456_700, 250_000_000, 500_000_000]),
        (("50000000", "25000000"), [250_000_000, 500_000_000]),
    ],
)
def test_nanoseconds_without_leading_zeros_are_told_from_decimals(tmp_path, parts, expected_ns):
    for i, part in enumerate(parts):
        write(tmp_path / f"1700000000_{part}.pcd", points(i + 1))
    times = [r.capture_time_ns - 1_700_000_000_000_000_000 for _, r in open_recording(tmp_path).readings()]
    assert times == expected_ns


def test_without_times_they_are_nominal_and_in_the_order_of_numbers(tmp_path):
    for i in (10, 2, 1):
        write(tmp_path / f"{i}.pcd", points(i))
    reader = open_recording(tmp_path)
    found = [(len(r.payload.points), r.capture_time_ns) for _, r in reader.readings()]
    assert found == [(1, 0), (2, 100_000_000), (10, 200_000_000)]
    info = reader.info()
    assert info.notes["times"].startswith("nominal: 10 Hz")
    assert not info.continuous
    before = info.content_sha256
    (tmp_path / "2.pcd").rename(tmp_path / "3.pcd")
    assert open_recording(tmp_path).info().content_sha256 != before, "names say the order"


def test_files_passed_over_are_not_read(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.pcd", points())
    reader = open_recording(tmp_path)
    good = (tmp_path / "1.pcd").read_bytes()
    (tmp_path / "1.pcd").write_bytes(good[:-1])
    assert [c for c, _ in reader.readings(2)] == [3]
    with pytest.raises(RecordingError, match=r"1.pcd: byte \d+: the file ends after 107 of 108 bytes"):
        list(reader.readings())


def test_the_viewpoint_places_the_sensor(tmp_path):
    turn = "1 2 3 0.7071067811865476 0 0 0.7071067811865476"
    path = write(tmp_path / "a.pcd", points(), VIEWPOINT=turn)
    rig = open_recording(path).info().rig
    assert np.allclose(rig.ego_from_lidar["lidar"], [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    write(tmp_path / "b.pcd", points())
    info = open_recording(tmp_path).info()
    assert info.rig is None
    assert "moves from file to file" in info.notes["frames"]


def test_old_headers_and_padding_are_read(tmp_path):
    path = tmp_path / "a.pcd"
    old = {"VERSION": ".6", "VIEWPOINT": None, "COUNT": None, "POINTS": None}
    path.write_bytes(
        header(points(), "binary", **old).replace(b"FIELDS", b"COLUMNS") + points().tobytes() + bytes(4000)
    )
    assert len(sweep(path).payload.points) == 6
    path.write_bytes(header(points(), "ascii").replace(b"\n", b"\r\n") + body(points(), "ascii") + b"\n\n")
    assert len(sweep(path).payload.points) == 6
    write(path, points(0))
    assert len(sweep(path).payload.points) == 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"DATA": None}, "without a line DATA"),
        ({"DATA": "zip"}, "DATA is 'zip'; ascii, binary, binary_compressed are known"),
        ({"FIELDS": None}, "FIELDS names 0 fields"),
        ({"FIELDS": "x y"}, "SIZE is '4 4 4 4 2', where 2 whole numbers belong"),
        ({"SIZE": "4 4 4 4 x"}, "where 5 whole numbers belong"),
        ({"SIZE": "4 4 4 4 3"}, "field 'ring' has the type U of 3 bytes"),
        ({"TYPE": "F F F F"}, "TYPE has 4 values for 5 fields"),
        ({"TYPE": "F F F F Q"}, "field 'ring' has the type Q of 2 bytes"),
        ({"TYPE": "F F F F F"}, "field 'ring' has the type F of 2 bytes"),
        ({"COUNT": "1 1 1 1 0"}, "field 'ring' has 0 values a point"),
        ({"COUNT": "1 1 1 1 99999999"}, "has 99999999 values a point"),
        ({"WIDTH": "-6"}, "WIDTH is '-6'"),
        ({"WIDTH": None}, "WIDTH is ''"),
        ({"POINTS": "7"}, "POINTS is 7, but WIDTH x HEIGHT is 6 x 1"),
        ({"POINTS": "99999999", "WIDTH": "99999999"}, "99999999 points; at most 16777216"),
        ({"VIEWPOINT": "0 0 0 1 0 0"}, "where seven numbers belong"),
        ({"VIEWPOINT": "0 0 0 0 0 0 0"}, "quaternion of length 0"),
        ({"VIEWPOINT": "0 0 nan 1 0 0 0"}, "VIEWPOINT is not finite"),
    ],
)
def test_a_bad_header_is_named(tmp_path, changes, text):
    path = write(tmp_path / "a.pcd", points(), **changes)
    with pytest.raises(RecordingError, match=text) as caught:
        open_recording(path)
    assert str(caught.value).startswith(f"{path}:")


@pytest.mark.parametrize(
    ("form", "content", "text"),
    [
        ("binary", points().tobytes()[:-1], "the file ends after 107 of 108 bytes of points"),
        ("binary", points(7).tobytes(), "18 bytes behind the last declared point"),
        ("ascii", body(points(5), "ascii"), "5 lines of points; 6 are declared"),
        ("ascii", body(points(7), "ascii"), "7 lines of points; 6 are declared"),
        ("ascii", body(points(), "ascii").replace(b" 1\n", b"\n"), "point 2 has 4 numbers; the fields have 5"),
        ("ascii", body(points(), "ascii").replace(b"31.0", b"north"), "field 'x': could not convert"),
        ("ascii", body(points(), "ascii").replace(b"31.0", b"1" * 70), "longer than 64 characters"),
        ("binary_compressed", b"\0\0\0", "the file ends before the sizes"),
        (
            "binary_compressed",
            struct.pack("<II", 50, 109) + bytes(50),
            "109 bytes of points; 6 of 18 bytes are declared",
        ),
        ("binary_compressed", struct.pack("<II", 50, 108) + bytes(49), "the file ends after 49 of 50 bytes"),
        ("binary_compressed", struct.pack("<II", 1, 108) + bytes(1), "which LZF cannot"),
        (
            "binary_compressed",
            struct.pack("<II", 50, 108) + bytes(50),
            "unpack to 25 bytes instead of the declared 108",
        ),
        ("binary_compressed", body(points(), "binary_compressed") + b"more", "4 bytes behind the last"),
    ],
)
def test_bad_points_are_named(tmp_path, form, content, text):
    path = tmp_path / "a.pcd"
    path.write_bytes(header(points(), form) + content)
    with pytest.raises(RecordingError, match=text) as caught:
        list(open_recording(path).readings())
    assert str(caught.value).startswith(f"{path}: byte ")


def test_points_without_coordinates_are_named(tmp_path):
    path = write(tmp_path / "a.pcd", points().view([(n.replace("x", "e"), t) for n, t in KIND]))
    with pytest.raises(RecordingError, match=r"a.pcd: the points have no field x; they have e, y, z, intensity, ring"):
        list(open_recording(path).readings())
    with pytest.raises(RecordingError, match="no field x; it has e, y"):
        read_points(path, ["x"])


def test_the_task_must_have_the_sensor_and_a_folder_files(tmp_path):
    path = write(tmp_path / "a.pcd", points())
    with pytest.raises(RecordingError, match=r"no sensor of task yard .*; it has lidar"):
        open_recording(path, Task.load("yard"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match=r"no \.pcd files in it"):
        PcdReader.open(tmp_path / "empty", None, None, salvage=False)


@settings(max_examples=200, deadline=None)
@given(data=st.one_of(st.binary(max_size=2000), st.text("abc", max_size=3000).map(str.encode)))
def test_lzf_unpacks_what_was_packed(data):
    assert unpack_lzf(pack_lzf(data), len(data)) == data


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400), size=st.integers(0, 4000))
def test_any_lzf_is_unpacked_to_its_size_or_refused(data, size):
    with suppress(InputError):
        assert len(unpack_lzf(data, size)) == size


LINE = st.sampled_from(
    [b"FIELDS x y z", b"SIZE 4 4 4", b"TYPE F F F", b"COUNT 1 1 1", b"WIDTH 2", b"HEIGHT 1", b"POINTS 2", b"DATA ascii",
     b"DATA binary", b"DATA binary_compressed", b"# x", b"", b"VIEWPOINT 0 0 0 1 0 0 0", b"1 2 3", b"\xff\0"]
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=300), st.lists(LINE, max_size=16).map(b"\n".join)))
def test_any_bytes_are_a_sweep_or_a_recording_error(tmp_path, content):
    path = tmp_path / "a.pcd"
    path.write_bytes(content)
    with suppress(RecordingError):
        reader = open_recording(path)
        reader.info()
        for _, reading in reader.readings():
            assert np.isfinite(reading.payload.points).all()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), form=st.sampled_from(FORMS))
def test_a_changed_or_cut_file_is_a_sweep_or_a_recording_error(tmp_path, data, form):
    made = points(extra=[("timestamp", "<f8")], timestamp=START_S)
    content = bytearray(header(made, form) + body(made, form))
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.pcd"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    with suppress(RecordingError):
        reader = open_recording(path)
        reader.info()
        list(reader.readings())


@pytest.mark.parametrize(("name", "count"), [("lidar2camera_b1", 101_340), ("lidar2camera_c", 85_546)])
def test_the_real_files_have_the_points_they_should(name, count):
    path = DATA / name / "calib.pcd"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    found = read_header(path)
    assert (found.form, found.points) == ("binary_compressed", count)
    reading = sweep(path)
    assert len(reading.payload.points) == count
    assert reading.payload.offsets_s.min() == pytest.approx(0, abs=1e-9)
    assert reading.payload.offsets_s.max() == pytest.approx(0.1, abs=0.001)
    assert reading.capture_time_ns // 10**9 in {1_678_066_887, 1_605_333_546}
