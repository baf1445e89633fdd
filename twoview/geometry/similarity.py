"""The similarity fit of the consistency loss (paper equations 3 and 4) and of PA-MPJPE, and measures of a body.

The fit is the least-squares similarity between two weighted point sets (Procrustes, Umeyama 1991). Its gradient is the
closed form, not the derivative of an SVD: repeated singular values are harmless, and the only singular case, where the
best rotation itself is ambiguous, is treated as if the rotation were constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from twoview.geometry.cameras import Values
from twoview.skeleton import BODY_M, H36M17, Skeleton

_AMBIGUOUS = 1e-6  # sigma_2 + sigma_3 below this share of sigma_1: the rotation is not determined
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Similarity:
    """`scale * points @ rotation + translation` (paper equation 4), B of them: (B,), (B, 3, 3), (B, 3)."""

    scale: Tensor
    rotation: Tensor
    translation: Tensor


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What the fit leaves for its gradient. Column convention: `scale * rotation @ a ~ b`.

    a, b    (B, 3, N)  centered; coordinates first, so that every product reads memory in one go
    weight  (B, N)     summing to 1 in every set (to 0 where nothing weighs)
    sigma   (B, 3)     singular values, the last negative for a mirror-like pair; basis: right singular vectors
    power   (B,)       weighted mean of squares of a

    All but a, b and weight are float64.
    """

    a: Tensor
    b: Tensor
    weight: Tensor
    rotation: Tensor
    basis: Tensor
    sigma: Tensor
    power: Tensor
    scale: Tensor
    mean_a: Tensor
    mean_b: Tensor


def _fit(a: Tensor, b: Tensor, weight: Tensor, rigid: bool) -> _Fitted:
    weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=_TINY)
    mean_a, mean_b = a @ weight[:, :, None], b @ weight[:, :, None]
    a, b = a - mean_a, b - mean_b
    weighted_a = weight[:, None] * a
    covariance = (b @ weighted_a.mT).double()
    # the decomposition raises on what is not a number; scale and residuals are NaN instead
    u, s, vt = torch.linalg.svd(torch.where(covariance.isfinite(), covariance, 0.0))
    sign = torch.ones_like(s)
    sign[:, 2] = torch.where(torch.linalg.det(u @ vt) < 0, -1.0, 1.0)
    rotation, sigma = u @ (sign[..., None] * vt), sign * s
    power = (weighted_a.flatten(1)[:, None] @ a.flatten(1)[:, :, None]).flatten().double().clamp(min=_TINY)
    power = torch.where(power.isfinite(), power, torch.nan)  # an infinite one would make the scale a harmless 0
    scale = torch.ones_like(power) if rigid else sigma.sum(dim=1) / power
    return _Fitted(a, b, weight, rotation, vt.mT, sigma, power, scale, mean_a[..., 0].double(), mean_b[..., 0].double())


@torch.no_grad()
def fit_similarity(a: Tensor, b: Tensor, weight: Tensor | None = None, *, rigid: bool = False) -> Similarity:
    """The similarity (or rigid motion) that brings a closest to b in weighted least squares. Paper equation 3.

    a, b (B, N, 3); weight (B, N) >= 0; points of weight 0 may be NaN. Without gradient; `residuals` has one.
    Reflections are never used.
    """
    fitted = _fit(*_prepared(a, b, weight), rigid)
    rotation = fitted.rotation.mT
    translation = fitted.mean_b - fitted.scale[:, None] * torch.einsum("bi,bij->bj", fitted.mean_a, rotation)
    return Similarity(fitted.scale.to(a), rotation.to(a), translation.to(a))


def residuals(
    a: Tensor, b: Tensor, weight: Tensor | None = None, *, rigid: bool = False, detach: bool = False
) -> Tensor:
    """Points a, moved by their fit, minus b: (B, N, 3), differentiable in both; 0 where the weight is 0.

    detach treats the fitted transform as a constant.
    """
    left: Tensor = _Residuals.apply(*_prepared(a, b, weight), rigid, detach)  # type: ignore[no-untyped-call]
    return left.mT.to(a.dtype)


@torch.no_grad()
def mirrored_fit(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Whether a reflection would fit better, (B,) bool: a sign of depth reversal in one of the two."""
    return _fit(*_prepared(a, b, weight), False).sigma[:, 2] < 0


def _prepared(a: Tensor, b: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """a, b as (B, 3, N), 0 where the weight (B, N) is 0, in 32 bits at least."""
    if a.shape != b.shape or a.ndim != 3 or a.shape[-1] != 3:
        raise ValueError(f"expected two point sets (B, N, 3), got {tuple(a.shape)} and {tuple(b.shape)}")
    exact = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    weight = torch.ones_like(a[..., 0], dtype=exact) if weight is None else weight.detach().to(exact)
    seen, zero = (weight > 0)[:, None], torch.zeros((), dtype=exact, device=a.device)
    first, second = (torch.where(seen, points.mT.to(exact), zero).contiguous() for points in (a, b))
    return first, second, weight


class _Residuals(torch.autograd.Function):
    """Residuals (B, 3, N) after the fit, with the closed-form gradient."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, weight: Tensor, rigid: bool, detach: bool) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            fitted = _fit(a, b, weight, rigid)
            ctx.fitted, ctx.rigid, ctx.detach = fitted, rigid, detach
            turn = (fitted.scale[:, None, None] * fitted.rotation).to(a)
            left = torch.baddbmm(fitted.b, turn, fitted.a, beta=-1)
            return torch.where((weight > 0)[:, None], left, torch.zeros_like(left))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        f: _Fitted = ctx.fitted
        weight = f.weight[:, None]
        e = torch.where(weight > 0, grads[0], torch.zeros_like(grads[0])).contiguous()
        with torch.autocast(e.device.type, enabled=False):
            turn = f.scale[:, None, None] * f.rotation
            grad_a, grad_b = turn.mT.to(e) @ e, -e
            if not ctx.detach:
                moment = (e @ f.a.mT).double()
                grad_matrix = _rotation_gradient(f, f.scale[:, None, None] * moment)
                if not ctx.rigid:
                    grad_scale = (moment * f.rotation).sum(dim=(1, 2))
                    grad_matrix = grad_matrix + (grad_scale / f.power)[:, None, None] * f.rotation
                    shrink = (-2 * grad_scale * f.scale / f.power)[:, None, None]
                    grad_a = torch.addcmul(grad_a, weight * f.a, shrink.to(e))
                grad_a = torch.addcmul(grad_a, weight, grad_matrix.mT.to(e) @ f.b)
                grad_b = torch.addcmul(grad_b, weight, grad_matrix.to(e) @ f.a)
                grad_a = torch.baddbmm(grad_a, grad_a.sum(dim=2, keepdim=True), weight, alpha=-1)
                grad_b = torch.baddbmm(grad_b, grad_b.sum(dim=2, keepdim=True), weight, alpha=-1)
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


def rooted(points: Values, skeleton: Skeleton = H36M17) -> Values:
    """Points (..., J, D) relative to the root joint."""
    relative: Values = points - points[..., skeleton.root : skeleton.root + 1, :]
    return relative


def best_scale(points: Tensor, target: Tensor) -> Tensor:
    """The factor (..., 1, 1) that brings root-relative points (..., J, 3) closest to the target in least squares."""
    power = points.square().sum(dim=(-1, -2), keepdim=True)
    return (points * target).sum(dim=(-1, -2), keepdim=True) / power.clamp(min=_TINY)


def mirror(points: Tensor, skeleton: Skeleton = H36M17) -> Tensor:
    """Points (..., J, D) of the mirrored scene: x negated, left and right swapped; other channels stay."""
    sign = torch.ones(points.shape[-1], dtype=points.dtype, device=points.device)
    sign[0] = -1
    return points[..., list(skeleton.flip_order), :] * sign


def bone_lengths(points: Tensor, skeleton: Skeleton = H36M17) -> Tensor:
    """Lengths (..., bones) of points (..., J, 3)."""
    parents, children = zip(*skeleton.bones, strict=True)
    bones = points[..., list(children), :] - points[..., list(parents), :]
    lengths: Tensor = torch.linalg.vector_norm(bones, dim=-1)
    return lengths


def canonical(points: Tensor, skeleton: Skeleton = H36M17) -> Tensor:
    """Poses (..., J, 3) in camera axes, to be compared across views and bodies.

    They are root-relative, turned about the vertical until the hips lie along x, with summed bones of 4.2 m.
    """
    own = rooted(points, skeleton)
    across = own[..., skeleton.index("left_hip"), :] - own[..., skeleton.index("right_hip"), :]
    length = across[..., ::2].norm(dim=-1, keepdim=True).clamp(min=_TINY)
    cos, sin = across[..., :1] / length, across[..., 2:] / length
    x, y, z = own.unbind(-1)
    turned = torch.stack([cos * x + sin * z, y, cos * z - sin * x], dim=-1)
    size = bone_lengths(own, skeleton).sum(dim=-1)[..., None, None].clamp(min=_TINY)
    return turned * (BODY_M / size)
