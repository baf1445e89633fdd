"""The loss terms, one function each; their weights are in `LossConfig` under the same names.

The method `paper` minimizes them by these weights. The default method `phones` uses those on labels and the
consistency, with the weights of `PhonesConfig`: see `method_phones.label_terms`.

A term gets a batch and the lifter's answer (B, V, T, J, 3) in screen units. Terms on 3D labels are those of MotionBERT
(paper equation 5), with a weight for each label; they are 0 for a batch without labels. `length`, `scale_errors` and
`velocity_errors` serve pretraining as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any, cast

import torch
from torch import Tensor

from twoview import plugins
from twoview.config import ConsistencyConfig, LossConfig
from twoview.errors import ConfigError
from twoview.geometry.similarity import bone_lengths, distances, residuals, rooted
from twoview.skeleton import H36M17
from twoview.training.clips import PairBatch

_TINY = 1e-12

# Pairs of Human3.6M bones whose angle MotionBERT's angle losses compare.
_ANGLES = ((0, 3), (0, 6), (3, 6), (0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 10), (7, 13), (8, 13), (10, 13), (7, 8),
           (8, 9), (10, 11), (11, 12), (13, 14), (14, 15))  # fmt: skip

Loss = Callable[[PairBatch, Tensor], Tensor]


def length(vectors: Tensor) -> Tensor:
    """Norm over the last axis with gradient 0, not NaN, at 0; NaN stays NaN."""
    squares = vectors.square().sum(dim=-1)
    return torch.where(squares == 0, torch.zeros_like(squares), squares.clamp(min=_TINY**2).sqrt())


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean; 0 where all weights are 0."""
    return (values * weight).sum() / weight.sum().clamp(min=_TINY)


def mean_of_clips(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of values (B, ...) over what is counted (B, ...) of each clip, then over the clips; 0 without any."""
    counted = counted.to(values).expand_as(values).flatten(1)
    total = counted.sum(dim=1)
    return weighted_mean((values.flatten(1) * counted).sum(dim=1) / total.clamp(min=_TINY), (total > 0).to(total))


def variance(values: Tensor, shown: Tensor, *, correction: int = 1) -> Tensor:
    """Variance (B, V, ...) of values (B, V, T, ...) over the frames shown (B, V, T); 0 for fewer than two."""
    shown = shown.to(values).reshape(*shown.shape, *[1] * (values.ndim - 3))
    count = shown.sum(dim=2)
    mean = (values * shown).sum(dim=2) / count.clamp(min=1)
    return ((values - mean.unsqueeze(2)).square() * shown).sum(dim=2) / (count - correction).clamp(min=1)


# --- terms without labels ------------------------------------------------------------------------------------------


def reprojection(batch: PairBatch, predicted: Tensor) -> Tensor:
    """L_2D, paper equation 7: distance to the detected joint in the picture, the score inside the norm, plain mean.

    Unseen joints stay in the mean, as published; frames without any, or without a root to measure from, do not. A clip
    counts the same however many of its frames do, as in the consistency loss.
    """
    seen = rooted_weight(batch.score)
    difference = rooted(predicted[..., :2]) - rooted(batch.screen)
    return mean_of_clips(length(difference * seen[..., None]), (seen > 0).any(dim=-1, keepdim=True))


def consistency(batch: PairBatch, predicted: Tensor, config: ConsistencyConfig | None = None) -> Tensor:
    """L_con, paper equations 1 to 4: residual of one similarity per clip between two views' 3D, mean over pairs."""
    config = config or ConsistencyConfig()
    points, weight = _Rooted.apply(predicted), rooted_weight(batch.score)  # type: ignore[no-untyped-call]
    if not config.confidence:
        weight = (weight > 0).to(weight)
    if config.scale == "frame":
        common = weight.amin(dim=1, keepdim=True)  # the same joints in every view, or sizes could not be compared
        points = points / _radius(points, common)[..., None, None]
    if config.against == "mean":
        return _against_mean(points, weight, config)
    views, weights = points.unbind(1), weight.unbind(1)
    losses = [
        _gap(views[a], views[b], weights[a] * weights[b], config, ways=2 if config.direction == "symmetric" else 1)
        for a, b in combinations(range(len(views)), 2)
    ]
    return torch.stack(losses).mean() if losses else predicted.new_zeros(())


def limb_variance(batch: PairBatch, predicted: Tensor) -> Tensor:
    """Variance over time of the 16 bone lengths, mean over clips, views and bones (MotionBERT)."""
    several = batch.shown.sum(dim=2) > 1
    return mean_of_clips(variance(bone_lengths(predicted), batch.shown), several[..., None])


def rooted_weight(score: Tensor) -> Tensor:
    """Score of a root-relative joint: 0 where the root was not seen."""
    return score * (score[..., :1] > 0)


class _Rooted(torch.autograd.Function):
    """`rooted`, whose own gradient takes as long as all else of the consistency: it fills and adds arrays of zeros."""

    @staticmethod
    def forward(_: Any, points: Tensor) -> Tensor:
        return rooted(points)

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        gradient = grads[0].clone()
        gradient[..., H36M17.root, :] -= grads[0].sum(dim=-2)
        return gradient


def _radius(points: Tensor, weight: Tensor) -> Tensor:
    """RMS distance from the root (B, V, T)."""
    squares = (points.square().sum(dim=-1) * weight).sum(dim=-1) / weight.sum(dim=-1).clamp(min=_TINY)
    return squares.clamp(min=1e-8).sqrt()


def _gap(a: Tensor, b: Tensor, weight: Tensor, config: ConsistencyConfig, *, ways: int = 1) -> Tensor:
    """Mean distance (scalar) after the fit of a to b, and with two ways of b to a as well.

    a, b (B, T, J, 3); weight (B, T, J)
    """
    if config.robust > 0 and ways == 2:
        return (_gap(a, b, weight, config) + _gap(b, a, weight, config)) / 2
    whole_clips, frames = len(a), a.shape[1]
    window = {"sequence": frames, "frame": 1, "window": min(config.window, frames)}[config.align]
    a, b, weight = (_windows(value, window) for value in (a, b, weight))
    fit = {"rigid": config.rigid, "detach": config.detach_transform}
    if config.robust > 0:
        with torch.no_grad():
            left = length(residuals(a, b, weight, **fit))
            weight = weight * (config.robust / left.clamp(min=config.robust))
    enough = ((weight > 0).sum(dim=1) >= 4).to(weight)
    share = (enough * weight.sum(dim=1))[:, None]
    distance = distances(a, b, weight, ways=ways, **fit)
    per_clip, total = (v.reshape(whole_clips, -1, v.shape[1]).sum(dim=1) for v in (distance * share, share))
    return weighted_mean((per_clip / total.clamp(min=_TINY)).mean(dim=1), (total[:, 0] > 0).to(total))


def _windows(values: Tensor, window: int) -> Tensor:
    """(B, T, J, ...) -> (B * windows, window * J, ...), the last window padded with zeros."""
    missing = -values.shape[1] % window
    if missing:
        values = torch.cat([values, values.new_zeros(len(values), missing, *values.shape[2:])], dim=1)
    return values.reshape(-1, window * values.shape[2], *values.shape[3:])


def _against_mean(points: Tensor, weight: Tensor, config: ConsistencyConfig) -> Tensor:
    """Every view against the mean of all in the first view's frame: cheaper than all pairs of many views."""
    with torch.no_grad():
        first, total = points[:, 0], weight[:, 0]
        mean = first * total[..., None]
        for view in range(1, points.shape[1]):
            both = weight[:, 0] * weight[:, view]
            flat = (points[:, view].flatten(1, 2), first.flatten(1, 2), both.flatten(1))
            moved = first + residuals(*flat, rigid=config.rigid).view_as(first)
            seen = weight[:, view] * (both > 0)
            mean, total = mean + moved * seen[..., None], total + seen
        mean = mean / total.clamp(min=_TINY)[..., None]
    losses = [_gap(mean, points[:, v], total * weight[:, v], config) for v in range(points.shape[1])]
    return torch.stack(losses).mean()


# --- terms with 3D labels ------------------------------------------------------------------------------------------


def scale_errors(points: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Distances (..., T, J) of root-relative joints (..., T, J, 3) from their labels after each frame's best scale.

    weight  (..., T, J) of a joint in the scale
    """
    dot = ((target * points).sum(dim=-1) * weight).sum(dim=-1)
    power = (points.square().sum(dim=-1) * weight).sum(dim=-1)
    best = (dot / power.clamp(min=_TINY))[..., None, None]
    return length(best * points - target)


def velocity_errors(points: Tensor, target: Tensor) -> Tensor:
    """Errors (..., T - 1, J) of the movement from frame to frame, in the points' unit per frame."""
    return length(points.diff(dim=-3) - target.diff(dim=-3))


def position(batch: PairBatch, predicted: Tensor) -> Tensor:
    """MPJPE of root-relative joints (paper equation 5; MotionBERT's loss_mpjpe)."""
    target, weight = _labels(batch, predicted)
    return weighted_mean(length(rooted(predicted) - target), weight)


def scale(batch: PairBatch, predicted: Tensor) -> Tensor:
    """N-MPJPE: MPJPE after the best scale of each frame (MotionBERT's n_mpjpe)."""
    target, weight = _labels(batch, predicted)
    return weighted_mean(scale_errors(rooted(predicted), target, weight), weight)


def velocity(batch: PairBatch, predicted: Tensor) -> Tensor:
    """Error of the movement from frame to frame, screen units per frame (MotionBERT's loss_velocity)."""
    target, weight = _labels(batch, predicted)
    both = torch.minimum(weight[:, :, 1:], weight[:, :, :-1])
    return weighted_mean(velocity_errors(rooted(predicted), target), both)


def limb_length(batch: PairBatch, predicted: Tensor) -> Tensor:
    """Mean absolute error of bone lengths (MotionBERT's loss_limb_gt)."""
    target, weight = _labels(batch, predicted)
    parents, children = zip(*H36M17.bones, strict=True)
    both = torch.minimum(weight[..., list(parents)], weight[..., list(children)])
    return weighted_mean((bone_lengths(predicted) - bone_lengths(target)).abs(), both)


def angle(batch: PairBatch, predicted: Tensor) -> Tensor:
    """Mean absolute error of 18 angles between bones, radians (MotionBERT's loss_angle)."""
    target, weight = _labels(batch, predicted)
    known = (weight.amin(dim=-1, keepdim=True) > 0).to(weight)
    difference = (_angles(predicted) - _angles(target)).abs()
    return weighted_mean(difference, known.expand_as(difference))


def angle_velocity(batch: PairBatch, predicted: Tensor) -> Tensor:
    """Mean absolute error of the angles' changes from frame to frame (MotionBERT's loss_angle_velocity)."""
    target, weight = _labels(batch, predicted)
    difference = (_angles(predicted).diff(dim=2) - _angles(target).diff(dim=2)).abs()
    known = (weight.amin(dim=-1, keepdim=True) > 0).to(weight)
    return weighted_mean(difference, torch.minimum(known[:, :, 1:], known[:, :, :-1]).expand_as(difference))


def _labels(batch: PairBatch, predicted: Tensor) -> tuple[Tensor, Tensor]:
    """Root-relative labels and their weights, 0 in frames that do not show the athlete, and without labels."""
    if batch.target is None or batch.target_weight is None:
        return torch.zeros_like(predicted), torch.zeros_like(predicted[..., 0])
    counted = (batch.target_weight[..., :1] > 0) & batch.shown[..., None]
    return rooted(batch.target), batch.target_weight * counted


def _angles(points: Tensor) -> Tensor:
    """Angles (..., 18) between pairs of bones, radians."""
    parents, children = zip(*H36M17.bones, strict=True)
    bones = points[..., list(parents), :] - points[..., list(children), :]
    first, second = (bones[..., list(side), :] for side in zip(*_ANGLES, strict=True))
    cosine = (first * second).sum(dim=-1) / (length(first) * length(second)).clamp(min=_TINY)
    return torch.acos(cosine.clamp(-1 + 1e-7, 1 - 1e-7))


ON_LABELS = ("position", "scale", "velocity", "limb_length", "angle", "angle_velocity")

LOSSES: dict[str, Loss] = {
    "reprojection": reprojection,
    "consistency": consistency,
    "position": position,
    "scale": scale,
    "velocity": velocity,
    "limb_variance": limb_variance,
    "limb_length": limb_length,
    "angle": angle,
    "angle_velocity": angle_velocity,
}


def total(batch: PairBatch, predicted: Tensor, config: LossConfig) -> dict[str, Tensor]:
    """Every term of non-zero weight that applies to this batch, multiplied by its weight (equations 6, 8).

    Terms on labels apply to batches with labels; with `config.only_unlabeled_2d` the 2D term applies to those without.
    The sum is what training minimizes. Raises ConfigError for a weight without a term.
    """
    labeled = batch.target is not None
    terms: dict[str, Tensor] = {}
    for name, weight in weights(config).items():
        if (name in ON_LABELS and not labeled) or (name == "reprojection" and labeled and config.only_unlabeled_2d):
            continue
        if name == "consistency":
            terms[name] = weight * consistency(batch, predicted, config.alignment)
        else:
            terms[name] = weight * term(name)(batch, predicted)
    return terms


def term(name: str) -> Loss:
    """The loss term of a name in `LOSSES`, or of `package.module:function`. Raises ConfigError for any other."""
    if name in LOSSES:
        return LOSSES[name]
    if ":" not in name:
        raise ConfigError(f"no loss term {name!r}; known: {', '.join(LOSSES)}, or yours as package.module:function")
    found = plugins.load(name, "loss term", ConfigError)
    if not callable(found):
        raise ConfigError(f"the loss term {name!r} is a {type(found).__name__}, and a function was expected")
    return cast(Loss, found)


def weights(config: LossConfig) -> Mapping[str, float]:
    """The non-zero weights of a config by name, a user's own terms last."""
    built_in = {name: value for name, value in vars(config).items() if isinstance(value, float) and value > 0}
    return {**built_in, **{name: value for name, value in config.own.items() if value}}
