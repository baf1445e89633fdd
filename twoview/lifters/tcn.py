"""A small temporal network: residual blocks of dilated taps over time, in the manner of VideoPose3D.

x and y are the input plus a correction, so that all capacity goes into depth and into correcting bad detections. Every
frame of the clip gets a pose; beyond the clip's ends the first and the last frame are repeated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_JOINTS = 17


class Taps(nn.Module):
    """Three taps `dilation` frames apart as one matrix product: (B, T, C) -> (B, T, C). On CPUs faster than Conv1d."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.mix = nn.Linear(3 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Mix each frame with the ones `dilation` before and after it."""
        frames, reach = x.shape[1], self.dilation
        before, after = x[:, :1].expand(-1, reach, -1), x[:, -1:].expand(-1, reach, -1)
        padded = torch.cat([before, x, after], dim=1)
        mixed: Tensor = self.mix(torch.cat([padded[:, :frames], x, padded[:, 2 * reach : 2 * reach + frames]], dim=-1))
        return mixed


class Block(nn.Module):
    """A residual block: normalize, taps, GELU, mix."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.taps = Taps(width, dilation)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        change: Tensor = self.out(functional.gelu(self.taps(self.norm(x))))
        return x + change


class TemporalNetwork(nn.Module):
    """The lifter "tcn".

    width        channels
    dilations    one residual block each; the network looks sum(dilations) frames back and ahead
    clip_length  longest clip it was trained on, in frames
    """

    def __init__(self, width: int = 384, dilations: tuple[int, ...] = (1, 3, 9, 27, 1), clip_length: int = 81) -> None:
        super().__init__()
        self.clip_length = clip_length
        self.enter = nn.Linear(_JOINTS * 3, width)
        self.blocks = nn.Sequential(*(Block(width, dilation) for dilation in dilations))
        last = nn.Linear(width, _JOINTS * 3)
        self.leave = nn.Sequential(nn.LayerNorm(width), last)
        if not last.weight.is_meta:  # shapes alone have no values, and PyTorch would load its compiler for them
            nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 17, 3) x, y, score -> (B, T, 17, 3) x, y, z."""
        seen = x[..., 2:] > 0
        xy = torch.where(seen, x[..., :2], x.new_zeros(()))
        hidden = self.enter(torch.cat([xy, x[..., 2:]], dim=-1).flatten(-2))
        answer = self.leave(self.blocks(hidden)).unflatten(-1, (_JOINTS, 3)).to(x.dtype)
        return torch.cat([xy + answer[..., :2], answer[..., 2:]], dim=-1)
