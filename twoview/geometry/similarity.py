"""The similarity fit of the consistency loss (paper equations 3 and 4) and of PA-MPJPE, and measures of a body.

The fit is the least-squares similarity between two weighted point sets (Procrustes, Umeyama 1991). Its gradient is the
closed form, not the derivative of an SVD: repeated singular values are harmless, and the only singular case, where the
best rotation itself is ambiguous, is treated as if the rotation were constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

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


class _How(NamedTuple):
    """How a fit is made, and its gradient: of a to b alone or both ways, without a scale, as if it were constant."""

    ways: int
    rigid: bool
    detach: bool


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Two point sets and the fits of each to the other. Column convention: `scale * rotation @ a ~ b`.

    points    (B, 7, N)  a and b, centered, and a row of ones; coordinates first, so that products read memory in one go
    weighted  (B, 7, N)  the same times the weights, which sum to 1 in every set (to 0 where nothing weighs)
    rotation  (B, 3, 3)  of a to b; that of b to a is its transpose
    sigma     (B, 3)     singular values, the last negative for a mirror-like pair; basis: right singular vectors
    power     (B, 2)     weighted mean of squares of a, and of b; scale: of a to b, and of b to a
    mean      (B, 6)     of a and b

    All but points and weighted are float64.
    """

    points: Tensor
    weighted: Tensor
    rotation: Tensor
    basis: Tensor
    sigma: Tensor
    power: Tensor
    scale: Tensor
    mean: Tensor


def _fit(both: Tensor, weight: Tensor, rigid: bool) -> _Fitted:
    """The fits of sets (B, 7, N), as `_prepared` makes them; they are centered in place."""
    weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=_TINY)
    points = both[:, :6]
    mean = (weight[:, None] @ points.mT).mT
    points -= mean
    weighted = both * weight[:, None]
    moments = (weighted[:, :6] @ points.mT).double()
    covariance, squares = moments[:, 3:, :3], moments.diagonal(dim1=1, dim2=2)
    # the decomposition raises on what is not a number; scale and residuals are NaN instead
    u, s, vt = torch.linalg.svd(torch.where(covariance.isfinite(), covariance, 0.0))
    sign = torch.ones_like(s)
    sign[:, 2] = torch.where(torch.linalg.det(u @ vt) < 0, -1.0, 1.0)
    rotation, sigma = u @ (sign[..., None] * vt), sign * s
    power = squares.reshape(-1, 2, 3).sum(dim=2).clamp(min=_TINY)
    power = torch.where(power.isfinite(), power, torch.nan)  # an infinite one would make the scale a harmless 0
    scale = torch.ones_like(power) if rigid else sigma.sum(dim=1, keepdim=True) / power
    return _Fitted(both, weighted, rotation, vt.mT, sigma, power, scale, mean[..., 0].double())


def _moving(f: _Fitted, ways: int) -> Tensor:
    """The matrix (B, 3 * ways, 6) from a and b to residuals: of a moved to b, and below those of b moved to a."""
    stays = -torch.eye(3, dtype=f.scale.dtype, device=f.scale.device).expand_as(f.rotation)
    there = torch.cat([f.scale[:, :1, None] * f.rotation, stays], dim=2)
    if ways == 1:
        return there.to(f.points)
    back = torch.cat([stays, f.scale[:, 1:, None] * f.rotation.mT], dim=2)
    return torch.cat([there, back], dim=1).to(f.points)


def _pulled(f: _Fitted, moving: Tensor, e: Tensor, how: _How) -> Tensor:
    """The gradient (B, 6, N) of a and b from that of their residuals, e (B, 3 * ways, N)."""
    direct = moving.mT @ e  # as if the transforms were constant
    if how.detach:
        return direct
    sums = e @ f.points.mT
    moment = sums[:, :3, :3].double()
    from_rotation = f.scale[:, :1, None] * moment
    from_scale = [(moment * f.rotation).sum(dim=(1, 2))]
    if how.ways == 2:
        moment = sums[:, 3:, 3:6].mT.double()
        from_rotation = from_rotation + f.scale[:, 1:, None] * moment
        from_scale.append((moment * f.rotation).sum(dim=(1, 2)))
    covariance = _rotation_gradient(f, from_rotation)
    square = f.scale.new_zeros(len(e), 6, 6)
    if not how.rigid:
        for way, own in enumerate(from_scale):
            share = own / f.power[:, way]
            covariance = covariance + share[:, None, None] * f.rotation
            square.diagonal(dim1=1, dim2=2)[:, 3 * way : 3 * way + 3] = (-2 * share * f.scale[:, way])[:, None]
    square[:, 3:, :3], square[:, :3, 3:] = covariance, covariance.mT
    centering = moving.mT @ -sums[:, :, 6:]
    return direct.baddbmm_(torch.cat([square.to(e), centering], dim=2), f.weighted)


def _rotation_gradient(f: _Fitted, g: Tensor) -> Tensor:
    """Gradient of the covariance (B, 3, 3) from that of the rotation, g (B, 3, 3)."""
    rotation, basis, sigma = f.rotation, f.basis, f.sigma
    skew = basis.mT @ (rotation.mT @ g - g.mT @ rotation) @ basis
    sums = sigma[:, :, None] + sigma[:, None, :]
    determined = (sigma[:, 1] + sigma[:, 2] > _AMBIGUOUS * sigma[:, 0].clamp(min=_TINY))[:, None, None]
    off_diagonal = ~torch.eye(3, dtype=torch.bool, device=sums.device)
    k = torch.where(determined & off_diagonal, skew / torch.where(sums.abs() > _TINY, sums, torch.ones_like(sums)), 0.0)
    return rotation @ basis @ k @ basis.mT


@torch.no_grad()
def fit_similarity(a: Tensor, b: Tensor, weight: Tensor | None = None, *, rigid: bool = False) -> Similarity:
    """The similarity (or rigid motion) that brings a closest to b in weighted least squares. Paper equation 3.

    a, b (B, N, 3); weight (B, N) >= 0; points of weight 0 may be NaN. Without gradient; `residuals` has one.
    Reflections are never used.
    """
    fitted = _fit(*_prepared(a, b, weight), rigid)
    rotation, scale = fitted.rotation.mT, fitted.scale[:, 0]
    translation = fitted.mean[:, 3:] - scale[:, None] * torch.einsum("bi,bij->bj", fitted.mean[:, :3], rotation)
    return Similarity(scale.to(a), rotation.to(a), translation.to(a))


def residuals(
    a: Tensor, b: Tensor, weight: Tensor | None = None, *, rigid: bool = False, detach: bool = False
) -> Tensor:
    """Points a, moved by their fit, minus b: (B, N, 3), differentiable in both; 0 where the weight is 0.

    detach treats the fitted transform as a constant.
    """
    left: Tensor = _Residuals.apply(a, b, weight, _How(1, rigid, detach))  # type: ignore[no-untyped-call]
    return left.mT.to(a.dtype)


def distances(
    a: Tensor, b: Tensor, weight: Tensor | None = None, *, ways: int = 2, rigid: bool = False, detach: bool = False
) -> Tensor:
    """Weighted mean distance after the fit, (B, ways): of a moved to b, and of b moved to a. Differentiable in both.

    The mean norm of `residuals`, with one fit for both ways and in a few passes over the points.
    """
    found: Tensor = _Distances.apply(a, b, weight, _How(ways, rigid, detach)).to(a.dtype)  # type: ignore[no-untyped-call]
    return found


@torch.no_grad()
def mirrored_fit(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Whether a reflection would fit better, (B,) bool: a sign of depth reversal in one of the two."""
    return _fit(*_prepared(a, b, weight), False).sigma[:, 2] < 0


def _prepared(a: Tensor, b: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """a, b and ones as (B, 7, N), a and b 0 where the weight (B, N) is 0, and the weight; in 32 bits at least."""
    if a.shape != b.shape or a.ndim != 3 or a.shape[-1] != 3:
        raise ValueError(f"expected two point sets (B, N, 3), got {tuple(a.shape)} and {tuple(b.shape)}")
    exact = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    weight = torch.ones_like(a[..., 0], dtype=exact) if weight is None else weight.detach().to(exact)
    both = a.new_empty(len(a), 7, a.shape[1], dtype=exact)
    both[:, :3], both[:, 3:6], both[:, 6] = a.mT, b.mT, 1
    both[:, :6].masked_fill_((weight <= 0)[:, None], 0)
    return both, weight


def _begun(ctx: Any, a: Tensor, b: Tensor, weight: Tensor | None, how: _How) -> tuple[_Fitted, Tensor]:
    """The fit and its matrix to residuals, kept for the gradient."""
    f = _fit(*_prepared(a, b, weight), how.rigid)
    ctx.fitted, ctx.moving, ctx.how, ctx.types = f, _moving(f, how.ways), how, (a.dtype, b.dtype)
    return f, ctx.moving


def _ended(ctx: Any, e: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of a and b, and none of the weight and `how`, from that of the residuals."""
    back = _pulled(ctx.fitted, ctx.moving, e, ctx.how)
    return back[:, :3].mT.to(ctx.types[0]), back[:, 3:].mT.to(ctx.types[1]), None, None


class _Residuals(torch.autograd.Function):
    """Residuals (B, 3, N) after the fit, with the closed-form gradient."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, weight: Tensor | None, how: _How) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            f, moving = _begun(ctx, a, b, weight, how)
            return (moving @ f.points[:, :6]).masked_fill_(f.weighted[:, 6:] <= 0, 0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        f: _Fitted = ctx.fitted
        with torch.autocast(f.points.device.type, enabled=False):
            e = grads[0].masked_fill(f.weighted[:, 6:] <= 0, 0)
            return _ended(ctx, e)


class _Distances(torch.autograd.Function):
    """Weighted mean norms (B, ways) of the residuals, with the closed-form gradient."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, weight: Tensor | None, how: _How) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            f, moving = _begun(ctx, a, b, weight, how)
            left = moving @ f.points[:, :6]
            far = left.square().reshape(len(left), how.ways, 3, -1).sum(dim=2).sqrt_()
            ctx.left, ctx.far = left, far
            return (far @ f.weighted[:, 6, :, None])[..., 0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        f: _Fitted = ctx.fitted
        with torch.autocast(f.points.device.type, enabled=False):
            pull = grads[0][..., None] * f.weighted[:, 6:] / ctx.far.clamp(min=_TINY)
            e = (ctx.left.unflatten(1, (-1, 3)) * pull[:, :, None]).flatten(1, 2)
            return _ended(ctx, e)


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
