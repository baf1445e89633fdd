"""One similarity fit for everything: the consistency loss (paper equations 3 and 4) and PA-MPJPE.

The fit is the least-squares similarity between two weighted point sets (Umeyama 1991). Its gradient is the closed form,
not the derivative of an SVD: repeated singular values are harmless, and the only singular case, where the best rotation
itself is ambiguous, is treated as if the rotation were constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from twoview.skeleton import H36M17, Skeleton

_AMBIGUOUS = 1e-6  # sigma_2 + sigma_3 below this share of sigma_1: the rotation is not determined
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Similarity:
    """`apply(p) = scale * p @ rotation + translation` (paper equation 4), B of them: (B,), (B, 3, 3), (B, 3)."""

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """Points (B, N, 3) moved."""
        return self.scale[:, None, None] * points @ self.rotation + self.translation[:, None]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What the fit leaves for its gradient, float64. Column convention: `scale * rotation @ a ~ b`."""

    a: Tensor  # (B, N, 3) centred
    b: Tensor
    weight: Tensor  # (B, N)
    rotation: Tensor  # (B, 3, 3)
    basis: Tensor  # (B, 3, 3) right singular vectors
    sigma: Tensor  # (B, 3) singular values, the last negative for a mirror-like pair
    power: Tensor  # (B,) weighted sum of squares of a
    scale: Tensor  # (B,)
    mean_a: Tensor  # (B, 3)
    mean_b: Tensor


def _fit(a: Tensor, b: Tensor, weight: Tensor, rigid: bool) -> _Fitted:
    total = weight.sum(dim=1).clamp(min=_TINY)[:, None]
    mean_a = (weight[..., None] * a).sum(dim=1) / total
    mean_b = (weight[..., None] * b).sum(dim=1) / total
    a, b = a - mean_a[:, None], b - mean_b[:, None]
    covariance = torch.einsum("bn,bni,bnj->bij", weight, b, a)
    u, s, vt = torch.linalg.svd(covariance.nan_to_num(0.0, 0.0, 0.0))  # what is not a number still shows in the points
    sign = torch.ones_like(s)
    sign[:, 2] = torch.where(torch.linalg.det(u @ vt) < 0, -1.0, 1.0)
    rotation = u @ (sign[..., None] * vt)
    sigma = sign * s
    power = (weight[..., None] * a.square()).sum(dim=(1, 2))
    scale = torch.ones_like(power) if rigid else sigma.sum(dim=1) / power.clamp(min=_TINY)
    return _Fitted(a, b, weight, rotation, vt.mT, sigma, power.clamp(min=_TINY), scale, mean_a, mean_b)


def fit_similarity(a: Tensor, b: Tensor, weight: Tensor | None = None, *, rigid: bool = False) -> Similarity:
    """The similarity (or rigid motion) that brings a closest to b in weighted least squares. Paper equation 3.

    a, b (B, N, 3); weight (B, N) >= 0, points of weight 0 may be NaN. No gradient; see `residuals` for that.
    Reflections are never used.
    """
    with torch.no_grad():
        fitted = _fit(*_prepared(a, b, weight), rigid)
        rotation = fitted.rotation.mT
        moved = fitted.scale[:, None] * torch.einsum("bi,bij->bj", fitted.mean_a, rotation)
        translation = fitted.mean_b - moved
    return Similarity(fitted.scale.to(a), rotation.to(a), translation.to(a))


def residuals(
    a: Tensor, b: Tensor, weight: Tensor | None = None, *, rigid: bool = False, detach: bool = False
) -> Tensor:
    """`fit(a, b).apply(a) - b` (B, N, 3), differentiable in a and b through the fit itself; 0 where the weight is 0.

    detach treats the fitted transform as a constant.
    """
    clean_a, clean_b, clean_weight = _prepared(a, b, weight)
    return _Residuals.apply(clean_a, clean_b, clean_weight, rigid, detach).to(a)


def mirrored_fit(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Whether a reflection would fit better (B,) bool: a sign of depth reversal in one of the two."""
    with torch.no_grad():
        return _fit(*_prepared(a, b, weight), False).sigma[:, 2] < 0


def _prepared(a: Tensor, b: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    if a.shape != b.shape or a.ndim != 3 or a.shape[-1] != 3:
        raise ValueError(f"expected two point sets (B, N, 3), got {tuple(a.shape)} and {tuple(b.shape)}")
    weight = (
        torch.ones(a.shape[:2], dtype=torch.float64, device=a.device) if weight is None else weight.detach().double()
    )
    seen = (weight > 0)[..., None]
    zero = torch.zeros((), dtype=torch.float64, device=a.device)
    return torch.where(seen, a.double(), zero), torch.where(seen, b.double(), zero), weight


class _Residuals(torch.autograd.Function):
    """Residuals after the fit, with the closed-form gradient."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, weight: Tensor, rigid: bool, detach: bool) -> Tensor:
        fitted = _fit(a, b, weight, rigid)
        ctx.fitted, ctx.rigid, ctx.detach = fitted, rigid, detach
        moved = fitted.scale[:, None, None] * fitted.a @ fitted.rotation.mT
        return torch.where((weight > 0)[..., None], moved - fitted.b, torch.zeros_like(moved))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        f: _Fitted = ctx.fitted
        e = torch.where((f.weight > 0)[..., None], grads[0], torch.zeros_like(grads[0]))
        scale, rotation = f.scale[:, None, None], f.rotation
        grad_a, grad_b = scale * e @ rotation, -e
        if not ctx.detach:
            weight = f.weight[..., None]
            total = weight.sum(dim=1, keepdim=True).clamp(min=_TINY)
            grad_matrix = _rotation_gradient(f, scale * torch.einsum("bni,bnj->bij", e, f.a))
            if not ctx.rigid:
                grad_scale = (e * (f.a @ rotation.mT)).sum(dim=(1, 2))
                grad_matrix = grad_matrix + (grad_scale / f.power)[:, None, None] * rotation
                grad_a = grad_a - 2 * (grad_scale * f.scale / f.power)[:, None, None] * weight * f.a
            grad_a = grad_a + weight * (f.b @ grad_matrix)
            grad_b = grad_b + weight * (f.a @ grad_matrix.mT)
            grad_a = grad_a - weight / total * grad_a.sum(dim=1, keepdim=True)
            grad_b = grad_b - weight / total * grad_b.sum(dim=1, keepdim=True)
        return grad_a, grad_b, None, None, None


def _rotation_gradient(f: _Fitted, g: Tensor) -> Tensor:
    """Gradient of the covariance (B, 3, 3) from that of the rotation, g (B, 3, 3)."""
    rotation, basis, sigma = f.rotation, f.basis, f.sigma
    skew = basis.mT @ (rotation.mT @ g - g.mT @ rotation) @ basis
    sums = sigma[:, :, None] + sigma[:, None, :]
    determined = (sigma[:, 1] + sigma[:, 2] > _AMBIGUOUS * sigma[:, 0].clamp(min=_TINY))[:, None, None]
    off_diagonal = ~torch.eye(3, dtype=torch.bool, device=sums.device)
    k = torch.where(determined & off_diagonal, skew / torch.where(sums.abs() > _TINY, sums, torch.ones_like(sums)), 0.0)
    return rotation @ basis @ k @ basis.mT


def rooted(points: Tensor, skeleton: Skeleton = H36M17) -> Tensor:
    """Points (..., J, D) relative to the root joint."""
    return points - points[..., skeleton.root : skeleton.root + 1, :]


def mirror(points: Tensor, skeleton: Skeleton = H36M17) -> Tensor:
    """Points (..., J, D) of the mirrored scene: x negated, left and right exchanged; other channels stay."""
    sign = torch.ones(points.shape[-1], dtype=points.dtype, device=points.device)
    sign[0] = -1
    return points[..., list(skeleton.flip_order), :] * sign


def bone_lengths(points: Tensor, skeleton: Skeleton = H36M17) -> Tensor:
    """Lengths (..., bones) of points (..., J, 3)."""
    parents, children = zip(*skeleton.bones, strict=True)
    return (points[..., list(children), :] - points[..., list(parents), :]).norm(dim=-1)
