"""Makes small videos: frame n is a grey of its own, and the sound is a tone."""

from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")

WIDTH, HEIGHT = 64, 48


def grey(number):
    return (number * 6) % 240


def _mux_sound(container, stream, seconds, gap):
    rate = stream.rate
    tone = (8_000 * np.sin(2 * np.pi * 500 * np.arange(round(rate * seconds)) / rate)).astype(np.int16)
    for start in range(0, len(tone), 1024):
        frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="s16", layout="mono")
        late = round(gap[1] * rate) if gap and start >= gap[0] * rate else 0
        frame.sample_rate, frame.pts, frame.time_base = rate, start + late, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


@pytest.fixture
def make_video(tmp_path):
    """A function that writes a video into the test's folder and returns its path."""

    def make(name, codec="libx264", *, stamps=range(40), sound=None, rate=44_100, seconds=1.6, gap=None, turn=None):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            options = {"bf": "2", "g": "12"} if codec in {"libx264", "mpeg4"} else {"g": "12"}
            video = container.add_stream(codec, rate=25, options=options)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            video.time_base = video.codec_context.time_base = Fraction(1, 25)
            if turn:
                video.set_display_rotation(turn)
            audio = container.add_stream(sound, rate=rate, layout="mono") if sound else None
            for number, stamp in enumerate(stamps):
                pixels = np.full((HEIGHT, WIDTH, 3), grey(number), np.uint8)
                pixels[:12, :16] = (250, 0, 0)  # the top left corner is red
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = stamp, Fraction(1, 25)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            if audio:
                _mux_sound(container, audio, seconds, gap)
        return path

    return make
