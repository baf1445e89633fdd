"""`twoview run` as typed: everything from two videos, and on from where it stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from scenes import small_scene

GIVEN = ("--detector", "markers:Markers", "--weights", "start.pt", "--method", "paper", "--epochs", "1", "--no-picture")


@pytest.fixture
def filmed(twoview, tmp_path, start) -> Path:
    small_scene(tmp_path, seconds=2.1)
    return tmp_path


def states(answer) -> dict[str, str]:
    return {f"{step['stage']} {step['of']}": step["state"] for step in answer.json["steps"]}


def test_run_does_all_goes_on_where_it_stopped_and_says_what_is_up_to_date(twoview, filmed, monkeypatch):
    from twoview.workflow import main_job

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    command = ("run", "a.mp4", "b.mp4", *GIVEN, "--height", "1.75")
    with monkeypatch.context() as patch:
        patch.setattr(main_job, "finetune_session", interrupted)
        assert twoview(*command).code == 130
    answer = twoview(*command)
    assert answer.code == 0, answer.err
    lines = [line.split() for line in answer.out.splitlines()]
    assert [line[:2] for line in lines[:7]] == [
        ["sync", "take1"], ["detect", "take1/a"], ["detect", "take1/b"], ["triangulate", "take1"],
        ["finetune", "run1"], ["infer", "take1/a"], ["infer", "take1/b"],
    ]  # fmt: skip
    assert ["(up to date)" in line for line in answer.out.splitlines()[:7]] == [True] * 4 + [False] * 3
    assert answer.out.splitlines()[7] == "next: twoview infer clip.mp4"
    assert answer.out.splitlines()[8].startswith("open session/takes/take1/triangulated/page.html, session/runs/")
    (filmed / "b.mp4").rename(filmed / "moved.mp4")
    again = twoview("run", *GIVEN, "--json")  # the height is remembered
    assert again.code == 0, again.err
    assert states(again).pop("infer take1/b") == "left out"
    assert set(states(again).values()) == {"up to date", "left out"}
    assert all((filmed / page).exists() for page in again.json["open"])


def test_what_fails_keeps_nothing_else_back(twoview, filmed):
    for name in ("good", "bad"):
        (filmed / name).mkdir()
    for view in ("a.mp4", "b.mp4"):
        (filmed / view).rename(filmed / "good" / view)
    shutil.copyfile(filmed / "good" / "a.mp4", filmed / "bad" / "a.mp4")
    (filmed / "bad" / "b.mp4").write_text("no video")
    answer = twoview("run", "good", "bad/*.mp4", *GIVEN, "--set", "clip_length=2000", "--json")
    assert answer.code == 1
    assert [step["stage"] for step in answer.json["steps"] if step["state"] == "failed"] == ["take", "finetune"]
    assert "bad/b.mp4" in answer.err
    assert states(answer)["infer good/a"] == "new"
    assert "start.pt, which is not adapted" in answer.json["steps"][-1]["text"]
    assert answer.json["next"] == "twoview show"


def test_nothing_to_run_is_refused(twoview, tmp_path):
    answer = twoview("run")
    assert answer.code == 1
    assert "twoview run a.mp4 b.mp4" in answer.err
    (tmp_path / "a.mp4").write_text("no video")
    again = twoview("run", "a.mp4", "a.mp4")
    assert (again.code, again.err.count("Error: ")) == (1, 1)
    assert "a.mp4" in again.err
    assert not (tmp_path / "session").exists()
