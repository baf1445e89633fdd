from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from twoview.geometry.similarity import (
    Similarity,
    bone_lengths,
    distances,
    fit_similarity,
    mirror,
    mirrored_fit,
    residuals,
)


def cloud(batch: int = 2, count: int = 30, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, count, 3)))


def moved(found: Similarity, points: torch.Tensor) -> torch.Tensor:
    return found.scale[:, None, None] * points @ found.rotation + found.translation[:, None]


def similarity(seed: int, batch: int = 2) -> Similarity:
    random = np.random.default_rng(seed)
    rotation = torch.from_numpy(Rotation.random(batch, random_state=seed).as_matrix())
    return Similarity(
        torch.from_numpy(random.uniform(0.3, 3, batch)), rotation, torch.from_numpy(random.normal(size=(batch, 3)))
    )


def gap(a, b, weight=None, **options) -> torch.Tensor:
    left = residuals(a, b, weight, **options).square().sum(dim=-1).clamp(min=1e-30).sqrt()
    weight = torch.ones_like(left) if weight is None else weight
    return (left * weight).sum() / weight.sum()


@given(st.integers(0, 10_000))
def test_an_exact_similarity_is_found(seed):
    a, true = cloud(seed=seed), similarity(seed)
    found = fit_similarity(a, moved(true, a))
    for name in ("scale", "rotation", "translation"):
        torch.testing.assert_close(getattr(found, name), getattr(true, name), atol=1e-9, rtol=1e-9)
    assert residuals(a, moved(true, a)).abs().max() < 1e-10


@given(st.integers(0, 10_000))
def test_moving_turning_or_scaling_a_changes_nothing(seed):
    a, b = cloud(seed=seed), cloud(seed=seed + 1)
    torch.testing.assert_close(gap(moved(similarity(seed), a), b), gap(a, b), atol=1e-10, rtol=1e-10)


def test_the_gradient_has_no_part_along_similarities_of_a():
    a, b = cloud().requires_grad_(), cloud(seed=1)
    (g,) = torch.autograd.grad(gap(a, b), a)
    centered = a - a.mean(dim=1, keepdim=True)
    assert g.sum(dim=1).abs().max() < 1e-14
    assert (g * centered).sum(dim=(1, 2)).abs().max() < 1e-14
    assert torch.linalg.cross(centered, g).sum(dim=1).abs().max() < 1e-14


def test_doubling_b_doubles_the_value():
    assert float(gap(cloud(), 2 * cloud(seed=1))) == pytest.approx(2 * float(gap(cloud(), cloud(seed=1))))


@pytest.mark.parametrize("options", [{}, {"rigid": True}])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
def test_gradients_equal_finite_differences(options, weighted, mirrored):
    a, b = cloud(count=9), cloud(count=9, seed=1)
    if mirrored:
        b = a * torch.tensor([-1.0, 1, 1]) + 0.1 * b
    weight = torch.rand(2, 9, dtype=torch.float64) if weighted else None
    inputs = (a.requires_grad_(), b.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, y: gap(x, y, weight, **options), inputs, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"rigid": True}, {"detach": True}])
@pytest.mark.parametrize("mirrored", [False, True])
def test_distances_are_the_mean_norms_of_both_fits_and_so_are_their_gradients(options, mirrored):
    a, b, weight = 5 + cloud(), cloud(seed=1), torch.rand(2, 30, dtype=torch.float64)
    if mirrored:
        b = a * torch.tensor([-1.0, 1, 1]) + 0.1 * b
    weight[0, 3] = 0
    a[0, 3] = float("nan")
    inputs = (a.requires_grad_(), b.requires_grad_())
    share = weight / weight.sum(dim=1, keepdim=True)
    ways = [(residuals(*pair, weight, **options).norm(dim=-1) * share) for pair in ((a, b), (b, a))]
    expected = torch.stack([torch.where(weight > 0, way, 0.0).sum(dim=1) for way in ways], dim=1)
    found = distances(a, b, weight, **options)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(distances(a, b, weight, ways=1, **options), expected[:, :1], atol=1e-12, rtol=1e-12)
    told = torch.tensor([[1.0, 0.3], [-2.0, 0.7]], dtype=torch.float64)
    for ours, plain in zip(*(torch.autograd.grad((v * told).sum(), inputs) for v in (found, expected)), strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize("rigid", [False, True])
def test_gradients_of_distances_equal_finite_differences(ways, rigid):
    inputs = (cloud(count=9).requires_grad_(), cloud(count=9, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(lambda x, y: distances(x, y, ways=ways, rigid=rigid), inputs, atol=1e-6)


def test_a_detached_transform_gives_nearly_the_same_gradient_where_views_agree():
    a = cloud().requires_grad_()
    b = moved(similarity(3), a.detach()) + 0.05 * cloud(seed=1)
    full, constant = (torch.autograd.grad(gap(a, b, detach=d), a)[0].flatten() for d in (False, True))
    assert torch.cosine_similarity(full, constant, dim=0) > 0.99
    assert not torch.equal(full, constant)


@pytest.mark.parametrize("rigid", [False, True])
def test_no_optimizer_finds_a_better_fit(rigid):
    a, b = cloud(1)[0].numpy(), cloud(1, seed=1)[0].numpy()
    weight = np.random.default_rng(2).uniform(size=30)

    def cost(x):
        scale = 1.0 if rigid else np.exp(x[6])
        return (weight[:, None] * (scale * a @ Rotation.from_rotvec(x[:3]).as_matrix() + x[3:6] - b) ** 2).sum()

    best = min(minimize(cost, np.r_[start, 0, 0, 0, 0], tol=1e-12).fun for start in np.eye(3) * 2)
    ours = residuals(torch.from_numpy(a)[None], torch.from_numpy(b)[None], torch.from_numpy(weight)[None], rigid=rigid)
    assert float((torch.from_numpy(weight)[None, :, None] * ours**2).sum()) == pytest.approx(best, rel=1e-6)


DEGENERATE = {
    "a is a point": lambda a, b: (torch.zeros_like(a), b),
    "b is a point": lambda a, b: (a, torch.zeros_like(b)),
    "both are points": lambda a, b: (torch.zeros_like(a), torch.zeros_like(b)),
    "a line": lambda a, b: (a * torch.tensor([1.0, 0, 0]), b * torch.tensor([1.0, 0, 0])),
    "flat": lambda a, b: (a * torch.tensor([1.0, 1, 0]), b * torch.tensor([1.0, 1, 0])),
    "mirrored": lambda a, b: (a, a * torch.tensor([-1.0, 1, 1])),
    "equal": lambda a, b: (a, a.clone()),
    "symmetric": lambda a, b: (torch.eye(3).repeat(2, 10, 1).double(), torch.eye(3).repeat(2, 10, 1).double()),
    "nearly collapsed": lambda a, b: (1e-9 * a, b),
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_degenerate_sets_give_finite_numbers(case, dtype):
    a, b = (v.to(dtype).requires_grad_() for v in DEGENERATE[case](cloud(), cloud(seed=1)))
    for value in (gap(a, b), distances(a, b).sum()):
        assert torch.isfinite(value)
        for gradient in torch.autograd.grad(value, (a, b)):
            assert torch.isfinite(gradient).all()


def test_points_of_no_weight_have_no_say_even_as_nan():
    a, b, weight = cloud(), cloud(seed=1), torch.ones(2, 30, dtype=torch.float64)
    weight[:, 4] = 0
    plain = residuals(a, b, weight)
    spoiled = a.clone()
    spoiled[:, 4] = float("nan")
    spoiled.requires_grad_()
    left = residuals(spoiled, b, weight)
    torch.testing.assert_close(left, plain)
    (gradient,) = torch.autograd.grad(left.square().sum(), spoiled)
    assert torch.isfinite(gradient).all()
    assert (gradient[:, 4] == 0).all()


def test_zero_weights_give_zero():
    assert residuals(cloud(), cloud(seed=1), torch.zeros(2, 30)).abs().max() == 0


def test_reflections_are_seen_but_not_used():
    a = cloud()
    flipped = a * torch.tensor([-1.0, 1, 1])
    assert mirrored_fit(a, flipped).all()
    assert not mirrored_fit(a, moved(similarity(1), a)).any()
    assert (torch.linalg.det(fit_similarity(a, flipped).rotation) > 0).all()


def test_shapes_are_checked():
    flat, single = cloud(count=4)[..., :2], cloud(count=4)[0]
    for pair in ((cloud(count=3), cloud(count=4)), (flat, flat), (single, single)):
        with pytest.raises(ValueError, match=r"expected two point sets \(B, N, 3\)"):
            residuals(*pair)


def test_mirroring_twice_changes_nothing_and_keeps_bones():
    poses = torch.randn(4, 17, 3)
    torch.testing.assert_close(mirror(mirror(poses)), poses)
    torch.testing.assert_close(bone_lengths(mirror(poses)).sort().values, bone_lengths(poses).sort().values)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e38])
def test_what_is_not_a_number_shows_in_the_result_and_stops_nothing(wrong):
    a, b = cloud().float(), cloud(seed=1).float()
    a[0, 3] = wrong
    value = gap(a.requires_grad_(), b)
    value.backward()
    assert not torch.isfinite(value)
    assert torch.isfinite(gap(a[1:], b[1:]))
