"""Model files: a lifter's weights with all that is needed to use them, and the official checkpoints of MotionBERT.

A model file is a dict of tensors and plain values, read without running code. It names its lifter: one of LIFTERS, or
one that the person trusts by name. A checksum ties weights and facts together.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Collection, Mapping
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

    def __repr__(self) -> str:
        count = sum(value.numel() for value in self.lifter.state_dict().values())
        own = self.card.get("name") or self.name
        return f"Model({own}, {count:,} weights, clips of {self.clip_length} frames at {self.rate_hz:g} per second)"

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
    facts = model.facts()
    torch_files.write(path, {**records.header(FORMAT), **facts, "sha256": checksum(facts, state), "state_dict": state})


def checksum(facts: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """SHA-256 of all facts and weights in a model file."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for key, value in sorted(state.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_model(name_or_path: Path | str, device: str = "cpu", *, trust: Collection[str] = ()) -> Model:
    """A model by name (one that ships, or of the weights table), or from a file: ours, MotionBERT's or mmpose's.

    device  "auto" (cuda where there is one, else cpu), or any name that PyTorch knows
    trust   package.module:Class of lifters that are no part of twoview and may run if the file names them
    Raises LifterError for any other file, with what it seems to be, and for a lifter that is not trusted.
    """
    path = find_model(name_or_path)
    content = torch_files.read(path, LifterError)
    ours = content.get("format") == FORMAT
    model = _from_ours(content, path, trust) if ours else _from_official(content, path)
    model.lifter.to(torch_device(device, LifterError)).eval()
    return model


def find_model(name_or_path: Path | str) -> Path:
    """The file of a model: a path, or a name of the weights table, where those that ship stand too."""
    path, name = Path(name_or_path), str(name_or_path)
    if os.path.isfile(path):
        return path
    if name in weights.WEIGHTS:
        return weights.locate(name)
    shipped = [known for known, row in weights.WEIGHTS.items() if row.shipped.startswith("lifters/")]
    names = f"names: {', '.join(shipped) or 'none'}; or a file; more with `twoview weights list`"
    raise LifterError(f"no model {name!r}: neither a file nor a name", hint=names)


def add_checkpoint(path: Path | str, name: str = "", *, trust: Collection[str] = ()) -> tuple[Model, str]:
    """Load a checkpoint strictly, and copy a MotionBERT into the cache; the model, and its name in the weights table.

    name  a row of the weights table; "" for the one that fits. A file without a row is not copied, and its name is "".
    """
    model = load_model(path, trust=trust)
    fitting = motionbert.row(model.card) if os.path.isfile(path) else ""
    if name or fitting:
        weights.add(name or fitting, path)
    return model, name or fitting


def try_file(name: str, path: Path) -> None:
    """Raise LifterError unless a file is the checkpoint that the table of weights means by `name`."""
    family = motionbert.row(_from_official(torch_files.read(path, LifterError), path).card)
    if family.removesuffix("-scratch") != name.removesuffix("-scratch"):
        raise LifterError(f"{path} is {family or 'a DSTformer of another size'}")


def _from_ours(content: dict[str, Any], path: Path, trust: Collection[str]) -> Model:
    """Our model file."""
    version = content.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise LifterError(f"{path} is a damaged model file: its version is {version!r}"[:300], hint=_AGAIN)
    records.checked(content, path)
    try:
        name, config = content["lifter"]["name"], content["lifter"]["config"]
        state, rule, space = content["state_dict"], content["framing"], content["space"]
        rest = {key: content[key] for key in ("rate_hz", "clip_length", "skeleton", "card")}
    except (KeyError, TypeError) as error:
        raise LifterError(f"{path} is a damaged model file: {error} is missing", hint=_AGAIN) from error
    lifters.check_trust(name, config, where=path, trust=trust)
    if rule not in RULES or space != "2.5d":
        raise FormatError(f"{path} has framing {rule!r} and space {space!r}, which this version does not know")
    config = dict(config)
    if name == "dstformer" and "remember" in config:  # the name of this setting in older files
        config["checkpointing"] = config.pop("remember")
    _check_weights(state, path)
    _check_facts(content, path)
    what = f"{path} (a model of the lifter {name!r})"
    if (wanted := lifters.shapes(name, config)) is not None:
        _check_fit(wanted, state, what)
    lifter = lifters.build(name, config)
    load_strictly(lifter, state, what)
    longest = getattr(lifter, "clip_length", 0)
    if rest["clip_length"] > longest:
        raise LifterError(f"{path} has clips of {rest['clip_length']} frames, and its lifter reads {longest}")
    return Model(lifter, name, config, cast("Rule", rule), **rest)


_AGAIN = "copy it again from where it was made, or export it again"
MOST_HZ, DEEPEST = 1000.0, 20  # frames per second, and tables within tables of a card


def _check_weights(state: object, path: Path) -> None:
    """Raise LifterError unless these are named tensors of numbers."""
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise LifterError(f"{path} is a damaged model file: its state_dict is no table of weights", hint=_AGAIN)
    for key, value in state.items():
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            raise LifterError(f"{path} is a damaged model file: weight {key} is of an unknown kind", hint=_AGAIN)
        if value.is_floating_point() and not value.isfinite().all():
            raise LifterError(f"{path}: weight {key} has values that are not finite", hint=_AGAIN)


def _check_facts(content: Mapping[str, Any], path: Path) -> None:
    """Raise LifterError for facts that no model has, and where facts and weights are not those that were written."""
    rate, length, joints, card = (content[key] for key in ("rate_hz", "clip_length", "skeleton", "card"))
    numbers = not isinstance(rate, bool) and isinstance(rate, int | float) and math.isfinite(rate)
    if not numbers or not 0 < rate <= MOST_HZ:
        raise LifterError(f"{path} has rate_hz={rate!r}; expected frames per second up to {MOST_HZ:g}"[:300])
    if not isinstance(length, int) or isinstance(length, bool) or not 1 <= length <= lifters.MOST:
        raise LifterError(f"{path} has clip_length={length!r}; expected 1 to {lifters.MOST} frames"[:300])
    if joints != "h36m17":
        raise LifterError(f"{path} has the skeleton {joints!r}; every lifter reads h36m17"[:300])
    if not isinstance(card, Mapping) or not _plain(card, DEEPEST):
        raise LifterError(f"{path} is a damaged model file: its card is no table of plain values", hint=_AGAIN)
    if (written := content.get("sha256")) is not None:  # older files have none
        facts = {key: content[key] for key in ("lifter", "framing", "space", *_RECORDED)}
        try:
            found = checksum(facts, content["state_dict"])
        except (TypeError, ValueError, RecursionError):
            found = "none"
        if found != written:
            raise LifterError(f"{path} is damaged: its content does not have the checksum written in it", hint=_AGAIN)


_RECORDED = ("rate_hz", "clip_length", "skeleton", "card")


def _plain(value: object, depth: int) -> bool:
    """Whether a value is text, a number or nothing, or tables and lists of these, up to a depth."""
    if isinstance(value, Mapping):
        return depth > 0 and all(isinstance(k, str) and _plain(v, depth - 1) for k, v in value.items())
    if isinstance(value, list | tuple):
        return depth > 0 and all(_plain(v, depth - 1) for v in value)
    return value is None or isinstance(value, str | int | float)


def _from_official(content: dict[str, Any], path: Path) -> Model:
    """A checkpoint in MotionBERT's or mmpose's layout."""
    try:
        found = motionbert.recognize(content, str(path))
    except (IndexError, ValueError, TypeError, ZeroDivisionError) as error:  # shapes and names that no network has
        raise LifterError(f"{path} is a damaged checkpoint: {error}"[:300], hint=_AGAIN) from error
    config = dict(found.config)
    _check_weights(found.state, path)
    _check_fit(lifters.shapes("dstformer", config) or {}, found.state, f"{path} ({found.family})")
    lifter = lifters.build("dstformer", config)
    load_strictly(lifter, found.state, f"{path} ({found.family})")
    if motionbert.is_root_relative(lifter):
        config["add_root"] = True
        lifter.add_root = True  # type: ignore[assignment]
    card = found.card(path) | {"answers": "root-relative poses" if "add_root" in config else "poses in the picture"}
    return Model(lifter, "dstformer", config, "screen", motionbert.RATE_HZ, config["maxlen"], card=card)


def load_strictly(lifter: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load weights, 16-bit ones as 32-bit. Raises LifterError with the keys and shapes that do not fit."""
    _check_fit({key: value.shape for key, value in lifter.state_dict().items()}, state, what)
    lifter.load_state_dict(dict(state))


def _check_fit(own: Mapping[str, torch.Size], state: Mapping[str, Tensor], what: str) -> None:
    """Raise LifterError where weights have other names or shapes than a network's own."""
    shapes = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(own[k])}"
        for k in own
        if k in state and own[k] != state[k].shape
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


_ELSEWHERE = "for use in other programs: `twoview export model.onnx`"


def convert(path: Path | str, layout: str, out: Path | str, *, trust: Collection[str] = ()) -> Model:
    """Write a model in another layout, every weight the same bit by bit: "motionbert", "mmpose" or "twoview".

    Raises LifterError where the layouts of MotionBERT and mmpose cannot hold the model: they are for DSTformers alone,
    and for those whose clips are framed by the rule "screen".
    """
    model = load_model(path, trust=trust)
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
