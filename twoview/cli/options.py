"""Options that several commands share, so that a name means the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from twoview.config import COMMANDS, PRESETS, SECTIONS, allowed, default, hints_of, read_file
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


# --- help texts drawn from the settings ------------------------------------------------------------------------------


def described(key: str) -> str:
    """Meaning, allowed values and default of a setting such as "finetune.epochs", as one line of a help text."""
    entry = field_of(key)
    details = [part for part in (allowed(entry.metadata), f"default: {spelled(default(entry))}") if part]
    meaning = str(entry.metadata["help"])
    return f"{meaning[0].upper()}{meaning[1:]} ({'; '.join(details)})."


def spelled(value: Any) -> str:
    """A value as one types it after `--set KEY=`."""
    if value is None or value in ("", (), {}):
        return "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:.4g}" if isinstance(value, float) else str(value)


def keys(section: str) -> list[str]:
    """Every setting of a section by its full name, those of nested groups included, in order."""
    return _keys(SECTIONS[section], section)


def _keys(kind: type, prefix: str) -> list[str]:
    found = []
    for entry in fields(kind):  # type: ignore[arg-type]
        nested, key = hints_of(kind)[entry.name], f"{prefix}.{entry.name}"
        found += _keys(cast(type, nested), key) if is_dataclass(nested) else [key]
    return found


def field_of(key: str) -> Field[Any]:
    """The dataclass field of a setting by its full name."""
    section, *groups, name = key.split(".")
    kind: Any = SECTIONS[section]
    for group in groups:
        kind = hints_of(kind)[group]
    return next(entry for entry in fields(kind) if entry.name == name)


def presets(command: str) -> list[str]:
    """Names of the shipped settings files that hold a section of the command."""
    read = set(COMMANDS[command])
    return [path.stem for path in sorted(PRESETS.glob("*.toml")) if read & set(read_file(path))]
