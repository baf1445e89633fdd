from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from twoview.errors import FormatError, SessionError
from twoview.storage import records
from twoview.storage.session import TakeStatus, ViewFile, open_session


def view(path, name: str = "5-a") -> ViewFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"video")
    return ViewFile(path, (640, 480), "30000/1001", name)


def test_takes_are_remembered_and_paths_travel_with_the_folder(tmp_path):
    folder = tmp_path / "one" / "session"
    session = open_session(folder, create=True)
    session = session.add_take("take1", {"a": view(tmp_path / "one" / "a.mp4"), "b": view(tmp_path / "one" / "b.mp4")})
    session.add_take("take2", {"a": view(tmp_path / "one" / "a2.mp4")})
    shutil.move(tmp_path / "one", tmp_path / "two")
    moved = open_session(tmp_path / "two" / "session")
    assert list(moved.takes) == ["take1", "take2"]
    assert moved.views == ("a", "b")
    assert moved.take("take1")["b"].path.exists()
    assert moved.take("take1")["b"].rate == "30000/1001"


def test_status_tells_what_is_missing(tmp_path):
    session = open_session(tmp_path / "s", create=True).add_take("take1", {"a": view(tmp_path / "a.mp4")})
    (tmp_path / "a.mp4").unlink()
    assert session.status("take1") == TakeStatus(("a",), missing=("a",), synchronized=False, detected=())


def test_unknown_names_are_answered_with_the_known(tmp_path):
    session = open_session(tmp_path / "s", create=True).add_take("take1", {"a": view(tmp_path / "a.mp4")})
    with pytest.raises(SessionError, match=r"no take 'x'.*take1"):
        session.take("x")
    with pytest.raises(SessionError, match=r"no view 'c'.*it has a") as error:
        session.check_views(["a", "c"])
    assert "--views a,c" in error.value.hint
    with pytest.raises(SessionError, match="no session") as error:
        open_session(tmp_path / "elsewhere")
    assert "twoview sync" in error.value.hint


def test_a_session_of_a_newer_version_is_refused(tmp_path):
    (tmp_path / "session.json").write_text(json.dumps({"format": "session", "version": 7, "made_by": "twoview 3.0"}))
    with pytest.raises(FormatError, match=r"twoview 3\.0"):
        open_session(tmp_path)


def old_session(folder: Path, takes: dict[str, dict[str, str]]) -> Path:
    """A session as older versions wrote it: one file with take -> view -> path of the video."""
    rows = {
        take: {v: {"path": path, "size": [640, 480], "rate": "30/1", "fingerprint": "5-x"} for v, path in views.items()}
        for take, views in takes.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format": "session", "version": 1, "made_by": "twoview 0.1", "inputs": {}, "settings": {}, "takes": rows}
    (folder / "session.json").write_text(json.dumps(content))
    return folder


def test_a_session_of_an_older_version_is_read_and_split_when_it_is_written(tmp_path):
    folder = old_session(tmp_path / "s", {"take2": {"a": "../a.mp4", "b": "../b.mp4"}, "it's": {"a": "../c.mp4"}})
    known = open_session(folder)
    assert list(known.takes) == ["it's", "take2"]
    assert known.take("take2")["b"].path == (tmp_path / "b.mp4").resolve()
    assert [path.name for path in folder.iterdir()] == ["session.json"]  # reading changes nothing
    known.add_take("take3", {"a": view(tmp_path / "d.mp4")})
    assert not (folder / "session.json").exists()
    again = open_session(folder)
    assert list(again.takes) == ["it's", "take2", "take3"]
    assert again.take("take2") == known.take("take2")


def test_a_take_of_its_own_file_stands_for_that_of_the_old_file(tmp_path):
    folder = old_session(tmp_path / "s", {"take1": {"a": "../a.mp4"}})
    records.write_json(folder / "takes" / "take1" / "take.json", {**records.header("take"), "views": {}})
    assert open_session(folder).take("take1") == {}


def test_sessions_opened_before_each_other_s_takes_lose_none(tmp_path):
    first, second = (open_session(tmp_path / "s", create=True) for _ in range(2))
    first.add_take("t1", {"a": view(tmp_path / "a.mp4")})
    second.add_take("t2", {"a": view(tmp_path / "b.mp4")})
    first.add_take("t1", {"b": view(tmp_path / "c.mp4")})
    found = open_session(tmp_path / "s")
    assert {take: list(views) for take, views in found.takes.items()} == {"t1": ["a", "b"], "t2": ["a"]}


def test_takes_stand_in_natural_order(tmp_path):
    session = open_session(tmp_path / "s", create=True)
    for name in ("take10", "take9", "warm up", "take1"):
        session.add_take(name, {"a": view(tmp_path / "a.mp4")})
    assert list(open_session(tmp_path / "s").takes) == ["take1", "take9", "take10", "warm up"]


def test_a_video_is_found_on_another_drive_after_a_move_and_beside_the_session(tmp_path, monkeypatch):
    video = view(tmp_path / "one" / "a.mp4")

    def raises(*_):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    with monkeypatch.context() as patch:
        patch.setattr(os.path, "relpath", raises)
        open_session(tmp_path / "one" / "s", create=True).add_take("t", {"a": video})
    path = lambda folder: open_session(folder).take("t")["a"].path  # noqa: E731
    assert path(tmp_path / "one" / "s") == video.path
    shutil.move(tmp_path / "one" / "s", tmp_path / "two" / "s")
    assert path(tmp_path / "two" / "s") == video.path  # where it was
    shutil.move(video.path, tmp_path / "two" / "a.mp4")
    assert path(tmp_path / "two" / "s") == tmp_path / "two" / "a.mp4"  # beside the session
    open_session(tmp_path / "two" / "s").add_take("u", {"a": view(tmp_path / "two" / "u.mp4")})
    shutil.move(tmp_path / "two", tmp_path / "three")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "u.mp4").write_bytes(b"another video")  # where it was lies another one now
    assert open_session(tmp_path / "three" / "s").take("u")["a"].path == tmp_path / "three" / "u.mp4"


@pytest.mark.parametrize("name", ["", "..", "a/b", "/abs", "a\x1b[2J", "a\nb"])
def test_names_stay_inside_in_python_too(tmp_path, name):
    session = open_session(tmp_path / "s", create=True)
    with pytest.raises(SessionError, match="take name"):
        session.add_take(name, {"a": view(tmp_path / "a.mp4")})
    with pytest.raises(SessionError, match="view name"):
        session.add_take("t", {name: view(tmp_path / "a.mp4")})
    with pytest.raises(SessionError, match="run name"):
        session.run_folder(name)
    assert not (tmp_path / "s").exists()


def test_names_in_a_received_session_stay_inside(tmp_path):
    with pytest.raises(FormatError, match="no name"):
        open_session(old_session(tmp_path / "s", {"../../x": {"a": "a.mp4"}}))
    folder = tmp_path / "t"
    rows = {"../../x": {"path": "a.mp4", "size": [1, 1], "rate": "30", "fingerprint": "1-a"}}
    records.write_json(folder / "takes" / "take1" / "take.json", {**records.header("take"), "views": rows})
    with pytest.raises(FormatError, match="no name"):
        open_session(folder).take("take1")


@pytest.mark.parametrize(
    "row", [[], {}, None, {"a": 3}, {"a": {"size": [1]}}, {"a": {"size": [1, 2], "rate": 3, "fingerprint": "1-a"}},
            {"a": {"size": [1, 2], "rate": "3", "fingerprint": "1-a"}},
            {"a": {"path": 3, "size": [1, 2], "rate": "3", "fingerprint": "1-a"}}]
)  # fmt: skip
def test_a_damaged_take_is_one_take_s_error(tmp_path, row):
    session = open_session(tmp_path / "s", create=True).add_take("good", {"a": view(tmp_path / "a.mp4")})
    records.write_json(session.take_path("bad"), {**records.header("take"), "views": row})
    found = open_session(tmp_path / "s")
    assert found.views == ("a",)
    if row != {}:
        with pytest.raises(FormatError, match="bad"):
            found.take("bad")


def test_ten_thousand_takes_open_fast(tmp_path):
    take = json.dumps({**records.header("take"), "views": {"a": {"path": "a.mp4", "absolute": "/x/a.mp4",
                       "size": [640, 480], "rate": "30/1", "fingerprint": "1-a"}}})  # fmt: skip
    for number in range(10_000):
        folder = tmp_path / "takes" / f"take{number}"
        folder.mkdir(parents=True)
        (folder / "take.json").write_text(take)
    began = time.process_time()
    session = open_session(tmp_path)
    assert session.take("take9999")["a"].rate == "30/1"
    assert time.process_time() - began < 1.0
    began = time.process_time()
    assert session.views == ("a",)
    print(f"all read in {time.process_time() - began:.2f} s")
