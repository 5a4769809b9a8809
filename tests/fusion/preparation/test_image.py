import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.preparation import InputBuffer, decode_image, letterbox, read_header, to_input
from fusion.types import Box2D

RNG = np.random.default_rng(5)
PICTURE = cv2.resize(RNG.integers(0, 255, (12, 20, 3), np.uint8), (200, 120), interpolation=cv2.INTER_CUBIC)
SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "bmp": ".bmp"}


def encode(encoding: str, *options: int, pixels=PICTURE) -> bytes:
    done, data = cv2.imencode(SUFFIXES[encoding], cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), list(options))
    assert done
    return data.tobytes()


VARIANTS = {
    "jpeg": encode("jpeg"),
    "progressive": encode("jpeg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": encode("jpeg", cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "png": encode("png"),
    "webp": encode("webp", cv2.IMWRITE_WEBP_QUALITY, 90),
    "lossless webp": encode("webp", cv2.IMWRITE_WEBP_QUALITY, 101),
    "bmp": encode("bmp"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_encoding_decodes_to_rgb_and_keeps_its_bytes(name):
    data = VARIANTS[name]
    image = decode_image(data)
    assert image.pixels.shape == PICTURE.shape
    assert np.abs(image.pixels.astype(int) - PICTURE).mean() < 8
    assert image.encoded == data
    assert image.encoding in SUFFIXES
    header = read_header(data)
    assert (header.width, header.height, header.encoding) == (200, 120, image.encoding)


def test_grey_and_alpha_become_rgb():
    grey = cv2.imencode(".png", PICTURE[:, :, 0])[1].tobytes()
    assert np.array_equal(decode_image(grey).pixels, np.repeat(PICTURE[:, :, :1], 3, axis=2))
    alpha = cv2.imencode(".png", np.dstack([PICTURE, PICTURE[:, :, 0]]))[1].tobytes()
    assert decode_image(alpha).pixels.shape == PICTURE.shape


def test_orientation_tags_do_not_turn_the_pixels():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = VARIANTS["jpeg"]
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert np.array_equal(decode_image(turned).pixels, decode_image(data).pixels)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_picture_cut_anywhere_is_refused(name):
    data = VARIANTS[name]
    cuts = [0, 1, 2, 10, 30, *range(len(data) // 10, len(data) - 40, max(1, len(data) // 40)), len(data) - 3]
    for cut in cuts:
        with pytest.raises(InputError) as caught:
            decode_image(data[:cut])
        assert "\n" not in str(caught.value)


def test_half_a_jpeg_with_a_thumbnail_is_still_half_a_jpeg():
    thumbnail = encode("jpeg", pixels=PICTURE[:40, :40])
    data = VARIANTS["jpeg"]
    tagged = data[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + data[2:]
    assert decode_image(tagged).pixels.shape == PICTURE.shape
    with pytest.raises(InputError, match="cut short"):
        decode_image(tagged[:-600])


def test_padding_after_the_end_is_allowed():
    assert np.array_equal(decode_image(VARIANTS["jpeg"] + bytes(64)).pixels, decode_image(VARIANTS["jpeg"]).pixels)


def forge_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 4 :]


def test_bombs_are_refused_from_the_header():
    started = time.perf_counter()
    with pytest.raises(InputError, match="30000x30000 pixels; at most"):
        decode_image(forge_jpeg_size(VARIANTS["jpeg"], 30_000, 30_000))
    with pytest.raises(InputError, match="cannot hold the 6000x6000"):
        decode_image(forge_jpeg_size(encode("jpeg", pixels=PICTURE[:16, :16]), 6000, 6000))
    png = bytearray(VARIANTS["png"])
    png[16:24] = (20_000).to_bytes(4, "big") * 2
    with pytest.raises(InputError, match="20000x20000"):
        decode_image(bytes(png))
    with pytest.raises(InputError, match="at most 100 are"):
        decode_image(VARIANTS["jpeg"], max_pixels=100)
    assert time.perf_counter() - started < 0.5


@given(st.sampled_from(sorted(VARIANTS)), st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_pictures_never_crash(name, data):
    content = bytearray(VARIANTS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 400)))] = data.draw(st.integers(0, 255))
    try:
        image = decode_image(bytes(content), max_pixels=1_000_000)
    except InputError:
        return
    assert image.pixels.ndim == 3


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF\0\0\0\0WEBPVP8X"])
)
@settings(deadline=None)
def test_noise_is_refused(noise, magic):
    with pytest.raises(InputError):
        decode_image(magic + noise, max_pixels=100_000)


def test_a_picture_of_the_right_size_is_not_touched():
    pixels, placement = letterbox(PICTURE, 200, 120)
    assert pixels is PICTURE
    assert (placement.scale, placement.dx, placement.dy) == (1.0, 0.0, 0.0)


def test_wide_and_tall_pictures_are_centred_on_grey():
    wide, placement = letterbox(PICTURE, 200, 200)
    assert (placement.scale, placement.dx, placement.dy) == (1.0, 0.0, 40.0)
    assert np.array_equal(wide[40:160], PICTURE)
    assert (wide[:40] == 114).all()
    assert (wide[160:] == 114).all()
    tall, placement = letterbox(np.ascontiguousarray(PICTURE.transpose(1, 0, 2)), 100, 100)
    assert (placement.scale, placement.dx, placement.dy) == (0.5, 20.0, 0.0)
    assert (tall[:, :20] == 114).all()
    assert (tall[:, 80:] == 114).all()


def test_a_shrunken_line_does_not_vanish():
    page = np.zeros((1000, 1000, 3), np.uint8)
    page[:, 501] = 255
    assert letterbox(page, 100, 100)[0].max() > 20


size = st.integers(1, 900)
corner = st.floats(-100, 1000, allow_nan=False)


@given(size, size, size, size, st.tuples(corner, corner, corner, corner))
@settings(max_examples=60, deadline=None)
def test_boxes_go_there_and_back(width, height, input_width, input_height, corners):
    pixels, placement = letterbox(np.zeros((height, width, 3), np.uint8), input_width, input_height)
    assert pixels.shape == (input_height, input_width, 3)
    box = Box2D(*corners)
    back = placement.to_frame(placement.from_frame(box))
    assert np.allclose([back.x1, back.y1, back.x2, back.y2], corners, atol=1e-6)
    whole = placement.from_frame(Box2D(0, 0, width, height))
    assert min(whole.x1, whole.y1) >= 0
    assert whole.x2 <= input_width + 1
    assert whole.y2 <= input_height + 1


def test_a_mark_lands_where_the_placement_says():
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[100:140, 200:260] = 255
    pixels, placement = letterbox(frame, 320, 320)
    box = placement.from_frame(Box2D(200, 100, 260, 140))
    rows, columns = np.nonzero(pixels[:, :, 0] > 200)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (box.x1, box.y1, box.x2, box.y2)


def test_planes_are_rgb_between_0_and_1():
    planes = to_input(PICTURE)
    assert planes.shape == (1, 3, 120, 200)
    assert planes.dtype == np.float32
    np.testing.assert_allclose(planes[0], PICTURE.transpose(2, 0, 1) / 255.0, atol=1e-6)


def test_what_is_no_picture_is_refused():
    with pytest.raises(InputError, match="uint8 is needed"):
        letterbox(np.zeros((4, 4), np.uint8), 8, 8)
    with pytest.raises(InputError, match="uint8 is needed"):
        letterbox(np.zeros((4, 4, 3), np.float32), 8, 8)


@given(
    shapes=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=4),
    width=st.integers(1, 64), height=st.integers(1, 64), seed=st.integers(0, 9),
)  # fmt: skip
def test_a_kept_buffer_is_bit_for_bit_letterbox_and_input(shapes, width, height, seed):
    draw, buffer = np.random.default_rng(seed), InputBuffer(width, height)
    for shape in shapes:
        picture = draw.integers(0, 256, (*shape, 3), np.uint8)
        pixels, placement = letterbox(picture, width, height)
        planes, found = buffer.fill(picture)
        assert found == placement
        assert np.array_equal(planes, to_input(pixels))
        assert planes.flags.c_contiguous


def test_a_kept_buffer_refuses_what_letterbox_refuses():
    with pytest.raises(InputError, match="uint8 is needed"):
        InputBuffer(8, 8).fill(np.zeros((4, 4, 3), np.float32))
