"""RTMPose's network in plain PyTorch: CSPNeXt backbone and RTMCC head, with MMPose's parameter names.

Only `rtmpose.TorchEngine` imports this, when a .pth file is asked for. Widths, depths and names follow MMPose 1.x, so
that its checkpoints load strictly; batch norms have the configs' epsilon of 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-5
# Depth and width factors of the sizes.
SIZES = {"t": (0.167, 0.375), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}
# Channels in and out, blocks, whether blocks add their input, whether spatial pooling comes first.
STAGES = (
    (64, 128, 3, True, False),
    (128, 256, 6, True, False),
    (256, 512, 6, True, False),
    (512, 1024, 3, False, True),
)
TOKEN, KEY = 256, 128  # sizes of a joint's vector and of the attention's keys


class ConvUnit(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, inner: int, outer: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outer, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inner, h, w) -> (N, outer, h / stride, w / stride)."""
        return F.silu(self.bn(self.conv(x)))


class SeparableConv(nn.Module):
    """A convolution of each channel, then one across channels."""

    def __init__(self, inner: int, outer: int, kernel: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvUnit(inner, inner, kernel, groups=inner)
        self.pointwise_conv = ConvUnit(inner, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inner, h, w) -> (N, outer, h, w)."""
        y: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return y


class Block(nn.Module):
    """CSPNeXt's unit: a 3x3 convolution, then a separable 5x5 one, added to the input where `add`."""

    def __init__(self, channels: int, add: bool) -> None:
        super().__init__()
        self.conv1, self.conv2, self.add = ConvUnit(channels, channels, 3), SeparableConv(channels, channels, 5), add

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        y: Tensor = self.conv2(self.conv1(x))
        return x + y if self.add else y


class ChannelAttention(nn.Module):
    """Weights channels by their mean over the picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class CSPLayer(nn.Module):
    """Half of the channels through the blocks, half past them."""

    def __init__(self, inner: int, outer: int, blocks: int, add: bool) -> None:
        super().__init__()
        half = outer // 2
        self.main_conv, self.short_conv = ConvUnit(inner, half, 1), ConvUnit(inner, half, 1)
        self.final_conv = ConvUnit(2 * half, outer, 1)
        self.blocks = nn.Sequential(*(Block(half, add) for _ in range(blocks)))
        self.attention = ChannelAttention(2 * half)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inner, h, w) -> (N, outer, h, w)."""
        both = torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], dim=1)
        y: Tensor = self.final_conv(self.attention(both))
        return y


class PoolingPyramid(nn.Module):
    """The map beside its maxima over 5, 9 and 13 pixels."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvUnit(inner, inner // 2, 1), ConvUnit(inner // 2 * 4, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inner, h, w) -> (N, outer, h, w)."""
        x = self.conv1(x)
        y: Tensor = self.conv2(torch.cat([x, *(F.max_pool2d(x, size, 1, size // 2) for size in (5, 9, 13))], dim=1))
        return y


class CSPNeXt(nn.Module):
    """The backbone: a stem and four stages, each halving the picture."""

    def __init__(self, depth: float, width: float) -> None:
        super().__init__()

        def wide(channels: int) -> int:
            return int(channels * width)

        half = int(64 * width // 2)
        self.stem = nn.Sequential(ConvUnit(3, half, 3, stride=2), ConvUnit(half, half, 3), ConvUnit(half, wide(64), 3))
        for number, (inner, outer, blocks, add, pool) in enumerate(STAGES, start=1):
            layers: list[nn.Module] = [ConvUnit(wide(inner), wide(outer), 3, stride=2)]
            if pool:
                layers.append(PoolingPyramid(wide(outer), wide(outer)))
            layers.append(CSPLayer(wide(outer), wide(outer), max(round(blocks * depth), 1), add))
            setattr(self, f"stage{number}", nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, h, w) -> (N, 1024 * width, h / 32, w / 32)."""
        x = self.stem(x)
        for number in range(1, len(STAGES) + 1):
            x = getattr(self, f"stage{number}")(x)
        return x


class ScaleNorm(nn.Module):
    """Vectors scaled to one length, which is learned."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale, self.g = size**-0.5, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, J, size) -> the same."""
        length: Tensor = torch.linalg.vector_norm(x, dim=2, keepdim=True) * self.scale
        return x / length.clamp(min=1e-5) * self.g


class GatedAttention(nn.Module):
    """RTMPose's gated attention unit among joints."""

    def __init__(self) -> None:
        super().__init__()
        self.o = nn.Linear(2 * TOKEN, TOKEN, bias=False)
        self.uv = nn.Linear(TOKEN, 4 * TOKEN + KEY, bias=False)
        self.gamma, self.beta = nn.Parameter(torch.rand(2, KEY)), nn.Parameter(torch.rand(2, KEY))
        self.ln, self.res_scale = ScaleNorm(TOKEN), nn.ParameterDict({"scale": torch.ones(TOKEN)})

    def forward(self, x: Tensor) -> Tensor:
        """(N, J, TOKEN) -> the same."""
        u, v, base = torch.split(F.silu(self.uv(self.ln(x))), [2 * TOKEN, 2 * TOKEN, KEY], dim=2)
        query, key = (base.unsqueeze(2) * self.gamma + self.beta).unbind(dim=2)
        weight = F.relu(torch.bmm(query, key.transpose(1, 2)) / math.sqrt(KEY)).square()
        y: Tensor = x * self.res_scale["scale"] + self.o(u * torch.bmm(weight, v))
        return y


class SimCCHead(nn.Module):
    """A vector for each joint, attention among joints, then bins along x and y."""

    def __init__(self, channels: int, joints: int, size: tuple[int, int]) -> None:
        super().__init__()
        width, height = size
        cells = (width // 32) * (height // 32)
        self.final_layer = nn.Conv2d(channels, joints, 7, padding=3)
        self.mlp = nn.Sequential(ScaleNorm(cells), nn.Linear(cells, TOKEN, bias=False))
        self.gau = GatedAttention()
        self.cls_x, self.cls_y = nn.Linear(TOKEN, 2 * width, bias=False), nn.Linear(TOKEN, 2 * height, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, channels, h, w) -> bins (N, J, 2 * width) and (N, J, 2 * height)."""
        x = self.gau(self.mlp(self.final_layer(x).flatten(2)))
        return self.cls_x(x), self.cls_y(x)


class RTMPoseNet(nn.Module):
    """The whole network; size is one of SIZES, picture (width, height) px."""

    def __init__(self, size: str = "m", joints: int = 17, picture: tuple[int, int] = (192, 256)) -> None:
        super().__init__()
        depth, width = SIZES[size]
        self.letter, self.picture = size, picture
        self.backbone = CSPNeXt(depth, width)
        self.head = SimCCHead(int(1024 * width), joints, picture)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalized RGB crops (N, 3, height, width) -> bins along x (N, J, 2 * width) and y (N, J, 2 * height)."""
        bins: tuple[Tensor, Tensor] = self.head(self.backbone(x))
        return bins


def from_state(state: Mapping[str, Tensor]) -> RTMPoseNet:
    """The network that a state dict of MMPose belongs to, loaded strictly. Raises KeyError or RuntimeError."""
    stem = state["backbone.stem.2.conv.weight"].shape[0]
    size = next((s for s, (_, width) in SIZES.items() if int(64 * width) == stem), None)
    if size is None:
        raise KeyError(f"no RTMPose size has {stem} channels after its stem")
    picture = state["head.cls_x.weight"].shape[0] // 2, state["head.cls_y.weight"].shape[0] // 2
    network = RTMPoseNet(size, state["head.final_layer.weight"].shape[0], picture)
    network.load_state_dict({k: v for k, v in state.items() if not k.startswith("data_preprocessor.")}, strict=True)
    return network.eval()
