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

from collections.abc import Mapping
from typing import Any

from torch import nn

from twoview import plugins
from twoview.errors import LifterError

LIFTERS: dict[str, str] = {
    "dstformer": "twoview.lifters.dstformer:DSTformer",
    "gated": "twoview.lifters.gate:GatedLifter",
    "tcn": "twoview.lifters.tcn:TemporalNetwork",
}


def build(name: str, config: Mapping[str, Any] | None = None) -> nn.Module:
    """A lifter with fresh weights, from a name in LIFTERS or "package.module:Class" and its settings.

    Raises LifterError for an unknown name, and for settings that the class does not take.
    """
    target = LIFTERS.get(name, name)
    if ":" not in target:
        raise LifterError(f"unknown lifter {name!r}", hint=f"known: {', '.join(LIFTERS)}; or package.module:Class")
    kind = plugins.load(target, "lifter", LifterError)
    try:
        lifter: nn.Module = kind(**dict(config or {}))
    except TypeError as error:
        raise LifterError(f"the lifter {name!r} does not take these settings: {error}") from error
    return lifter
