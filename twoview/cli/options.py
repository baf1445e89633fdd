"""Options that several commands share, so that a name means the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from twoview.errors import ConfigError

SessionFolder = Annotated[
    Path, typer.Option("--session", envvar="TWOVIEW_SESSION", help="The session folder.", show_default=True)
]
Views = Annotated[str | None, typer.Option(help="View names, separated by commas: a,b.")]
TakeName = Annotated[str | None, typer.Option(help="Name of the take: one event filmed by all phones.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings as TOML; flags override it.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Any other setting: --set loss.consistency=0.5. May be repeated.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda. Honoured or refused, never replaced.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Detector = Annotated[
    str | None, typer.Option(help="A name (rtmpose-m, movenet, ...), an .onnx or .pth file, or package.module:Name.")
]
Height = Annotated[float | None, typer.Option(help="The athlete's height in meters: gives results in meters.")]


def names(text: str | None) -> list[str] | None:
    """`a,b` -> ["a", "b"]; None stays None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def split(sets: list[str] | None, section: str) -> tuple[list[str], list[str]]:
    """The `--set` texts of one section, and the others."""
    own = [text for text in sets or () if text.strip().startswith(f"{section}.")]
    return own, [text for text in sets or () if text not in own]


def numbers(texts: list[str] | None, option: str, *, alone: Sequence[str] = ()) -> dict[str, float]:
    """`a=3,b=8` or several of `a=3` -> {"a": 3.0, "b": 8.0}; a lone number is for the only view in `alone`.

    Raises ConfigError for anything else.
    """
    found: dict[str, float] = {}
    for part in [part.strip() for text in texts or () for part in text.split(",")]:
        view, equals, value = part.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not equals and len(alone) == 1:
            view = alone[0]
        if not view or not math.isfinite(number) or view in found:
            raise ConfigError(
                f"{option} {part}: expected a number for each view once", hint=f"{option} a=3 {option} b=8"
            )
        found[view.strip()] = number
    return found
