"""The same network as `twoview.lifters.dstformer`, written down plainly as its paper and settings describe it.

One product for queries, keys and values, attention weights spelt out, tokens copied into the order that each kind of
attention reads. Same names of weights, so that one state dict fits both. What the fast one is compared with.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from twoview.lifters.dstformer import DSTformer


class Attention(nn.Module):
    """Softmax of scaled products over the tokens of each sequence: (N, L, C) -> (N, L, C)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.proj = nn.Linear(width, width)
        self.qkv = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of each sequence."""
        rows, tokens, width = x.shape
        split = self.qkv(x).reshape(rows, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(rows, tokens, width))


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Spatial and temporal attention, each followed by an MLP, in the order that `order` says."""

    def __init__(self, width: int, heads: int, hidden: int, order: str) -> None:
        super().__init__()
        self.order = order
        for axis in "st":
            self.add_module(f"norm1_{axis}", nn.LayerNorm(width, eps=1e-6))
            self.add_module(f"norm2_{axis}", nn.LayerNorm(width, eps=1e-6))
            self.add_module(f"attn_{axis}", Attention(width, heads))
            self.add_module(f"mlp_{axis}", Mlp(width, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        for axis in self.order:
            x = self.half(x, axis)
        return x

    def half(self, x: Tensor, axis: str) -> Tensor:
        """Attention over joints ("s") or frames ("t"), then the MLP."""
        norm1, norm2, attention, mlp = (getattr(self, f"{part}_{axis}") for part in ("norm1", "norm2", "attn", "mlp"))
        batch, frames, joints, width = x.shape
        if axis == "s":
            mixed = attention(norm1(x).reshape(batch * frames, joints, width)).reshape(x.shape)
        else:
            turned = norm1(x).transpose(1, 2).reshape(batch * joints, frames, width)
            mixed = attention(turned).reshape(batch, joints, frames, width).transpose(1, 2)
        x = x + mixed
        return x + mlp(norm2(x))


class PlainDSTformer(DSTformer):
    """The whole network; only embeddings, head and their settings are shared with the fast one."""

    def __init__(self, dim_feat: int, mlp_ratio: float, depth: int = 5, heads: int = 8) -> None:
        super().__init__(dim_feat=dim_feat, mlp_ratio=mlp_ratio, depth=0)
        hidden = int(dim_feat * mlp_ratio)
        self.blocks_st = nn.ModuleList(Block(dim_feat, heads, hidden, "st") for _ in range(depth))
        self.blocks_ts = nn.ModuleList(Block(dim_feat, heads, hidden, "ts") for _ in range(depth))
        self.ts_attn = nn.ModuleList(nn.Linear(2 * dim_feat, 2) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 17, 3) x, y, score -> (B, T, 17, 3) x, y, z."""
        x = self.joints_embed(x) + self.pos_embed + self.temp_embed[:, : x.shape[1]]
        for st, ts, gate in zip(self.blocks_st, self.blocks_ts, self.ts_attn, strict=True):
            a, b = st(x), ts(x)
            share = gate(torch.cat([a, b], dim=-1)).softmax(dim=-1)
            x = a * share[..., 0:1] + b * share[..., 1:2]
        return self.head(torch.tanh(self.pre_logits(self.norm(x))))
