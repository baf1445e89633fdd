"""What every run watches, because the loss can fall while the poses get worse, and what it then says in plain words.

The names of the numbers are those in `log.jsonl`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from twoview.clips import PairBatch
from twoview.config import ConsistencyConfig
from twoview.geometry import bone_lengths, fit_similarity, mirrored_fit, rooted
from twoview.losses import consistency, reprojection, rooted_weight

Watched = dict[str, float]

COLLAPSED = 0.6  # share of its size, or of its depth against its width, that the body may lose
REVERSED = 0.25  # share of clips whose two views are mirror images
TURNED_DEG = 25.0  # change of the angle between the views against the unadapted lifter
LOOSE_BONES = 1.5  # growth of the spread of bone lengths
SHARP_DEG, WIDE_DEG = 30.0, 150.0
FEW_CLIPS = 8


@torch.no_grad()
def watch(batch: PairBatch, predicted: Tensor) -> Watched:
    """Numbers of one batch, predicted (B, V, T, J, 3). All free of 3D truth."""
    points, weight = rooted(predicted).double(), rooted_weight(batch.score).double()
    free = ConsistencyConfig(scale="frame")
    lengths = bone_lengths(points)
    flat = [(points[:, v].flatten(1, 2), weight[:, v].flatten(1)) for v in range(points.shape[1])]
    first, first_weight = flat[0]
    turns, scales, mirrored = [], [], []
    for other, other_weight in flat[1:]:
        both = first_weight * other_weight
        fitted = fit_similarity(first, other, both)
        turns.append(_angle(fitted.rotation))
        scales.append(fitted.scale)
        mirrored.append(mirrored_fit(first, other, both).double())
    deviation = points.std(dim=(2, 3))
    return {
        "reprojection": float(reprojection(batch, predicted)),
        "consistency": float(consistency(batch, predicted)),
        "disagreement": float(consistency(batch, predicted, free)),
        "radius": float(points.square().sum(dim=-1).mean().sqrt()),
        "depth_to_width": float((deviation[..., 2] / deviation[..., 0].clamp(min=1e-9)).median()),
        "bone_spread": float((lengths.std(dim=2, correction=0) / lengths.mean(dim=2).clamp(min=1e-9)).mean()),
        "movement": float(points.std(dim=2).mean()),
        "angle_deg": math.degrees(float(torch.stack(turns).median())) if turns else float("nan"),
        "scale": float(torch.stack(scales).median()) if scales else float("nan"),
        "mirrored": float(torch.stack(mirrored).mean()) if mirrored else 0.0,
    }


def _angle(rotation: Tensor) -> Tensor:
    """Rotation angle (B,), radians."""
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    return torch.acos(((trace - 1) / 2).clamp(-1, 1))


def criterion(watched: Watched) -> float:
    """One number to choose an epoch by without 3D truth, lower is better: views agree and bones keep their lengths.

    Both parts are shares of the body's size, so that shrinking the body gains nothing.
    """
    return watched["disagreement"] + watched["bone_spread"] + watched["reprojection"] / max(watched["radius"], 1e-9)


def warnings(before: Mapping[str, float], after: Mapping[str, float], *, clips: int) -> list[str]:
    """Plain sentences about what the numbers before and after adaptation mean for the person who films."""
    said = []
    angle, turned = before["angle_deg"], abs(after["angle_deg"] - before["angle_deg"])
    if clips < FEW_CLIPS:
        said.append(
            f"few clips to learn from, {clips} of them; film more repetitions: with fewer than {FEW_CLIPS} "
            "little can be learnt"
        )
    if angle < SHARP_DEG or angle > WIDE_DEG:
        said.append(
            f"the two phones stood about {angle:.0f} degrees apart around the athlete, where the second view says "
            "little about depth; about 90 degrees is best"
        )
    if after["radius"] < COLLAPSED * before["radius"]:
        share = after["radius"] / before["radius"]
        said.append(f"the body shrank to {share:.0%} of its size: the adaptation collapsed")
    if after["depth_to_width"] < COLLAPSED * before["depth_to_width"]:
        said.append("the body became flat: its depth fell against its width, so the adaptation is not to be trusted")
    if after["movement"] < COLLAPSED * before["movement"]:
        said.append("the poses move much less than before: the adaptation learned a constant pose")
    if after["mirrored"] > max(REVERSED, before["mirrored"] + 0.1):
        said.append(
            f"in {after['mirrored']:.0%} of the clips the two views are mirror images, so depth is reversed in one of "
            "them; check that left and right are not exchanged in the detections"
        )
    if turned > TURNED_DEG:
        said.append(
            f"the angle between the views drifted by {turned:.0f} degrees during adaptation, which the loss does not "
            "notice"
        )
    if after["bone_spread"] > LOOSE_BONES * max(before["bone_spread"], 0.02):
        said.append("bone lengths vary more than before: a sign of wrong depth or of a bad sync")
    return said
