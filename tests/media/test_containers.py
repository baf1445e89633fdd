from __future__ import annotations

import struct
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


APPLE = "com.apple.quicktime.camera.focal_length.35mm_equivalent"


def tagged(path: Path, tags: dict[str, str]) -> Path:
    """A short video with these tags of the file."""
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"} if path.suffix != ".mkv" else {}) as film:
        film.metadata.update(tags)
        stream = film.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        film.mux(stream.encode())
    return path


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def tagged_track(path: Path, kind: int, value: bytes, *, key: str = APPLE, version: bytes = b"") -> Path:
    """A short video whose track has a tag, as an iPhone writes it."""
    whole = tagged(path, {}).read_bytes()
    hdlr = box(b"hdlr", bytes(8) + b"mdta" + bytes(13))
    keys = box(b"keys", struct.pack(">II", 0, 1) + box(b"mdta", key.encode()))
    data = box(b"data", struct.pack(">II", kind, 0) + value)
    extra = box(b"meta", version + hdlr + keys + box(b"ilst", box(struct.pack(">I", 1), data)))
    at = whole.index(b"moov") - 4
    track = whole.index(b"trak", at) - 4
    (moov,), (trak,) = (struct.unpack_from(">I", whole, place) for place in (at, track))
    new = bytearray(whole[: track + trak] + extra + whole[track + trak :])
    struct.pack_into(">I", new, at, moov + len(extra))
    struct.pack_into(">I", new, track, trak + len(extra))
    path.write_bytes(bytes(new))
    return path


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (1, b"26"), (1, b"26.00mm"), (21, b"\x1a"), (21, struct.pack(">i", 26)), (22, struct.pack(">I", 26)),
        (23, struct.pack(">f", 26)), (24, struct.pack(">d", 26)), (76, struct.pack(">H", 26)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", [b"", bytes(4)])
def test_the_focal_length_of_an_iphone_is_a_tag_of_the_track(tmp_path, kind, value, version):
    path = tagged_track(tmp_path / "IMG_1.MOV", kind, value, version=version)
    assert probe(path).focal_mm == pytest.approx(26)
    assert len(list(frames(path))) == 3


@pytest.mark.parametrize(
    ("name", "tags", "focal"),
    [
        ("a.mov", {APPLE: "52"}, 52), ("a.mkv", {"FocalLengthIn35mmFilm": "24 mm"}, 24), ("a.mp4", {}, 0),
        ("a.mov", {APPLE: "0"}, 0), ("a.mov", {APPLE: "5.1 mm (35 mm equivalent: 26 mm)"}, 0),
        ("a.mov", {"com.apple.quicktime.camera.lens_model": "iPhone 15 back camera 5.96mm f/1.6"}, 0),
        ("a.mkv", {"FocalLength": "4.2"}, 0),
    ],
)  # fmt: skip
def test_only_a_length_of_35_mm_terms_is_taken(tmp_path, name, tags, focal):
    assert probe(tagged(tmp_path / name, tags)).focal_mm == focal


@pytest.mark.parametrize("cut", range(8, 200, 7))
def test_damaged_tags_of_a_track_are_no_reason_to_refuse_a_video(tmp_path, cut):
    path = tagged_track(tmp_path / "a.mov", 1, b"26")
    whole = bytearray(path.read_bytes())
    at = whole.index(b"meta", whole.index(b"trak")) - 4
    whole[at + 8 + cut : at + 8 + cut + 3] = b"\xff\xff\xff"
    path.write_bytes(bytes(whole))
    assert probe(path).focal_mm in (0, 26)


def test_any_name_can_be_opened_and_a_folder_is_called_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("clip:1.mp4", "%03d ünï.mp4"):
        write(Path(name), count=2)
        assert len(list(frames(name))) == 2
    Path("folder.mp4").mkdir()
    with pytest.raises(VideoError, match="is a folder"):
        probe("folder.mp4")
