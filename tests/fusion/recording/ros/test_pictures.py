"""Image messages: every encoding, padding and byte order; what is no picture is listed, what is broken is named."""

import cv2
import numpy as np
import pytest

from fusion.errors import RecordingError
from fusion.recording import open_recording

RNG = np.random.default_rng(5)
PICTURE = np.repeat(np.repeat(RNG.integers(0, 256, (4, 6, 3), np.uint8), 4, axis=0), 4, axis=1)
GREY = PICTURE[..., 1]
ALPHA = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 9, np.uint8)])
BGRA = ALPHA[..., [2, 1, 0, 3]]


def read(bags, ros, *messages, topic="/cam/image"):
    stored = [(topic, message, bags.start + i) for i, message in enumerate(messages)]
    return open_recording(bags.write(ros, stored))


def pixels(bags, ros, *messages):
    return next(iter(read(bags, ros, *messages).readings()))[1].payload.pixels


@pytest.mark.parametrize(
    ("encoding", "stored", "expected"),
    [
        ("rgb8", PICTURE, PICTURE),
        ("bgr8", PICTURE[..., ::-1], PICTURE),
        ("8UC3", PICTURE[..., ::-1], PICTURE),
        ("rgba8", ALPHA, PICTURE),
        ("bgra8", BGRA, PICTURE),
        ("8UC4", BGRA, PICTURE),
        ("mono8", GREY, np.dstack([GREY] * 3)),
        ("8UC1", GREY, np.dstack([GREY] * 3)),
        ("mono16", GREY.astype("<u2") * 257, np.dstack([GREY] * 3)),
        ("rgb16", PICTURE.astype("<u2") * 256 + 77, PICTURE),
        ("bgra16", BGRA.astype("<u2") * 256, PICTURE),
    ],
)
def test_encodings_become_rgb(bags, ros, encoding, stored, expected):
    m = bags.messages(ros)
    found = pixels(bags, ros, m.image(np.ascontiguousarray(stored), encoding))
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.array_equal(found, expected)


def test_big_endian_values(bags, ros):
    m = bags.messages(ros)
    big = m.image((GREY.astype(np.uint16) * 256 + 1).astype(">u2"), "mono16", big=True)
    assert np.array_equal(pixels(bags, ros, big)[..., 0], GREY)


def test_padded_rows(bags, ros):
    m = bags.messages(ros)
    height, width = GREY.shape
    padded = np.full((height, 3 * width + 5), 99, np.uint8)
    padded[:, : 3 * width] = PICTURE.reshape(height, -1)
    message = m.image(padded, "rgb8", width=width, step=3 * width + 5)
    assert np.array_equal(pixels(bags, ros, message), PICTURE)


@pytest.mark.parametrize(("pattern", "sites"), [("rggb", "RGGB"), ("bggr", "BGGR"), ("gbrg", "GBRG"), ("grbg", "GRBG")])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_patterns_are_named_by_their_first_two_rows(bags, ros, pattern, sites, bits):
    flat = np.full((16, 24, 3), (200, 120, 40), np.uint8)
    mosaic = np.zeros((16, 24), np.uint8)
    for i, site in enumerate(sites):
        mosaic[i // 2 :: 2, i % 2 :: 2] = flat[i // 2 :: 2, i % 2 :: 2, "RGB".index(site)]
    stored = mosaic if bits == 8 else mosaic.astype("<u2") << 8
    found = pixels(bags, ros, bags.messages(ros).image(stored, f"bayer_{pattern}{bits}"))
    assert np.abs(found.astype(int) - flat).max() <= 1


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_yuv_pairs(bags, ros, encoding):
    flat = np.full((8, 8, 3), (60, 160, 90), np.uint8)
    y, u, v = cv2.cvtColor(flat, cv2.COLOR_RGB2YUV)[0, 0].astype(float)
    y = 16 + y * 219 / 255
    u, v = (128 + (part - 128) * 224 / 255 * scale for part, scale in ((u, 0.564 / 0.492), (v, 0.713 / 0.877)))
    pair = (u, y, v, y) if encoding in {"yuv422", "uyvy"} else (y, u, y, v)
    stored = np.tile(np.round(pair).astype(np.uint8), (8, 4)).reshape(8, 8, 2)
    found = pixels(bags, ros, bags.messages(ros).image(stored, encoding))
    assert np.abs(found.astype(int) - flat).max() <= 4


def test_compressed_pictures_keep_their_bytes(bags, ros):
    m = bags.messages(ros)
    message = m.jpeg(PICTURE, form="rgb8; jpeg compressed bgr8")
    reading = next(iter(read(bags, ros, message, topic="/cam/image/compressed").readings()))[1]
    assert reading.sensor == "cam-image-compressed"
    assert reading.payload.encoded == message.data.tobytes()
    assert reading.payload.encoding == "jpeg"
    assert reading.payload.pixels.shape == PICTURE.shape


def test_depth_and_streams_are_listed_not_read(bags, ros):
    m = bags.messages(ros)
    depth = m.image(np.ones((4, 4), np.uint16), "16UC1")
    odd = m.image(np.ones((4, 4), np.uint8), "jpeg2000")
    h264 = m.jpeg(PICTURE, data=b"\0\0\0\1" + bytes(100), form="h264")
    png = cv2.imencode(".png", np.full((4, 4), 900, np.uint16))[1].tobytes()
    packed = m.jpeg(PICTURE, data=png, form="16UC1; png compressed ")
    good = m.image(PICTURE, "rgb8")
    named = {"c": packed, "d": depth, "o": odd, "h": h264, "g": good}
    stored = [(f"/{name}", message, bags.start) for name, message in named.items()]
    info = open_recording(bags.write(ros, stored)).info()
    assert list(info.sensors) == ["g"]
    assert info.unread == (
        "/c (sensor_msgs/msg/CompressedImage, depth, format '16UC1; png compressed ')",
        "/d (sensor_msgs/msg/Image, depth, encoding '16UC1')",
        "/h (sensor_msgs/msg/CompressedImage, format 'h264')",
        "/o (sensor_msgs/msg/Image, encoding 'jpeg2000')",
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data": np.zeros(100, np.uint8)}, "only 100 bytes; 16 rows of 72 need 1152"),
        ({"data": np.zeros(2000, np.uint8)}, "2000 bytes; 16 rows of 72 need 1152"),
        ({"step": 71}, "does not fit into the step of 71"),
        ({"width": 0}, "0x16 pixels"),
        ({"height": 1 << 30, "width": 1 << 30}, "1 to 40000000 are read"),
        ({"encoding": "16UC1"}, "encoding '16UC1', which is not read"),
    ],
)
def test_a_bad_picture_is_one_line_that_says_where(bags, ros, changes, text):
    m = bags.messages(ros)
    bad = m.image(PICTURE, **({"encoding": "rgb8"} | changes))
    reader = read(bags, ros, m.image(PICTURE, "rgb8"), bad, m.image(PICTURE, "rgb8"))
    readings = reader.readings()
    next(readings)
    with pytest.raises(RecordingError, match=text) as caught:
        next(readings)
    assert str(caught.value).startswith(f"{reader.path}: message 2 ")
    assert "/cam/image: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [c for c, _ in reader.readings(2)] == [3], "reading may go on behind it"


def test_a_cut_jpeg_is_refused_and_info_says_so(bags, ros):
    m = bags.messages(ros)
    whole = m.jpeg(PICTURE)
    cut = m.jpeg(PICTURE, data=whole.data[:-30].tobytes())
    reader = read(bags, ros, whole, cut)
    with pytest.raises(RecordingError, match=r"message 2 .*/cam/image: .*cut short"):
        list(reader.readings())
    assert reader.info().sensors["cam-image"].count == 2


def test_a_stamp_of_zero_and_one_that_is_no_time(bags, ros):
    m = bags.messages(ros)
    undated, bad = m.image(PICTURE, "rgb8", 0), m.image(PICTURE, "rgb8")
    bad.header.stamp.nanosec = 2_000_000_000
    reader = read(bags, ros, m.image(PICTURE, "rgb8", bags.start + 50), undated, bad)
    info = reader.info()
    assert info.notes["times of cam-image"].startswith("of 1 of 2 messages, when the bag stored them")
    assert "1 cannot be read; the first:" in info.notes["messages of cam-image"]
    readings = reader.readings()
    assert [next(readings)[1].capture_time_ns for _ in range(2)] == [bags.start + 50, bags.start + 1]
    with pytest.raises(RecordingError, match="its stamp is 1700000000 s and 2000000000 ns"):
        next(readings)
