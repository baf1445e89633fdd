from __future__ import annotations

import json
import shutil

import pytest

from twoview.errors import FormatError, SessionError
from twoview.storage.session import TakeStatus, ViewFile, open_session


def view(path, name: str = "1-a") -> ViewFile:
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
