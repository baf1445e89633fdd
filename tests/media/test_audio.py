"""Offsets hold on the clock of the frames, however a phone lays sound and pictures into its file."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from places import ASSETS, SHARED

from twoview.errors import SyncError
from twoview.media.audio import Audio
from twoview.media.video import frames
from twoview.media.writer import VideoWriter
from twoview.synchronization.audio import read_sound, sync
from twoview.synchronization.audio_clocks import match_sounds

RATE = 48000
SHIPPED = sorted((ASSETS / "demo" / "golf").rglob("truth.json"))
SCENES = [*SHIPPED, *sorted((SHARED / "data" / "rendered").rglob("truth.json"))]


@pytest.fixture(scope="module")
def world() -> np.ndarray:
    """Twelve seconds of bursts of noise at random moments, over a quiet background."""
    chance = np.random.default_rng(5)
    sound = 0.003 * chance.standard_normal(12 * RATE)
    for start in chance.uniform(0, 11.9, 24):
        at = round(start * RATE)
        sound[at : at + 2400] += (
            chance.standard_normal(2400) * np.exp(-np.arange(2400) / 400) * chance.uniform(0.1, 0.4)
        )
    return sound.astype(np.float32)


def film(
    path: Path, world: np.ndarray, began: float, *, seconds: float = 8.0, fps: int = 30, late: float = 0.0,
    times=None, codec: str = "aac", rate: int = RATE, flags: str = "", picture_late: int = 0, **options,
) -> Path:  # fmt: skip
    """A file straight from the encoders: frames at `times`, and sound whose first sample is `late` s after frame 0.

    A frame at time t shows, and a sample at time t is, what happened in the world at `began + t`.
    """
    times = np.arange(round(seconds * fps)) / fps if times is None else times
    first = round((began + late) * RATE)
    heard = world[first : first + round((seconds - late) * RATE)]
    heard = np.interp(np.arange(len(heard) * rate // RATE) * RATE / rate, np.arange(len(heard)), heard).astype(
        np.float32
    )
    clock = Fraction(1, 90000)
    laid = {"movflags": flags} if flags else {}
    if path.suffix in (".mp4", ".mov"):
        laid["movie_timescale"] = "720000"  # an empty edit would be rounded to whole ms
    with av.open(str(path), "w", options=laid) as out:
        video = out.add_stream("libx264", rate=fps, options={"preset": "ultrafast", **options})
        video.width, video.height, video.pix_fmt, video.time_base = 32, 32, "yuv420p", clock
        video.codec_context.time_base = clock
        audio = out.add_stream(codec, rate=rate, layout="mono")
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = round((time + picture_late) * 90000), clock
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        size = audio.codec_context.frame_size or 1024
        for at in range(0, len(heard), size):
            block = av.AudioFrame.from_ndarray(heard[None, at : at + size], format="fltp", layout="mono")
            block.sample_rate, block.time_base = rate, Fraction(1, rate)
            block.pts = round((late + picture_late) * rate) + at
            out.mux(audio.encode(block))
        out.mux(audio.encode(None))
    return path


def offset(a: Path, b: Path) -> float:
    """Seconds of a at second 3 of b, less 3."""
    return float(sync(a, b).to_session(b.stem, 3.0)) - 3.0


@pytest.fixture(scope="module")
def reference(world, tmp_path_factory) -> Path:
    return film(tmp_path_factory.mktemp("films") / "a.mp4", world, 0.5)


FILMS = {
    "as usual": {},
    "sound starts late": {"late": 0.25},
    "sound starts very late": {"late": 1.5},
    "44.1 kHz": {"rate": 44100},
    "25 frames per second": {"fps": 25},
    "60 frames per second": {"fps": 60},
    "120 frames per second": {"fps": 120},
    "frames out of order (edit list for the pictures)": {"preset": "medium", "bf": "2"},
    "both streams start at second 4": {"picture_late": 4},
}


@pytest.mark.parametrize("name", FILMS)
def test_however_a_file_is_laid_out_the_offset_is_that_of_its_frames(name, world, reference, tmp_path):
    other = film(tmp_path / "b.mp4", world, 2.2345, **FILMS[name])
    begins = next(frames(other)).time  # a file may begin at another time than 0
    at_first = float(sync(reference, other).to_session("b", begins))
    assert at_first == pytest.approx(2.2345 - 0.5, abs=0.2e-3)


def test_the_sound_of_the_first_file_may_start_late_too(world, tmp_path):
    first = film(tmp_path / "late.mp4", world, 0.5, late=0.25)
    assert offset(first, film(tmp_path / "b.mp4", world, 2.2345)) == pytest.approx(1.7345, abs=0.2e-3)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mov", "aac"), ("mov", "pcm_s16le"), ("mkv", "libopus"), ("mkv", "aac")]
)
def test_other_containers_and_codecs(suffix, codec, world, reference, tmp_path):
    other = film(tmp_path / f"b.{suffix}", world, 1.75, codec=codec)
    assert float(sync(reference, other).to_session("b", next(frames(other)).time)) == pytest.approx(1.25, abs=0.2e-3)


def test_without_an_edit_list_the_error_is_the_priming_that_the_file_does_not_name(world, reference, tmp_path):
    """Files in fragments name no priming, so 1,024 samples of AAC are taken for sound: a limit that is documented."""
    other = film(tmp_path / "b.mp4", world, 2.0, flags="frag_keyframe+empty_moov+default_base_moof")
    assert float(sync(reference, other).to_session("b", next(frames(other)).time)) - 1.5 == pytest.approx(
        -1024 / RATE, abs=0.2e-3
    )


def test_variable_frame_rate(world, reference, tmp_path):
    chance = np.random.default_rng(1)
    times = np.cumsum(chance.uniform(0.02, 0.06, 180))
    times -= times[0]
    other = film(tmp_path / "b.mp4", world, 1.9, times=times)
    assert [frame.time for frame in frames(other)] == pytest.approx(times.tolist(), abs=1e-3)
    assert offset(reference, other) == pytest.approx(1.4, abs=0.2e-3)


def test_slow_motion_with_its_sound_is_compared_in_real_time(world, reference, tmp_path):
    """Twice as slow: second 3 of the file shows what happened 1.5 s after its first frame."""
    slow = np.interp(np.arange(2 * len(world)) / 2, np.arange(len(world)), world).astype(np.float32)
    other = film(tmp_path / "b.mp4", slow, 2 * 2.2, seconds=12.0)
    clock = sync(reference, other, slowdown={"b": 2.0}).clocks["b"]
    assert clock.rate == pytest.approx(0.5, abs=1e-4)
    assert float(clock.to_session(3.0)) == pytest.approx(2.2 + 1.5 - 0.5, abs=0.5e-3)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_turned_files_made_by_our_own_writer(rotation, world, reference, tmp_path):
    sound = Audio(world[round(2.5 * RATE) : 10 * RATE, None], RATE, 0.1)
    with VideoWriter(tmp_path / "b.mp4", (64, 48), 30, audio=sound, rotation=rotation) as writer:
        for _ in range(240):
            writer.write(np.zeros((48, 64, 3), np.uint8))
    assert offset(reference, tmp_path / "b.mp4") == pytest.approx(2.4 - 0.5, abs=0.2e-3)


def test_sound_that_ends_before_the_pictures(world, reference, tmp_path):
    quiet_end = world.copy()
    quiet_end[round(6.2 * RATE) :] = 0
    other = film(tmp_path / "b.mp4", quiet_end, 2.2)
    assert offset(reference, other) == pytest.approx(1.7, abs=0.2e-3)


def test_no_sound_and_a_silent_sound_track_are_errors_that_say_what_else_to_do(world, reference, tmp_path):
    with VideoWriter(tmp_path / "none.mp4", (64, 48), 30) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(SyncError, match="no sound") as error:
        sync(reference, tmp_path / "none.mp4")
    assert "--at" in error.value.hint
    with pytest.raises(SyncError, match="silent"):
        sync(reference, film(tmp_path / "still.mp4", np.zeros_like(world), 1.0))


def test_the_views_without_sound_are_named_beside_those_that_have(world, reference, tmp_path):
    for name in ("c", "d"):
        with VideoWriter(tmp_path / f"{name}.mp4", (64, 48), 30) as writer:
            writer.write(np.zeros((48, 64, 3), np.uint8))
    second = film(tmp_path / "b.mp4", world, 1.0)
    with pytest.raises(SyncError, match=r"c.mp4 has no sound; .*d.mp4 has no sound; \w+ and b have sound") as error:
        sync(reference, second, tmp_path / "c.mp4", tmp_path / "d.mp4")
    assert f"or those with sound alone: `twoview sync {reference} {second}`" in error.value.hint


def test_files_that_share_nothing(world, reference, tmp_path):
    with pytest.raises(SyncError, match="no shared sound"):
        sync(reference, film(tmp_path / "b.mp4", np.roll(world[::-1], 7), 1.0))


@pytest.mark.parametrize("truth", SCENES, ids=lambda truth: "/".join(truth.parts[-3:-1]))
def test_rendered_scenes_are_right_within_a_millisecond_for_one_of_the_sources(truth):
    """Two sources stand at different places, the athlete and the coach: the offset is that of one of the two."""
    views = json.loads(truth.read_text())["views"]
    a = read_sound(truth.parent / views["a"]["file"], "a")
    for name in sorted(set(views) - {"a"}):
        b = read_sound(truth.parent / views[name]["file"], name)
        found = match_sounds(a, b)
        assert not found.refusal
        middle = found.middle_s
        drift = 1 + views[name]["drift_ppm"] * 1e-6
        heard = float(found.clock.to_session(middle))
        true = [value + drift * middle for key, value in views[name].items() if key.startswith("offset_to_a_acoustic")]
        assert min(abs(heard - t) for t in true) < 1e-3
