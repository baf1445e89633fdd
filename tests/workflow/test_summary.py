"""`show` of a session: every take, and never "done" for a file that is damaged or of other videos."""

from __future__ import annotations

import subprocess
import sys

import pytest
from calls import files_touched
from poses_only import write_session
from session_takes import put_take
from terminal import type_command

from twoview.storage import records
from twoview.storage.session import Athlete, open_session
from twoview.workflow.summary import MANY, describe_all, describe_session, in_short, is_damaged


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


def test_files_are_read_once_for_every_take(tmp_path, monkeypatch):
    few, many = (write_session(tmp_path / str(count), count, athletes=3, seconds=1.0) for count in (20, 40))
    touched = [files_touched(monkeypatch, lambda s=s: describe_all(open_session(s.folder))) for s in (few, many)]
    assert touched[1] < 2.1 * touched[0]
    assert touched[1] <= 40 * 20


def test_the_athlete_is_shown_where_one_is_known(session):
    assert "athlete's name" not in describe_session(session)[0]
    session.add_take("two", {}, Athlete("Anna", 1.7))
    one, two = describe_session(open_session(session.folder))
    assert (one["athlete's name"], one["height (m)"]) == ("", "")
    assert (two["athlete's name"], two["height (m)"]) == ("Anna", 1.7)


def test_very_many_takes_are_counted_by_their_state(tmp_path):
    session = write_session(tmp_path / "s", MANY + 9, athletes=4, seconds=1.0)
    (session.take_folder("karate_02") / "sync.json").unlink()
    (session.take_folder("run_03") / "detections" / "b.npz").write_bytes(b"{")
    usual, *others = in_short(describe_session(session))
    assert (usual["takes"], usual["clocks"], usual["athletes"]) == (MANY + 7, "synchronized", 4)
    assert {row["which"] for row in others} == {"karate_02", "run_03"}
    answer = type_command("show", "--session", session.folder)
    assert (answer.code, len(answer.out.splitlines()) < 15, "karate_02" in answer.out) == (1, True, True)
    whole = type_command("show", "--session", session.folder, "--json")
    assert (whole.code, len(whole.json["rows"]), len(whole.json["failed"])) == (1, MANY + 9, 1)
    one = type_command("show", "--session", session.folder, "--take", "karate_02", "--json")
    assert (one.code, one.json["next"]) == (0, "twoview sync")
    assert [row["clocks"] for row in one.json["rows"]] == ["not yet synchronized"]


def test_what_a_session_holds_is_shown_without_pytorch():
    script = "import sys, twoview.workflow.summary as s; print('torch' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
