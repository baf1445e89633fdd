"""The settings of a command, from defaults, a file, flags and `--set`.

Order: defaults < the preset of `--method` < `--config file.toml` < flags < `--set finetune.loss.consistency=0.5`. An
unknown name is a ConfigError that names where it stands, the key, and the nearest key that exists.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from twoview.config import IGNORED, RENAMED, SECTIONS, Settings, TriangulateConfig, checked, hints_of, refuse_ignored
from twoview.errors import ConfigError
from twoview.plugins import check_trust, is_code
from twoview.texts import decoded

T = TypeVar("T")
PRESETS = Path(__file__).parent / "assets" / "presets"  # files that --config finds by name: paper_sportspose, l2d, ...
# Method given by the flag --method -> the preset with its settings as published.
METHODS = {"paper": "paper_sportspose"}

# Command -> the sections that its stages read, its main one first: a bare key of `--set` is of that one.
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("finetune", "sync", "detect", "triangulate", "infer", "filter", "world", "cluster"),
    "sync": ("sync", "cluster"),
    "detect": ("detect", "cluster"),
    "plan": ("finetune", "triangulate"),
    "finetune": ("finetune", "triangulate", "sync", "detect"),
    "triangulate": ("triangulate", "filter", "world", "cluster"),
    "infer": ("infer", "detect", "filter", "world", "cluster"),
    "angles": ("filter",),
    "reproduce": ("finetune", "triangulate", "detect", "cluster"),
    "pretrain": ("pretrain",),
}


def resolve(
    command: str,
    *,
    file: Path | str | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Iterable[str] = (),
    unread: Mapping[str, str] | None = None,
    trust: Collection[str] = (),
) -> Settings:
    """All settings of a command from defaults, a TOML or resolved-JSON file, flags and `a.b=value` strings.

    file    path, or the name of a preset; it may hold sections of other commands
    flags   setting -> value, named as in `--set`; None means "not given". A "method" brings the settings of its preset
            in `METHODS`, which the file and all else override; a file of that method keeps its own instead
    unread  section -> why this call leaves out the stages that read it: its flags and sets are refused
    trust   names of detectors, lifters and loss terms that a JSON file, which a program wrote, may bring; people write
            TOML and flags, where every name is honored
    Raises ConfigError for anything unknown or impossible, for a program that is not trusted, and for flags and sets
    that no stage of the command reads.
    """
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    content = {} if file is None else read_file(file)
    whole = Path(file or "").suffix == ".json"  # it names every setting, those that its own method ignores as well
    method, known = (flags or {}).get("method"), content.get("finetune", {})
    if method in METHODS and known.get("method") != method:
        preset = PRESETS / f"{METHODS[method]}.toml"
        group = read_file(preset)["finetune"]
        _assign(SECTIONS["finetune"], values["finetune"], group, where=str(preset), prefix="finetune")
        if whole:
            ignored = IGNORED.get(known.get("method"), {})
            content["finetune"] = {name: v for name, v in known.items() if f"finetune.{name}" not in ignored}
    if whole:
        _check_trust(content, trust, str(file))
    for section, group in content.items():
        _assign(SECTIONS[section], values[section], group, where=str(file), prefix=section)
    resolved = set(values["finetune"]) if whole else set()
    given = [(key, value, "command line") for key, value in (flags or {}).items() if value is not None]
    for text in sets:
        key, equals, raw = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: expected KEY=VALUE", hint=f"`twoview {command} --help` lists the keys")
        given.append((key.strip(), _parse(raw.strip()), f"--set {text}"))
    sections = set()  # of the flags and sets
    for key, value, where in given:
        section, name = _located(key, command, where, unread or {})
        sections.add(section)
        _put(SECTIONS[section], values[section], name, value, where=where, prefix=section)
    found: Settings = _constructed(Settings, values)
    refuse_ignored(found.finetune.method, (f"finetune.{name}" for name in values["finetune"].keys() - resolved))
    if command == "finetune" and found.finetune.method == "paper":
        refuse_ignored("paper", (f"[{section}]" for section in sections))
        found = replace(found, triangulate=TriangulateConfig())  # a file may hold it for other commands
    return found


def _check_trust(content: Mapping[str, Any], trust: Collection[str], where: str) -> None:
    """Raise ConfigError for names of programs in a JSON file that are not trusted; wrong types are found later."""

    def value(*keys: str) -> Any:
        found: Any = content
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    named = [("detector", value("detect", "detector")), ("lifter", value("pretrain", "lifter"))]
    own = value("finetune", "loss", "own")
    named += [("loss term", name) for name in own] if isinstance(own, Mapping) else []
    for what, name in named:
        if isinstance(name, str) and is_code(name):
            check_trust(name, what, known=(), where=where, trust=trust, error=ConfigError)


def read_file(path: Path | str) -> dict[str, Any]:
    """The sections of a settings file, or of a preset by its name, unchecked. Raises ConfigError."""
    path = Path(path)
    shipped = PRESETS / f"{path.name}.toml"
    if path == Path(path.name) and not os.path.exists(path) and os.path.exists(shipped):
        path = shipped
    if os.path.exists(path) and not path.is_file():
        raise ConfigError(f"{path} is a folder, a pipe or a device, and a file with settings was expected")
    try:
        text = decoded(path.read_bytes())
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid {path.suffix.lstrip('.') or 'TOML'}: {error}") from error
    if not isinstance(content, dict) or not all(
        isinstance(group, dict) for k, group in content.items() if k in SECTIONS
    ):
        raise ConfigError(f"{path} is no file of settings: expected sections with settings in each")
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no sections of settings")
    content = {k: v for k, v in content.items() if k not in ("format", "version", "made_by", "inputs", "settings")}
    for section in content:
        if section not in SECTIONS:
            raise ConfigError(f"{path}: unknown section [{section}]; {_nearest(section, SECTIONS)}")
    return content


def _located(key: str, command: str, where: str, unread: Mapping[str, str]) -> tuple[str, str]:
    """Section and name of a setting given to a command. Raises ConfigError where no stage of the command reads it."""
    read = COMMANDS[command]
    section, dot, name = key.partition(".")
    if section not in SECTIONS or not dot:
        section, name = read[0], key
        others = [s for s in read[1:] if name.split(".")[0] in hints_of(SECTIONS[s])]
        if others and name.split(".")[0] not in hints_of(SECTIONS[section]):
            raise ConfigError(f"{where}: unknown key {section}.{name}; did you mean {others[0]}.{name}?")
    if section in read and section not in unread:
        return section, name
    readers = ", ".join(f"twoview {other}" for other, sections in COMMANDS.items() if section in sections)
    reason = f", since {unread[section]}" if section in unread and section in read else ""
    raise ConfigError(
        f"{where}: nothing in this call of `twoview {command}` reads [{section}]{reason}",
        hint=f"[{section}] is read by {readers}; {command} reads "
        + ", ".join(f"[{other}]" for other in read if other not in unread),
    )


def _parse(raw: str) -> Any:
    try:
        return tomllib.loads(f"x = {raw}")["x"]
    except tomllib.TOMLDecodeError:
        return raw  # a bare word is a string


def _assign(kind: type, into: dict[str, Any], values: Any, *, where: str, prefix: str) -> None:
    """Check the values of a group of settings and put them into a plain nested mapping."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: {prefix} is a group of settings, got {values!r}")
    for name, value in values.items():
        _put(kind, into, name, value, where=where, prefix=prefix)


def _put(kind: type, into: dict[str, Any], key: str, value: Any, *, where: str, prefix: str) -> None:
    """Check one value and put it into a plain nested mapping; dots in the key lead into groups and tables."""
    name, _, rest = key.partition(".")
    full = f"{prefix}.{name}" if prefix else name
    known = {entry.name: entry for entry in fields(kind)}
    if full in RENAMED:
        raise ConfigError(f"{where}: {full} is now {RENAMED[full]}")
    if name not in known:
        raise ConfigError(f"{where}: unknown key {full}; {_nearest(name, known)}")
    hint, about = hints_of(kind)[name], known[name].metadata
    if is_dataclass(hint) and rest:
        _put(typing.cast(type, hint), into.setdefault(name, {}), rest, value, where=where, prefix=full)
    elif is_dataclass(hint):
        _assign(typing.cast(type, hint), into.setdefault(name, {}), value, where=where, prefix=full)
    elif rest and typing.get_origin(hint) is dict:
        into[name] = checked({**into.get(name, {}), rest: value}, hint, about, f"{where}: {full}")
    elif rest:
        raise ConfigError(f"{where}: {full} is not a group of settings")
    else:
        into[name] = checked(value, hint, about, f"{where}: {full}")


def _constructed(kind: type[T], values: Mapping[str, Any]) -> T:
    hints = hints_of(kind)
    return kind(**{k: _constructed(hints[k], v) if is_dataclass(hints[k]) else v for k, v in values.items()})


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(names))}"
