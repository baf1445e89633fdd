"""Clips and batches, on made takes of a few frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from bodies import moving_body

from twoview.geometry.framing import DEFAULT_FOCAL
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import H36M17
from twoview.takes import ResampledTake, Take, resample
from twoview.timeline import ClockMap, Sync
from twoview.training.clips import Clip, collate, cut, hold_out, order, step_seed

RATE = 30.0


def small_take(frames: int, *, seed: int = 0, labels: bool = True) -> Take:
    """Two views 4 m before a body, 640 x 480, on one clock."""
    body = moving_body(frames, np.random.default_rng(seed)) + np.array([0, 0, 4.0])
    time = np.arange(frames) / RATE
    xy, score = body[..., :2] / body[..., 2:] * 500 + [320, 240], np.full((frames, 17), 0.9)
    poses = {view: Poses2D(xy, score, time, H36M17, (640, 480), view) for view in "ab"}
    truth = {view: Poses3D(body, time, H36M17, "camera", "m", view) for view in "ab"} if labels else None
    return Take("take", poses, Sync("a", {"a": ClockMap(), "b": ClockMap()}), truth=truth)


def grid_of(frames: int, **options) -> ResampledTake:
    return resample(small_take(frames, **options), RATE)


def clips_of(takes: int, each: int) -> list[Clip]:
    """Made clips of 4 frames, every one of which overlaps with the next by half."""
    zero, shape = np.zeros((2, 4, 17, 2), np.float32), (2, 4, 17)
    return [
        Clip(f"take{take}", ("a", "b"), (2 * number + np.arange(4)) / RATE, zero, np.ones(shape), np.ones((2, 2)))
        for take in range(takes)
        for number in range(each)
    ]


def names(clips: list[Clip]) -> list[str]:
    return list(dict.fromkeys(clip.take for clip in clips))


@pytest.mark.parametrize(
    ("length", "stride", "starts"),
    [(8, 0.5, [0, 4, 8, 12]), (8, 1.0, [0, 8, 12]), (8, 0.01, list(range(13))), (20, 0.5, [0]), (40, 0.5, [0])],
)
def test_a_clip_begins_every_stride_and_the_last_ends_with_the_take(length, stride, starts):
    grid = grid_of(20)
    clips = cut(grid, length=length, stride=stride)
    assert [round(clip.time[0] * RATE) for clip in clips] == starts
    for clip, start in zip(clips, starts, strict=True):
        assert np.array_equal(clip.xy, grid.xy[:, start : start + length])
        assert np.array_equal(clip.score, grid.score[:, start : start + length])
        assert len(clip.time) == min(length, 20)


def test_a_clip_in_which_one_view_saw_less_than_half_is_left_out():
    grid = grid_of(16)
    score = grid.score.copy()
    score[1, :4] = 0
    score[1, 4, :9] = 0  # in 8 frames of 17 joints, 77 are unseen
    assert [round(c.time[0] * RATE) for c in cut(replace(grid, score=score), length=8)] == [4, 8]
    score[1, 4, :9] = 0.1  # half of the joints are enough
    assert [round(c.time[0] * RATE) for c in cut(replace(grid, score=score), length=8)] == [0, 4, 8]


def test_labels_need_the_truth_of_every_view_and_count_where_it_is_known():
    take = small_take(12)
    xyz = take.truth["b"].xyz.copy()
    xyz[3:6, 5, 2] = np.nan  # longer than the gap over which joints are interpolated
    holed = {**take.truth, "b": replace(take.truth["b"], xyz=xyz)}
    (clip,) = cut(resample(replace(take, truth=holed), RATE), length=12)
    assert np.argwhere(clip.truth_weight == 0).tolist() == [[1, frame, 5] for frame in (3, 4, 5)]
    assert not clip.truth[1, 3, 5].any()
    target = collate([clip], "screen").target
    assert not target[0, 1, 3, 5].any()
    assert (target[0, 1, :, 5].abs().sum(dim=-1) > 0).sum() == 9
    (clip,) = cut(resample(replace(take, truth={"a": take.truth["a"]}), RATE), length=12)
    assert clip.truth is None
    assert collate([clip], "screen").target is None


def test_labels_are_of_the_default_focal_length_unless_every_clip_names_its_own():
    take = small_take(8)
    (plain,) = cut(resample(take, RATE), length=8)
    (named,) = cut(resample(replace(take, focal={"a": 500.0, "b": 500.0}), RATE), length=8)
    assert named.focal.tolist() == [500.0, 500.0]
    depth = plain.truth[..., 2] / plain.truth[..., :1, 2] - 1
    for clips, focal in (([plain], DEFAULT_FOCAL * 640), ([named], 500.0), ([plain, named], DEFAULT_FOCAL * 640)):
        target = collate(clips, "screen").target.numpy()
        for found in target:
            assert found[..., 2] == pytest.approx(depth * focal / 320, abs=1e-5)


def test_unseen_joints_are_zero_for_the_lifter():
    (clip,) = cut(grid_of(8, labels=False), length=8)
    score = clip.score.copy()
    score[0, 2, 4] = 0
    x = collate([replace(clip, score=score)], "screen").x
    assert x.shape == (2, 8, 17, 3)
    assert not x[0, 2, 4].any()
    assert (x[..., 2] > 0).sum() == 2 * 8 * 17 - 1


def test_clips_are_mirrored_with_all_their_views_and_labels():
    (clip,) = cut(grid_of(6), length=6)
    batch = collate([clip, clip], "screen")
    half = batch.flipped(torch.tensor([False, True]))
    sides = list(H36M17.flip_order)
    for name in ("screen", "target"):
        before, after = getattr(batch, name), getattr(half, name)
        assert torch.equal(after[0], before[0])
        assert torch.equal(after[1, ..., 0], -before[1][..., sides, 0])
        assert torch.equal(after[1, ..., 1:], before[1][..., sides, 1:])
    uneven = replace(batch, score=torch.arange(17.0).expand_as(batch.score))
    assert torch.equal(uneven.flipped(torch.tensor([False, True])).score[1], uneven.score[1][..., sides])


def test_the_frames_that_show_the_athlete():
    (clip,) = cut(grid_of(6), length=6)
    score = clip.score.copy()
    score[1, 4] = 0
    score[0, 2, 1:] = 0
    shown = collate([replace(clip, score=score)], "screen").shown
    assert np.argwhere(~shown.numpy()).tolist() == [[0, 1, 4]]


@pytest.mark.parametrize(("takes", "share", "held"), [(2, 0.1, 1), (2, 0.9, 1), (5, 0.2, 1), (10, 0.3, 3), (3, 1.0, 2)])
def test_the_last_takes_are_held_out_and_at_least_one_is_left(takes, share, held):
    train, out = hold_out(clips_of(takes, 3), share)
    assert names(train) == [f"take{n}" for n in range(takes - held)]
    assert names(out) == [f"take{n}" for n in range(takes - held, takes)]
    assert len(train) + len(out) == 3 * takes


@pytest.mark.parametrize(("share", "held", "trained"), [(0.01, 1, 8), (0.2, 2, 7), (0.9, 9, 1), (1.0, 9, 1)])
def test_of_a_single_take_the_last_clips_are_held_out_and_those_that_overlap_are_dropped(share, held, trained):
    """Frames 2n to 2n + 3 are in clip n: the one before the first held out shares two with it."""
    clips = clips_of(1, 10)
    train, out = hold_out(clips, share)
    assert out == clips[10 - held :]
    assert train == clips[:trained]


def test_nothing_is_held_out_of_a_single_clip_or_by_a_share_of_0():
    clips = clips_of(1, 1)
    assert hold_out(clips, 0.5) == (clips, [])
    clips = clips_of(3, 2)
    assert hold_out(clips, 0.0) == (clips, [])
    two = clips_of(1, 2)
    assert hold_out(two, 0.5) == (two[:1], two[1:])  # they overlap, and one must be trained on


def test_the_takes_that_were_chosen_are_held_out():
    train, out = hold_out(clips_of(4, 3), 0.2, ("take1",))
    assert names(train) == ["take0", "take2", "take3"]
    assert names(out) == ["take1"]
    assert len(train) + len(out) == 12


def test_orders_and_seeds_are_others_in_every_epoch_step_and_run():
    assert sorted(order(50, 3, 1)[0]) == list(range(50))
    assert order(50, 3, 1)[0] != order(50, 3, 2)[0]
    assert order(50, 3, 1)[0] != order(50, 4, 1)[0]
    mirrored = np.concatenate([order(50, 3, epoch)[1] for epoch in range(40)])
    assert 0.45 < mirrored.mean() < 0.55
    seeds = {step_seed(seed, step) for seed in range(20) for step in range(20)}
    assert len(seeds) == 400
    assert max(seeds) < 2**63
    assert min(abs(a - b) for a, b in zip(sorted(seeds), sorted(seeds)[1:], strict=False)) > 1e9
