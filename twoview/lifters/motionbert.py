"""The layouts of MotionBERT's checkpoints: the original's, and that of its port in mmpose.

Both hold a DSTformer's weights under names that map one to one; its settings follow from the shapes of the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from twoview.errors import LifterError
from twoview.skeleton import H36M17
from twoview.storage.regular import real_path

LAYOUTS = ("motionbert", "mmpose")
RATE_HZ = 50.0  # Human3.6M's cameras, on which the published models were trained or fine-tuned

_FAMILIES = {(512, 1024): "MotionBERT full", (256, 1024): "MotionBERT Lite"}
_ROWS = {"MotionBERT full": "motionbert", "MotionBERT Lite": "motionbert-lite"}  # their names in the weights table
_SCRATCH = "39.2 mm (from scratch)"
_PUBLISHED = {  # folder or file name of a published checkpoint -> its MPJPE (protocol 1)
    "FT_MB_release_MB_ft_h36m": "37.2 mm (pretrained, then fine-tuned)",
    "MB_train_h36m": _SCRATCH,
    "motionbert_ft_h36m": "37.2 mm (pretrained, then fine-tuned)",
    "motionbert_h36m": _SCRATCH,
    "motionbert-scratch": _SCRATCH,
}
_UNKNOWN = "37.2 mm fine-tuned, 39.2 mm from scratch; the file does not say which it is"


@dataclass(frozen=True, eq=False)
class RecognizedCheckpoint:
    """A DSTformer found in a checkpoint: layout, name of its size, settings, and weights under our names."""

    layout: str
    family: str
    config: Mapping[str, Any]
    state: Mapping[str, Tensor]
    best_mm: float | None

    def card(self, path: Path) -> dict[str, Any]:
        """What a person should know about it."""
        names = (real_path(path).parent.name, path.name)
        unnamed = _UNKNOWN if self.family == "MotionBERT full" else "not stated by its authors"
        accuracy = next((mm for sign, mm in _PUBLISHED.items() if any(n.startswith(sign) for n in names)), unnamed)
        card: dict[str, Any] = {
            "name": self.family,
            "layout": self.layout,
            "normalization": "screen: the picture's center is 0, half its width 1; third input: the detector's score",
            "published": f"MPJPE on Human3.6M with stacked-hourglass detections: {accuracy}",
            "source": path.name,
        }
        if self.best_mm is not None:
            card["best_mpjpe_mm"] = round(self.best_mm, 2)  # as its own training recorded
        return card


def row(card: Mapping[str, Any]) -> str:
    """The name in the weights table of a checkpoint with this card; "" if it has no row."""
    name = _ROWS.get(str(card.get("name")), "")
    return f"{name}-scratch" if name and str(card["published"]).endswith(_SCRATCH) else name


def recognize(content: Mapping[str, Any], where: str) -> RecognizedCheckpoint:
    """The DSTformer in a checkpoint. Raises LifterError with what the file seems to be instead."""
    state = _weights_of(content)
    if not state:
        raise LifterError(
            f"{where} holds no weights; its entries are {', '.join(map(str, list(content)[:6])) or 'none'}",
            hint=_EXPECTED,
        )
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    layout = "mmpose" if "backbone.spat_embed" in plain else "motionbert"
    if layout == "mmpose":
        plain = {from_mmpose(key): value for key, value in plain.items()}
    essential = ("temp_embed", "pos_embed", "joints_embed.weight", "blocks_st.0.mlp_s.fc1.weight", "head.weight")
    missing = [key for key in essential if key not in plain]
    if missing:
        raise LifterError(f"{where} is not a known 3D lifter: {_guess(plain, missing)}", hint=_EXPECTED)
    config = _config(plain)
    hidden = plain["blocks_st.0.mlp_s.fc1.weight"].shape[0]
    family = _FAMILIES.get((config["dim_feat"], hidden), "a DSTformer of its own size")
    best = content.get("min_loss")
    return RecognizedCheckpoint(layout, family, config, plain, float(best) if best is not None else None)


_EXPECTED = (
    "expected a twoview model, MotionBERT's 3D pose weights (under `model_pos` or `model`), or mmpose's (`state_dict`)"
)


def lay_out(state: Mapping[str, Tensor], layout: str) -> dict[str, Any]:
    """The content of a checkpoint in one of LAYOUTS, from weights under our names."""
    if layout == "motionbert":
        return {"model_pos": {f"module.{key}": value for key, value in state.items()}}
    if layout == "mmpose":
        return {"state_dict": {to_mmpose(key): value for key, value in state.items()}}
    raise LifterError(f"no layout {layout!r}", hint=f"known: {', '.join(LAYOUTS)}, twoview")


def to_mmpose(key: str) -> str:
    """The name in mmpose's port of one of MotionBERT's weights."""
    if key.startswith("pre_logits."):
        return f"head.{key}"
    if key.startswith("head."):
        return f"head.fc.{key.removeprefix('head.')}"
    key = re.sub(r"(mlp_[st])\.fc([12])\.", lambda m: f"{m[1]}.{2 * int(m[2]) - 2}.", key)
    key = re.sub(r"^ts_attn\.", "attn_regress.", key)
    return "backbone." + ("spat_embed" if key == "pos_embed" else key)


def from_mmpose(key: str) -> str:
    """The inverse of `to_mmpose`; a name that is no weight of the network stays as it is."""
    if key.startswith("head."):
        return key.removeprefix("head.") if key.startswith("head.pre_logits.") else key.replace("head.fc.", "head.", 1)
    key = key.removeprefix("backbone.")
    key = re.sub(r"(mlp_[st])\.([02])\.", lambda m: f"{m[1]}.fc{int(m[2]) // 2 + 1}.", key)
    key = re.sub(r"^attn_regress\.", "ts_attn.", key)
    return "pos_embed" if key == "spat_embed" else key


@torch.no_grad()
def is_root_relative(lifter: nn.Module) -> bool:
    """Whether a lifter predicts poses with the pelvis at 0, tried on a figure beside the picture's center.

    Published weights exist of both kinds, and nothing in their files says which.
    """
    figure = torch.ones(1, 27, len(H36M17), 3)
    figure[..., :2] = _STANDING + torch.tensor([0.3, 0.2])
    pose = lifter.eval()(figure)[..., :2].mean(dim=(0, 1))
    pelvis = pose[H36M17.root]
    likeness = torch.nn.functional.cosine_similarity((pose - pelvis).flatten(), _STANDING.flatten(), dim=0)
    return bool(likeness > 0.9 and pelvis.abs().max() < 0.1)


# A person facing the camera, pelvis at 0, legs 0.4 long.
_STANDING = 0.2 * torch.tensor([
    [0, 0], [-0.3, 0], [-0.3, 1], [-0.3, 2], [0.3, 0], [0.3, 1], [0.3, 2], [0, -0.6], [0, -1.2], [0, -1.5], [0, -1.7],
    [0.4, -1.2], [0.5, -0.6], [0.5, 0], [-0.4, -1.2], [-0.5, -0.6], [-0.5, 0],
])  # fmt: skip


def _weights_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    for part in ("model_pos", "model", "state_dict"):
        if isinstance(content.get(part), Mapping):
            content = content[part]
            break
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings that the shapes imply, but for the number of heads: all published networks have 8."""
    width = state["joints_embed.weight"].shape[0]
    hidden = state["blocks_st.0.mlp_s.fc1.weight"].shape[0]
    return {
        "dim_in": state["joints_embed.weight"].shape[1],
        "dim_out": state["head.weight"].shape[0],
        "dim_feat": width,
        "dim_rep": state["head.weight"].shape[1],
        "depth": 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks_st.")),
        "num_heads": 8,
        "mlp_ratio": hidden / width,
        "num_joints": state["pos_embed"].shape[1],
        "maxlen": state["temp_embed"].shape[1],
        "att_fuse": any(key.startswith("ts_attn.") for key in state),
    }


_SIGNS = (  # tried in this order: a piece of a weight's name, and what has such weights
    ("head.fc1.", "MotionBERT's action recognition, whose backbone has no 3D head"),
    ("smpl", "a body mesh model"),
    ("blocks_st.", "a DSTformer without its 3D head"),
    ("layers_conv.", "VideoPose3D"),
    ("STEblocks.", "MixSTE or a network like it"),
    ("Spatial_blocks.", "PoseFormer or a network like it"),
    ("att_spatial.", "MotionAGFormer or a network like it"),
    ("head.mlp.", "a 2D detector of mmpose: give it to --detector"),
    ("head.final_layer.", "a 2D detector of mmpose: give it to --detector"),
    ("layer1.0.conv1.", "a ResNet"),
    ("blocks.0.attn.", "a vision transformer"),
)


def _guess(state: Mapping[str, Tensor], missing: list[str]) -> str:
    what = next((name for sign, name in _SIGNS if any(sign in key for key in state)), "")
    seems = f"it seems to be {what}; " if what else ""
    return f"{seems}{len(state)} weights, from {next(iter(state))} on; missing {', '.join(missing)}"
