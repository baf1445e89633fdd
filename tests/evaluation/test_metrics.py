"""Metrics on bodies whose errors are known."""

from __future__ import annotations

import pytest
import torch
from bodies import moving_body

from twoview.evaluation.metrics import aligned_errors, bone_asymmetry, jitter, scaled_errors
from twoview.skeleton import H36M17


@pytest.fixture
def points(rng) -> torch.Tensor:
    return torch.from_numpy(moving_body(20, rng))


@pytest.mark.parametrize("measure", [aligned_errors, scaled_errors])
def test_errors_are_in_the_units_of_the_truth(points, rng, measure):
    """A prediction of half the size has the same error; the truth of twice the size has twice the error."""
    predicted = points + 0.03 * torch.from_numpy(rng.normal(size=points.shape))
    error = measure(predicted, points)
    assert error.mean() > 0.01
    assert torch.allclose(measure(0.5 * predicted, points), error, rtol=1e-4)
    assert torch.allclose(measure(predicted, 2 * points), 2 * error, rtol=1e-4)


@pytest.mark.parametrize("side", [0, 1])
def test_a_longer_limb_on_either_side_is_asymmetry(points, side):
    assert bone_asymmetry(points) < 0.2
    even = points[:1].clone()
    even[:] = 0
    for joint, parent in enumerate(H36M17.parents):
        if parent >= 0:
            even[:, joint] = even[:, parent] + torch.tensor([0.0, 0.0, 0.3])
    wrist = H36M17.pairs[-1][side]
    assert bone_asymmetry(even) == pytest.approx(0, abs=1e-6)
    even[:, wrist, 2] += 0.1
    assert bone_asymmetry(even) == pytest.approx(0.1 / 0.35 / len(H36M17.pairs), rel=1e-4)


def test_one_jump_is_no_jitter(points):
    time = torch.arange(20.0, dtype=points.dtype) / 30
    still = points[:1].repeat(20, 1, 1)
    still[10, 5] += 0.5
    assert jitter(still, time) == pytest.approx(0, abs=1e-9)
    shaking = points[:1].repeat(20, 1, 1)
    shaking[::2, 1:] += 0.01
    assert jitter(shaking, time) == pytest.approx(0.02 * 900 * 3**0.5, rel=1e-3)
