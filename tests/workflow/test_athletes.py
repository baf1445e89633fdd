"""Several athletes in one session: each has a height, bones and, if asked for, a model of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from calls import files_touched
from poses_only import write_session
from session_takes import put_take
from small_takes import PAPER
from terminal import type_command

from twoview.config import FinetuneConfig, PhonesConfig, TriangulateConfig
from twoview.errors import SessionError
from twoview.lifting.model import load_model
from twoview.reconstruction.triangulation import triangulate_takes
from twoview.skeleton import stature
from twoview.storage import records
from twoview.storage.session import Athlete, open_session
from twoview.training.clips import of_every_athlete
from twoview.training.planning import LOOKED_AT
from twoview.workflow import remembered
from twoview.workflow.sampling import FEWEST, spread
from twoview.workflow.stages import finetune_session, load_takes, plan_session, teaching_takes
from twoview.workflow.triangulation import triangulate_session

FEW_STEPS = FinetuneConfig(epochs=2, phones=PhonesConfig(steps_per_epoch=2, batch=8))


@pytest.fixture
def two(tmp_path):
    """A take of Ann, 1.6 m, and one of Ben, 1.9 m, in a session that remembers 1.75 m; and one of nobody."""
    for seed, (name, athlete) in enumerate(
        {"t1": Athlete("Ann", 1.6), "t2": Athlete("Ben", 1.9), "t3": Athlete()}.items()
    ):
        session = put_take(tmp_path / "s", name, seconds=1.5, seed=seed)
        session.add_take(name, {}, athlete)
    remembered.keep(tmp_path / "s", height_m=1.75)
    return open_session(tmp_path / "s")


def tall(made) -> dict[str, float]:
    return {one.result.take: float(stature(one.result.bones_m)) for one in made}


def test_every_take_has_its_own_height_and_the_person_s_word_counts(two, start):
    solved = triangulate_session(two, model=str(start), picture=False)
    assert tall(solved) == pytest.approx({"t1": 1.6, "t2": 1.9, "t3": 1.75})
    again = triangulate_session(two, model=str(start), picture=False, config=TriangulateConfig(height_m=1.7))
    assert tall(again) == pytest.approx(dict.fromkeys(("t1", "t2", "t3"), 1.7))
    assert remembered.recall(two.folder).height_m == 1.7


def test_a_new_take_of_another_athlete_leaves_a_solution_up_to_date(two, start):
    triangulate_session(two, model=str(start), picture=False)
    session = put_take(two.folder, "t4", seconds=1.5, seed=5)
    session.add_take("t4", {}, Athlete("Ben"))
    solved = triangulate_session(open_session(two.folder), model=str(start), picture=False)
    assert {one.result.take: one.fresh for one in solved} == {"t1": False, "t2": True, "t3": False, "t4": True}


def test_the_height_of_a_video_is_that_of_the_athlete_in_it(two):
    marks = [two.take(take)["a"].fingerprint for take in ("t1", "t2", "t3")]
    assert [remembered.height_in(two, mark) for mark in (*marks, "unknown")] == [1.6, 1.9, 0.0, 0.0]
    assert remembered.height_of(two, "Ann") == 1.6
    with pytest.raises(SessionError, match=r"no take of .* shows 'Cem'; it has Ann, Ben"):
        remembered.height_of(two, "Cem")


def test_bones_are_shared_by_the_takes_of_one_athlete_alone(two, start):
    takes = [replace(take, athlete=who) for take, who in zip(load_takes(two), ("Ann", "Ben", "Ann"), strict=True)]
    bones = [found.bones_m for found in triangulate_takes(takes, load_model(start))]
    assert np.array_equal(bones[0], bones[2])
    assert not np.allclose(bones[0], bones[1])


def test_held_out_takes_are_of_as_many_athletes_as_can_be():
    athlete = {f"{who}{n}": who for who in "abc" for n in range(4)} | {"d0": "d"}
    assert of_every_athlete(athlete, 0.25) == ("a3", "b3", "c3")
    assert of_every_athlete(athlete, 0.4) == ("a3", "b3", "c3", "a2", "b2")
    assert of_every_athlete({"x": "a", "y": "b"}, 0.5) == ()
    assert of_every_athlete(athlete, 0.0) == ()


def test_any_first_part_is_spread_over_athletes_and_movements(tmp_path):
    session = write_session(tmp_path / "s", 240, athletes=6, kinds=4, seconds=1.0)
    order = list(spread(session, list(session.takes), 7))
    assert sorted(order) == sorted(session.takes)
    assert order == list(spread(session, list(session.takes), 7))
    assert order != list(spread(session, list(session.takes), 8))
    assert {session.athlete(take).name for take in order[:6]} == {f"athlete{n}" for n in range(1, 7)}
    first = [take for take in order if session.athlete(take).name == "athlete1"][:4]
    assert {take.split("_")[0] for take in first} == {"golf", "jump", "karate", "run"}


def test_no_more_takes_are_read_than_the_steps_draw_clips_from(tmp_path, monkeypatch):
    sessions = [write_session(tmp_path / str(count), count, athletes=3, seconds=2.0) for count in (40, 80)]
    found = []

    def read(folder):
        found.append(teaching_takes(open_session(folder), FEW_STEPS))

    touched = [files_touched(monkeypatch, lambda s=session: read(s.folder)) for session in sessions]
    for (takes, of), count in zip(found, (40, 80), strict=True):
        assert (len(takes), of) == (FEWEST, count)
    assert touched[1] - touched[0] < 40 * 15  # take.json alone of the others, and no poses
    more = replace(FEW_STEPS, epochs=20)
    assert FEWEST < len(teaching_takes(sessions[1], more)[0]) < 80
    assert len(teaching_takes(sessions[0], FinetuneConfig(epochs=900))[0]) == 40


def test_a_plan_of_many_takes_looks_at_some_and_says_so(tmp_path):
    session = write_session(tmp_path / "s", 16, athletes=4, seconds=1.5)
    found = plan_session(session, config=replace(PAPER, weights="twoview-small"))
    assert (len(found.takes), found.chosen_from) == (LOOKED_AT, 16)
    assert found.minutes == pytest.approx(16 * 1.47 / 60, rel=0.05)
    assert not any("film 5 or more" in sentence for sentence in found.advice)


def test_a_model_for_every_athlete_is_found_by_the_name(two, start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("--method", "paper", "--weights", start, "--epochs", "1", "--set", "gate=false", "--session", two.folder)
    refused = type_command("finetune", "--views", "a,b", "--by-athlete", "--run", "x", *small)
    assert (refused.code, "leave out" in refused.err) == (2, True)
    made = type_command("finetune", "--views", "a,b", "--by-athlete", *small, "--json")
    assert [run["run"] for run in made.json["runs"]] == ["Ann", "Ben"]
    assert not two.model_path.exists()
    poses = two.detection_path("t1", "a")
    answer = type_command("infer", poses, "--athlete", "Ben", "--session", two.folder, "--json")
    (result,) = answer.json["results"]
    assert (result["model"], result["unit"]) == (str(two.folder / "runs" / "Ben" / "model.pt"), "m")
    assert remembered.recall(two.folder).height_m == 1.75
    nobody = type_command("infer", poses, "--athlete", "Cem", "--session", two.folder)
    assert (nobody.code, "finetune --views a,b --athlete Cem" in nobody.err) == (1, True)
    assert records.read_json(two.folder / "runs" / "Ann" / "result.json")["athletes"] == "Ann"


def test_the_report_of_a_shared_model_names_the_athletes_that_judged_it(tmp_path, start):
    session = write_session(tmp_path / "s", 8, athletes=2, kinds=2, seconds=1.2)
    run = finetune_session(session, config=replace(PAPER, epochs=1, weights=str(start)))
    (judged,) = (sentence for sentence in run.warnings if "held out" in sentence)
    assert "of athlete1 and athlete2" in judged
