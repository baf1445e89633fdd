"""Which videos are a take, which clocks are kept, and what a stage that fails does to the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from session_takes import put_take

from twoview.errors import SessionError
from twoview.storage import records
from twoview.timeline import ClockMap, Sync
from twoview.workflow import main_job
from twoview.workflow.main_job import events
from twoview.workflow.stages import save_sync
from twoview.workflow.synchronization import NotDetectedError, SyncOptions, given_by_hand


@pytest.fixture
def day(tmp_path, monkeypatch):
    """Make files by name; what `events` makes of words."""
    monkeypatch.chdir(tmp_path)

    def filed(*files: str, given: tuple[str, ...] = ()) -> dict[str, list[str]]:
        for file in files:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).touch()
        return {name: [str(path) for path in paths] for name, paths in events(given or files).items()}

    return filed


def test_one_folder_is_one_take(day):
    assert day() == {}
    assert day("b.mp4", "a.mp4") == {"": ["b.mp4", "a.mp4"]}
    assert day(given=(".",)) == {"": ["a.mp4", "b.mp4"]}


def test_folders_with_one_video_are_phones(day):
    files = ("phoneA/IMG_1.MOV", "phoneB/IMG_7.MOV")
    assert day(*files) == {"": list(files)}


def test_folders_with_several_videos_are_takes(day):
    found = day("serve 2/a.mp4", "serve 2/b.mp4", "jump#/a.mp4", "jump#/b.mp4", given=("serve 2", "jump#"))
    assert found == {"serve 2": ["serve 2/a.mp4", "serve 2/b.mp4"], "jump_": ["jump#/a.mp4", "jump#/b.mp4"]}
    twice = day("mon/t/a.mp4", "mon/t/b.mp4", "tue/t/a.mp4", "tue/t/b.mp4", given=("mon/t", "tue/t"))
    assert list(twice) == ["mon_t", "tue_t"]
    with pytest.raises(SessionError, match="only video of its folder"):
        day("x/a.mp4", "y/a.mp4", "y/b.mp4")


def test_folders_of_one_phone_each_are_phones(day, monkeypatch):
    monkeypatch.setattr(main_job, "probe", lambda path: SimpleNamespace(phone=f"maker {path.parent.name}"))
    files = ("left/IMG_1.MOV", "left/IMG_2.MOV", "right/IMG_1.MOV", "right/IMG_2.MOV")
    assert day(*files) == {"IMG_1": [files[0], files[2]], "IMG_2": [files[1], files[3]]}
    monkeypatch.setattr(main_job, "probe", lambda path: SimpleNamespace(phone="one maker"))
    assert list(day(given=files)) == ["left", "right"]


def test_clocks_that_a_person_gave_are_kept(tmp_path):
    session = put_take(tmp_path / "session", "t")
    known = records.load_as(session.sync_path("t"), Sync)
    default = {**SyncOptions().settings, "reference": "a"}
    for settings, kept in (
        (default, False), ({**default, "offset": {"b": 0.4}}, True), ({**default, "motion": True}, True),
        ({**default, "reference": "b"}, True),
    ):  # fmt: skip
        save_sync(session, "t", known, settings=settings)
        assert (given_by_hand(session, "t") is not None) == kept, settings
    Path(session.take("t")["a"].path).write_bytes(b"another video")
    session.sync_path("t").unlink()
    assert given_by_hand(session, "t") is None


def test_a_take_without_sound_gets_its_clocks_once_it_is_detected(tmp_path, monkeypatch):
    session = put_take(tmp_path / "session", "t")
    session.sync_path("t").unlink()
    order = []

    def related(session, takes, **_):
        order.append("sync")
        by_motion = Sync("a", {"a": ClockMap(), "b": ClockMap(0.4)}, "motion"), True
        yield takes[0], by_motion if "detect" in order else NotDetectedError("no sound")

    def found(*_, **__):
        order.append("detect")
        return iter(())

    monkeypatch.setattr(main_job, "sync_takes", related)
    monkeypatch.setattr(main_job, "detect_views", found)
    steps = main_job.steps(tmp_path / "session")
    first = next(steps)
    assert (order, first.stage, first.state) == (["sync", "detect", "sync"], "sync", "new")
    assert first.text == "b began 0.400 s later, by motion"


def test_takes_or_settings_that_changed_get_a_run_of_their_own(tmp_path, monkeypatch):
    from twoview.config import Settings
    from twoview.errors import TrainingError
    from twoview.training.runs import RunFolder
    from twoview.workflow.stages import load_takes

    def resume(self):
        if self.path.name == "run1":
            raise TrainingError("it holds other takes")

    session = put_take(tmp_path / "session", "t")
    takes = load_takes(session)
    assert main_job._run_name(session, takes, Settings()) == "run1"
    monkeypatch.setattr(RunFolder, "resume", resume)
    assert main_job._run_name(session, takes, Settings()) == "run2"
    monkeypatch.setattr(main_job, "run_in_use", lambda _: "mine")
    assert main_job._run_name(session, takes, Settings()) == "mine"
