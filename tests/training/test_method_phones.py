"""The method `phones`: right pseudo-labels, held-out takes that are not trained on, and less error afterwards."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from bodies import moving_body
from places import ASSETS
from small_takes import PAPER
from triangulated_takes import takes

from twoview import lifters
from twoview.config import FinetuneConfig, PhonesConfig
from twoview.errors import SyncError, TrainingError
from twoview.geometry.framing import to_camera
from twoview.lifting.model import Model, load_model
from twoview.skeleton import H36M17
from twoview.takes import ResampledTake, Take, resample
from twoview.timeline import Sync
from twoview.training import method_phones as training_phones
from twoview.training.clips import collate, cut
from twoview.training.losses import consistency
from twoview.training.method_paper import Paper, warnings
from twoview.training.method_phones import (
    ClipStore,
    LabeledBatch,
    Phones,
    PseudoLabels,
    TrainingSet,
    body_px,
    judge,
    label_terms,
    prepare,
    project,
    pseudo_labels,
    rehearsal_clips,
    rehearsal_motion,
    spans,
    swap_residuals,
    to_batch,
    to_room,
)
from twoview.training.virtual_cameras import Chance

GOLF = ASSETS / "demo/golf"
SMALL = PhonesConfig(batch=6, virtual=4, frames=15)
PER_VIEW = ("screen", "score", "target", "target_weight")  # of a batch


def resampled(made: list[Take]) -> list[ResampledTake]:
    return [resample(take, 30.0) for take in made]


def chance(seed: int = 0) -> Chance:
    return Chance(torch.Generator().manual_seed(seed))


def labels(count: int = 8, frames: int = 15, seed: int = 0, noise: float = 5.0) -> PseudoLabels:
    rng = np.random.default_rng(seed)
    points = np.stack([moving_body(frames, rng) + np.array([0, 0, 4]) for _ in range(count)])
    clips = PseudoLabels(
        torch.zeros(count, frames, 17, 2), torch.rand(count, frames, 17, generator=chance(seed).generator) * 0.5 + 0.5,
        torch.tensor([1920.0, 1080.0]).expand(count, 2), torch.from_numpy(points).float(), torch.full((count,), 1500.0),
        torch.ones(count, frames, 17),
    )  # fmt: skip
    return replace(clips, xy=project(clips) + noise * torch.from_numpy(rng.normal(size=(count, frames, 17, 2))).float())


def test_batches_are_a_pure_function_of_seed_and_step():
    motion = to_room(labels(5, seed=1).points)
    first, again, other = (TrainingSet(labels(), motion, "box", SMALL, seed) for seed in (3, 3, 4))
    one, two = first.draw(7), again.draw(7)
    assert [labeled.name for labeled in one] == ["pseudo", "turned", "rehearsal"]
    assert all(torch.equal(a.batch.x, b.batch.x) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0].batch.x, first.draw(8)[0].batch.x)
    assert not torch.equal(one[0].batch.x, other.draw(7)[0].batch.x)


def test_a_right_answer_costs_nothing_and_a_wrong_one_does():
    for labeled in TrainingSet(labels(), to_room(labels(5, seed=1).points), "box", SMALL, 0).draw(0):
        answer = labeled.batch.target.flatten(0, 1)
        assert sum(label_terms(labeled, answer, SMALL).values()) < 1e-5
        assert sum(label_terms(labeled, answer * torch.tensor([1.0, 1.0, 0.7]), SMALL).values()) > 0.01


class Restless(torch.nn.Module):
    """Answers x, y as they are where somebody is seen, and something else each time where nobody is."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.unused, self.chance = torch.nn.Parameter(torch.zeros(1)), chance(seed)

    def forward(self, x):
        blank = (x[..., 2] == 0).all(dim=-1)[..., None, None]
        return torch.where(blank, self.chance.normal(*x.shape), torch.cat([x[..., :2], 0.3 * x[..., :1]], dim=-1))


def test_frames_that_show_nobody_count_in_no_term_and_not_in_the_criterion():
    clips = labels()
    score = clips.score.clone()
    score[:, 9:] = 0
    clips = replace(clips, score=score)
    batch = to_batch(clips, "box")
    pair = replace(batch, **{n: torch.stack([v[:4, 0], v[4:, 0]], 1) for n, v in vars(batch).items() if n in PER_VIEW})
    own = TrainingSet(labels(), torch.zeros(0, 15, 17, 3), "box", SMALL, 0)
    phones = Phones(own, [], [pair], clips, Restless(0), False, ())
    terms, criteria = [], []
    for seed in (0, 1):
        lifter = Restless(seed)
        found = label_terms(LabeledBatch("pseudo", batch, 1.0), lifter(batch.x), SMALL)
        terms.append({name: value.item() for name, value in found.items()})
        criteria.append(phones.validate(lifter))
    assert terms[0] == pytest.approx(terms[1], rel=1e-5)
    assert criteria[0] == pytest.approx(criteria[1], rel=1e-5)


def test_labels_are_the_body_in_camera_axes():
    clips = labels(noise=0.0)
    batch = to_batch(replace(clips, focal=torch.full((8,), 0.8 * 1920)), "box")  # the focal length that framing assumes
    pose = to_camera(batch.target[:, 0], batch.framing)
    truth = clips.points - clips.points[:, :, :1]
    meters = clips.points[:, :, :1, 2:] * 1920 / (2 * 0.8 * 1920)
    assert torch.allclose(pose * meters, truth, atol=1e-4)


def test_swapped_errors_are_another_clips_in_the_size_of_the_body():
    one, other = labels(seed=0), labels(seed=1)
    mixed = swap_residuals(one, other, chance(), share=1.0)
    wanted = (other.xy - project(other)) / body_px(other)
    assert torch.allclose((mixed.xy - project(one)) / body_px(one), wanted, atol=1e-5)
    assert torch.equal(mixed.score, other.score)
    assert torch.equal(swap_residuals(one, other, chance(), share=0.0).xy, one.xy)


def test_motion_in_a_room_stands_on_the_floor_with_z_up():
    room = to_room(labels().points)
    assert room[..., 2].amin(dim=(1, 2)).abs().max() < 0.15
    assert (room[..., H36M17.index("head"), 2] > 0.9).all()
    assert room[..., :2].mean(dim=(1, 2)).abs().max() < 1e-5


def test_only_training_takes_become_pseudo_labels_and_weights_fall_with_sigma():
    made, found = takes()
    grids = resampled(made)
    clips = {grid.take.name: cut(grid, length=30) for grid in grids}
    some = pseudo_labels(grids, found, spans(clips["take0"]), SMALL)
    both = pseudo_labels(grids, found, spans([*clips["take0"], *clips["take1"]]), SMALL)
    assert 0 < len(some) < len(both)
    vague = [replace(f, random_sigma=f.random_sigma + SMALL.sigma_m) for f in found]
    assert pseudo_labels(grids, vague, spans(clips["take0"]), SMALL).weight.max() <= 0.5
    lost = [replace(f, reliable=np.zeros_like(f.reliable)) for f in found]
    assert pseudo_labels(grids, lost, spans(clips["take0"]), SMALL).weight.max() == 0


def test_nothing_to_learn_from_is_refused_with_the_way_out():
    made, found = takes(1, frames=20)
    clips = pseudo_labels(resampled(made), found, {"take0": (0.0, 10.0)}, replace(SMALL, frames=27))
    with pytest.raises(TrainingError, match="triangulated"):
        TrainingSet(clips, torch.zeros(0, 27, 17, 3), "box", SMALL, 0)


def small_model(clip_length: int = 27) -> Model:
    settings = {"width": 32, "dilations": (1, 3)}
    return Model(lifters.build("tcn", settings).eval(), "tcn", settings, "box", 30.0, clip_length)


def test_a_take_that_is_too_short_is_left_out_and_named(monkeypatch):
    made, found = takes(2)
    first, last = made[1].poses["a"].time[[0, 12]]
    short = replace(made[1], poses={v: p.between(first, last) for v, p in made[1].poses.items()})
    model = small_model()
    known = {f.take: f for f in found}
    monkeypatch.setattr(training_phones, "triangulate_takes", lambda given, *_, **__: [known[t.name] for t in given])
    monkeypatch.setattr(training_phones, "rehearsal_clips", list)
    grids = resampled([made[0], short])
    clips = [clip for grid in grids for clip in cut(grid, length=27)]
    phones = prepare(grids, clips, [], model, FinetuneConfig(phones=SMALL))
    assert any("take1 is left out" in warning for warning in phones.warnings)
    assert set(phones.validate(model.lifter)) >= {"criterion", "bone_spread"}
    terms = phones.terms(model.lifter, 0, 0)
    assert all(torch.isfinite(value) for value in terms.values())


@pytest.mark.parametrize(("clip_length", "frames"), [(27, 15), (9, 9), (1, 1)])
def test_no_clip_is_longer_than_those_that_the_model_infers_with(monkeypatch, clip_length, frames):
    made, found = takes(1, frames=40)
    monkeypatch.setattr(training_phones, "triangulate_takes", lambda *_, **__: found)
    monkeypatch.setattr(training_phones, "rehearsal_clips", lambda: list(made[0].poses.values()))
    model, grids = small_model().adjusted(clip_length=clip_length), resampled(made)
    clips = [clip for grid in grids for clip in cut(grid, length=model.clip_length)]
    phones = prepare(grids, clips, [], model, FinetuneConfig(phones=replace(SMALL, consistency=0.3)))
    assert {labeled.batch.score.shape[2] for labeled in phones.training_set.draw(0)} == {frames}
    assert all(torch.isfinite(value) for value in phones.terms(model.lifter, 0, 0).values())
    assert np.isfinite(phones.validate(model.lifter)["criterion"])


def test_rehearsal_asks_for_the_unadapted_lifters_answers(monkeypatch):
    made, found = takes(2)
    model, grids = small_model(), resampled(made)
    clips = [clip for grid in grids for clip in cut(grid, length=27)]
    config = FinetuneConfig(phones=SMALL, precision="fp32")
    monkeypatch.setattr(training_phones, "triangulate_takes", lambda *_, **__: found)
    first = prepare(grids, clips, [], model, config).terms(model.lifter, 0, 0)
    kinds = {kind: sum(v.item() for k, v in first.items() if k.startswith(kind)) for kind in ("pseudo", "rehearsal")}
    assert kinds["rehearsal"] < 1e-4  # nothing is forgotten yet
    assert kinds["pseudo"] > 0.1


def test_rehearsal_is_answered_by_the_unadapted_lifter_not_by_the_one_in_training(monkeypatch):
    """Compared with itself, a lifter that forgets everything would have no error."""
    made, found = takes(1, frames=40)
    monkeypatch.setattr(training_phones, "triangulate_takes", lambda *_, **__: found)
    monkeypatch.setattr(training_phones, "rehearsal_clips", lambda: list(made[0].poses.values()))
    model, grids = small_model(), resampled(made)
    clips = [clip for grid in grids for clip in cut(grid, length=27)]
    phones = prepare(grids, clips, [], model, FinetuneConfig(phones=SMALL, precision="fp32"))
    (labeled,) = (labeled for labeled in phones.training_set.draw(0) if labeled.name == "rehearsal")
    with torch.no_grad():
        target = labeled.batch.lifted(model.lifter(labeled.batch.x))
        student = perturbed(copy.deepcopy(model.lifter))
        answer = student(labeled.batch.x)
    wanted = label_terms(replace(labeled, batch=replace(labeled.batch, target=target)), answer, SMALL)
    assert wanted["position"] > 0.01
    perturbed(model.lifter)  # trained in place by somebody else, which must not change the labels
    terms = phones.terms(student, 0, 0)
    for name, value in wanted.items():
        assert terms[f"rehearsal_{name}"].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-6)


def test_the_consistency_of_the_takes_moves_the_lifter(monkeypatch):
    made, found = takes(1, frames=40)
    monkeypatch.setattr(training_phones, "triangulate_takes", lambda *_, **__: found)
    monkeypatch.setattr(training_phones, "rehearsal_clips", list)
    model, grids = small_model(), resampled(made)
    perturbed(model.lifter)
    clips = [clip for grid in grids for clip in cut(grid, length=27)]
    phones = prepare(grids, clips, [], model, FinetuneConfig(phones=SMALL, precision="fp32"))
    term = phones.terms(model.lifter, 0, 0)["consistency"]
    gradients = torch.autograd.grad(term, list(model.lifter.parameters()), allow_unused=True)
    assert max(g.abs().max() for g in gradients if g is not None) > 1e-4


def test_the_default_has_the_papers_loss_with_its_weight_on_few_frames(monkeypatch):
    """Without it the four commands would never use the loss that the project is named after."""
    made, found = takes(1, frames=40)
    monkeypatch.setattr(training_phones, "triangulate_takes", lambda *_, **__: found)
    monkeypatch.setattr(training_phones, "rehearsal_clips", list)
    model, grids = small_model(), resampled(made)
    clips = [clip for grid in grids for clip in cut(grid, length=20)]
    phones = prepare(grids, clips, [], model, FinetuneConfig(precision="fp32"))
    read = []
    model.lifter.register_forward_hook(lambda _, given, __: read.append(given[0]))
    term = phones.terms(model.lifter, 0, 3)["consistency"]
    labeled, paired = (x.shape[0] * x.shape[1] for x in read)
    assert paired <= 0.25 * 64 * 27 < labeled
    chosen = np.random.default_rng((42, 3)).integers(len(clips), size=paired // 40)
    batch = collate([clips[i] for i in chosen], "box")
    wanted = consistency(batch, batch.lifted(model.lifter(batch.x)))
    assert term.item() == pytest.approx(0.3 * wanted.item(), rel=1e-4)
    phones.training_set.config = replace(SMALL, consistency=0.0)
    assert "consistency" not in phones.terms(model.lifter, 0, 3)


def test_the_papers_losses_are_judged_by_the_two_view_3d_of_the_held_out_take(monkeypatch):
    """Agreement is not accuracy: a run that loses against that 3D must say so, and one that gains must not."""
    made, found = takes(2, frames=40)
    known = {f.take: f for f in found}
    monkeypatch.setattr(training_phones, "triangulate_takes", lambda given, *_, **__: [known[t.name] for t in given])
    monkeypatch.setattr(training_phones, "rehearsal_clips", list)
    model, grids = small_model(), resampled(made)
    train, held_out = (cut(grid, length=27) for grid in grids)
    config = FinetuneConfig(phones=SMALL, precision="fp32")
    measure = judge(grids, held_out, model, config)
    phones = prepare(grids, train, held_out, model, config)
    worse = perturbed(copy.deepcopy(model.lifter))
    before, after = measure(model.lifter), measure(worse)
    assert before == pytest.approx(phones.validate(model.lifter)["criterion"])
    assert after == pytest.approx(phones.validate(worse)["criterion"])
    assert after > before + 5
    paper = Paper(train, held_out, model, replace(PAPER, clip_length=27), judge=measure)
    figures, harmed = paper.validate(model.lifter), paper.validate(worse)
    assert figures["two_view_mm"] == before
    (sentence,) = (s for s in warnings(figures, harmed, clips=10) if "two-view 3D" in s)
    assert f"from {before:.0f} to {after:.0f} mm" in sentence
    assert not any("two-view 3D" in s for s in warnings(harmed, figures, clips=10))


def test_takes_without_two_view_3d_are_not_judged(monkeypatch):
    made, _ = takes(1, frames=40)
    grids = resampled(made)

    def refuse(*_, **__):
        raise SyncError("the views share too few frames")

    monkeypatch.setattr(training_phones, "triangulate_takes", refuse)
    assert judge(grids, cut(grids[0], length=27), small_model(), FinetuneConfig(phones=SMALL)) is None


def perturbed(lifter: torch.nn.Module) -> torch.nn.Module:
    """The lifter itself with other weights."""
    with torch.no_grad():
        for value in lifter.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=chance(1).generator))
    return lifter


def test_a_store_gives_back_what_was_added(tmp_path):
    parts = [labels(3), labels(5, seed=1)]
    stores = [ClipStore(folder) for folder in (None, tmp_path)]
    for store in stores:
        for part in parts:
            store.add(part)
    memory, files = (store.all() for store in stores)
    assert len(memory) == len(files) == 8
    at = torch.tensor([7, 0, 4])
    for name in ("xy", "score", "size", "points", "focal", "weight"):
        assert torch.equal(getattr(memory[at], name), getattr(files[at], name))
    with pytest.raises(TrainingError, match="enough frames"):
        ClipStore(None).all()


def test_rehearsal_motion_has_a_common_size():
    made, _ = takes(1)
    motion = rehearsal_motion(list(made[0].poses.values()), small_model(81), 15)
    assert motion.shape == (8, 15, 17, 3)
    assert torch.isfinite(motion).all()


def test_rehearsal_clips_are_2d_of_whole_bodies():
    clips = rehearsal_clips()
    assert sum(clip.time[-1] - clip.time[0] for clip in clips) > 60
    assert all(clip.skeleton == H36M17 for clip in clips)
    assert np.mean([(clip.score > 0).mean() for clip in clips]) > 0.9


def test_a_few_steps_lower_the_error_on_a_held_out_swing(tmp_path):
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
