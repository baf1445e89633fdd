from __future__ import annotations

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from places import ASSETS, SHARED
from scenes import clap_track
from videos import number, picture, write

from twoview.media.audio import Audio, read_audio
from twoview.media.video import frames, probe, timeline

RENDERED = SHARED / "data" / "rendered"


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


@pytest.mark.parametrize("start", [0.0, 0.25, 0.1234567])
def test_sound_is_on_the_clock_of_the_frames_to_a_sample(tmp_path, start):
    laid = clap_track(1.5)
    write(tmp_path / "a.mp4", count=40, audio=Audio(laid.samples, laid.rate, start))
    found = read_audio(tmp_path / "a.mp4", rate=laid.rate)
    shift = found.start_s - start  # an encoder's priming, where it is kept, comes before the start
    begin = 10000 - round(shift * laid.rate)
    lags = range(-30, 31)
    piece = laid.samples[10000:60000, 0]
    match = [float(np.dot(piece, found.samples[begin + lag : begin + lag + len(piece), 0])) for lag in lags]
    assert abs(lags[int(np.argmax(match))]) <= 1


def test_stereo_stays_stereo(tmp_path):
    both = np.zeros((48000, 2), np.float32)
    both[20000:20100, 1] = 0.9
    write(tmp_path / "a.mp4", audio=Audio(both, 48000, 0.0))
    samples = read_audio(tmp_path / "a.mp4").samples
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


SHIPPED = [(ASSETS / "demo/golf" / take, view) for take in ("take1", "test1") for view in "ab"]
SCENES = [("golf/take1", "ab"), ("karate_dojo", "abc"), ("hop_field", "ab"), ("walk_court", "ab")]


BESIDE = [(RENDERED / scene, view) for scene, views in SCENES for view in views if RENDERED.exists()]


@pytest.mark.parametrize(("folder", "view"), [*SHIPPED, *BESIDE], ids=lambda value: getattr(value, "name", value))
def test_rendered_scenes_have_their_true_times(folder, view):
    with np.load(folder / "truth.npz") as arrays:
        truth = arrays[f"{view}_t"]
    row = json.loads((folder / "truth.json").read_text())["views"][view]
    path = folder / row["file"]
    assert list(probe(path).size) == row["size"]
    assert timeline(path).seconds == pytest.approx(truth, abs=1e-9)
    shown = [frame.time for frame in frames(path, end=0.3)]
    assert shown == pytest.approx(truth[: len(shown)], abs=1e-9)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.mov"])
def test_sound_that_starts_late_or_pauses_stays_in_its_place(tmp_path, name):
    rate, clicks = 48000, (0.75, 2.25)
    with av.open(str(tmp_path / name), "w") as out:
        picture = out.add_stream("libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream("aac" if name != "a.mkv" else "pcm_s16le", rate=rate, layout="mono")
        for index in range(75):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 128, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
        for begin in range(rate // 4, 3 * rate, 1024):
            if rate <= begin < 3 * rate // 2:
                continue  # half a second was never recorded
            times = (begin + np.arange(1024)) / rate
            wave = sum(0.7 * np.exp(-(((times - at) / 1e-3) ** 2)) for at in clicks)
            data = (wave * 32767).astype(np.int16)[None]
            block = av.AudioFrame.from_ndarray(data, format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = rate, begin, Fraction(1, rate)
            out.mux(sound.encode(block))
        out.mux(sound.encode(None))
    shift = timeline(tmp_path / name).seconds[0]  # what the container adds to both
    found = read_audio(tmp_path / name, rate=16000)
    loud = found.start_s + np.flatnonzero(np.abs(found.samples[:, 0]) > 0.6) / 16000 - shift
    for at in clicks:
        assert np.median(loud[np.abs(loud - at) < 0.1]) == pytest.approx(at, abs=1.5e-3)
    info = probe(tmp_path / name)
    assert info.has_audio
    assert info.audio_start_s == found.start_s
    assert info.audio_start_s - shift == pytest.approx(0.25, abs=0.05)


def test_a_mirrored_picture_is_shown_mirrored(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_matrix([-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30])
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    rgb = next(frames(path)).rgb
    assert rgb[6, -8, 0] > 200
    assert "mirrored" in probe(path).warnings[0]
