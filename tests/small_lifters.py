"""Every lifter of the table, small."""

from __future__ import annotations

import torch
from torch import nn

from twoview.lifters import build


def settings(name: str) -> dict:
    return SMALL["mine" if name.endswith(":Mine") else name]


# Settings of MotionBERT's two networks; the small one's are the defaults of DSTformer.
FULL = {"dim_feat": 512, "mlp_ratio": 2.0}
LITE = {"dim_feat": 256, "mlp_ratio": 4.0}

SMALL = {
    "dstformer": {"dim_feat": 16, "dim_rep": 16, "depth": 1, "num_heads": 4, "maxlen": 9},
    "gated": {
        "adapted": {"name": "tcn", "config": {"width": 16, "dilations": [1, 3], "clip_length": 9}},
        "unadapted": {
            "name": "dstformer",
            "config": {"dim_feat": 16, "dim_rep": 16, "depth": 1, "num_heads": 4, "maxlen": 9},
        },
        "poses": 3,
        "steady": 2.0,
    },
    "tcn": {"width": 16, "dilations": [1, 3], "clip_length": 9},
    "mine": {"width": 8},
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    lifter = build(name, settings(name)).eval()
    with torch.no_grad():  # fresh networks may answer with zeros
        for value in lifter.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return lifter
