"""Every loss term against the numbers of the original implementation, and what all terms must do."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from places import TESTS

from twoview.command_settings import resolve
from twoview.config import ConsistencyConfig, LossConfig
from twoview.errors import ConfigError
from twoview.geometry.framing import Framing
from twoview.geometry.similarity import bone_lengths, rooted
from twoview.training.clips import PairBatch
from twoview.training.losses import LOSSES, ON_LABELS, _gap, consistency, limb_variance, total, weights
from twoview.training.method_paper import monitors

REFERENCE = json.loads((TESTS / "data" / "loss_reference.json").read_text())
PLAIN = ConsistencyConfig(direction="forward", confidence=False)


def reference_arrays() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """P, T (2, 27, 17, 3) and conf (2, 27, 17) of the reference numbers."""
    b, f, j = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (2, 27, 17)), indexing="ij")
    x = torch.sin(0.35 * f + 0.9 * j + 1.3 * b)
    y = torch.cos(0.27 * f - 0.8 * j + 0.7 * b)
    z = 0.5 * torch.sin(0.21 * f + 0.04 * j**2 + 0.6 * b)
    predicted = torch.stack([x, y, z], dim=-1)
    shift = torch.stack([0.1 * torch.cos(0.5 * f + 0.3 * j + 0.2 * c + b) for c in range(3)], dim=-1)
    return predicted, predicted + shift, 0.5 + 0.5 * torch.cos(0.11 * f + 0.5 * j + 0.3 * b)


def batch(views: int = 2, clips: int = 3, frames: int = 8, seed: int = 0, target: bool = True) -> PairBatch:
    torch.manual_seed(seed)
    shape = (clips, views, frames, 17)
    screen, score = torch.randn(*shape, 2, dtype=torch.float64), torch.rand(shape, dtype=torch.float64) * 0.9 + 0.1
    count = clips * views
    eye, one, two = torch.eye(3).expand(count, 3, 3), torch.ones(count), torch.ones(count, 2)
    framing = Framing(eye, 0 * two, one, one, two)
    labels = (torch.randn(*shape, 3, dtype=torch.float64), torch.ones(shape, dtype=torch.float64)) if target else ()
    return PairBatch(screen, score, torch.zeros(clips, frames), framing, *labels)


def answers(like: PairBatch, seed: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(*like.score.shape, 3, dtype=torch.float64)


def plain_terms(p: torch.Tensor, t: torch.Tensor) -> dict[str, torch.Tensor]:
    """The three position terms as the original writes them."""
    best = (p * t).sum(dim=(-1, -2), keepdim=True) / p.square().sum(dim=(-1, -2), keepdim=True)
    moved = (p.diff(dim=1) - t.diff(dim=1)).norm(dim=-1).mean()
    return {"mpjpe": (p - t).norm(dim=-1).mean(), "n_mpjpe": (best * p - t).norm(dim=-1).mean(), "velocity": moved}


@pytest.mark.parametrize(("name", "key"), [("position", "mpjpe"), ("scale", "n_mpjpe"), ("velocity", "velocity")])
def test_position_terms_equal_the_original_on_root_relative_poses(name, key):
    predicted, target, _ = reference_arrays()
    original = REFERENCE["motionbert"][key]["value"]
    assert float(plain_terms(predicted, target)[key]) == pytest.approx(original, abs=1e-12)
    whole = replace(batch(clips=1, frames=27), target=target[None], target_weight=torch.ones(1, 2, 27, 17).double())
    expected = plain_terms(rooted(predicted), rooted(target))[key]
    assert float(LOSSES[name](whole, predicted[None])) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("limb_length", "limb_gt"),
        ("angle", "angle"),
        ("angle_velocity", "angle_velocity"),
        ("limb_variance", "limb_var"),
    ],
)
def test_limb_terms_equal_the_original(name, key):
    predicted, target, _ = reference_arrays()
    expected = REFERENCE["motionbert"][key]
    answer = predicted[None].requires_grad_()
    whole = replace(batch(clips=1, frames=27), target=target[None], target_weight=torch.ones(1, 2, 27, 17).double())
    value = LOSSES[name](whole, answer)
    assert value.item() == pytest.approx(expected["value"], abs=1e-10)
    (gradient,) = torch.autograd.grad(value, answer)
    assert float(gradient.norm()) == pytest.approx(expected["grad_l2"], rel=1e-6)
    assert gradient[0, 0, 0, 0].tolist() == pytest.approx(expected["grad_first3"], abs=1e-10)


def test_reprojection_equals_the_original_for_root_relative_input():
    predicted, target, conf = reference_arrays()
    predicted, target = (torch.cat([torch.zeros_like(v[:, :, :1]), v[:, :, 1:]], dim=2) for v in (predicted, target))
    expected = (((predicted - target)[..., :2] * conf[..., None]).norm(dim=-1)).mean()
    whole = replace(batch(clips=1, frames=27), screen=target[None, ..., :2], score=conf[None].clamp(min=1e-9))
    assert float(LOSSES["reprojection"](whole, predicted[None])) == pytest.approx(float(expected), abs=1e-9)


def reference_pair() -> tuple[torch.Tensor, torch.Tensor]:
    predicted, target, _ = reference_arrays()
    ry, rx = torch.tensor(1.2, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    turn_y = torch.tensor([[ry.cos(), 0, ry.sin()], [0, 1, 0], [-ry.sin(), 0, ry.cos()]], dtype=torch.float64)
    turn_x = torch.tensor([[1, 0, 0], [0, rx.cos(), -rx.sin()], [0, rx.sin(), rx.cos()]], dtype=torch.float64)
    exact = 1.7 * predicted[0] @ (turn_y @ turn_x).T + torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    return predicted[0], exact + (target - predicted)[1]


def plain_consistency(a: torch.Tensor, b: torch.Tensor, **changes) -> float:
    """Without making root-relative, which the reference numbers do not."""
    ones = torch.ones(1, a.shape[0], 17, dtype=torch.float64)
    return float(_gap(a[None], b[None], ones, replace(PLAIN, **changes)))


def test_consistency_equals_the_original():
    a, b = reference_pair()
    noisy, mirrored = REFERENCE["consistency"]["noisy"], REFERENCE["consistency"]["mirror_x"]
    assert plain_consistency(a, b) == pytest.approx(noisy["value_a_to_b"], abs=1e-12)
    assert plain_consistency(b, a) == pytest.approx(noisy["value_b_to_a"], abs=1e-12)
    flipped = a * torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    assert plain_consistency(a, flipped) == pytest.approx(mirrored["value_a_to_b"], abs=1e-12)
    per_frame = REFERENCE["consistency_per_frame_alignment_noisy"]
    assert plain_consistency(a, b, align="frame") == pytest.approx(per_frame, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_exact(name):
    whole = batch(clips=1, frames=4)
    answer = answers(whole).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: LOSSES[name](whole, p), (answer,), atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "case", ["nothing seen", "one frame", "all joints at one place", "flat", "a line", "unlabelled"]
)
def test_nothing_makes_a_gradient_nan(name, case):
    whole = batch(frames=1 if case == "one frame" else 6, target=case != "unlabelled")
    answer = answers(whole)
    if case == "nothing seen":
        whole = replace(whole, score=torch.zeros_like(whole.score), target_weight=torch.zeros_like(whole.score))
    elif case == "all joints at one place":
        answer = torch.zeros_like(answer)
    elif case == "flat":
        answer[..., 2] = 0
    elif case == "a line":
        answer[..., 1:] = 0
    answer.requires_grad_()
    value = LOSSES[name](whole, answer)
    assert torch.isfinite(value)
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value, answer)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_unseen_joints_have_no_say(name):
    whole = batch()
    seen = torch.ones_like(whole.score)
    seen[:, :, :, 5] = 0
    whole = replace(whole, score=whole.score * seen, target_weight=whole.target_weight * seen)
    answer = answers(whole)
    moved = answer.clone()
    moved[..., 5, :] += 3.0
    if name in ("limb_variance", "angle", "angle_velocity"):
        pytest.skip("works on all bones of the answer, or on whole frames")
    assert float(LOSSES[name](whole, moved)) == pytest.approx(float(LOSSES[name](whole, answer)), abs=1e-12)


@pytest.mark.parametrize("name", ON_LABELS)
def test_frames_without_labels_have_no_say(name):
    """Nor has the movement from or to such a frame."""
    whole = batch(frames=9)
    assert whole.target is not None
    known = torch.ones_like(whole.score)
    known[0, 1, 4] = 0
    whole, answer = replace(whole, target_weight=known), answers(whole)
    moved, target = answer.clone(), whole.target.clone()
    moved[0, 1, 4] *= torch.linspace(0.5, 3, 17, dtype=torch.float64)[:, None]
    target[0, 1, 4] = 5.0
    found = LOSSES[name](replace(whole, target=target), moved)
    assert float(found) == pytest.approx(float(LOSSES[name](whole, answer)), abs=1e-12)
    full = LOSSES[name](replace(whole, target_weight=torch.ones_like(known)), answer)
    assert float(full) != pytest.approx(float(found), abs=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_bones_vary_and_joints_move_from_two_frames_on(frames):
    whole = batch(frames=frames)
    answer = answers(whole)
    assert whole.target is not None
    several = frames > 1
    lengths = bone_lengths(answer)
    expected = {
        "limb_variance": lengths.var(dim=2).mean() if several else torch.zeros(()),
        "velocity": (rooted(answer) - rooted(whole.target)).diff(dim=2).norm(dim=-1).mean()
        if several
        else torch.zeros(()),
    }
    for name, value in expected.items():
        assert float(LOSSES[name](whole, answer)) == pytest.approx(float(value), abs=1e-12)
    assert (float(LOSSES["angle_velocity"](whole, answer)) > 0) == several


def with_blank_frames(whole: PairBatch, answer: torch.Tensor, blank: int) -> tuple[PairBatch, torch.Tensor]:
    """The same clips with `blank` more frames in which nobody was seen, whatever lifter and labels say there."""

    def longer(values: torch.Tensor, fill: torch.Tensor) -> torch.Tensor:
        return torch.cat([values, fill.to(values).expand(*values.shape[:2], blank, *values.shape[3:])], dim=2)

    zero, wild = torch.zeros(()), torch.full((), 7.0)
    changed = {"screen": longer(whole.screen, zero), "score": longer(whole.score, zero)}
    if whole.target is not None:
        changed |= {"target": longer(whole.target, wild), "target_weight": longer(whole.target_weight, wild)}
    noise = torch.randn(*answer.shape[:2], blank, *answer.shape[3:], dtype=answer.dtype)
    return replace(whole, **changed), torch.cat([answer, 3 * noise], dim=2)


@pytest.mark.parametrize("name", LOSSES)
def test_a_clip_with_a_blank_third_has_the_losses_of_its_other_frames(name):
    whole = batch(frames=8)
    answer = answers(whole).requires_grad_()
    blank, longer = with_blank_frames(whole, answer, 4)
    value, wanted = LOSSES[name](blank, longer), LOSSES[name](whole, answer)
    assert value.item() == pytest.approx(wanted.item(), rel=1e-9)
    (gradient,), (expected,) = (torch.autograd.grad(loss, answer, retain_graph=True) for loss in (value, wanted))
    assert torch.allclose(gradient, expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("preset", ["paper_sportspose", "iqbal", "per_frame", "l2d"])
def test_blank_frames_leave_the_shares_of_the_losses_as_they_are(preset):
    config = resolve("finetune", file=preset).finetune.loss
    whole = batch(frames=6, target=False)
    answer = answers(whole)
    plain, padded = total(whole, answer, config), total(*with_blank_frames(whole, answer, 5), config)
    assert set(plain) == set(padded)
    for name, value in plain.items():
        assert padded[name].item() == pytest.approx(value.item(), rel=1e-9), name


def test_a_frame_whose_root_is_unseen_cannot_be_compared_and_does_not_count():
    whole, more = batch(frames=6), batch(frames=9)
    answer = answers(more)
    part = replace(more, **{n: getattr(more, n)[:, :, :6] for n in ("screen", "score", "target", "target_weight")})
    score = more.score.clone()
    score[:, :, 6:, 0] = 0
    found = LOSSES["reprojection"](replace(more, score=score), answer)
    assert found.item() == pytest.approx(LOSSES["reprojection"](part, answer[:, :, :6]).item(), rel=1e-12)
    one = whole.score.clone()
    one[:, :, :, 5] = 0  # a joint that is never seen stays in the mean, as published
    answer = answers(whole)
    seen = length_of_difference(whole, answer)
    seen[..., 5] = 0
    assert LOSSES["reprojection"](replace(whole, score=one), answer).item() == pytest.approx(seen.mean().item())


def length_of_difference(whole: PairBatch, answer: torch.Tensor) -> torch.Tensor:
    return ((rooted(answer[..., :2]) - rooted(whole.screen)) * whole.score[..., None]).norm(dim=-1)


def test_a_clip_counts_the_same_however_many_of_its_frames_are_blank():
    """As in the consistency loss, or the weight between both would differ from clip to clip."""
    whole = batch(clips=2)
    answer = answers(whole)
    single = [replace(whole, score=whole.score[i : i + 1], screen=whole.screen[i : i + 1]) for i in (0, 1)]
    score = whole.score.clone()
    score[1, :, 2:] = 0
    blank = replace(single[1], score=score[1:])
    for name in ("reprojection", "consistency"):
        parts = [LOSSES[name](single[0], answer[:1]).item(), LOSSES[name](blank, answer[1:]).item()]
        found = LOSSES[name](replace(whole, score=score), answer).item()
        assert found == pytest.approx(sum(parts) / 2, rel=1e-9)


def test_monitors_are_those_of_the_frames_that_show_the_athlete():
    whole = batch(frames=8)
    answer = answers(whole)
    plain, padded = monitors(whole, answer), monitors(*with_blank_frames(whole, answer, 4))
    assert padded == pytest.approx(plain, rel=1e-9)
    points = rooted(answer)
    assert plain["movement"] == pytest.approx(points.std(dim=2).mean().item())
    assert plain["radius"] == pytest.approx(points.square().sum(dim=-1).mean().sqrt().item())
    lengths = bone_lengths(points)
    assert plain["bone_spread"] == pytest.approx((lengths.std(dim=2, correction=0) / lengths.mean(dim=2)).mean().item())
    assert np.isfinite(list(monitors(batch(frames=1), answers(batch(frames=1))).values())).all()


@pytest.mark.parametrize("align", ["sequence", "window", "frame"])
@pytest.mark.parametrize("direction", ["symmetric", "forward"])
@pytest.mark.parametrize("against", ["pairs", "mean"])
def test_views_of_one_body_agree(align, direction, against):
    config = ConsistencyConfig(align=align, window=3, direction=direction, against=against)
    whole = batch(views=3)
    body = answers(whole)[:, :1]
    turns = torch.linalg.qr(torch.randn(3, 3, 3, dtype=torch.float64)).Q
    turns = turns * torch.linalg.det(turns)[:, None, None]
    same = torch.cat([(0.5 + v) * body @ turns[v] for v in range(3)], dim=1)
    assert float(consistency(whole, same, config)) < 1e-10
    assert float(consistency(whole, answers(whole), config)) > 0.1


def test_scale_a_frame_forgives_travel_through_depth():
    whole = batch(frames=12)
    body = answers(whole)[:, :1].expand(-1, 2, -1, -1, -1).clone()
    body[:, 1] *= torch.linspace(0.5, 2.0, 12, dtype=torch.float64)[None, :, None, None]
    assert float(consistency(whole, body, ConsistencyConfig(scale="frame"))) < 1e-9
    assert float(consistency(whole, body, ConsistencyConfig(scale="sequence"))) > 0.1


def test_symmetric_does_not_depend_on_the_order_of_views():
    whole = batch()
    answer = answers(whole)
    swapped = replace(whole, score=whole.score.flip(1))
    assert float(consistency(swapped, answer.flip(1))) == pytest.approx(float(consistency(whole, answer)), abs=1e-12)


@pytest.mark.parametrize("direction", ["forward", "symmetric"])
def test_the_loss_is_the_mean_over_all_pairs_of_views(direction):
    """1/|V_s| of paper equation 1: each of the three pairs of three views counts by a third, whatever their number."""
    whole = batch(views=3)
    answer = answers(whole)
    pairs = [(0, 1), (0, 2), (1, 2)] + ([(1, 0), (2, 0), (2, 1)] if direction == "symmetric" else [])
    forward = ConsistencyConfig(direction="forward")
    single = [
        float(consistency(replace(whole, score=whole.score[:, pair]), answer[:, pair], forward))
        for pair in map(list, pairs)
    ]
    assert len({round(value, 4) for value in single}) == len(pairs)
    together = total(whole, answer, LossConfig(consistency=1.0, alignment=ConsistencyConfig(direction=direction)))
    assert float(together["consistency"]) == pytest.approx(sum(single) / len(pairs), abs=1e-12)


def test_against_the_mean_every_view_counts_alike():
    """The same views once more change neither their mean nor the mean distance from it."""
    whole, config = batch(views=2), ConsistencyConfig(against="mean")
    answer, twice = answers(whole), [0, 1, 0, 1]
    doubled = float(consistency(replace(whole, score=whole.score[:, twice]), answer[:, twice], config))
    assert doubled == pytest.approx(float(consistency(whole, answer, config)), abs=1e-12)


def test_a_joint_counts_in_the_consistency_by_the_product_of_both_scores():
    whole = batch(clips=1, frames=20)
    body = answers(whole)[:, :1].expand(-1, 2, -1, -1, -1).clone()
    body[:, 1, :, 13] += 2.0

    def loss(first: float, second: float, *, confidence: bool = True) -> float:
        score = torch.ones_like(whole.score)
        score[:, 0, :, 13], score[:, 1, :, 13] = first, second
        config = LossConfig(consistency=1.0, alignment=ConsistencyConfig(confidence=confidence))
        return float(total(replace(whole, score=score), body, config)["consistency"])

    assert loss(0.1, 1.0) < 0.2 * loss(1.0, 1.0)
    assert loss(0.2, 0.5) == pytest.approx(loss(0.1, 1.0), abs=1e-12)
    assert loss(1.0, 0.1) == pytest.approx(loss(0.1, 1.0), abs=1e-12)
    assert loss(0.1, 0.2, confidence=False) == pytest.approx(loss(1.0, 1.0), abs=1e-12)


def test_every_term_of_the_total_has_the_gradient_of_its_loss():
    """What training steps along is the sum of the terms: none may be a constant there."""
    whole = batch()
    answer = answers(whole).requires_grad_()
    config = LossConfig(**dict.fromkeys(LOSSES, 0.3))
    terms = total(whole, answer, config)
    assert set(terms) == set(LOSSES)
    for name, value in terms.items():
        (own,), (plain,) = (torch.autograd.grad(v, answer) for v in (value, LOSSES[name](whole, answer)))
        assert own.abs().max() > 0
        assert torch.allclose(own, 0.3 * plain, rtol=1e-9, atol=1e-15)


def test_a_batch_is_the_mean_of_its_clips():
    whole = batch(clips=4)
    answer = answers(whole)
    single = [
        float(consistency(replace(whole, score=whole.score[i : i + 1]), answer[i : i + 1])) for i in range(4)
    ]  # fmt: skip
    assert float(consistency(whole, answer)) == pytest.approx(sum(single) / 4, abs=1e-12)


def test_robust_weights_forgive_one_wild_joint():
    whole = batch(clips=1, frames=20)
    body = answers(whole)[:, :1].expand(-1, 2, -1, -1, -1).clone()
    body[:, 1, :, 13] += 5.0
    plain, robust = (float(consistency(whole, body, ConsistencyConfig(robust=r))) for r in (0.0, 0.1))
    assert robust < 0.5 * plain


def test_the_total_names_its_terms():
    config = LossConfig(reprojection=1.0, consistency=0.3, velocity=20.0)
    whole = batch()
    terms = total(whole, answers(whole), config)
    assert list(terms) == ["reprojection", "consistency", "velocity"]
    assert weights(LossConfig(reprojection=0.0, consistency=0.0)) == {}


def test_every_weight_has_a_term_and_every_term_a_weight():
    others = {"alignment", "own", "only_unlabeled_2d"}
    assert set(LossConfig.__dataclass_fields__) - others == set(LOSSES)
    assert set(ON_LABELS) < set(LOSSES)


def test_terms_speak_of_the_batches_they_can():
    labeled, bare = batch(), batch(target=False)
    config = LossConfig(position=1.0, only_unlabeled_2d=True)
    assert set(total(labeled, answers(labeled), config)) == {"consistency", "position"}
    assert set(total(bare, answers(bare), config)) == {"reprojection", "consistency"}


def test_a_term_of_ones_own_counts_beside_the_others():
    whole = batch()
    config = LossConfig(own={"torch:numel_of": 1.0})
    with pytest.raises(ConfigError, match="numel_of"):
        total(whole, answers(whole), config)
    with pytest.raises(ConfigError, match="a:b should be float"):
        weights(LossConfig(own={"a:b": "much"}))
    with pytest.raises(ConfigError, match="yours as package"):
        total(whole, answers(whole), LossConfig(own={"sharpness": 1.0}))
    name = f"{limb_variance.__module__}:limb_variance"
    found = total(whole, answers(whole), LossConfig(reprojection=0.0, consistency=0.0, own={name: 2.0}))
    assert float(found[name]) == pytest.approx(2 * float(limb_variance(whole, answers(whole))))
