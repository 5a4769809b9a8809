"""Sound files as recordings: exact samples, conversion, damage, resuming."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.recording.convert import convert
from fusion.task import Task
from fusion.types import Modality

SHARED = Path(__file__).parents[4] / "../shared/data"
NOISE = np.random.default_rng(1).integers(-20_000, 20_000, 16_500).astype(np.int16)


def real(place):
    if not (SHARED / place).exists():
        pytest.skip(f"{SHARED / place} is not here")
    return SHARED / place


def write(path, samples, rate=16_000, subtype="PCM_16"):
    soundfile.write(path, samples, rate, subtype)
    return path


def sound(path, start=0, **how):
    return [r for _, r in open_recording(path, **how).readings(start)]


def pcm(path, **how):
    return np.concatenate([r.payload.pcm for r in sound(path, **how)] or [np.zeros(0, np.int16)])


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_16_bit_mono_sound_at_16_khz_stays_as_it_is(tmp_path, suffix):
    path = write(tmp_path / f"a.{suffix}", NOISE)
    readings = sound(path)
    assert np.array_equal(np.concatenate([r.payload.pcm for r in readings]), NOISE)
    assert [len(r.payload.pcm) for r in readings] == [1600] * 10 + [500]
    assert [r.capture_time_ns for r in readings] == [100_000_000 * i for i in range(11)]
    assert {(r.sensor, r.modality, r.payload.sample_rate_hz, r.payload.pcm.dtype.name) for r in readings} == {
        ("microphone", Modality.SPEECH, 16_000, "int16")
    }
    info = open_recording(path).info()
    assert (info.format, info.damage, info.continuous, info.sensors["microphone"].count) == ("audio", "", True, 11)
    assert "times" not in info.notes
    assert open_recording(path).sizes() == {"microphone": path.stat().st_size}
    assert list(open_recording(path).truth()) == []


def test_the_sensor_is_the_tasks_only_microphone(tmp_path):
    path = write(tmp_path / "a.wav", NOISE)
    assert sound(path, task=Task.load("yard"))[0].sensor == "mic"
    with pytest.raises(RecordingError, match=r"a.wav: no sensor of task pcb \(line\); it has microphone"):
        open_recording(path, Task.load("pcb"))
    with pytest.raises(RecordingError, match="a sound file has no splits; leave out 'test'"):
        open_recording(path, None, "test")


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE", "PCM_24", "PCM_32"])
def test_wider_samples_are_rounded_to_16_bits(tmp_path, subtype):
    wide = NOISE / 32768 + 0.4 / 32768
    found = pcm(write(tmp_path / "a.wav", wide, subtype=subtype))
    assert np.array_equal(found, NOISE)


def test_loud_samples_are_clipped_and_channels_averaged(tmp_path):
    assert pcm(write(tmp_path / "a.wav", np.array([1.5, -1.5, 0.5]), subtype="FLOAT")).tolist() == [
        32767,
        -32768,
        16384,
    ]
    stereo = np.stack([NOISE, np.zeros_like(NOISE)], axis=1)
    assert np.abs(pcm(write(tmp_path / "b.wav", stereo)) - NOISE / 2).max() <= 0.5
    assert "2 channels averaged" in open_recording(tmp_path / "b.wav").info().notes["sound of microphone"]


@pytest.mark.parametrize(
    ("suffix", "subtype", "rate"),
    [
        *((suffix, "PCM_16", rate) for suffix in ("wav", "flac") for rate in (8_000, 16_000, 44_100)),
        *(("ogg", "VORBIS", rate) for rate in (8_000, 16_000, 44_100)),
        *(("ogg", "OPUS", rate) for rate in (8_000, 16_000, 48_000)),
        *(("wav", subtype, 8_000) for subtype in ("IMA_ADPCM", "MS_ADPCM", "GSM610", "ULAW", "FLOAT")),
    ],
)
def test_reading_goes_on_at_a_cursor(tmp_path, suffix, subtype, rate):
    path = write(tmp_path / f"a.{suffix}", np.tile(NOISE, 3), rate, subtype)
    whole = list(open_recording(path).readings())
    assert [cursor for cursor, _ in whole] == list(range(1, len(whole) + 1))
    for start in (1, 3, 5, 11, len(whole) - 1, len(whole), len(whole) + 9):
        rest = list(open_recording(path).readings(start))
        assert [c for c, _ in rest] == [c for c, _ in whole[start:]]
        for (_, told), (_, expected) in zip(rest, whole[start:], strict=True):
            assert told.capture_time_ns == expected.capture_time_ns
            assert np.array_equal(told.payload.pcm, expected.payload.pcm)


def test_a_wav_that_ends_early_is_an_error_and_salvaged_up_to_there(tmp_path):
    path = write(tmp_path / "a.wav", NOISE)
    path.write_bytes(path.read_bytes()[:10_001])
    with pytest.raises(RecordingError, match=r"a.wav: it ends 23043 bytes before the end that its header promises"):
        open_recording(path)
    reader = open_recording(path, salvage=True)
    assert np.array_equal(pcm(path, salvage=True), NOISE[: (10_001 - 44) // 2])
    assert "ends 23043 bytes before" in reader.info().damage


def test_a_flac_that_ends_early_or_is_altered_is_an_error_and_salvaged_up_to_there(tmp_path):
    path = write(tmp_path / "a.flac", np.tile(NOISE, 4))
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], whole[:70_000] + bytes(64) + whole[70_064:]):
        path.write_bytes(data)
        with pytest.raises(RecordingError, match=r"a.flac: .*salvaging reads the sound before that"):
            sound(path)
        with pytest.raises(RecordingError, match=r"a.flac: "):
            open_recording(path).info()
        found = pcm(path, salvage=True)
        assert 16_000 < len(found) < 66_000
        assert np.array_equal(found, np.tile(NOISE, 4)[: len(found)])
        info = open_recording(path, salvage=True).info()
        assert info.damage
        assert info.sensors["microphone"].count == -(-len(found) // 1600)


def test_an_ogg_with_a_bad_page_is_an_error_that_names_the_byte(tmp_path):
    path = write(tmp_path / "a.ogg", np.tile(NOISE, 4), subtype="VORBIS")
    whole, data = pcm(path), path.read_bytes()
    page = data.rindex(b"OggS", 0, len(data) // 2)
    for bad in (data[: page + 300], data[:page], data[: page + 200] + b"x" + data[page + 201 :]):
        path.write_bytes(bad)
        with pytest.raises(RecordingError, match=f"a.ogg: byte {page}: a page of the stream is damaged or missing"):
            open_recording(path)
        found = pcm(path, salvage=True)
        assert 0 < len(found) < len(whole)
        assert np.array_equal(found[:-2000], whole[: len(found) - 2000])
        assert f"byte {page}" in open_recording(path, salvage=True).info().damage


def test_a_sample_that_is_no_number_is_named(tmp_path):
    samples = NOISE / 32768
    samples[5000] = np.nan
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    with pytest.raises(RecordingError, match="sample 5000 is not a finite number"):
        sound(path)
    assert np.array_equal(pcm(path, salvage=True), NOISE[:5000])


def test_an_open_ended_wav_is_read_to_its_end(tmp_path):
    path = write(tmp_path / "a.wav", NOISE)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert np.array_equal(pcm(path), NOISE)


def test_rates_that_are_not_read_and_no_sound_at_all(tmp_path):
    with pytest.raises(RecordingError, match=r"a.wav: sound at 500 Hz; 1000 to 768000 Hz are read"):
        open_recording(write(tmp_path / "a.wav", NOISE, 500))
    (tmp_path / "b.flac").write_bytes(b"not a sound")
    with pytest.raises(RecordingError, match=r"b.flac: no sound that can be read"):
        open_recording(tmp_path / "b.flac")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("salvage", [False, True])
def test_a_file_without_sound_is_an_error(tmp_path, suffix, salvage):
    path = write(tmp_path / f"c.{suffix}", NOISE[:0], subtype="VORBIS" if suffix == "ogg" else "PCM_16")
    with pytest.raises(RecordingError, match=rf"c.{suffix}: no sound"):
        open_recording(path, salvage=salvage)


def with_length(path, length, *, at=40, order="little", size=4):
    data = bytearray(path.read_bytes())
    data[at : at + size] = length.to_bytes(size, order)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("told", [0, 2, 3_333, 20_000])
@pytest.mark.parametrize("riff", [0, None, "closed"])
def test_a_wav_that_was_never_closed_is_an_error_and_salvaged_whole(tmp_path, told, riff):
    path = with_length(write(tmp_path / "a.wav", NOISE), told)
    if riff is not None:
        with_length(path, 36 + told if riff else 0, at=4)
    with pytest.raises(
        RecordingError,
        match=rf"a.wav: its writer did not close it: the header tells of {told} bytes .*, 33000 are there",
    ):
        open_recording(path)
    reader = open_recording(path, salvage=True)
    assert np.array_equal(pcm(path, salvage=True), NOISE)
    assert f"tells of {told} bytes" in reader.info().damage
    assert (reader.info().sensors["microphone"].count, [c for c, _ in reader.readings(9)]) == (11, [10, 11])


def test_an_unclosed_wav_of_large_or_big_endian_kind(tmp_path):
    soundfile.write(tmp_path / "a.wav", NOISE, 16_000, "PCM_16", format="RF64")
    data = (tmp_path / "a.wav").read_bytes()
    with_length(tmp_path / "a.wav", 0, at=data.index(b"ds64") + 16, size=8)
    soundfile.write(tmp_path / "b.wav", NOISE, 16_000, "PCM_16", endian="BIG")
    with_length(tmp_path / "b.wav", 0, order="big", at=(tmp_path / "b.wav").read_bytes().index(b"data") + 4)
    for name in "ab":
        with pytest.raises(RecordingError, match="did not close it: the header tells of 0 bytes of sound, 33000"):
            open_recording(tmp_path / f"{name}.wav")
        assert np.array_equal(pcm(tmp_path / f"{name}.wav", salvage=True), NOISE)


@pytest.mark.parametrize("samples", [NOISE, NOISE[:1001].astype(np.uint8)])
@pytest.mark.parametrize("tail", [b"LIST\x04\0\0\0INFO", b"TAG" + bytes(125), b"\0\0"])
@pytest.mark.parametrize("padded", [False, True])
def test_what_may_follow_the_sound_of_a_closed_wav(tmp_path, samples, tail, padded):
    odd = samples.dtype == np.uint8
    raw = samples.tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000 // (1 + odd), 2 - odd, 8 if odd else 16)
    chunks = form + struct.pack("<4sI", b"data", len(raw)) + raw + bytes(odd and padded) + tail
    (tmp_path / "a.wav").write_bytes(struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WAVE") + chunks)
    assert len(pcm(tmp_path / "a.wav")) == len(samples)


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", NOISE)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(RecordingError, match=r"needs soundfile, which is missing; install fusion-stack\[formats\]"):
        open_recording(path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["wav", "flac", "ogg"]), st.data(), st.booleans())
def test_any_bytes_give_sound_or_a_recording_error(tmp_path, suffix, data, salvage):
    path = write(tmp_path / f"a.{suffix}", NOISE[:4000], subtype="VORBIS" if suffix == "ogg" else "PCM_16")
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut] + data.draw(st.binary(max_size=40)) + whole[cut + data.draw(st.integers(0, 60)) :])
    problem = "a."
    try:
        assert all(0 < len(r.payload.pcm) <= 1600 for r in sound(path, salvage=salvage))
        open_recording(path, salvage=salvage).info()
    except RecordingError as error:
        problem = str(error)
    assert "a." in problem


@pytest.mark.parametrize("place", ["librispeech/i_tell_you.wav", "librispeech/2412-153948-0000.flac"])
def test_real_speech_is_what_soundfile_reads(place, tmp_path):
    path = real(place)
    expected, _ = soundfile.read(path, dtype="int16")
    assert np.array_equal(pcm(path), expected)
    convert(path, tmp_path / "a.mcap")
    assert np.array_equal(pcm(tmp_path / "a.mcap"), expected)


@pytest.mark.parametrize(("folder", "rate"), [("vctk_noisy", 48_000), ("spoken_digits", 8_000)])
def test_real_sound_of_other_rates_keeps_its_length_and_loudness(folder, rate):
    for path in sorted(real(folder).glob("*.wav"))[:6]:
        given_, stored = soundfile.read(path)
        found = pcm(path) / 32768
        assert stored == rate
        assert len(found) == -(-len(given_) * 16_000 // rate)
        spectrum = np.abs(np.fft.rfft(given_)) ** 2
        kept = spectrum[: int(len(spectrum) * min(1.0, 16_000 / rate))].sum() / len(given_) / (len(given_) / 2)
        assert np.mean(found**2) == pytest.approx(kept, rel=0.05)


def test_real_commands_are_what_soundfile_reads():
    for path in sorted(real("speech_commands").glob("*/*.flac"))[::60]:
        assert np.array_equal(pcm(path), soundfile.read(path, dtype="int16")[0])
