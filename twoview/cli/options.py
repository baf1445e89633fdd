"""Options that several commands share, so that a name means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
Height = Annotated[float | None, typer.Option(help="The athlete's height in metres: gives results in metres.")]


def names(text: str | None) -> list[str] | None:
    """`a,b` -> ["a", "b"]; None stays None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
