"""A session in company: several commands at once, odd folder names, clips of one name, and commands that fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from places import ROOT, TESTS
from scenes import small_scene
from terminal import Answer, type_command

from twoview.poses import Poses3D
from twoview.storage import records
from twoview.storage.session import open_session

MARKERS = ("--detector", "markers:Markers")
QUICK = ("--method", "paper", "--weights", "start.pt", "--epochs", "1", "--set", "clip_length=9")


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """Two takes of two views, and one whose second view is mute."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(2):
        small_scene(folder / str(number), seconds=2.5, seed=number)
    shutil.copytree(folder / "0", folder / "mute")
    write_mute(folder / "mute" / "b.mp4")
    return folder


def write_mute(path: Path) -> None:
    from twoview.media.writer import VideoWriter

    with VideoWriter(path, (128, 96), 25) as writer:
        for _ in range(50):
            writer.write(np.full((96, 128, 3), 90, np.uint8))


@pytest.fixture
def place(films, tmp_path, monkeypatch, start) -> Path:
    """A folder with the films whose name a terminal would take for markup, and a small lifter."""
    folder = tmp_path / "swing [" / "slow] [bold]"
    shutil.copytree(films, folder)
    shutil.copyfile(start, folder / "start.pt")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, TESTS))))  # of commands in processes of their own
    monkeypatch.delenv("TWOVIEW_SESSION", raising=False)
    return folder


def at_once(*commands: tuple[str, ...]) -> list[str]:
    """What commands print that are started together; each must succeed."""
    start = [sys.executable, "-m", "twoview"]
    running = [
        subprocess.Popen([*start, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for words in commands
    ]
    printed = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(running), printed
    return printed


def typed(*words: str) -> Answer:
    answer = type_command(*words)
    assert answer.code == 0, answer
    return answer


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_takes_synchronized_at_once_are_all_kept(place):
    takes = [("sync", f"{n}/a.mp4", f"{n}/b.mp4") for n in range(2)]
    at_once(takes[0], takes[1], takes[1])
    session = open_session()
    assert list(session.takes) == ["take1", "take2"]
    assert {session.take(take)["a"].path.parent.name for take in session.takes} == {"0", "1"}
    assert all(session.status(take).synchronized for take in session.takes)


def test_detecting_the_same_videos_at_once_detects_them_once(place):
    typed("sync", "0/a.mp4", "0/b.mp4")
    printed = at_once(*[("detect", *MARKERS)] * 2)
    waited = [text for text in printed if "waiting for process" in text]
    assert len(waited) == 1
    assert waited[0].count("up to date") == 2
    assert "take 'take1'" in waited[0]


def test_clips_of_one_name_in_folders_of_one_name_keep_their_results(place):
    clips = [f"day{day}/left/GX01.mp4" for day in range(2)]
    for day, clip in enumerate(clips):
        Path(clip).parent.mkdir(parents=True)
        shutil.copyfile(f"{day}/a.mp4", clip)
    infer = ("infer", "--model", "start.pt", *MARKERS, "--no-picture")
    at_once(*((*infer, clip) for clip in clips))
    results = [path for path in Path("session/results").glob("*.npz") if ".2d" not in path.name]
    assert len(results) == 2
    assert {records.read_header(path)["inputs"]["clip"] for path in results} == {
        records.fingerprint(clip) for clip in clips
    }
    for path in results:
        records.load_as(path, Poses3D)
    again = [typed(*infer, clip).out for clip in clips]
    assert all("up to date" in text for text in again)


def test_a_failed_sync_leaves_the_session_as_it_was(place):
    answer = type_command("sync", "mute/a.mp4", "mute/b.mp4")
    assert answer.code == 1
    assert not (place / "session").exists()
    typed("sync", "0/a.mp4", "0/b.mp4")
    before = tree(place / "session")
    for words in (
        ("mute/a.mp4", "mute/b.mp4"),
        ("mute/a.mp4", "gone.mp4", "--take", "take1", "--views", "c,d"),
        ("0/a.mp4", "0/b.mp4", "--take", "../out"),
        ("0/a.mp4", "0/b.mp4", "--take", "t", "--views", "a/b,c"),
        ("0/a.mp4", "0/b.mp4", "--take", "t", "--offset", "x"),
    ):
        assert type_command("sync", *words).code == 1, words
        assert tree(place / "session") == before
    assert type_command("finetune", "--views", "a,b", "--run", "../../x").code == 1
    assert type_command("infer", "nobody.mp4").code == 1
    assert tree(place / "session") == before


def test_every_command_works_in_folders_that_look_like_markup(place):
    views = "cam.left,cam.right"  # dots do not make them files
    for n in range(2):
        typed("sync", f"{n}/a.mp4", f"{n}/b.mp4", "--views", views, "--session", f"{place}/s [/x]")
    session = ("--session", "s [/x]")
    for words in (
        ("detect", *MARKERS), ("plan", *QUICK[:4]), ("finetune", "--views", views, *QUICK),
        ("triangulate", "--model", "start.pt"), ("infer", "1/a.mp4", *MARKERS, "--format", "csv"), ("show",),
        ("render", "--sync"), ("evaluate", "--take", "take1"), ("export", "[/b].pt"),
    ):  # fmt: skip
        typed(*words, *session)
    typed("show", "s [/x]/results/a.npz")
    typed("convert", "[/b].pt", "twoview", "[/c].pt")
    assert "[/c].pt" in typed("show", "--session", "s [/x]").out + typed("convert", "[/b].pt", "twoview", "[/c].pt").out
    answer = type_command("show", "no [/such].mp4")
    assert answer.code == 1
    assert "no [/such].mp4" in answer.err
