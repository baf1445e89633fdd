"""DSTformer, the network of MotionBERT (Zhu et al., ICCV 2023), full and Lite; its checkpoints load as they are.

Two streams of attention work on the same tokens, one first over the joints of a frame and then over the frames of a
joint, the other in the reverse order; a learned gate mixes them after every layer. Names of weights and settings are
those of the original, so `load_state_dict(checkpoint["model_pos"])` works once "module." is taken off.

Tokens stay in one memory order, (B, T, J, C), from end to end. Queries, keys and values are three products instead of
one, so that both kinds of attention are views of the products' results: no copy rearranges tokens. On CPUs a batch is
processed a few clips at a time, and where no gradient is needed sums are written over their first term: beside the
products themselves most time goes to memory.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from twoview.skeleton import H36M17

_FRAMES_AT_ONCE = 256


def overwriting() -> bool:
    """Whether sums may be written over their first term: no gradient, no compilation, no mixed precision."""
    recorded = torch.is_grad_enabled() or torch.compiler.is_compiling()
    return not (recorded or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"))


def plus(x: Tensor, y: Tensor, linear: nn.Linear) -> Tensor:
    """The sum x + linear(y); over x where `overwriting`, so that the product needs no memory of its own."""
    if not overwriting():
        total: Tensor = x + linear(y)
        return total
    x.view(-1, x.shape[-1]).addmm_(y.flatten(0, -2), linear.weight.t())
    return x.add_(linear.bias)


class Attention(nn.Module):
    """Self-attention over the joints of each frame, or over the frames of each joint: (B, T, J, C) -> the same."""

    def __init__(self, width: int, heads: int, over: str) -> None:
        super().__init__()
        self.heads, self.over = heads, over
        self.proj = nn.Linear(width, width)
        self.qkv = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        """Mix the tokens of each sequence and add the result to `onto`."""
        batch, frames, joints, width = x.shape
        weights, biases = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        parts = (functional.linear(x, w, b) for w, b in zip(weights, biases, strict=True))
        if self.over == "joints":
            split = (batch * frames, joints, self.heads, width // self.heads)
        else:  # heads of all joints side by side: each is a sequence of its own
            split = (batch, frames, joints * self.heads, width // self.heads)
        q, k, v = (part.view(split).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return plus(onto, mixed.transpose(1, 2).reshape(x.shape), self.proj)


class Mlp(nn.Module):
    """Two products with an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        """(..., C) -> (..., C), added to `onto`."""
        return plus(onto, functional.gelu(self.fc1(x)), self.fc2)


class Block(nn.Module):
    """A spatial and a temporal half, each attention and MLP with residuals; `order` is "st" or "ts"."""

    def __init__(self, width: int, heads: int, hidden: int, order: str) -> None:
        super().__init__()
        self.order = order
        self.norm1_s = nn.LayerNorm(width, eps=1e-6)
        self.norm1_t = nn.LayerNorm(width, eps=1e-6)
        self.attn_s = Attention(width, heads, "joints")
        self.attn_t = Attention(width, heads, "frames")
        self.norm2_s = nn.LayerNorm(width, eps=1e-6)
        self.norm2_t = nn.LayerNorm(width, eps=1e-6)
        self.mlp_s = Mlp(width, hidden)
        self.mlp_t = Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        x = x.clone() if overwriting() else x
        for half in self.order:
            x = self._spatial(x) if half == "s" else self._temporal(x)
        return x

    def _spatial(self, x: Tensor) -> Tensor:
        x = self.attn_s(self.norm1_s(x), onto=x)
        return cast(Tensor, self.mlp_s(self.norm2_s(x), onto=x))

    def _temporal(self, x: Tensor) -> Tensor:
        x = self.attn_t(self.norm1_t(x), onto=x)
        return cast(Tensor, self.mlp_t(self.norm2_t(x), onto=x))


class DSTformer(nn.Module):
    """The lifter "dstformer". Settings are MotionBERT's; the defaults are its Lite network, 16.0 million weights.

    maxlen      longest clip in frames; shorter ones use the first temporal embeddings
    att_fuse    a learned gate mixes the streams, as in all published networks; False: their mean
    add_root    for checkpoints trained on root-relative labels: moves x and y to the 2D pose
    checkpointing  keep "all" activations of a training step, or those at "blocks" alone: a fifth of the memory for a
                third more time
    """

    def __init__(
        self,
        *,
        dim_feat: int = 256,
        dim_rep: int = 512,
        depth: int = 5,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        num_joints: int = 17,
        maxlen: int = 243,
        dim_in: int = 3,
        dim_out: int = 3,
        att_fuse: bool = True,
        add_root: bool = False,
        checkpointing: str = "all",
    ) -> None:
        super().__init__()
        if dim_feat % num_heads:
            raise TypeError(f"dim_feat {dim_feat} is not a multiple of num_heads {num_heads}")
        self.clip_length, self.add_root, self.checkpointing = maxlen, add_root, checkpointing
        hidden = int(dim_feat * mlp_ratio)
        self.temp_embed = nn.Parameter(torch.zeros(1, maxlen, 1, dim_feat))
        self.pos_embed = nn.Parameter(torch.zeros(1, num_joints, dim_feat))
        self.joints_embed = nn.Linear(dim_in, dim_feat)
        self.blocks_st = nn.ModuleList(Block(dim_feat, num_heads, hidden, "st") for _ in range(depth))
        self.blocks_ts = nn.ModuleList(Block(dim_feat, num_heads, hidden, "ts") for _ in range(depth))
        self.norm = nn.LayerNorm(dim_feat, eps=1e-6)
        self.pre_logits = nn.Sequential(OrderedDict(fc=nn.Linear(dim_feat, dim_rep)))
        self.head = nn.Linear(dim_rep, dim_out)
        self.ts_attn = nn.ModuleList(nn.Linear(2 * dim_feat, 2) for _ in range(depth if att_fuse else 0))
        self.reset_weights()

    def reset_weights(self) -> None:
        """Fresh weights as MotionBERT draws them: both streams start with half of the weight."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for embedding in (self.temp_embed, self.pos_embed):
            nn.init.trunc_normal_(embedding, std=0.02)
        for gate in cast("list[nn.Linear]", self.ts_attn):
            nn.init.zeros_(gate.weight)
            nn.init.constant_(gate.bias, 0.5)

    def represent(self, x: Tensor) -> Tensor:
        """(B, T, 17, 3) x, y, score -> MotionBERT's representation (B, T, 17, dim_rep), before the head."""
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return self._represent(x)
        few = max(_FRAMES_AT_ONCE // x.shape[1], 1)  # clips whose tokens fit into a CPU core's cache: a third faster
        return torch.cat([self._represent(part) for part in torch.split(x, few)])

    def _represent(self, x: Tensor) -> Tensor:
        h = self.joints_embed(x) + self.pos_embed + self.temp_embed[:, : x.shape[1]]
        for index in range(len(self.blocks_st)):
            if self.checkpointing == "blocks" and torch.is_grad_enabled():
                h = cast(Tensor, checkpoint(self._layer, index, h, use_reentrant=False))
            else:
                h = self._layer(index, h)
        return torch.tanh(self.pre_logits(self.norm(h)))

    def _layer(self, index: int, h: Tensor) -> Tensor:
        """Both streams on the same tokens, mixed by weights that sum to 1 in every token."""
        a, b = self.blocks_st[index](h), self.blocks_ts[index](h)
        if not len(self.ts_attn):
            return cast(Tensor, (a + b) / 2)
        gate = cast(nn.Linear, self.ts_attn[index])
        of_a, of_b = gate.weight.chunk(2, dim=1)
        share = (functional.linear(a, of_a, gate.bias) + functional.linear(b, of_b)).softmax(dim=-1)
        return torch.lerp(a, b, share[..., 1:].to(a.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 17, 3) x, y, score -> (B, T, 17, 3) x, y, z, all in screen units; T from 1 to `clip_length`."""
        pose: Tensor = self.head(self.represent(x))
        return pose + root_offset(x, pose) if self.add_root else pose


def root_offset(x: Tensor, pose: Tensor) -> Tensor:
    """The offset (B, T, 1, 3), z 0, that puts a root-relative `pose` (B, T, J, 3) onto the 2D input `x`.

    The mean offset of all joints, weighted by their scores, so that an unseen pelvis does not matter.
    """
    weight = x[..., 2:] + 1e-6
    relative = pose[..., :2] - pose[..., H36M17.root : H36M17.root + 1, :2]
    offset = (weight * (x[..., :2] - relative)).sum(-2, True) / weight.sum(-2, True)
    return torch.cat([offset - pose[..., H36M17.root : H36M17.root + 1, :2], torch.zeros_like(offset[..., :1])], dim=-1)
