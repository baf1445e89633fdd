"""Errors against truth, and measures of poses that need none, on torch tensors of any unit. T frames, J joints.

predicted, truth (T, J, 3); values are per frame and joint, so that the caller chooses what to average over.
"""

from __future__ import annotations

import torch
from torch import Tensor

from twoview.geometry.similarity import best_scale, bone_lengths, residuals, rooted
from twoview.skeleton import H36M17


def joint_errors(predicted: Tensor, truth: Tensor) -> Tensor:
    """Distance (T, J) of root-relative joints; its mean is the MPJPE, the root counting as 0."""
    return _length(rooted(predicted) - rooted(truth))


def aligned_errors(predicted: Tensor, truth: Tensor) -> Tensor:
    """Distance (T, J) after the best similarity of each frame; its mean is the PA-MPJPE."""
    return _length(residuals(predicted, truth))


def scaled_errors(predicted: Tensor, truth: Tensor) -> Tensor:
    """Distance (T, J) of root-relative joints after the best scale of each frame; its mean is the N-MPJPE."""
    p, t = rooted(predicted), rooted(truth)
    return _length(best_scale(p, t) * p - t)


def velocity_errors(predicted: Tensor, truth: Tensor, time: Tensor) -> Tensor:
    """Error (T-1, J) of root-relative velocity, units per second (MPJVE); time (T,) s."""
    step = time.diff()[:, None, None]
    return _length((rooted(predicted) - rooted(truth)).diff(dim=0) / step)


def acceleration_errors(predicted: Tensor, truth: Tensor, time: Tensor) -> Tensor:
    """Error (T-2, J) of root-relative acceleration, units per second squared."""
    return _length(acceleration(rooted(predicted) - rooted(truth), time))


def acceleration(points: Tensor, time: Tensor) -> Tensor:
    """Second differences (T-2, J, 3) over true times (T,) s."""
    speed = points.diff(dim=0) / time.diff()[:, None, None]
    middle = (time[1:] + time[:-1]) / 2
    return speed.diff(dim=0) / middle.diff()[:, None, None]


def share_within(errors: Tensor, threshold: float) -> Tensor:
    """3D PCK: share of joints closer than `threshold`."""
    return (errors <= threshold).to(errors).mean()


def area_under_curve(errors: Tensor, threshold: float, steps: int = 31) -> Tensor:
    """AUC of the PCK from 0 to `threshold` (MPI-INF-3DHP: 31 steps to 150 mm)."""
    return torch.stack([share_within(errors, t) for t in torch.linspace(0, threshold, steps).tolist()]).mean()


def bone_spread(points: Tensor) -> Tensor:
    """Standard deviation over time of each bone's length as a share of its mean (16,): 0 for a rigid body."""
    lengths = bone_lengths(points)
    return lengths.std(dim=0, correction=0) / lengths.mean(dim=0).clamp(min=1e-9)


def bone_asymmetry(points: Tensor) -> Tensor:
    """Mean difference of left and right bones as a share of their mean."""
    lengths = bone_lengths(points).mean(dim=0)
    bone_of = {child: index for index, (_, child) in enumerate(H36M17.bones)}
    left = torch.stack([lengths[bone_of[a]] for a, _ in H36M17.pairs])
    right = torch.stack([lengths[bone_of[b]] for _, b in H36M17.pairs])
    return ((left - right).abs() / ((left + right) / 2).clamp(min=1e-9)).mean()


def jitter(points: Tensor, time: Tensor) -> Tensor:
    """Median acceleration of root-relative joints, units per second squared."""
    return _length(acceleration(rooted(points), time)).median()


def spread(points: Tensor) -> Tensor:
    """RMS distance of joints from the root; it shrinks when training collapses."""
    return rooted(points).square().sum(dim=-1).mean().sqrt()


def _length(vectors: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return length
