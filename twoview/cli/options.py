"""Options that several commands share, and help texts drawn from the settings, so that a name means one thing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from twoview.command_settings import COMMANDS, METHODS, PRESETS, read_file
from twoview.config import SECTIONS, Settings, allowed, default, hints_of
from twoview.errors import ConfigError
from twoview.storage.names import DEFAULT_FOLDER
from twoview.workers.places import FORMS, SLURM, Workers

# Command -> the setting in its example of `--set`, which is shown with its default.
EXAMPLES = {
    "run": "triangulate.moving_s",
    "sync": "sync.max_drift_ppm",
    "detect": "detect.score",
    "plan": "triangulate.moving_s",
    "finetune": "triangulate.moving_s",
    "triangulate": "triangulate.moving_s",
    "infer": "detect.score",
    "angles": "filter.cutoff_hz",
    "reproduce": "finetune.lr",
    "pretrain": "pretrain.steps",
}


def described(key: str) -> str:
    """Meaning, allowed values and default of a setting such as "finetune.epochs", as one line of a help text."""
    entry = field_of(key)
    details = [part for part in (allowed(entry.metadata), f"default: {spelled(default(entry))}") if part]
    meaning = str(entry.metadata["help"])
    return f"{meaning[0].upper()}{meaning[1:]} ({'; '.join(details)})."


def spelled(value: Any) -> str:
    """A value as one types it after `--set KEY=`; "none" where there is nothing to type."""
    if value is None or value in ("", (), {}):
        return "none"
    if isinstance(value, tuple):
        return f"[{', '.join(map(spelled, value))}]"
    return str(value).lower() if isinstance(value, bool) else f"{value:.4g}" if isinstance(value, float) else str(value)


def field_of(key: str) -> Field[Any]:
    """The dataclass field of a setting by its full name."""
    section, *groups, name = key.split(".")
    kind: Any = SECTIONS[section]
    for group in groups:
        kind = hints_of(kind)[group]
    return next(entry for entry in fields(kind) if entry.name == name)


def keys(section: str) -> list[str]:
    """Every setting of a section by its full name, those of nested groups included, in order."""
    return _keys(SECTIONS[section], section)


def _keys(kind: type, prefix: str) -> list[str]:
    found = []
    for entry in fields(kind):
        nested, key = hints_of(kind)[entry.name], f"{prefix}.{entry.name}"
        found += _keys(cast(type, nested), key) if is_dataclass(nested) else [key]
    return found


def presets(command: str) -> list[str]:
    """Names of the shipped settings files that hold a section of the command."""
    return [name for name, sections in _preset_sections().items() if set(COMMANDS[command]) & sections]


@cache  # typer asks for every command's help whichever command runs
def _preset_sections() -> dict[str, set[str]]:
    return {path.stem: set(read_file(path)) for path in sorted(PRESETS.glob("*.toml"))}


def flag(key: str, *names: str, **more: Any) -> Any:
    """An option that sets one setting; its help is the setting's."""
    return typer.Option(*names, help=described(key), **more)


def config_file(command: str) -> Any:
    """The option --config of a command, with the presets that it reads."""
    shipped = presets(command)
    also = f", or the name of a preset: {', '.join(shipped)}" if shipped else ""
    return typer.Option("--config", help=f"File with settings as TOML or JSON{also}. Flags and --set override it.")


def set_option(command: str) -> Any:
    """The option --set of a command, with an example and the keys that it takes."""
    main, *others = COMMANDS[command]
    key = EXAMPLES[command]
    example = f"{key.removeprefix(f'{main}.')}={spelled(default(field_of(key)))}"
    listed = "; ".join(f"[{section}] {', '.join(keys(section))}" for section in (main, *others))
    listed = listed.replace(f" {main}.", " ")
    return typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help=f"Change any setting of this command: --set {example}. May be repeated. Keys, explained in "
        f"docs/reference/config.md: {listed}.",
    )


def method_option() -> Any:
    """The option --method, which is more than its setting: the paper's method comes as it was published."""
    return typer.Option(
        "--method",
        help=f"{described('finetune.method')} With paper, losses and settings are as published: those of the preset "
        f"{METHODS['paper']}, where no flag, --set or file of that method says otherwise.",
    )


DEFAULT_SESSION = Path(DEFAULT_FOLDER)
SessionFolder = Annotated[
    Path, typer.Option("--session", envvar="TWOVIEW_SESSION", help="Session folder.", show_default=True)
]
Views = Annotated[str | None, typer.Option(help="Names of the views, separated by commas: a,b.")]
TakeName = Annotated[str | None, typer.Option(help="Name of the take, which is one event filmed by all phones.")]
Takes = Annotated[str | None, typer.Option("--take", help="Names of the takes, separated by commas: take1,take2.")]
Without = Annotated[
    str | None, typer.Option("--without", help="Names of the takes to leave out, separated by commas: take3,take4.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Model = Annotated[
    str | None, typer.Option("--model", help="Model file, or name of a lifter (default: the session's model.pt).")
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="NAME",
        help="Let a file name this package.module:Class, which is then run; without it a file runs nothing. "
        "May be repeated.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        help="Tasks at once, in as many processes of this machine; with --on the most that are given to it (default: "
        "one here, and what a cluster takes).",
        min=1,
        show_default=False,
    ),
]
On = Annotated[
    str,
    typer.Option(
        "--on",
        metavar="PLACE",
        help=f"Where tasks run, one for each take or video, instead of this machine: {FORMS}. All machines need the "
        "same folders, and the same twoview.",
    ),
]
AxesOption = Annotated[str | None, flag("world.axes", "--axes")]
LevelOption = Annotated[bool | None, flag("world.level", "--level/--no-level")]
Detector = Annotated[str | None, flag("detect.detector", "--detector")]
Person = Annotated[
    str | None,
    typer.Option(
        help="The athlete's number in people.png, or auto: the likeliest person, without a question.", metavar="N|auto"
    ),
]


def workers(on: str, jobs: int | None, settings: Settings, device: str = "") -> Workers:
    """Who does the tasks of a command, by --on and --jobs, for networks on this device."""
    return Workers(on, jobs or 0, settings.cluster, gpu=device.startswith("cuda"))


def unread_cluster(on: str) -> dict[str, str]:
    """Why a call does not read the settings of Slurm's jobs, where it does not."""
    return {} if on.startswith(SLURM) else {"cluster": "no jobs of Slurm are asked for, which --on slurm does"}


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
