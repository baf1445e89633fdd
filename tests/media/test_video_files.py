"""Files that a person means by files, folders and patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from twoview.errors import VideoError
from twoview.media.video_files import video_files


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    for name in ("clip10.mp4", "clip2.MOV", "notes.txt", "._clip2.MOV", "deep/clip1.mp4", "none/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*given: str, **more) -> list[str]:
    return [str(path) for path in video_files(given, **more)]


def test_a_folder_stands_for_its_videos_in_the_order_that_people_count(folder):
    assert names(".") == ["clip2.MOV", "clip10.mp4"]
    assert names(str(folder)) == [str(folder / "clip2.MOV"), str(folder / "clip10.mp4")]
    assert names(".", leave_out=[folder / "clip10.mp4"]) == ["clip2.MOV"]


def test_a_pattern_is_looked_up_where_no_shell_did(folder):
    assert names("clip*") == ["clip2.MOV", "clip10.mp4"]
    assert names("clip?.MOV", "*/clip1.*") == ["clip2.MOV", "deep/clip1.mp4"]
    assert names("**/*.mp4") == ["clip10.mp4", "deep/clip1.mp4"]


def test_a_file_that_is_named_stays_and_counts_once(folder):
    assert names("notes.txt", "gone.mp4", "notes.txt", str(folder / "notes.txt")) == ["notes.txt", "gone.mp4"]
    (folder / "what[1].mp4").touch()
    assert names("what[1].mp4") == ["what[1].mp4"]


@pytest.mark.parametrize("nothing", ["none", "*.avi", "folder.mp4"])
def test_nothing_is_refused(folder, nothing):
    with pytest.raises(VideoError, match=nothing.replace("*", r"\*")):
        names("clip2.MOV", nothing)
