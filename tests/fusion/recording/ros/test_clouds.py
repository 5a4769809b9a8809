"""PointCloud2: any layout of its bytes gives the same sweep; a layout that does not fit them is an error."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import InputError, RecordingError
from fusion.recording import open_recording
from fusion.recording.native.stream import RawMessage
from fusion.recording.points.point_fields import offsets_s
from fusion.recording.ros.clouds import cloud_rule, read_cloud
from fusion.recording.ros.images import read_raw
from fusion.recording.ros.messages import CLOUD, IMAGE, decoded, stamp_ns
from fusion.recording.ros.source import RosChannel

BASE = np.arange(1, 31, dtype=np.float64).reshape(10, 3)


def points(number="<f4", extra=(), order="xyz", **values):
    """Ten points whose coordinates count up."""
    kind = np.dtype([(axis, number) for axis in order] + list(extra))
    made = np.zeros(10, kind)
    for i, axis in enumerate("xyz"):
        made[axis] = BASE[:, i]
    for name, value in values.items():
        made[name] = value
    return made


def sweep(bags, ros, made, **options):
    message = bags.messages(ros).cloud(made, bags.start, **options)
    reader = open_recording(bags.write(ros, [("/points", message, bags.start)]))
    return next(iter(reader.readings()))[1].payload, reader


@pytest.mark.parametrize("number", ["<f4", ">f4", "<f8", ">f8", "<i2", ">u4", "u1"])
@pytest.mark.parametrize("order", ["xyz", "zxy"])
@pytest.mark.parametrize(("height", "pad"), [(1, 0), (2, 0), (5, 7)])
def test_fields_of_any_type_order_and_padding(bags, ros, number, order, height, pad):
    made = points(number, [("gap", "V3"), ("intensity", "u1"), ("tail", "V5")], order, intensity=np.arange(10) * 20)
    shown = made.dtype.fields
    kept = np.dtype(
        {
            "names": [*order, "intensity"],
            "formats": [shown[name][0] for name in [*order, "intensity"]],
            "offsets": [shown[name][1] for name in [*order, "intensity"]],
            "itemsize": made.dtype.itemsize,
        }
    )
    cloud, _ = sweep(bags, ros, made.view(kept), rows=height, pad=pad, big=number[0] == ">")
    assert cloud.points.dtype == np.float32
    assert np.array_equal(cloud.points[:, :3], BASE.astype(np.float32))
    assert np.allclose(cloud.points[:, 3], np.arange(10) * 20 / 255)


@pytest.mark.parametrize(
    ("name", "number", "values", "full"),
    [
        ("intensity", "<f4", np.linspace(0, 1, 10), 1),
        ("intensity", "<f4", np.arange(10) * 25.0, 255),
        ("reflectivity", "<u2", np.arange(10) * 25, 255),
        ("i", "<f4", np.arange(10) * 400.0, 4095),
        ("intensity", "<u2", np.arange(10) * 7000, 65535),
        ("intensity", "<f4", np.arange(10) * 1e6, 65535),
        ("intensity", "u1", np.arange(10), 255),
        ("intensity", "<f4", -np.ones(10), 1),
    ],
)
def test_intensity_is_a_share_of_the_first_sweeps_scale(bags, ros, name, number, values, full):
    cloud, reader = sweep(bags, ros, points(extra=[(name, number)], **{name: values}))
    assert np.allclose(cloud.points[:, 3], np.clip(values / full, 0, 1), atol=1e-6)
    assert reader.info().notes["intensity of points"] == f"field {name} / {full}"


@pytest.mark.parametrize(("told", "full"), [(0.5, 1), (51.0, 255)])
def test_an_intensity_that_is_not_finite_drops_its_point_and_leaves_the_others_scale(bags, ros, told, full):
    values = np.full(10, told)
    values[[2, 5, 7]] = np.nan, np.inf, -np.inf
    cloud, reader = sweep(bags, ros, points(extra=[("intensity", "<f4")], intensity=values))
    assert np.allclose(cloud.points[:, 3], np.full(7, told / full))
    assert reader.dropped_points == 3
    assert reader.info().notes["intensity of points"] == f"field intensity / {full}"


def test_intensity_goes_before_reflectivity_and_may_be_missing(bags, ros):
    both = points(extra=[("reflectivity", "u1"), ("intensity", "u1")], intensity=51, reflectivity=102)
    assert np.allclose(sweep(bags, ros, both)[0].points[:, 3], 0.2)


def test_without_intensity_it_is_zero_and_said(bags, ros):
    cloud, reader = sweep(bags, ros, points())
    assert not cloud.points[:, 3].any()
    assert reader.info().notes["intensity of points"] == "0: the points have none"


def test_a_scale_stays_that_of_the_first_sweep(bags, ros):
    m = bags.messages(ros)
    dim = m.cloud(points(extra=[("intensity", "<f4")], intensity=0.5), bags.start)
    bright = m.cloud(points(extra=[("intensity", "<f4")], intensity=200.0), bags.start + 1)
    reader = open_recording(bags.write(ros, [("/p", bright, bags.start), ("/p", dim, bags.start + 1)]))
    assert [round(float(r.payload.points[0, 3]), 4) for _, r in reader.readings()] == [0.7843, 0.002]


@pytest.mark.parametrize(
    ("name", "number", "values"),
    [
        ("t", "<u4", np.arange(10) * 10_000_000),
        ("offset_time", "<u4", np.arange(10) * 10_000_000),
        ("time", "<f4", np.arange(10) * 0.01),
        ("timestamp", "<f8", 1_700_000_000 + np.arange(10) * 0.01),
        ("timestamp", "<f8", 1.7e18 + np.arange(10) * 1e7),
    ],
)
def test_point_times_of_every_kind(bags, ros, name, number, values):
    cloud, reader = sweep(bags, ros, points(extra=[(name, number)], **{name: values}))
    assert cloud.offsets_s.dtype == np.float32
    assert np.allclose(cloud.offsets_s, np.arange(10) * 0.01, atol=1e-5)
    assert "point times of points" not in reader.info().notes


def test_times_before_the_stamp_are_negative():
    assert np.allclose(offsets_s(np.array([-0.1, 0.0], np.float32), 5), [-0.1, 0])
    assert np.allclose(offsets_s(np.array([1_700_000_000_000_001]), 1_700_000_000_100_001_000), [-0.1])
    assert offsets_s(np.zeros(0), 5).shape == (0,)


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.7e9], np.float32),
        np.array([1000.0, 1000.1]),
        np.array([np.nan, 0.1]),
        np.array([1.6e9, 1.6e9 + 0.1]),
        np.array([11_000_000_000]),
        np.array([0, 1 << 62]),
    ],
)
def test_times_on_another_clock_are_left_out(values):
    assert offsets_s(values, 1_700_000_000_000_000_000) is None


def test_a_clock_that_is_not_understood_is_noted(bags, ros):
    cloud, reader = sweep(bags, ros, points(extra=[("timestamp", "<f8")], timestamp=1234.5))
    assert cloud.offsets_s is None
    assert "field timestamp of 1 sweeps is on no clock" in reader.info().notes["point times of points"]


def test_no_returns_are_dropped_and_counted(bags, ros):
    made = points(extra=[("t", "<u4")], t=np.arange(10) * 1000)
    made["x"][2] = made["y"][2] = made["z"][2] = 0
    made["y"][3], made["z"][4] = np.nan, np.inf
    made["x"][5] = 0
    cloud, reader = sweep(bags, ros, made)
    assert len(cloud.points) == 7
    assert np.allclose(cloud.offsets_s * 1e6, [0, 1, 5, 6, 7, 8, 9])
    assert reader.dropped_points == 3
    assert reader.info().notes["no returns of points"] == "3 of 10 points left out (zero or not finite)"


def test_an_empty_cloud_and_one_without_a_row_step(bags, ros):
    cloud, _ = sweep(bags, ros, points()[:0])
    assert cloud.points.shape == (0, 4)
    m = bags.messages(ros)
    reader = open_recording(bags.write(ros, [("/p", m.cloud(points(), row_step=0), bags.start)], "b"))
    assert len(next(iter(reader.readings()))[1].payload.points) == 10


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data": np.zeros(119, np.uint8)}, r"only 119 bytes; 1 x 10 points need 120"),
        ({"data": np.zeros(121, np.uint8)}, r"121 bytes; 1 x 10 points need 120"),
        ({"point_step": 8}, "field 'z' at byte 8 lies outside the point step of 8"),
        ({"point_step": 0}, "outside the point step of 0"),
        ({"point_step": 16}, "need 160"),
        ({"width": 11}, "need 132"),
        ({"height": 2}, "need 240"),
        ({"height": 2, "row_step": 100}, "does not fit into the row step of 100"),
        ({"height": 1 << 31, "width": 1 << 31}, "at most 16777216 are read"),
        ({"fields": []}, "no field x, y, z"),
        ({"fields": "unknown"}, "field 'z' of the cloud has the unknown type 9"),
        ({"fields": "many"}, "field 'z' of the cloud has 3 values a point"),
    ],
)
def test_a_cloud_that_does_not_describe_its_bytes_is_named(bags, ros, changes, text):
    m = bags.messages(ros)
    bad = m.cloud(points())
    if changes.get("fields") == "unknown":
        bad.fields[2].datatype = 9
    elif changes.get("fields") == "many":
        bad.fields[2].count = 3
    else:
        bad = m.cloud(points(), **changes)
    stored = [("/points", m.cloud(points()), bags.start), ("/points", bad, bags.start + 1)]
    reader = open_recording(bags.write(ros, stored))
    readings = reader.readings()
    next(readings)
    with pytest.raises(RecordingError, match=text) as caught:
        next(readings)
    assert str(caught.value).startswith(f"{reader.path}: message 2 ")
    assert reader.info().notes["messages of points"].startswith("1 cannot be read; the first: ")


def test_a_bad_first_cloud_is_told_where_it_is_read(bags, ros):
    m = bags.messages(ros)
    stored = [
        ("/points", m.cloud(points(), data=np.zeros(3, np.uint8)), bags.start),
        ("/points", m.cloud(points()), bags.start),
    ]
    reader = open_recording(bags.write(ros, stored))
    assert list(reader.info().sensors) == ["points"]
    with pytest.raises(RecordingError, match="message 1 "):
        next(reader.readings())


FIELD = st.builds(
    dict,
    name=st.sampled_from(["x", "y", "z", "intensity", "t", "time", "timestamp", "ring", "", "ü"]),
    offset=st.one_of(st.integers(0, 40), st.integers(0, (1 << 32) - 1)),
    datatype=st.one_of(st.integers(1, 8), st.integers(0, 255)),
    count=st.one_of(st.just(1), st.integers(0, (1 << 32) - 1)),
)
SIZE = st.one_of(st.integers(0, 40), st.integers(0, (1 << 32) - 1))


@settings(max_examples=300, deadline=None)
@given(
    fields=st.lists(FIELD, max_size=7),
    complete=st.booleans(),
    data=st.binary(max_size=600),
    step=SIZE,
    row=SIZE,
    height=SIZE,
    width=SIZE,
    big=st.booleans(),
)
def test_any_header_over_any_bytes_gives_a_sweep_or_an_input_error(
    both, fields, complete, data, step, row, height, width, big
):
    if complete:  # a header that fits its bytes, so that the values are arbitrary rather than the sizes
        plain = [{"name": name, "offset": 4 * i, "datatype": 7, "count": 1} for i, name in enumerate("xyz")]
        fields, step = plain + [field for field in fields if field["name"] not in set("xyz")], max(12, step % 64)
        height, width = 1, len(data) // step
        data = data[: width * step]
    made = [both[1].new("sensor_msgs/msg/PointField", **field) for field in fields]
    message = both[1].cloud(
        points(),
        fields=made,
        point_step=step,
        row_step=row,
        height=height,
        width=width,
        is_bigendian=big,
        data=np.frombuffer(data, np.uint8),
    )
    try:
        rule = cloud_rule(message)
        cloud, dropped = read_cloud(message, rule, 1_700_000_000_000_000_000)
    except InputError:
        return
    assert len(cloud.points) + dropped == height * width
    assert np.isfinite(cloud.points).all()
    assert ((cloud.points[:, 3] >= 0) & (cloud.points[:, 3] <= 1)).all()
    assert cloud.offsets_s is None or (len(cloud.offsets_s) == len(cloud.points) and (abs(cloud.offsets_s) <= 10).all())


@settings(max_examples=300, deadline=None)
@given(data=st.data(), ros=st.sampled_from([1, 2]), kind=st.sampled_from([CLOUD, IMAGE]))
def test_any_bytes_of_a_message_are_a_message_or_an_input_error(both, data, ros, kind):
    m = both[ros]
    message = m.cloud(points()) if kind == CLOUD else m.image(np.zeros((4, 4), np.uint8), "mono8")
    store = m.store
    whole = bytearray(store.serialize_ros1(message, kind) if ros == 1 else store.serialize_cdr(message, kind))
    for _ in range(data.draw(st.integers(0, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))]) if data.draw(st.booleans()) else bytes(whole)
    channel = RosChannel("/t", kind, "ros1" if ros == 1 else "cdr")
    raw = RawMessage(1, 0, 1, 5, memoryview(cut))
    with suppress(InputError):
        stamp_ns(channel, raw.data)
        found = decoded(channel, raw.data)
        if kind == CLOUD:
            read_cloud(found, cloud_rule(found), 5)
        else:
            read_raw(found)
