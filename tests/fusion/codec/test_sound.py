"""The `sound` lane: a WAV file that others read alike, and no bytes do anything but that or `EvidenceError`."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.codec.sound import ENCODING, MAX_SAMPLES, decode_sound, encode_sound
from fusion.errors import EvidenceError, InputError
from fusion.types import SoundClip
from fusion.wire.limits import MAX_SOUND_BYTES

EVERY_LEVEL = np.arange(-32768, 32768, dtype=np.int16)[::2]


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=300))
def test_sound_comes_back_within_its_coarseness(levels):
    pcm = np.array(levels, np.int16)
    back = decode_sound(encode_sound(pcm, 16_000, 5))
    assert back.shape == pcm.shape
    allowed = np.maximum(4, (np.abs(pcm.astype(int)) + 132) / 32)  # half a step: four bits of mantissa behind the bias
    assert (np.abs(back.astype(int) - np.clip(pcm.astype(int), -32635, 32635)) <= allowed).all()


def test_another_program_reads_the_same_samples():
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed: nobody to compare with")
    clip = encode_sound(EVERY_LEVEL, 16_000, 0)
    read, rate = soundfile.read(io.BytesIO(clip.encoded), dtype="int16")
    assert rate == 16_000
    np.testing.assert_array_equal(read, decode_sound(clip))
    assert soundfile.info(io.BytesIO(clip.encoded)).subtype == "ULAW"


def test_too_much_sound_keeps_the_last_and_says_when_it_begins():
    pcm = np.arange(MAX_SAMPLES + 16_000, dtype=np.int32).astype(np.int16)
    clip = encode_sound(pcm, 16_000, 7)
    assert clip.start_ns == 7 + 10**9
    assert len(clip.encoded) <= MAX_SOUND_BYTES
    assert clip.encoded == encode_sound(pcm[16_000:], 16_000, 0).encoded


@pytest.mark.parametrize(
    ("pcm", "rate"),
    [
        (np.zeros(0, np.int16), 16_000),
        (np.zeros(9, np.float32), 16_000),
        (np.zeros((9, 2), np.int16), 16_000),
        (np.zeros(9, np.int16), 7_999),
        (np.zeros(9, np.int16), 96_000),
    ],
)
def test_what_cannot_be_sent_is_refused(pcm, rate):
    with pytest.raises(InputError):
        encode_sound(pcm, rate, 0)


@given(st.binary(max_size=200), st.integers(0, 1 << 32))
def test_random_bytes_are_refused(data, rate):
    with pytest.raises(EvidenceError):
        decode_sound(SoundClip(ENCODING, data, rate, 0))


@given(st.integers(0, 57), st.integers(0, 255))
def test_a_changed_header_is_refused(place, byte):
    clip = encode_sound(EVERY_LEVEL[:100], 16_000, 0)
    changed = bytearray(clip.encoded)
    if changed[place] == byte:
        return
    changed[place] = byte
    with pytest.raises(EvidenceError):
        decode_sound(replace(clip, encoded=bytes(changed)))


@pytest.mark.parametrize(
    "changes", [{"encoding": "mp3"}, {"sample_rate_hz": 8_000}, {"encoded": bytes(MAX_SAMPLES + 59)}]
)
def test_a_wrong_description_is_refused(changes):
    with pytest.raises(EvidenceError):
        decode_sound(replace(encode_sound(EVERY_LEVEL[:100], 16_000, 0), **changes))
