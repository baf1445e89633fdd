from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_takes import PAPER, body, take
from torch import nn

from twoview.config import FinetuneConfig, LossConfig, TriangulateConfig
from twoview.errors import ConfigError, FormatError, LifterError, SyncError, TrainingError
from twoview.lifters.gate import GatedLifter
from twoview.lifting.inference import lift
from twoview.lifting.model import load_model
from twoview.poses import Poses2D, Poses3D, Source
from twoview.skeleton import H36M17
from twoview.takes import LoadedLater, Take, resample
from twoview.timeline import ClockMap, Sync
from twoview.training.clips import collate, cut, hold_out, order
from twoview.training.finetuning import _chosen, _reach_warnings, finetune
from twoview.training.gate import Reach, gated
from twoview.training.losses import reprojection
from twoview.training.method_paper import Paper, by_shape, validate
from twoview.training.runs import RunState, Snapshot
from twoview.visualization.report import loss_shares


def copied(poses: Poses2D) -> Poses2D:
    """The same picture under another file name."""
    return replace(poses, source=Source("copy"))


def first_frames(whole: Take, count: int) -> Take:
    last = whole.sync.to_view("b", 0.4) + count / 30
    return replace(whole, poses={v: p.between(-1.0, last + (0.4 if v == "a" else 0)) for v, p in whole.poses.items()})


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path).lifter.state_dict()


def test_clips_show_one_moment_in_all_views():
    clips = cut(resample(take(), 30.0), length=9, stride=0.5)
    assert clips[0].xy.shape == (2, 9, 17, 2)
    assert clips[0].time[0] == pytest.approx(0.4)
    points = body(clips[2].time) + np.array([0, 0, 4])
    assert clips[2].xy[0] == pytest.approx(points[..., :2] / points[..., 2:] * 1000 + [640, 360], abs=2.0)
    assert all(np.diff(clip.time) == pytest.approx(1 / 30) for clip in clips)


def labeled(focal: Mapping[str, float], seconds: float = 3.0) -> Take:
    """A take with the 3D of every view on its own clock, filmed with these focal lengths, px."""
    whole, poses, truth = take(seconds=seconds), {}, {}
    for view, own in whole.poses.items():
        points = before(view, whole.sync.to_session(view, own.time))
        xy = points[..., :2] / points[..., 2:] * focal[view] + [640, 360]
        poses[view], truth[view] = replace(own, xy=xy), Poses3D(points, own.time, H36M17, "camera", "m", view)
    return replace(whole, poses=poses, truth=truth, focal=focal)


def before(view: str, session: np.ndarray) -> np.ndarray:
    """The body of `take` (T, 17, 3) m in a camera's axes; b stands 90 degrees around it."""
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]) if view == "b" else np.eye(3)
    return body(session) @ turn + np.array([0, 0, 4])


def test_every_view_of_every_clip_shows_and_is_labeled_with_the_moments_of_the_clip():
    """b has its own clock and frame rate; one frame off it would be out by several px and cm."""
    clips = cut(resample(labeled({"a": 1000.0, "b": 1000.0}), 30.0), length=9, stride=0.5)
    screen = collate(clips, "screen").screen.numpy() * 640 + [640, 360]
    for clip, on_screen in zip(clips, screen, strict=True):
        for v, view in enumerate(clip.views):
            points = before(view, clip.time)
            expected = points[..., :2] / points[..., 2:] * 1000 + [640, 360]
            assert np.abs(np.diff(expected, axis=0)).max() > 2.0
            assert clip.xy[v] == pytest.approx(expected, abs=0.5)
            assert on_screen[v] == pytest.approx(expected, abs=0.5)
            assert clip.truth[v] == pytest.approx(points, abs=0.003)


def test_labels_are_made_with_the_focal_lengths_of_the_cameras_that_filmed():
    """In the picture a label lies where the joint is seen, and its depth has the scale of the picture."""
    focal = {"a": 900.0, "b": 1500.0}  # 1024 is assumed
    clips = cut(resample(labeled(focal), 30.0), length=9)
    batch = collate(clips, "screen")
    assert batch.target[..., :2].numpy() == pytest.approx(batch.screen.numpy(), abs=2e-3)
    for clip, target in zip(clips, batch.target.numpy(), strict=True):
        for v, view in enumerate(clip.views):
            depth = before(view, clip.time)[..., 2]
            expected = (depth / depth[:, :1] - 1) * focal[view] / 640
            assert target[v, ..., 2] == pytest.approx(expected, abs=2e-3)


def test_a_take_shorter_than_a_clip_is_one_clip_of_its_own_length():
    grid = resample(labeled({"a": 1000.0, "b": 1000.0}, seconds=0.8), 30.0)
    (clip,) = cut(grid, length=27)
    assert 5 < len(grid.time) < 27
    assert np.array_equal(clip.time, grid.time)
    assert clip.xy.shape == (2, len(grid.time), 17, 2)
    assert (clip.score > 0).all()
    assert clip.truth.shape == (2, len(grid.time), 17, 3)
    assert clip.truth_weight.shape == (2, len(grid.time), 17)


def test_takes_of_any_length_train_together(tmp_path, start):
    """Every clip reaches the lifter as long as it is, and none of them blank."""
    takes = [take("short", seconds=0.6), take("shorter", seconds=0.5, seed=1), take("long", seed=2)]
    clips = [clip for made in takes for clip in cut(resample(made, 30.0), length=9)]
    assert {len(clip.time) for clip in clips} == {2, 4, 9}
    assert sorted(len(part) for part in by_shape(clips)) == [1, 1, len(clips) - 2]
    config = replace(PAPER, weights=str(start), epochs=2, batch=len(clips), flip=False)
    lifter, objective = Noted(load_model(start).lifter), Paper(clips, [], load_model(start), config)
    terms = objective.terms(lifter, 0, 0)
    assert sorted(lifter.shapes) == [(2, 2), (2, 4), (2 * (len(clips) - 2), 9)]
    single = [collate([clip], load_model(start).framing) for clip in clips]
    means = [reprojection(batch, batch.lifted(lifter(batch.x))).item() for batch in single]
    assert terms["reprojection"].item() == pytest.approx(np.mean(means), rel=1e-4)
    run = finetune(takes, config, out=tmp_path / "run")
    assert np.isfinite(list(run.after.values())).all()


def test_a_run_at_another_frame_rate_makes_a_model_of_that_rate(tmp_path, start):
    config = replace(PAPER, weights=str(start), epochs=1, rate_hz=15.0, held_out=0.0)
    run = finetune([take()], config, out=tmp_path / "run")
    model = load_model(run.model)
    assert model.rate_hz == 15.0
    assert load_model(start).rate_hz == 30.0
    assert (
        model.card["clips"] == len(cut(resample(take(), 15.0), length=9)) != len(cut(resample(take(), 30.0), length=9))
    )


class Noted(nn.Module):
    """A lifter that notes how many clips of how many frames it was given."""

    def __init__(self, lifter: nn.Module) -> None:
        super().__init__()
        self.lifter, self.shapes = lifter, []

    def forward(self, x):
        self.shapes.append(tuple(x.shape[:2]))
        return self.lifter(x)


def test_views_that_do_not_overlap_are_refused():
    with pytest.raises(SyncError, match="share only"):
        resample(replace(take(), sync=Sync("a", {"a": ClockMap(), "b": ClockMap(100.0)})), 30.0)


def test_takes_are_held_out_whole_and_clips_of_one_take_do_not_overlap():
    clips = [c for n in range(3) for c in cut(resample(take(f"take{n}"), 30.0), length=9)]
    train, held = hold_out(clips, 0.3)
    assert {c.take for c in held} == {"take2"}
    assert {c.take for c in train} == {"take0", "take1"}
    train, held = hold_out(cut(resample(take(), 30.0), length=9), 0.2)
    assert max(c.time[-1] for c in train) < min(c.time[0] for c in held)
    assert hold_out(clips, 0.0) == (clips, [])


def test_the_order_is_a_pure_function():
    assert order(7, 3, 1)[0] == order(7, 3, 1)[0]
    assert order(7, 3, 1)[0] != order(7, 3, 2)[0]
    assert sorted(order(7, 3, 1)[0]) == list(range(7))


def test_a_run_lowers_its_loss_and_says_what_it_did(tmp_path, start):
    events = []
    config = replace(PAPER, weights=str(start), epochs=6)
    run = finetune([take(), take("take2", seed=1)], config, out=tmp_path / "run", on_progress=events.append)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["loss_consistency"] < rows[0]["loss_consistency"]
    assert {"angle_deg", "bone_spread", "mirrored", "radius", "seconds", "two_view_mm"} <= set(rows[0])
    assert events[-1].done == events[-1].total
    assert run.shares.keys() == {"reprojection", "the paper's consistency"}
    assert run.shares == pytest.approx(loss_shares(rows))
    model = load_model(run.model)
    assert model.card["views"] == "a,b"
    assert model.card["adapted"] == run.adapted
    assert json.loads((tmp_path / "run" / "config.json").read_text())["finetune"]["epochs"] == 6


def test_the_model_has_a_gate_unless_it_is_turned_off(tmp_path, start):
    takes = [take(), take("take2", seed=1)]
    config = replace(PAPER, weights=str(start), keep="last")
    run = finetune(takes, config, out=tmp_path / "gated")
    gate, free = (
        load_model(run.model),
        load_model(finetune(takes, replace(config, gate=False), out=tmp_path / "x").model),
    )
    assert (gate.name, free.name) == ("gated", "tcn")
    alone = gate.adapted_part().lifter.state_dict()
    assert all(torch.equal(value, alone[key]) for key, value in free.lifter.state_dict().items())
    unadapted = gate.lifter.unadapted.state_dict()
    assert all(torch.equal(value, unadapted[key]) for key, value in weights_of(start).items())
    x = collate(cut(resample(takes[0], 30.0), length=9), "box").x
    with torch.no_grad():
        assert gate.lifter.parts(x)[1].mean() > 0.7  # near what was taught
        assert gate.lifter.parts(x[:, :, list(range(16, -1, -1))])[1].mean() < 0.1  # joints in another order
    assert run.reach.keys() == {"taught", "everyday", "everyday_mm", "ungated_mm"}
    assert run.reach["everyday_mm"] < 0.1 * run.reach["ungated_mm"]
    assert finetune(takes, config, out=tmp_path / "gated") == run


def test_the_after_numbers_are_those_of_the_model_that_is_written(tmp_path, start):
    """take2 shows another body, where the unadapted lifter answers most."""
    takes = [take(), take("take2", seed=7)]
    run = finetune(takes, replace(PAPER, weights=str(start), keep="last"), out=tmp_path / "run")
    assert run.reach["taught"] < 0.4
    assert any("movements that the other clips do not" in sentence for sentence in run.warnings)
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert logged[-1]["criterion"] > run.before["criterion"]  # so that the held-out take does not count as taught
    held = collate(cut(resample(takes[1], 30.0), length=9), "box")
    written = validate(load_model(run.model).lifter, [held])
    assert {name: run.after[name] for name in written if name != "criterion"} == pytest.approx(
        {name: value for name, value in written.items() if name != "criterion"}, rel=1e-3
    )
    assert logged[-1]["disagreement"] != pytest.approx(run.after["disagreement"], rel=1e-3)


def test_held_out_takes_that_were_answered_better_count_as_taught(tmp_path, start):
    takes = [take(), take("take2", seed=7)]
    run = finetune(takes, replace(PAPER, weights=str(start), keep="last", lr=5e-3), out=tmp_path / "run")
    logged = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert logged["criterion"] < run.before["criterion"]
    held = collate(cut(resample(takes[1], 30.0), length=9), "box")
    with torch.no_grad():
        assert load_model(run.model).lifter.parts(held.x)[1].mean() > run.reach["taught"] + 0.2


def test_a_run_without_a_gate_warns_of_what_it_changed_elsewhere(tmp_path, start):
    config = replace(PAPER, weights=str(start), keep="last", gate=False, lr=1e-2)
    run = finetune([take()], config, out=tmp_path / "run")
    assert run.reach["ungated_mm"] > 10
    assert any("movements that were not filmed" in sentence for sentence in run.warnings)


def test_a_gate_that_costs_much_on_held_out_clips_says_how_much():
    far, near = Reach(0.3, 0.0, 0.0, 20.0), Reach(0.9, 0.0, 0.0, 20.0)
    (sentence,) = _reach_warnings(far, FinetuneConfig(), 40.0, 60.0)
    assert "is 40 instead of 60" in sentence
    assert "gate=false" in sentence
    (sentence,) = _reach_warnings(far, FinetuneConfig(), 59.0, 60.0)
    assert "gate=false" not in sentence
    assert not list(_reach_warnings(near, FinetuneConfig(), 40.0, 60.0))


def test_an_adapted_model_can_be_adapted_again(tmp_path, start):
    config = replace(PAPER, weights=str(start), keep="last", epochs=2)
    first = finetune([take()], config, out=tmp_path / "first")
    second = finetune([take("take2", seed=1)], replace(config, weights=str(first.model)), out=tmp_path / "second")
    model = load_model(second.model)
    assert isinstance(model.lifter.unadapted, GatedLifter)
    assert second.before == pytest.approx(
        finetune([take("take2", seed=1)], replace(config, weights=str(first.model), lr=0.0), out=tmp_path / "x").before
    )


def test_the_same_seed_gives_the_same_weights(tmp_path, start):
    config = replace(PAPER, weights=str(start), epochs=2)
    first, second = (finetune([take()], config, out=tmp_path / name).model for name in ("one", "two"))
    assert all(torch.equal(a, b) for a, b in zip(weights_of(first).values(), weights_of(second).values(), strict=True))


def test_a_stopped_run_continues_as_if_nothing_had_happened(tmp_path, start):
    config = replace(PAPER, weights=str(start))
    whole = finetune([take()], config, out=tmp_path / "whole")

    def stop(event) -> None:
        if event.done > 0.6 * event.total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune([take()], config, out=tmp_path / "parts", on_progress=stop)
    steps = []
    parts = finetune([take()], config, out=tmp_path / "parts", on_progress=steps.append)
    assert steps[0].done > 1
    assert parts.after == whole.after
    ours, theirs = (torch.load(r.folder / "last.pt", weights_only=True)["lifter"] for r in (parts, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_finished_run_is_only_loaded(tmp_path, start):
    config = replace(PAPER, weights=str(start), epochs=1)
    first = finetune([take()], config, out=tmp_path / "run")
    events = []
    again = finetune([take()], config, out=tmp_path / "run", on_progress=events.append)
    assert events == []
    assert again == first


def test_another_run_in_the_folder_is_not_overwritten(tmp_path, start):
    config = replace(PAPER, weights=str(start), epochs=1)
    finetune([take()], config, out=tmp_path / "run")
    with pytest.raises(TrainingError, match=r"other settings \(lr\)") as error:
        finetune([take()], replace(config, lr=0.5), out=tmp_path / "run")
    assert "--run" in error.value.hint
    with pytest.raises(TrainingError, match="other takes"):
        finetune([take(seed=3)], config, out=tmp_path / "run")


def test_a_loss_that_is_no_number_names_its_term_and_keeps_the_last_state(tmp_path, start):
    config = replace(PAPER, weights=str(start), lr=1e30, clip_norm=0.0)
    with pytest.raises(TrainingError, match=r"the loss term '\w+' became (nan|inf)"):
        finetune([take()], config, out=tmp_path / "run")


def test_a_model_that_did_not_get_better_is_not_kept(tmp_path, start):
    loss = LossConfig(reprojection=0.0, consistency=0.0, limb_variance=1e-9)
    run = finetune([take()], replace(PAPER, weights=str(start), lr=5.0, loss=loss), out=tmp_path / "run")
    assert not run.adapted
    assert any("unadapted lifter" in warning for warning in run.warnings)
    before = weights_of(start)
    assert all(torch.equal(value, before[key]) for key, value in weights_of(run.model).items())
    last = replace(PAPER, weights=str(start), lr=5.0, loss=loss, keep="last")
    assert finetune([take()], last, out=tmp_path / "last").best_epoch == PAPER.epochs


@pytest.mark.parametrize(
    ("takes", "says"),
    [
        (lambda t: [replace(t, poses={"a": t.poses["a"]})], "one view"),
        (lambda t: [replace(t, poses={"a": t.poses["a"], "b": t.poses["a"]})], "same video"),
        (lambda t: [replace(t, poses={"a": t.poses["a"], "b": copied(t.poses["a"])})], "same video"),
        (lambda t: [replace(t, poses={**t.poses, "c": copied(t.poses["a"])})], "same video"),
    ],
)
def test_takes_that_cannot_teach_are_refused(tmp_path, start, takes, says):
    with pytest.raises(TrainingError, match=says):
        finetune(takes(take()), replace(PAPER, weights=str(start)), out=tmp_path / "run")


def test_labels_and_settings_without_effect_are_refused(tmp_path, start):
    labels = LossConfig(reprojection=0.0, consistency=0.0, position=1.0)
    with pytest.raises(TrainingError, match="need 3D labels"):
        finetune([take()], replace(PAPER, weights=str(start), loss=labels), out=tmp_path / "run")
    moving = TriangulateConfig(moving_s=2.0)
    with pytest.raises(ConfigError, match="no effect with method paper"):
        finetune([take()], PAPER, out=tmp_path / "run", triangulation=moving)


def test_a_take_of_five_frames_is_refused_by_phones(tmp_path, start):
    config = FinetuneConfig(weights=str(start), device="cpu")
    with pytest.raises(TrainingError, match="enough frames"):
        finetune([first_frames(take(), 5)], config, out=tmp_path / "run")
    assert not (tmp_path / "run" / "model.pt").exists()


def test_a_run_may_stop_early_and_logs_a_table(tmp_path, start):
    loss = LossConfig(reprojection=0.0, consistency=0.0, limb_variance=1e-9)
    config = replace(PAPER, weights=str(start), lr=5.0, loss=loss, epochs=6, patience=2)
    finetune([take()], config, out=tmp_path / "run")
    lines = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert len(lines) == 1 + 2
    assert {"epoch", "criterion", "loss_limb_variance"} <= set(lines[0].split(","))


def test_views_are_loaded_when_they_are_asked_for(tmp_path, start):
    whole, asked = take(), []

    def load(view: str) -> Poses2D:
        asked.append(view)
        return whole.poses[view]

    later = replace(whole, poses=LoadedLater(whole.views, load))
    assert later.views == ("a", "b")
    assert list(LoadedLater(["b"], later.poses.__getitem__)) == ["b"]
    assert asked == []
    config = replace(PAPER, weights=str(start), epochs=1)
    runs = [finetune([t], config, out=tmp_path / n) for t, n in ((whole, "one"), (later, "two"))]
    assert runs[0].after == runs[1].after
    with pytest.raises(KeyError):
        later.poses["c"]


@pytest.mark.parametrize(("asked", "given"), [(0, 27), (9, 9), (1, 1)])
def test_the_model_infers_with_clips_of_the_length_that_it_was_trained_on(tmp_path, start, asked, given):
    run = finetune([take()], replace(PAPER, weights=str(start), epochs=1, clip_length=asked), out=tmp_path / "run")
    model = load_model(run.model)
    assert model.clip_length == given
    network = Noted(model.lifter)
    lift(replace(model, lifter=network), take().poses["a"])
    assert {frames for _, frames in network.shapes} == {given}


def test_a_model_adapted_in_another_framing_says_so(tmp_path, start):
    config = replace(PAPER, weights=str(start), epochs=1, held_out=0.0)
    runs = {rule: finetune([take()], replace(config, framing=rule), out=tmp_path / rule) for rule in ("auto", "crop")}
    assert {rule: load_model(run.model).framing for rule, run in runs.items()} == {"auto": "box", "crop": "crop"}
    assert runs["crop"].before["radius"] != pytest.approx(runs["auto"].before["radius"], rel=0.01)


def test_clips_longer_than_the_lifter_reads_are_refused(tmp_path, start):
    with pytest.raises(LifterError, match=r"clips of 100 frames .*'tcn' reads: 81 frames") as error:
        finetune([take()], replace(PAPER, weights=str(start), clip_length=100), out=tmp_path / "run")
    assert "clip_length=81" in error.value.hint


def test_nobody_seen_is_refused(tmp_path, start):
    seen = take()
    blind = {v: replace(p, xy=np.full_like(p.xy, np.nan), score=np.zeros_like(p.score)) for v, p in seen.poses.items()}
    with pytest.raises(TrainingError, match="no clip of up to 9 frames"):
        finetune([replace(seen, poses=blind)], replace(PAPER, weights=str(start)), out=tmp_path / "run")


def test_checkpointing_learns_the_same_and_lifters_without_are_refused(tmp_path):
    from twoview.lifters import build
    from twoview.lifting.model import Model, save_model

    torch.manual_seed(0)
    settings = {"dim_feat": 16, "dim_rep": 16, "depth": 2, "num_heads": 2, "maxlen": 9}
    made = Model(build("dstformer", settings), "dstformer", settings, "box", 30.0, 9)
    save_model(tmp_path / "m.pt", made)
    small = replace(PAPER, weights=str(tmp_path / "m.pt"), epochs=1)
    whole, blocks = (
        weights_of(finetune([take()], replace(small, checkpointing=kept), out=tmp_path / kept).model)
        for kept in ("all", "blocks")
    )
    assert all(torch.allclose(whole[key], blocks[key], atol=1e-5) for key in whole)
    with pytest.raises(TrainingError, match="'tcn' has no activation checkpointing"):
        finetune([take()], replace(PAPER, checkpointing="blocks"), out=tmp_path / "tcn")


def as_version_1(path: Path) -> None:
    """Rewrite a run's state as state version 1 had it."""
    state = torch.load(path, weights_only=True)
    settings, best = state["settings"], state["best"]
    loss = settings["loss"]
    settings["phones"] = {"steps": 200, "doubt_m": 0.05, "triangulate": {"late_s": 0.03}}
    settings["remember"] = settings.pop("checkpointing")
    settings["precision"] = "32-true"
    loss["only_unlabelled_2d"] = loss.pop("only_unlabeled_2d")
    del settings["keep"]  # of a run that is older still
    state["optimiser"] = state.pop("optimizer")
    best["watched"] = best.pop("held_out")
    torch.save({**state, "version": 1, "about": []}, path)


def test_a_run_of_the_old_layout_is_loaded_or_continued(tmp_path, start):
    config = replace(PAPER, weights=str(start))
    whole = finetune([take()], config, out=tmp_path / "run")
    as_version_1(tmp_path / "run" / "last.pt")
    assert finetune([take()], config, out=tmp_path / "run") == whole
    with pytest.raises(TrainingError, match=r"other settings \(lr\)"):
        finetune([take()], replace(config, lr=0.5), out=tmp_path / "run")

    def stop(event) -> None:
        if event.done > 0.6 * event.total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune([take()], config, out=tmp_path / "stopped", on_progress=stop)
    as_version_1(tmp_path / "stopped" / "last.pt")
    assert finetune([take()], config, out=tmp_path / "stopped").after == whole.after


def test_a_state_of_a_newer_version_is_refused(tmp_path, start):
    config = replace(PAPER, weights=str(start), epochs=1)
    finetune([take()], config, out=tmp_path / "run")
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    torch.save({**state, "version": 99}, tmp_path / "run" / "last.pt")
    with pytest.raises(FormatError, match="version 99; expected run state up to 2"):
        finetune([take()], config, out=tmp_path / "run")


def cut_off(tmp_path, start, method=PAPER):
    """A run that was stopped after its first epoch, its config and its state."""
    config = replace(method, weights=str(start), epochs=2)

    def stop(event) -> None:
        if event.done > 0.6 * event.total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune([take()], config, out=tmp_path / "run", on_progress=stop)
    return config, torch.load(tmp_path / "run" / "last.pt", weights_only=True)


def test_a_state_with_parts_missing_or_of_another_kind_is_refused_in_one_line(tmp_path, start):
    config, state = cut_off(tmp_path, start)
    path = tmp_path / "run" / "last.pt"
    weights, best = state["lifter"], state["best"]
    first = next(iter(weights))
    changes = [{key: None} for key in state if key not in ("made_by", "finished")] + [
        {"version": 0}, {"version": "two"}, {"settings": 5}, {"settings": {}}, {"inputs": []}, {"format": ["x"]},
        {"epoch": -1}, {"epoch": "one"}, {"before": {}}, {"before": {"criterion": "low"}}, {"warnings": [3]},
        {"best": {**best, "lifter": {}}}, {"best": {**best, "epoch": None}}, {"best": {**best, "more": 1}},
        {"lifter": {k: v for k, v in weights.items() if k != first}}, {"lifter": {**weights, "x": torch.zeros(1)}},
        {"lifter": {**weights, first: torch.zeros(2, 2)}}, {"lifter": {**weights, first: "text"}},
        {"optimizer": {"state": {}, "param_groups": []}}, {"optimizer": {}},
        {"optimizer": {"state": 3, "param_groups": 4}},
    ]  # fmt: skip
    contents = [{**state, **change} for change in changes]
    contents += [
        {k: v for k, v in state.items() if k != key}
        for key in state
        if key not in ("reach", "made_by", "finished", "warnings", "log")  # as in states of older versions
    ]
    for content in contents:
        torch.save(content, path)
        with pytest.raises((FormatError, TrainingError)) as caught:
            finetune([take()], config, out=tmp_path / "run")
        assert "\n" not in caught.value.message


def test_a_damaged_log_is_written_again_and_refused_where_the_state_has_none(tmp_path, start):
    config, state = cut_off(tmp_path, start)
    log, path = tmp_path / "run" / "log.jsonl", tmp_path / "run" / "last.pt"
    for text in ("{", "[]", "5", "[" * 100_000, "\x00"):
        log.write_text(text)
        torch.save({key: value for key, value in state.items() if key != "log"}, path)
        with pytest.raises(FormatError, match="log"):
            finetune([take()], config, out=tmp_path / "run")
    torch.save(state, path)
    finetune([take()], config, out=tmp_path / "run")
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == list(range(1, config.epochs + 1))


class Marked:
    """An objective whose criterion is the number at which a lifter's head was marked; a gate's is its adapted one's."""

    def validate(self, lifter: nn.Module) -> dict[str, float]:
        return {"criterion": float(getattr(lifter, "adapted", lifter).leave[1].bias[0])}


@pytest.mark.parametrize(
    ("best", "last", "gate", "expected"),
    [
        ((5, 0.6), 0.8, True, 5),
        ((5, 0.8), 0.6, True, 30),  # better, once a gate keeps it from what it was not taught
        ((5, 0.8), 0.6, False, 5),
        ((0, 1.0), 0.6, True, 30),
        ((0, 1.0), 1.0, True, 0),  # no better than the unadapted lifter
        ((0, 1.0), 0.6, False, 0),
    ],
)
def test_the_epoch_is_chosen_by_the_models_that_the_best_and_the_last_one_make(start, best, last, gate, expected):
    model = load_model(start)

    def marked(value: float) -> dict[str, torch.Tensor]:
        lifter = copy.deepcopy(model.lifter)
        with torch.no_grad():
            lifter.leave[1].bias[0] = value
        return lifter.state_dict()

    snapshot = Snapshot(best[0], {"criterion": 9.0}, marked(best[1]))
    state = RunState(30, {"criterion": 1.0}, snapshot, marked(last), {})
    clips = cut(resample(take(), 30.0), length=27)
    found, made, _ = _chosen(state, Marked(), model, clips, replace(PAPER, gate=gate), judges=1)
    assert found.best.epoch == expected
    assert found.best.held_out["criterion"] == Marked().validate(made.lifter)["criterion"] or expected == 0
    assert made.name == ("gated" if gate and expected else "tcn")


class Reaching:
    """An objective whose criterion falls by so much with every widening of a gate, and which is 100 without one."""

    def __init__(self, first: float, change: float) -> None:
        self.first, self.change = first, change

    def validate(self, lifter: nn.Module) -> dict[str, float]:
        if not isinstance(lifter, GatedLifter):
            return {"criterion": 100.0}
        widened = float(lifter.reach.median()) / self.first
        return {"criterion": 80.0 * self.change ** (np.log(widened) / np.log(1.5))}


@pytest.mark.parametrize(
    ("judges", "change", "expected"), [(4, 0.9, 3.4), (4, 0.97, 1.0), (4, 1.1, 1.0), (3, 0.5, 1.0)]
)
def test_a_gate_is_widened_where_enough_held_out_takes_get_clearly_better(start, judges, change, expected):
    model = load_model(start)
    lifter = copy.deepcopy(model.lifter)
    with torch.no_grad():
        lifter.leave[1].bias += 0.1 * torch.arange(51) / 51
    clips = cut(resample(take(), 30.0), length=27)
    first = float(gated(model, lifter, clips).lifter.reach.median())
    state = RunState(30, {"criterion": 100.0}, Snapshot(30, {"criterion": 80.0}, lifter.state_dict()), {}, {})
    found, made, widened = _chosen(state, Reaching(first, change), model, clips, PAPER, judges=judges)
    assert widened == expected
    assert float(made.lifter.reach.median()) == pytest.approx(expected * first, rel=1e-4)
    assert found.best.held_out == Reaching(first, change).validate(made.lifter)
