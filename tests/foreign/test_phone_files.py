"""Phones' files with the properties of public reports: read right with a word about it, or refused with the cause."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from phone_files import in_box
from videos import encode, picture

from twoview.errors import VideoError
from twoview.media.audio import read_audio, sound_tracks
from twoview.media.video import frames, probe, timeline
from twoview.synchronization.audio import read_sound

RATE, COUNT = 25, 50


def mux(
    path: Path, sounds: list[np.ndarray] = (), *, codec: str = "libx264", options: dict | None = None,
    file: object = None, format: str | None = None, count: int = COUNT,
) -> Path:  # fmt: skip
    """A video of `count` frames with these sound tracks (N,) at 48 kHz."""
    with av.open(file or str(path), "w", format=format, options=options or {}) as out:
        pictures = out.add_stream(codec, rate=RATE)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        tracks = [out.add_stream("aac" if codec == "libx264" else "libopus", rate=48000, layout="mono") for _ in sounds]
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            out.mux(pictures.encode(frame))
        for track, samples in zip(tracks, sounds, strict=True):
            for begin in range(0, len(samples) - 959, 960):
                frame = av.AudioFrame.from_ndarray(
                    samples[None, begin : begin + 960].astype(np.float32), "fltp", "mono"
                )
                frame.pts, frame.sample_rate, frame.time_base = begin, 48000, Fraction(1, 48000)
                out.mux(track.encode(frame))
            out.mux(track.encode(None))
        out.mux(pictures.encode(None))
    return path


NOISE = np.random.default_rng(0).normal(0, 0.1, 96_000)
SILENCE = np.zeros(96_000)


def with_short_promise(path: Path, factor: int) -> Path:
    """The video track's own length becomes that many times too short."""
    data = bytearray(path.read_bytes())
    for trak in in_box(data, [b"moov", b"trak"]):
        ((hdlr, _),) = in_box(data, [b"mdia", b"hdlr"], *trak)
        if data[hdlr + 8 : hdlr + 12] == b"vide":
            ((mdhd, _),) = in_box(data, [b"mdia", b"mdhd"], *trak)
            (length,) = struct.unpack(">I", data[mdhd + 16 : mdhd + 20])
            data[mdhd + 16 : mdhd + 20] = struct.pack(">I", length // factor)
    path.write_bytes(data)
    return path


def with_unknown_sound(path: Path, track: int) -> Path:
    """A sound track gets the code of Apple's spatial sound, which FFmpeg does not decode."""
    data = bytearray(path.read_bytes())
    sounds = []
    for trak in in_box(data, [b"moov", b"trak"]):
        ((hdlr, _),) = in_box(data, [b"mdia", b"hdlr"], *trak)
        sounds += [trak] if data[hdlr + 8 : hdlr + 12] == b"soun" else []
    ((stsd, _),) = in_box(data, [b"mdia", b"minf", b"stbl", b"stsd"], *sounds[track])
    data[stsd + 12 : stsd + 16] = b"apac"
    at = data.index(b"esds", stsd)
    data[at : at + 4] = b"dapa"
    path.write_bytes(data)
    return path


def test_a_silent_first_sound_track_is_passed_over(tmp_path):
    path = mux(tmp_path / "a.mp4", [SILENCE, NOISE])
    assert np.abs(read_audio(path).samples).max() > 0.05
    assert "of 2 sound tracks, 1 is silent, and 2 is used" in probe(path).warnings
    assert "of 2 sound tracks, 1 is silent, and 2 is used" in read_sound(path, "a").warnings
    first = read_sound(path, "a", track=0)
    assert first.warnings == ()
    with pytest.raises(Exception, match="2 sound tracks, and no track 3"):
        read_sound(path, "a", track=2)


def test_the_first_of_two_tracks_with_sound_is_used_without_a_word(tmp_path):
    path = mux(tmp_path / "a.mp4", [0.5 * NOISE, NOISE])
    assert sound_tracks(path).used == 0
    assert not any("track" in warning for warning in probe(path).warnings)
    both = mux(tmp_path / "b.mp4", [SILENCE, SILENCE])
    assert sound_tracks(both).used == 0


@pytest.mark.parametrize("unknown", [0, 1])
def test_apples_spatial_sound_beside_the_ordinary_track(unknown, tmp_path):
    path = with_unknown_sound(mux(tmp_path / "a.mov", [NOISE, NOISE]), unknown)
    assert np.abs(read_audio(path).samples).max() > 0.05
    assert probe(path).has_audio
    assert len(timeline(path)) == COUNT


def test_packets_count_where_the_promised_length_is_too_short(tmp_path):
    info = probe(with_short_promise(mux(tmp_path / "a.mp4", [NOISE]), 30))
    assert info.duration_s == pytest.approx(COUNT / RATE, abs=0.05)
    assert info.frames == COUNT
    assert any("the file says that it lasts 0.0" in warning and "2.0 s" in warning for warning in info.warnings)


def test_a_browsers_recording_without_length_or_index(tmp_path):
    made = io.BytesIO()
    made.seekable = lambda: False  # as through a pipe
    mux(tmp_path / "a.webm", [NOISE], codec="libvpx", file=made, format="webm", options={"live": "1"})
    (tmp_path / "a.webm").write_bytes(made.getvalue())
    info = probe(tmp_path / "a.webm")
    assert info.duration_s == pytest.approx(COUNT / RATE, abs=0.1)
    assert info.frames == COUNT
    assert any("does not say how long it lasts" in warning for warning in info.warnings)
    assert len(list(frames(tmp_path / "a.webm"))) == COUNT


@pytest.mark.parametrize("length", [1, 3])
def test_very_short_videos(length, tmp_path):
    info = probe(mux(tmp_path / "a.mp4", count=length))
    assert info.frames == length
    assert info.warnings == ()


@pytest.mark.parametrize(("name", "codec"), [("raw.h264", "libx264"), ("raw.265", "libx265"), ("raw.bin", "libx264")])
def test_bare_pictures_have_no_times(name, codec, tmp_path):
    encode(tmp_path / "a.mp4", 5)
    kind = "hevc" if codec == "libx265" else "h264"
    path = tmp_path / name
    with av.open(str(path), "w", format=kind) as out:
        stream = out.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(10):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        out.mux(stream.encode(None))
    for use in (probe, timeline, lambda path: list(frames(path))):
        with pytest.raises(VideoError, match=r"frames have no times\nhint: wrap it .* ffmpeg -framerate"):
            use(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_picture_is_no_video(name, tmp_path):
    cv2.imwrite(str(tmp_path / name), picture(3))
    with pytest.raises(VideoError, match="is a picture and no video"):
        probe(tmp_path / name)


def test_odd_sizes_keep_every_pixel(tmp_path):
    path = tmp_path / "odd.mov"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 61, 47, "yuvj420p"
        for index in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index, (61, 47)), format="rgb24")))
        out.mux(stream.encode(None))
    assert probe(path).size == (61, 47)
    assert next(frames(path)).rgb.shape == (47, 61, 3)


def test_pictures_that_cannot_be_decoded_at_the_end(tmp_path, caplog):
    path = encode(tmp_path / "a.mp4", 60)
    data = bytearray(path.read_bytes())
    ((begin, end),) = in_box(data, [b"mdat"])
    data[begin + int(0.7 * (end - begin)) : end] = bytes(end - begin - int(0.7 * (end - begin)))
    path.write_bytes(data)
    shown = list(frames(path))
    assert 20 < len(shown) < 60
    assert "damaged frames were left out" in caplog.text
