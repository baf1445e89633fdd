"""Model files: a lifter's weights with all that is needed to use them, and the official checkpoints of MotionBERT.

A model file is a dict of tensors and plain values, read without running code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from twoview import lifters
from twoview.errors import FormatError, LifterError
from twoview.geometry.framing import RULES, Rule
from twoview.lifters import motionbert
from twoview.lifters.gate import GatedLifter
from twoview.machine import torch_device
from twoview.skeleton import Skeleton, skeleton
from twoview.storage import records, torch_files, weights

FORMAT = "model"
LIFTERS_FOLDER = weights.ASSETS / "lifters"


@dataclass(frozen=True, eq=False)
class Model:
    """A lifter and how to use it.

    lifter       the network, in evaluation mode
    name         its row in LIFTERS, or package.module:Class
    config       keyword arguments that build it
    framing      how a clip's pixels become screen units: a rule of `framing.frame_clip`
    rate_hz      frames per second of the clips that it was trained on
    clip_length  frames of those clips, and of the windows that it lifts at once; a network may read longer ones
    skeleton     name of the joints of its input and output
    space        "2.5d": x, y of the picture, z from the root in the same unit (see `framing`)
    card         what a person should know: training, data, accuracy, license; plain values
    """

    lifter: nn.Module
    name: str
    config: Mapping[str, Any]
    framing: Rule
    rate_hz: float
    clip_length: int
    skeleton: str = "h36m17"
    space: Literal["2.5d"] = "2.5d"
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def joints(self) -> Skeleton:
        """The joints as a skeleton."""
        return skeleton(self.skeleton)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.lifter.parameters()).device

    def adjusted(self, *, framing: str = "auto", rate_hz: float = 0.0, clip_length: int = 0) -> Model:
        """The same lifter, to read clips framed by another rule, or of another frame rate or length, from now on.

        "auto" and 0 leave it as it is. Raises LifterError for clips longer than the network reads.
        """
        longest = cast(int, self.lifter.clip_length) if clip_length else 0
        if clip_length > longest:
            raise LifterError(
                f"clips of {clip_length} frames are longer than the lifter {self.name!r} reads: {longest} frames",
                hint=f"--set finetune.clip_length={longest}, or 0 for the length that it reads by default",
            )
        rule = self.framing if framing == "auto" else cast("Rule", framing)
        return replace(self, framing=rule, rate_hz=rate_hz or self.rate_hz, clip_length=clip_length or self.clip_length)

    def adapted_part(self) -> Model:
        """What goes on being adapted: the adapted lifter of a gated model, which is no model to use; else the model."""
        if not isinstance(self.lifter, GatedLifter):
            return self
        part = self.config["adapted"]
        return replace(self, lifter=self.lifter.adapted, name=part["name"], config=part["config"])

    def facts(self) -> dict[str, Any]:
        """Everything but the weights, as plain values: the facts in a model file and in an exported file."""
        return {
            "lifter": {"name": self.name, "config": dict(self.config)},
            "framing": self.framing,
            "space": self.space,
            "rate_hz": float(self.rate_hz),
            "clip_length": int(self.clip_length),
            "skeleton": self.skeleton,
            "card": dict(self.card),
        }


def save_model(path: Path | str, model: Model, *, half: bool = False) -> None:
    """Write a model file, atomically. `half` stores 16-bit weights: half the size, precise to 3 or 4 digits.

    Raises LifterError where a weight is not a number, or too large for 16 bits.
    """
    state = {key: value.detach().cpu() for key, value in model.lifter.state_dict().items()}
    if half:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    for key, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise LifterError(f"{path}: weight {key} has values that are not finite{' in 16 bits' if half else ''}")
    torch_files.write(path, {**records.header(FORMAT), **model.facts(), "state_dict": state})


def load_model(name_or_path: Path | str, device: str = "cpu") -> Model:
    """A model by name (one that ships, or of the weights table), or from a file: ours, MotionBERT's or mmpose's.

    device  "auto" (cuda where there is one, else cpu), or any name that PyTorch knows
    Raises LifterError for any other file, with what it seems to be.
    """
    path = find_model(name_or_path)
    content = torch_files.read(path, LifterError)
    model = _from_ours(content, path) if content.get("format") == FORMAT else _from_official(content, path)
    model.lifter.to(torch_device(device, LifterError)).eval()
    return model


def find_model(name_or_path: Path | str) -> Path:
    """The file of a model: a path, the name of one that ships, or a name of the weights table."""
    path, name = Path(name_or_path), str(name_or_path)
    if path.is_file():
        return path
    if name in weights.WEIGHTS:
        return weights.locate(name)
    shipped = sorted(file.stem for file in LIFTERS_FOLDER.glob("*.pt"))
    if name in shipped:
        return LIFTERS_FOLDER / f"{name}.pt"
    names = f"names: {', '.join(shipped) or 'none'}; or a file; more with: twoview weights list"
    raise LifterError(f"no model {name!r}: neither a file nor a name", hint=names)


def add_checkpoint(path: Path | str, name: str = "") -> tuple[Model, str]:
    """Load a checkpoint strictly, and copy a MotionBERT into the cache; the model, and its name in the weights table.

    name  a row of the weights table; "" for the one that fits. A file without a row is not copied, and its name is "".
    """
    model = load_model(path)
    fitting = motionbert.row(model.card) if Path(path).is_file() else ""
    if name or fitting:
        weights.add(name or fitting, path)
    return model, name or fitting


def _from_ours(content: dict[str, Any], path: Path) -> Model:
    """Our model file."""
    try:
        records.checked(content, path)
        name, config = content["lifter"]["name"], dict(content["lifter"]["config"])
        if name == "dstformer" and "remember" in config:  # the name of this setting in older files
            config["checkpointing"] = config.pop("remember")
        state: dict[str, Tensor] = content["state_dict"]
        rest = {key: content[key] for key in ("rate_hz", "clip_length", "skeleton", "card")}
        rule, space = content["framing"], content["space"]
    except (KeyError, TypeError) as error:
        raise LifterError(f"{path} is a damaged model file: {error} is missing", hint="export it again") from error
    if rule not in RULES or space != "2.5d":
        raise FormatError(f"{path} has framing {rule!r} and space {space!r}, which this version does not know")
    lifter = lifters.build(name, config)
    load_strictly(lifter, state, f"{path} (a model of the lifter {name!r})")
    return Model(lifter, name, config, cast("Rule", rule), **rest)


def _from_official(content: dict[str, Any], path: Path) -> Model:
    """A checkpoint in MotionBERT's or mmpose's layout."""
    found = motionbert.recognize(content, str(path))
    config = dict(found.config)
    lifter = lifters.build("dstformer", config)
    load_strictly(lifter, found.state, f"{path} ({found.family})")
    if motionbert.is_root_relative(lifter):
        config["add_root"] = True
        lifter.add_root = True  # type: ignore[assignment]
    card = found.card(path) | {"answers": "root-relative poses" if "add_root" in config else "poses in the picture"}
    return Model(lifter, "dstformer", config, "screen", motionbert.RATE_HZ, config["maxlen"], card=card)


def load_strictly(lifter: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load weights, 16-bit ones as 32-bit. Raises LifterError with the keys and shapes that do not fit."""
    own = lifter.state_dict()
    shapes = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own
        if k in state and own[k].shape != state[k].shape
    ]
    named = {
        "missing": [k for k in own if k not in state],
        "unknown": [k for k in state if k not in own],
        "of another shape": shapes,
    }
    wrong = [f"{len(k)} {word}: {', '.join(k[:4])}{', ...' if len(k) > 4 else ''}" for word, k in named.items() if k]
    if wrong:
        raise LifterError(
            f"{what} does not fit the network; weights {'; '.join(wrong)}",
            hint="fetch or export it again; a network that was changed is one of your own: docs/howto/own-lifter.md",
        )
    lifter.load_state_dict(dict(state))


_ELSEWHERE = "for use in other programs: twoview export model.onnx --model ..."


def convert(path: Path | str, layout: str, out: Path | str) -> Model:
    """Write a model in another layout, every weight the same bit by bit: "motionbert", "mmpose" or "twoview".

    Raises LifterError where the layouts of MotionBERT and mmpose cannot hold the model: they are for DSTformers alone,
    and for those whose clips are framed by the rule "screen".
    """
    model = load_model(path)
    if layout == "twoview":
        save_model(out, model)
        return model
    if model.name != "dstformer":
        alone = "adapt with --set gate=false for a model of one lifter; "
        raise LifterError(
            f"{path} is a {model.name!r}, and the layout {layout!r} is for DSTformers only",
            hint=(alone if model.name == "gated" else "") + _ELSEWHERE,
        )
    if model.framing != "screen":
        raise LifterError(
            f"{path} reads clips framed by {model.framing!r}, which the layout {layout!r} cannot hold", hint=_ELSEWHERE
        )
    torch_files.write(out, motionbert.lay_out(model.lifter.state_dict(), layout))
    return model
