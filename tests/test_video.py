from __future__ import annotations

import errno
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from twoview.errors import StorageError, VideoError
from twoview.video import Audio, VideoWriter, audio, frames, probe, timeline

RENDERED = Path(__file__).parents[1] / ".." / "shared" / "data" / "rendered"


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


def test_frames_come_back_in_order_at_their_times(tmp_path):
    path = write(tmp_path / "a.mp4")
    shown = list(frames(path))
    assert [number(frame.rgb) for frame in shown] == list(range(20))
    assert [frame.time for frame in shown] == pytest.approx(np.arange(20) / 25)
    info = probe(path)
    assert (info.size, info.rate, info.rotation, info.has_audio) == ((64, 48), 25, 0, False)
    assert info.duration_s == pytest.approx(0.8, abs=0.05)


def test_variable_rate_keeps_every_time(tmp_path):
    times = np.cumsum(np.random.default_rng(1).uniform(0.02, 0.08, 20))
    path = write(tmp_path / "a.mp4", times=times)
    assert [frame.time for frame in frames(path)] == pytest.approx(times, abs=2e-5)
    assert timeline(path).seconds == pytest.approx(times, abs=2e-5)


def test_a_rational_rate_is_not_rounded(tmp_path):
    path = write(tmp_path / "a.mp4", rate=Fraction(30000, 1001))
    assert timeline(path).seconds == pytest.approx(np.arange(20) * 1001 / 30000, abs=2e-5)
    assert float(probe(path).rate) == pytest.approx(29.97003, abs=1e-4)


@pytest.mark.parametrize(
    ("turn", "corner"), [(0, "top left"), (90, "bottom left"), (180, "bottom right"), (270, "top right")]
)
def test_the_picture_is_turned_upright(tmp_path, turn, corner):
    info = probe(write(tmp_path / "a.mp4", count=3, rotation=turn))
    rgb = next(frames(tmp_path / "a.mp4")).rgb
    assert info.size == rgb.shape[1::-1] == ((48, 64) if turn % 180 else (64, 48))
    high, wide = rgb.shape[0] // 8, rgb.shape[1] // 8
    rows = high if "top" in corner else rgb.shape[0] - high
    columns = wide if "left" in corner else rgb.shape[1] - wide
    assert rgb[rows, columns, 0] > 200, corner


def test_scaling_keeps_the_orientation(tmp_path):
    write(tmp_path / "a.mp4", count=3, rotation=90)
    assert next(frames(tmp_path / "a.mp4", size=(24, 32))).rgb.shape == (32, 24, 3)


def test_a_part_is_what_lies_between(tmp_path):
    path = write(tmp_path / "a.mp4")
    assert [number(f.rgb) for f in frames(path, start=0.2, end=0.4)] == [5, 6, 7, 8, 9, 10]
    assert list(frames(path, start=5.0)) == []


@pytest.mark.parametrize("start", [0.0, 0.25])
def test_sound_is_on_the_clock_of_the_frames(tmp_path, start):
    write(tmp_path / "a.mp4", audio=click(0.4, start=start))
    sound = audio(tmp_path / "a.mp4", rate=16000)
    assert sound.rate == 16000
    heard = sound.start_s + float(np.argmax(np.abs(sound.samples[:, 0]) > 0.3)) / 16000
    assert heard == pytest.approx(0.4 + start, abs=0.003)


def test_stereo_stays_stereo(tmp_path):
    both = np.zeros((48000, 2), np.float32)
    both[20000:20100, 1] = 0.9
    write(tmp_path / "a.mp4", audio=Audio(both, 48000, 0.0))
    samples = audio(tmp_path / "a.mp4").samples
    assert samples.shape[1] == 2
    assert np.abs(samples[:, 1]).max() > 0.4 > 0.1 > np.abs(samples[:, 0]).max()


def test_ten_bit_hevc_can_be_read(tmp_path):
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("libx265", rate=30, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        for index in range(5):
            rgb = np.full((64, 64, 3), 40 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p10le")))
        container.mux(stream.encode(None))
    values = [float(np.median(frame.rgb)) for frame in frames(tmp_path / "a.mov")]
    assert values == pytest.approx([0, 40, 80, 120, 160], abs=6)


def test_a_cut_file_gives_what_it_has_and_says_so(tmp_path, caplog):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        random = np.random.default_rng(0)
        for _ in range(100):
            noise = random.integers(0, 255, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    shown = list(frames(path))
    assert 20 < len(shown) < 80
    assert "cut off" in caplog.text


def test_broken_pieces_in_the_middle_are_left_out(tmp_path, caplog):
    path = write(tmp_path / "a.mp4", count=60)
    content = bytearray(path.read_bytes())
    where = content.find(b"mdat") + 1200
    content[where : where + 60] = bytes(60)
    path.write_bytes(bytes(content))
    assert len(list(frames(path))) >= 1


@pytest.mark.parametrize(
    ("content", "says"), [(None, "no such file"), (b"", "cannot be read"), (b"a text file\n" * 50, "cannot be read")]
)
def test_what_is_no_video_is_refused(tmp_path, content, says):
    path = tmp_path / "x.mp4"
    if content is not None:
        path.write_bytes(content)
    for read in (probe, timeline, audio, lambda p: list(frames(p))):
        with pytest.raises(VideoError, match=says) as error:
            read(path)
        assert error.value.hint


def test_a_sound_file_has_no_video_and_a_silent_video_no_sound(tmp_path):
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        block.sample_rate = 16000
        container.mux(stream.encode(block))
    with pytest.raises(VideoError, match="no video track"):
        probe(tmp_path / "a.wav")
    with pytest.raises(VideoError, match="no sound"):
        audio(write(tmp_path / "b.mp4", count=3))


def test_an_error_while_writing_leaves_nothing(tmp_path):
    def interrupted() -> None:
        with VideoWriter(tmp_path / "a.mp4", (64, 48), 25) as writer:
            writer.write(picture(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise av.error.OSError(errno.ENOSPC, "No space left on device")

    real = av.open

    def opened(*arguments, **options):
        container = real(*arguments, **options)
        return container if "w" not in arguments else _Full(container)

    class _Full:
        def __init__(self, container):
            self._container, self.mux = container, full

        def __getattr__(self, name):
            return getattr(self._container, name)

    monkeypatch.setattr(av, "open", opened)
    with pytest.raises(StorageError, match="No space left"):
        write(tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


SCENES = [("golf/take1", "ab"), ("karate_dojo", "abc"), ("hop_field", "ab"), ("walk_court", "ab")]


@pytest.mark.skipif(not RENDERED.exists(), reason="the rendered scenes are not here")
@pytest.mark.parametrize(("scene", "view"), [(scene, view) for scene, views in SCENES for view in views])
def test_rendered_scenes_have_their_true_times(scene, view):
    folder = RENDERED / scene
    with np.load(folder / "truth.npz") as arrays:
        truth = arrays[f"{view}_t"]
    row = json.loads((folder / "truth.json").read_text())["views"][view]
    path = folder / row["file"]
    assert list(probe(path).size) == row["size"]
    assert timeline(path).seconds == pytest.approx(truth, abs=1e-9)
    shown = [frame.time for frame in frames(path, end=0.3)]
    assert shown == pytest.approx(truth[: len(shown)], abs=1e-9)
