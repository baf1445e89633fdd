"""Takes and views are removed and renamed with everything that was made of them, and videos stay."""

from __future__ import annotations

import json

import pytest
from session_takes import put_take

import twoview
from twoview.errors import SessionError
from twoview.storage import records
from twoview.storage.session import ViewFile, open_session
from twoview.timeline import ClockMap, Sync
from twoview.workflow.stages import load_sync, load_takes, save_sync


@pytest.fixture
def session(tmp_path):
    """Takes one and two; three views in take two, of which b is the reference."""
    put_take(tmp_path / "s", "one")
    session = put_take(tmp_path / "s", "two", seed=1)
    path = tmp_path / "two c.mp4"
    path.write_bytes(b"c")
    session = session.add_take("two", {"c": ViewFile(path, (1280, 720), "30/1", records.fingerprint(path))})
    clocks = {"b": ClockMap(), "a": ClockMap(-0.4), "c": ClockMap(1.0)}
    save_sync(session, "two", Sync("b", clocks), settings={})
    session.sync_path("two").with_suffix(".png").write_bytes(b"picture")
    return session


def files(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_take_is_removed_and_its_videos_stay(session, tmp_path):
    left = twoview.remove(session, "one")
    assert list(left.takes) == ["two"]
    assert not any("one" in name for name in files(session.folder))
    assert (tmp_path / "one a.mp4").exists()
    with pytest.raises(SessionError, match="no take 'one'"):
        twoview.remove(left, "one")
    assert list(twoview.remove(left, "two").takes) == []
    assert files(session.folder) == set()


def test_a_view_is_removed_and_the_clocks_of_the_others_stay(session):
    before = records.read_header(session.take_path("two"))["views"]["b"]
    left = twoview.remove(session, "two", view="c")
    assert list(left.take("two")) == ["a", "b"]
    assert records.read_header(left.take_path("two"))["views"]["b"] == before
    assert load_sync(left, "two").clocks == {"b": ClockMap(), "a": ClockMap(-0.4)}
    assert not left.sync_path("two").with_suffix(".png").exists()
    assert [take.name for take in load_takes(left)] == ["one", "two"]


def test_without_its_reference_a_take_is_not_synchronized(session):
    left = twoview.remove(session, "two", view="b")
    assert not left.detection_path("two", "b").exists()
    assert left.detection_path("two", "a").exists()
    with pytest.raises(SessionError, match="not synchronized"):
        load_sync(left, "two")


def test_a_view_without_which_one_would_be_left_and_unknown_names_are_refused(session):
    before = files(session.folder)
    for words in (("one", "a"), ("one", "x"), ("x", None), ("x", "a"), ("../s", None)):
        with pytest.raises(SessionError):
            twoview.remove(session, words[0], view=words[1])
    for old, new in (("x", "y"), ("one", "two"), ("one", "../y"), ("one", "")):
        with pytest.raises(SessionError):
            twoview.rename(session, old, new)
    assert files(session.folder) == before


def test_a_take_is_renamed_with_what_was_made_of_it(session):
    left = twoview.rename(session, "two", "serve (wide)")
    assert list(left.takes) == ["one", "serve (wide)"]
    assert left.status("serve (wide)").detected == ("a", "b")
    assert load_sync(left, "serve (wide)").reference == "b"
    assert not any(name.startswith("takes/two") for name in files(session.folder))


def test_a_damaged_take_can_be_removed(session):
    session.take_path("one").write_text("{")
    assert list(twoview.remove(open_session(session.folder), "one").takes) == ["two"]


def test_a_take_of_a_session_of_an_older_version_is_removed_for_good(tmp_path):
    row = {"path": "../a.mp4", "size": [1, 1], "rate": "30", "fingerprint": "1-a"}
    content = {**records.header("session"), "takes": {"t1": {"a": row, "b": row}, "t2": {"a": row, "b": row}}}
    (tmp_path / "session.json").write_text(json.dumps(content))
    twoview.remove(open_session(tmp_path), "t1")
    assert list(open_session(tmp_path).takes) == ["t2"]
