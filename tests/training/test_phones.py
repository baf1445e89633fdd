"""The method `phones`: lessons that say what they should, held-out takes that are not taught, and less error after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from bodies import moving_body
from filmed_takes import takes
from places import SHARED

from twoview import lifters
from twoview.config import FinetuneConfig, PhonesConfig
from twoview.errors import TrainingError
from twoview.geometry.framing import to_camera
from twoview.lifting.model import LIFTERS_FOLDER, Model, load_model
from twoview.skeleton import H36M17
from twoview.takes import Take
from twoview.timeline import Sync
from twoview.training import phones as training_phones
from twoview.training.clips import cut
from twoview.training.phones import (
    Lessons,
    Shelf,
    Solved,
    body_px,
    generic_clips,
    own_clips,
    project,
    rehearsal_rooms,
    solved_clips,
    stretches,
    swap_residuals,
    terms,
    to_batch,
    to_room,
)
from twoview.training.virtual_cameras import Chance

GOLF = SHARED / "data/rendered/golf"
SMALL = PhonesConfig(batch=6, virtual=4, frames=15)


def chance(seed: int = 0) -> Chance:
    return Chance(torch.Generator().manual_seed(seed))


def solved(count: int = 8, frames: int = 15, seed: int = 0, noise: float = 5.0) -> Solved:
    rng = np.random.default_rng(seed)
    points = np.stack([moving_body(frames, rng) + np.array([0, 0, 4]) for _ in range(count)])
    clips = Solved(
        torch.zeros(count, frames, 17, 2), torch.rand(count, frames, 17, generator=chance(seed).generator) * 0.5 + 0.5,
        torch.tensor([1920.0, 1080.0]).expand(count, 2), torch.from_numpy(points).float(), torch.full((count,), 1500.0),
        torch.ones(count, frames, 17),
    )  # fmt: skip
    return replace(clips, xy=project(clips) + noise * torch.from_numpy(rng.normal(size=(count, frames, 17, 2))).float())


def test_lessons_are_a_pure_function_of_seed_and_step():
    rooms = to_room(solved(5, seed=1).points)
    first, again, other = (Lessons(solved(), rooms, "box", SMALL, seed) for seed in (3, 3, 4))
    one, two = first.draw(7), again.draw(7)
    assert [lesson.name for lesson in one] == ["pseudo", "turned", "rehearsal"]
    assert all(torch.equal(a.batch.x, b.batch.x) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0].batch.x, first.draw(8)[0].batch.x)
    assert not torch.equal(one[0].batch.x, other.draw(7)[0].batch.x)


def test_a_right_answer_costs_nothing_and_a_wrong_one_does():
    for lesson in Lessons(solved(), to_room(solved(5, seed=1).points), "box", SMALL, 0).draw(0):
        answer = lesson.batch.target.flatten(0, 1)
        assert sum(terms(lesson, answer, SMALL).values()) < 1e-5
        assert sum(terms(lesson, answer * torch.tensor([1.0, 1.0, 0.7]), SMALL).values()) > 0.01


def test_answers_are_the_body_before_the_camera():
    clips = solved(noise=0.0)
    batch = to_batch(replace(clips, focal=torch.full((8,), 0.8 * 1920)), "box")  # the focal length that frames assume
    pose = to_camera(batch.target[:, 0], batch.framing)
    truth = clips.points - clips.points[:, :, :1]
    meters = clips.points[:, :, :1, 2:] * 1920 / (2 * 0.8 * 1920)
    assert torch.allclose(pose * meters, truth, atol=1e-4)


def test_swapped_errors_are_another_clips_in_the_size_of_the_body():
    one, other = solved(seed=0), solved(seed=1)
    mixed = swap_residuals(one, other, chance(), share=1.0)
    wanted = (other.xy - project(other)) / body_px(other)
    assert torch.allclose((mixed.xy - project(one)) / body_px(one), wanted, atol=1e-5)
    assert torch.equal(mixed.score, other.score)
    assert torch.equal(swap_residuals(one, other, chance(), share=0.0).xy, one.xy)


def test_rooms_stand_on_the_floor_with_z_up():
    room = to_room(solved().points)
    assert room[..., 2].amin(dim=(1, 2)).abs().max() < 0.15
    assert (room[..., H36M17.index("head"), 2] > 0.9).all()
    assert room[..., :2].mean(dim=(1, 2)).abs().max() < 1e-5


def test_only_the_taught_takes_become_lessons_and_doubt_counts_less():
    made, found = takes()
    clips = {t.name: cut(t, length=30, rate=30.0) for t in made}
    taught = solved_clips(made, found, stretches(clips["take0"]), SMALL)
    both = solved_clips(made, found, stretches([*clips["take0"], *clips["take1"]]), SMALL)
    assert 0 < len(taught) < len(both)
    assert {p.view for p in own_clips(made, stretches(clips["take0"]))} == {"a", "b"}
    assert len(own_clips(made, stretches(clips["take0"]))) == 2
    vague = [replace(f, sigma=f.sigma + SMALL.sigma_m) for f in found]
    assert solved_clips(made, vague, stretches(clips["take0"]), SMALL).weight.max() <= 0.5
    lost = [replace(f, reliable=np.zeros_like(f.reliable)) for f in found]
    assert solved_clips(made, lost, stretches(clips["take0"]), SMALL).weight.max() == 0


def test_nothing_to_learn_from_is_refused_with_the_way_out():
    made, found = takes(1, frames=20)
    clips = solved_clips(made, found, {"take0": (0.0, 10.0)}, replace(SMALL, frames=27))
    with pytest.raises(TrainingError, match="triangulated"):
        Lessons(clips, torch.zeros(0, 27, 17, 3), "box", SMALL, 0)


def test_a_take_that_is_too_short_is_left_out_and_named(monkeypatch):
    made, found = takes(2)
    first, last = made[1].poses["a"].time[[0, 12]]
    short = replace(made[1], poses={v: p.between(first, last) for v, p in made[1].poses.items()})
    settings = {"width": 32, "dilations": (1, 3)}
    model = Model(lifters.build("tcn", settings).eval(), "tcn", settings, "box", 30.0, 27)
    known = {f.take: f for f in found}
    monkeypatch.setattr(training_phones, "triangulate_takes", lambda given, *_, **__: [known[t.name] for t in given])
    monkeypatch.setattr(training_phones, "generic_clips", list)
    clips = [clip for t in (made[0], short) for clip in cut(t, length=27, rate=30.0)]
    phones = training_phones.Phones([made[0], short], clips, [], model, FinetuneConfig(phones=SMALL))
    assert any("take1 is left out" in said for said in phones.warnings)
    assert set(phones.judge(model.lifter)) >= {"criterion", "bone_spread"}
    found = phones.terms(model.lifter, 0, 0)
    assert all(torch.isfinite(value) for value in found.values())
    assert "consistency" not in found
    phones.config = replace(SMALL, consistency=0.3)
    assert phones.terms(model.lifter, 0, 0)["consistency"] > 0


def test_rehearsal_asks_for_what_the_unadapted_lifter_answers(monkeypatch):
    made, found = takes(2)
    settings = {"width": 32, "dilations": (1, 3)}
    model = Model(lifters.build("tcn", settings).eval(), "tcn", settings, "box", 30.0, 27)
    clips = [clip for t in made for clip in cut(t, length=27, rate=30.0)]
    config = FinetuneConfig(phones=SMALL, precision="fp32")
    phones = training_phones.Phones(made, clips, [], model, config, found=found)
    first = phones.terms(model.lifter, 0, 0)
    kinds = {kind: sum(v.item() for k, v in first.items() if k.startswith(kind)) for kind in ("pseudo", "rehearsal")}
    assert kinds["rehearsal"] < 1e-4  # nothing is forgotten yet
    assert kinds["pseudo"] > 0.1


def test_a_shelf_gives_back_what_was_put_there(tmp_path):
    parts = [solved(3), solved(5, seed=1)]
    kept = [Shelf(folder, "lessons") for folder in (None, tmp_path)]
    for shelf in kept:
        for part in parts:
            shelf.add(part)
    memory, files = (shelf.all() for shelf in kept)
    assert len(memory) == len(files) == 8
    at = torch.tensor([7, 0, 4])
    for name in ("xy", "score", "size", "points", "focal", "weight"):
        assert torch.equal(getattr(memory[at], name), getattr(files[at], name))
    with pytest.raises(TrainingError, match="enough frames"):
        Shelf(None, "exam").all()


def test_the_lifters_own_3d_becomes_rooms_of_a_common_size():
    settings = {"width": 32, "dilations": (1, 3)}
    model = Model(lifters.build("tcn", settings).eval(), "tcn", settings, "box", 30.0, 81)
    made, _ = takes(1)
    rooms = rehearsal_rooms(own_clips(made, {"take0": (0.0, 10.0)}), model, 15)
    assert rooms.shape == (8, 15, 17, 3)
    assert torch.isfinite(rooms).all()


@pytest.mark.skipif(not generic_clips(), reason="no generic clips in this build")
def test_generic_clips_are_2d_of_whole_bodies():
    clips = generic_clips()
    assert sum(clip.time[-1] - clip.time[0] for clip in clips) > 60
    assert all(clip.skeleton == H36M17 for clip in clips)
    assert np.mean([(clip.score > 0).mean() for clip in clips]) > 0.9


@pytest.mark.skipif(not GOLF.exists(), reason="the rendered golf session is not here")
@pytest.mark.skipif(not (LIFTERS_FOLDER / "twoview-small.pt").exists(), reason="no lifter ships in this build")
def test_a_few_steps_lower_the_error_on_a_swing_that_was_not_taught(tmp_path):
    from twoview.datasets.rendered import read_scene
    from twoview.evaluation.scoring import evaluate
    from twoview.lifting.inference import infer
    from twoview.training.finetuning import finetune

    def read(name: str):
        views = read_scene(GOLF / name).views
        rng = np.random.default_rng(0)
        poses = {
            v: replace(s.poses2d, xy=s.poses2d.xy + rng.normal(0, 2, s.poses2d.xy.shape), view=v)
            for v, s in views.items()
        }
        return Take(name, poses, Sync("a", {v: s.clock for v, s in views.items()})), views["a"].poses3d

    config = FinetuneConfig(epochs=1, phones=PhonesConfig(steps_per_epoch=16, batch=12, virtual=4), lr=5e-4)
    run = finetune([read(f"take{i}")[0] for i in (1, 2)], config, out=tmp_path / "run")
    assert run.adapted
    assert run.after["criterion"] < 0.8 * run.before["criterion"]
    take, truth = read("test1")
    before, after = (evaluate(infer(take.poses["a"], load_model(name)), truth) for name in ("twoview-small", run.model))
    assert after.value("PA-MPJPE") < 0.9 * before.value("PA-MPJPE")
