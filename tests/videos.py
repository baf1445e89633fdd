"""Small video files with known content, for the tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from twoview.media.audio import Audio, read_audio
from twoview.media.writer import VideoWriter


def picture(number: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """A frame whose brightness tells its number, with a bright top left corner."""
    rgb = np.full((size[1], size[0], 3), 20 + 4 * (number % 50), np.uint8)
    rgb[: size[1] // 4, : size[0] // 4] = (250, 40, 40)
    return rgb


def number(rgb: np.ndarray) -> int:
    return round((float(np.median(rgb)) - 20) / 4)


def write(path: Path, count: int = 20, rate: float | Fraction = 25, times=None, **options) -> Path:
    with VideoWriter(path, (64, 48), rate, **options) as writer:
        for index in range(count):
            writer.write(picture(index), None if times is None else times[index])
    return path


def click(at: float, rate: int = 48000, seconds: float = 1.0, start: float = 0.0) -> Audio:
    samples = np.zeros((round(seconds * rate), 1), np.float32)
    samples[round(at * rate) : round(at * rate) + 48] = 0.8
    return Audio(samples, rate, start)


def encode(path: Path, count: int = 60, codec: str = "libx264", rate: int = 30, first: int = 0, **options) -> Path:
    """A file of any container straight from the encoder: key frames far apart, B-frames, blocks of noise."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w", options={"movflags": "+faststart"} if path.suffix in (".mp4", ".mov") else {}) as out:
        stream = out.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(count):
            noise = random.integers(0, 255, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
            frame.pts, frame.time_base = first + index, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def heard(path: Path, level: float = 0.3) -> float:
    sound = read_audio(path, rate=48000)
    return sound.start_s + float(np.argmax(np.abs(sound.samples[:, 0]) > level)) / 48000
