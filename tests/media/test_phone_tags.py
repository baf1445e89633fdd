"""What phones write beside pictures and sound: shown, used, or the reason to refuse a file."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from phone_files import APPLE_LENS, box, in_box, tagged, tagged_track, with_box
from videos import click, write

from twoview.errors import VideoError
from twoview.media.video import frames, probe, read_slowdown
from twoview.workflow.summary import describe

STILL = b"com.apple.quicktime.still-image-time"


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
        ("a.mov", {APPLE_LENS: "52"}, 52), ("a.mkv", {"FocalLengthIn35mmFilm": "24 mm"}, 24), ("a.mp4", {}, 0),
        ("a.mov", {APPLE_LENS: "0"}, 0), ("a.mov", {APPLE_LENS: "5.1 mm (35 mm equivalent: 26 mm)"}, 0),
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


@pytest.mark.parametrize(
    ("tags", "filmed"),
    [
        ({"com.apple.quicktime.creationdate": "2026-05-01T12:34:56+0200"}, "2026-05-01T12:34:56+02:00"),
        ({"creation_time": "2026-05-01T10:34:59.000000Z"}, "2026-05-01T10:34:59+00:00"),
        (
            {"creation_time": "2026-05-01T10:34:59Z", "com.apple.quicktime.creationdate": "2026-05-01T12:34:56+02:00"},
            "2026-05-01T12:34:56+02:00",
        ),
        ({"creation_time": "1970-01-01T00:00:00Z"}, ""),
        ({"com.apple.quicktime.creationdate": "yesterday"}, ""),
        ({}, ""),
    ],
)
def test_when_the_phone_says_that_it_filmed(tmp_path, tags, filmed):
    path = tagged(tmp_path / "a.mov", {**tags, "com.apple.quicktime.model": "iPhone 15"})
    assert probe(path).filmed == filmed
    shown = {row["what"]: row["value"] for row in describe(path)[0]["rows"]}
    assert shown["phone"] == "iPhone 15"
    assert shown.get("filmed", "")[:10] == filmed[:10]


def test_a_timecode_is_shown(tmp_path):
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["timecode"] = "10:11:12:05"
        for _ in range(3):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        film.mux(stream.encode())
    assert probe(path).timecode == "10:11:12:05"


# --- files that are no recording of a movement at its true speed -----------------------------------------------------


def with_still_time(path: Path) -> Path:
    """A Live Photo's .MOV has a track that says which moment the photo shows."""
    keys = box(b"keys", box(struct.pack(">I", 1), box(b"keyd", b"mdta" + STILL)))
    described = box(b"stsd", struct.pack(">II", 0, 1) + box(b"mebx", bytes(6) + struct.pack(">H", 1) + keys))
    track = box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", described))))
    return with_box(path, b"moov", track)


def test_a_live_photo_is_refused_with_what_to_do(tmp_path):
    path = with_still_time(write(tmp_path / "IMG_1.MOV", count=5))
    with pytest.raises(VideoError, match=r"moving part of a Live Photo(.|\n)*Save as Video"):
        probe(path)


@pytest.mark.parametrize(
    "tags",
    [
        {"com.apple.quicktime.content.identifier": "0A1B"},
        {"com.apple.quicktime.live-photo.auto": "1"},
        {"com.apple.quicktime.comment": STILL.decode()},
    ],
)
def test_other_tags_of_an_iphone_make_no_live_photo(tmp_path, tags):
    assert probe(tagged(tmp_path / "IMG_1.MOV", tags)).warnings == ()


@pytest.mark.parametrize("rate", ["0.5", "2", "15"])
def test_a_time_lapse_of_android_is_refused(tmp_path, rate):
    path = tagged(tmp_path / "a.mp4", {"com.android.capture.fps": rate})
    with pytest.raises(VideoError, match=rf"is a time-lapse, filmed at {rate} frames per second"):
        probe(path)


@pytest.mark.parametrize("rate", ["0", "-1", "24", "30", "31", "not known"])
def test_a_usual_capture_rate_is_no_time_lapse(tmp_path, rate):
    path = tagged(tmp_path / "a.mp4", {"com.android.capture.fps": rate})
    assert probe(path).warnings == ()
    assert read_slowdown(path) == 1.0


def test_a_time_lapse_has_no_sound_so_that_one_with_sound_is_only_doubtful(tmp_path):
    path = write(tmp_path / "a.mp4", audio=click(0.2))
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mp4"), "w", options=TAGS) as out:
        out.metadata["com.android.capture.fps"] = "5"
        copies = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    (said,) = probe(tmp_path / "b.mp4").warnings
    assert "filmed at 5 frames per second" in said
    assert "time-lapse" in said


TAGS = {"movflags": "use_metadata_tags"}


def test_a_time_lapse_of_an_iphone_is_refused(tmp_path):
    with pytest.raises(VideoError, match="is a time-lapse: it leaves out"):
        probe(tagged(tmp_path / "a.mov", {"com.apple.photos.captureMode": "Time-lapse"}))
    assert probe(tagged(tmp_path / "b.mov", {"com.apple.photos.captureMode": "Slo-mo"})).warnings == ()


def test_pictures_at_long_intervals_are_too_few(tmp_path):
    (said,) = probe(write(tmp_path / "a.mp4", count=5, rate=1)).warnings
    assert "1 frames per second are too few to see a movement" in said


def edited(path: Path, *parts: tuple[int, int, float]) -> Path:
    """The video track's edit list has these parts: length, begin and speed."""
    rows = b"".join(struct.pack(">Iii", length, begin, round(speed * 65536)) for length, begin, speed in parts)
    edits = box(b"edts", box(b"elst", struct.pack(">II", 0, len(parts)) + rows))
    whole = path.read_bytes()
    first, last = next(in_box(whole, [b"moov", b"trak", b"edts"]))
    path.write_bytes(whole[: first - 4] + b"free" + whole[first:last] + whole[last:])
    return with_box(path, b"trak", edits)


def test_parts_that_an_edit_list_slows_down_are_refused(tmp_path):
    path = edited(write(tmp_path / "a.mov"), (400, 0, 1), (1600, 36000, 0.125), (400, 54000, 1))
    with pytest.raises(VideoError, match=r"parts of it play at 0\.125 times(.|\n)*Export Unmodified Original"):
        probe(path)


def test_an_edit_list_that_only_cuts_is_none_that_slows_down(tmp_path):
    probe(edited(write(tmp_path / "a.mov"), (200, -1, 1), (400, 0, 1), (100, 36000, 0), (400, 54000, 1)))
