from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from videos import click, encode, heard, write

from twoview.errors import VideoError
from twoview.media.audio import read_audio
from twoview.media.video import frames, probe, timeline

HEVC = {"codec": "libx265", "x265-params": "log-level=none:keyint=10"}


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.mov"])
@pytest.mark.parametrize("first", [0, 45])
def test_every_container_gives_all_frames_at_the_times_of_its_timeline(tmp_path, name, first):
    path = encode(tmp_path / name, first=first, g="12")
    times = [frame.time for frame in frames(path)]
    assert len(times) == 60
    assert np.diff(times) == pytest.approx(1 / 30, abs=1.1e-3)
    assert timeline(path).seconds == pytest.approx(times, abs=1e-9)
    if name not in ("a.avi", "a.ts"):  # the one has no times, the other starts with its decoding delay
        assert times[0] == pytest.approx(first / 30, abs=1e-3)
    assert probe(path).warnings == ()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"g": "12"}), ("a.mov", HEVC), ("a.mkv", {"g": "12"}), ("a.ts", {"g": "12"}),
        ("a.avi", {"codec": "mpeg4", "g": "12"}),
    ],
)  # fmt: skip
def test_any_start_gives_what_comes_after_it(tmp_path, name, options):
    path = encode(tmp_path / name, first=45, **options)
    times = [frame.time for frame in frames(path)]
    for start in [*times[::7], times[0] - 1, times[20] + 0.01, times[19], times[36]]:
        found = [frame.time for frame in frames(path, start=start)]
        assert found == [time for time in times if time >= start - 1e-6]


def test_a_cut_mp4_gives_what_it_has_and_says_so(tmp_path, caplog):
    path = encode(tmp_path / "a.mp4", count=120, g="12")
    whole = [frame.time for frame in frames(path)]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    times = [frame.time for frame in frames(path)]
    assert 40 < len(times) < 80
    assert times == whole[: len(times)]
    assert f"last frame is at {times[-1]:.2f} s" in caplog.text
    assert "cut off before the 4.0 s it should last" in probe(path).warnings[0]


def test_a_recording_without_its_index_is_refused(tmp_path):
    path = write(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(VideoError, match="cannot be read") as error:
        list(frames(path))
    assert "cut off" in error.value.hint


def test_damaged_frames_in_the_middle_are_left_out_and_counted(tmp_path, caplog):
    path = encode(tmp_path / "a.mp4", g="12")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        entries = list(container.streams.video[0].index_entries)
        keys = [number for number, entry in enumerate(entries) if entry.is_keyframe]
    for number in (keys[1] + 2, keys[3]):
        entry = entries[number]
        noise = np.random.default_rng(number).integers(0, 255, entry.size - 5, np.uint8)
        content[entry.pos + 5 : entry.pos + entry.size] = noise.tobytes()
    path.write_bytes(bytes(content))
    shown = list(frames(path))
    assert 30 < len(shown) < 59  # a lost key frame takes those with it that build on it
    assert f"{60 - len(shown)} damaged frames were left out" in caplog.text
    assert "cut off" not in caplog.text


def test_an_edit_list_moves_pictures_and_sound_together(tmp_path):
    plain = write(tmp_path / "a.mp4", count=50, audio=click(1.5, seconds=2.0))
    late = tmp_path / "b.mp4"
    with av.open(str(plain)) as source, av.open(str(late), "w", options={"movie_timescale": "90000"}) as out:
        copies = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                shift = int(Fraction(1, 2) / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    assert timeline(late).seconds == pytest.approx(timeline(plain).seconds + 0.5, abs=1e-4)
    assert heard(late) == pytest.approx(heard(plain) + 0.5, abs=2e-3)


def test_tracks_of_unknown_kind_are_passed_over(tmp_path):
    plain, path = write(tmp_path / "a.mp4", audio=click(0.4)), tmp_path / "b.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        order = [source.streams.audio[0], source.streams.video[0], source.streams.audio[0]]
        copies = [out.add_stream_from_template(stream) for stream in order]
        for packet in source.demux():
            if packet.dts is None:
                continue
            for copy, stream in zip(copies, order, strict=True):
                if stream.index == packet.stream_index:
                    twin = av.Packet(bytes(packet))
                    twin.stream, twin.pts, twin.dts, twin.time_base = copy, packet.pts, packet.dts, packet.time_base
                    twin.is_keyframe = packet.is_keyframe
                    out.mux(twin)
    content = path.read_bytes()
    where = content.index(b"mp4a")
    path.write_bytes(content[:where] + b"apac" + content[where + 4 :])  # as newer iPhones name their first sound track
    assert len(list(frames(path))) == 20
    assert heard(path) == pytest.approx(heard(plain), abs=1e-3)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "no such file"), (b"", "cannot be read"), (b"a text file\n" * 50, "cannot be read")]
)
def test_what_is_no_video_is_refused(tmp_path, content, says):
    path = tmp_path / "x.mp4"
    if content is not None:
        path.write_bytes(content)
    for read in (probe, timeline, read_audio, lambda p: list(frames(p))):
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
        read_audio(write(tmp_path / "b.mp4", count=3))


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


def test_any_name_can_be_opened_and_a_folder_is_called_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("clip:1.mp4", "%03d ünï.mp4"):
        write(Path(name), count=2)
        assert len(list(frames(name))) == 2
    Path("folder.mp4").mkdir()
    with pytest.raises(VideoError, match="is a folder"):
        probe("folder.mp4")
