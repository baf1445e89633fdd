"""`show` of a session: every take, and never "done" for a file that is damaged or of other videos."""

from __future__ import annotations

import pytest
from session_takes import put_take
from terminal import type_command

from twoview.storage import records
from twoview.storage.session import open_session
from twoview.workflow.summary import describe_session, is_damaged


@pytest.fixture
def session(tmp_path):
    put_take(tmp_path / "s", "one")
    return put_take(tmp_path / "s", "two", seed=1)


def test_what_is_done_is_done_for_the_videos_that_there_are(session):
    one, two = describe_session(session)
    assert (one["clocks"], one["athlete"]) == ("synchronized", "detected")
    video = session.take("two")["b"].path
    video.write_bytes(b"another video")
    from dataclasses import replace

    session.add_take("two", {"b": replace(session.take("two")["b"], fingerprint=records.fingerprint(video))})
    one, two = describe_session(open_session(session.folder))
    assert (two["clocks"], two["athlete"]) == ("of other videos", "of another video in b")
    assert not is_damaged(two)


@pytest.mark.parametrize("damage", ["take.json", "sync.json", "detections/a.npz"])
def test_a_damaged_file_is_shown_and_ends_with_an_error(session, damage):
    (session.take_folder("one") / damage).write_bytes(b"{")
    answer = type_command("show", "--session", session.folder)
    assert answer.code == 1
    assert "two" in answer.out
    assert "damaged!" in answer.out
    assert "one" in answer.err


def test_a_session_without_takes_still_has_its_model(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"model")
    assert list(open_session(tmp_path).takes) == []
