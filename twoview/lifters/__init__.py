"""Lifters: networks that turn a clip of 2D poses into 3D, with one small interface.

A lifter is a torch module with
  clip_length                    frames of the longest clip; every shorter clip fits too, down to one frame
  forward(x (B, T, 17, 3))       x, y in screen units (see `framing`) and a score 0..1; where the score is 0, x and y
                                 are 0 without meaning
  -> (B, T, 17, 3)               x, y, z in screen units, z relative to the root

To add a lifter, add a row to LIFTERS, or give "package.module:Class" as a lifter's name. The class takes its settings
as plain keyword arguments, so that a model file can hold them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twoview import plugins
from twoview.errors import LifterError

LIFTERS: dict[str, str] = {
    "dstformer": "twoview.lifters.dstformer:DSTformer",
    "gated": "twoview.lifters.gate:GatedLifter",
    "tcn": "twoview.lifters.tcn:TemporalNetwork",
}
GATED = "gated"
MOST_GATES = 20  # one more each time that a model is adapted again
MOST = 1 << 16  # channels, frames or anything else that a setting counts
DEEPEST = 200  # layers
MOST_WEIGHTS = 1 << 31  # 8 GiB; MotionBERT has 42 million


def check_trust(name: object, config: object, *, where: Path | str, trust: Collection[str]) -> None:
    """Raise LifterError unless every lifter that a file names is one of LIFTERS, or trusted. Imports nothing."""
    for own, settings in _parts(name, config, where):
        plugins.check_trust(own, "lifter", known=LIFTERS, where=where, trust=trust, error=LifterError)
        if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
            raise LifterError(f"{where}: the settings of the lifter {own!r} are no table of names and values")


def _parts(name: object, config: object, where: Path | str, depth: int = 0) -> Iterator[tuple[object, object]]:
    """Name and settings of a lifter, and of the two in a gated one, which may be gated where it was adapted again."""
    yield name, config
    if name != GATED:
        return
    for which in ("adapted", "unadapted"):
        part = config.get(which) if isinstance(config, Mapping) else None
        if not isinstance(part, Mapping) or depth >= MOST_GATES:
            raise LifterError(f"{where}: the gated lifter has no {which} lifter, or more than {MOST_GATES} gates")
        yield from _parts(part.get("name"), part.get("config"), where, depth + 1)


def build(name: str, config: Mapping[str, Any] | None = None) -> nn.Module:
    """A lifter with fresh weights, from a name in LIFTERS or "package.module:Class" and its settings.

    Raises LifterError for an unknown name, and for settings that the class does not take or that make no network of a
    sensible size; that is found out before any memory is taken.
    """
    target = LIFTERS.get(name, name)
    if ":" not in target:
        raise LifterError(f"unknown lifter {name!r}", hint=f"known: {', '.join(LIFTERS)}; or package.module:Class")
    kind = plugins.load(target, "lifter", LifterError)
    settings = dict(config or {})
    try:
        if name in LIFTERS:
            _check_size(name, settings)
        if name in LIFTERS and name != GATED:  # whose parts come here by themselves
            with torch.device("meta"):
                count = sum(value.numel() for value in kind(**settings).state_dict().values())
            if count > MOST_WEIGHTS:
                raise LifterError(f"the lifter {name!r} would have {count:.2g} weights; at most {MOST_WEIGHTS:.2g}")
        lifter: nn.Module = kind(**settings)
    except (TypeError, ValueError, KeyError, RuntimeError, ZeroDivisionError, OverflowError) as error:
        reason = str(error).splitlines()[0][:200]
        raise LifterError(f"the lifter {name!r} does not take these settings: {reason}") from error
    return lifter


def shapes(name: str, config: Mapping[str, Any]) -> dict[str, torch.Size] | None:
    """Shape of each weight of a lifter, found without memory for them; None for one that is not all of LIFTERS.

    Raises LifterError as `build` does.
    """
    parts = [config[which]["name"] for which in ("adapted", "unadapted")] if name == GATED else [name]
    if not set(parts) <= set(LIFTERS):
        return None
    with torch.device("meta"):
        return {key: value.shape for key, value in build(name, config).state_dict().items()}


def _check_size(name: str, settings: Mapping[str, Any]) -> None:
    """Raise LifterError for counts in a lifter's settings, or a depth, that no network has."""
    for key, value in settings.items():
        several = isinstance(value, list | tuple)
        numbers = [one for one in (value if several else [value]) if isinstance(one, int | float)]
        highest = DEEPEST if key == "depth" else MOST
        if (several and len(value) > DEEPEST) or any(not math.isfinite(n) or not 0 <= n <= highest for n in numbers):
            shown = f"{len(value)} values" if several and len(value) > DEEPEST else repr(value)[:100]
            raise LifterError(
                f"the lifter {name!r} cannot have {key}={shown}: expected 0 to {highest}, or up to {DEEPEST} values"
            )
