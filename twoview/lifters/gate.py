"""The lifter "gated": an adapted lifter near the poses that it was adapted to, and the unadapted one elsewhere.

In every frame the pose that a lifter answers is compared with the nearest of those that the same lifter answered on the
takes. The nearer of both lifters counts: the unadapted one may be wrong about a pose that was taught. Distances are
measured in reaches, see `training.gate`, which chooses the poses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from twoview.geometry.similarity import canonical
from twoview.skeleton import H36M17

FAR = 2.0  # reaches from the nearest pose at which the adapted lifter has no share; up to 1 it has all


class GatedLifter(nn.Module):
    """Two lifters, and the poses that one of them was adapted to.

    adapted, unadapted  {"name": ..., "config": {...}} of each
    poses               how many poses are compared with; each is kept as both lifters answered it, canonical
    steady              frames over which distances are averaged: sigma of a Gaussian
    """

    unadapted_poses: Tensor
    adapted_poses: Tensor
    reach: Tensor
    blur: Tensor

    def __init__(
        self, adapted: Mapping[str, Any], unadapted: Mapping[str, Any], poses: int = 1, steady: float = 20.0
    ) -> None:
        from twoview.lifters import build  # which builds this lifter too

        super().__init__()
        self.adapted = build(adapted["name"], adapted["config"])
        self.unadapted = build(unadapted["name"], unadapted["config"])
        self.clip_length = min(cast(int, lifter.clip_length) for lifter in (self.adapted, self.unadapted))
        self.register_buffer("unadapted_poses", torch.zeros(poses, len(H36M17), 3))
        self.register_buffer("adapted_poses", torch.zeros(poses, len(H36M17), 3))
        self.register_buffer("reach", torch.ones(poses))
        width = math.ceil(2 * steady)
        blur = torch.exp(-(torch.arange(-width, width + 1) / max(steady, 1e-6)).square() / 2)
        self.register_buffer("blur", (blur / blur.sum())[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 17, 3) x, y, score -> (B, T, 17, 3) x, y, z."""
        return self.parts(x)[0]

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The answer (B, T, 17, 3), and the adapted lifter's share of it (B, T), 0 to 1 in each frame."""
        old, new = self.unadapted(x), self.adapted(x)
        near = torch.minimum(self._reaches(old, self.unadapted_poses), self._reaches(new, self.adapted_poses))
        seen = (x[..., 2] > 0).any(dim=-1).to(near)
        steady = self._averaged(near * seen) / self._averaged(seen).clamp(min=1e-6)
        share = ((FAR - steady) / (FAR - 1)).clamp(0.0, 1.0) * seen
        return old + share[..., None, None].to(old) * (new - old), share

    def _reaches(self, answer: Tensor, poses: Tensor) -> Tensor:
        """Distance (B, T) of answers (B, T, 17, 3) to the nearest of poses (N, 17, 3), in its reach, up to 2 FAR."""
        own, other = canonical(answer.float()).flatten(-2), poses.flatten(-2)
        squares = own.square().sum(-1, keepdim=True) + other.square().sum(-1) - 2 * own @ other.mT
        nearest = squares.min(dim=-1)
        distance = (nearest.values.clamp(min=0.0) / len(H36M17)).sqrt()
        return (distance / self.reach[nearest.indices]).clamp(max=2 * FAR)

    def _averaged(self, values: Tensor) -> Tensor:
        """Values (B, T) averaged over the frames near each one, but for the weights beyond the clip's ends."""
        return functional.conv1d(values[:, None], self.blur, padding=self.blur.shape[-1] // 2)[:, 0]
