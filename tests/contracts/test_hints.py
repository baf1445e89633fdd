"""Every hint works when typed: commands and options in hints are read from the code and tried on the command line.

A command in a hint stands in backticks, or is the whole hint. Values that are filled in are made up: the commands may
fail (there is no such file or session), but never because they were typed wrongly, which is exit code 2.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from places import ROOT
from terminal import type_command
from typer.main import get_command

from twoview.cli.commands import app

FILLED = {"command": "sync"}  # value that is filled in -> a real one, where `a` is none
CLI = get_command(app)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
NAMES = {"hint", "next", "following"}  # arguments and values that hold what to do next
OF_OTHERS = {"--upgrade", "--no-deps", "--keypoint_scale", "--nthreads"}  # options of pip, OpenPose and Dask
LONG = {"demo", "reproduce", "pretrain"}  # commands that would run for minutes
WORDS = {"first", "and", "or", "with", "shows", "lists", "then", "again"}  # prose that a command must not run into


def texts(node: ast.expr, constants: dict[str, ast.expr]) -> Iterator[str]:
    """All strings that an expression can be; values that are filled in become `a`."""
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in constants:
            yield from texts(constants[name], constants)
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            whole = [""]
            for part in parts:
                if isinstance(part, ast.FormattedValue):
                    known = isinstance(part.value, ast.Name) and part.value.id in constants
                    name = FILLED.get(ast.unparse(part.value), "a")
                    more = list(texts(part.value, constants)) if known else [name]
                else:
                    more = list(texts(part, constants))
                whole = [start + end for start in whole for end in more]
            yield from whole
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from (start + end for start in texts(left, constants) for end in texts(right, constants))
        case ast.IfExp(body=body, orelse=other):
            yield from texts(body, constants)
            yield from texts(other, constants)
        case ast.BoolOp(values=values):
            for value in values:
                yield from texts(value, constants)
        case ast.Name(id=name) if name in constants:
            yield from texts(constants[name], constants)


def hints() -> dict[str, str]:
    """Hint -> where it is."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "twoview").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and len(node.targets) == 1]
        constants = {node.targets[0].id: node.value for node in assigned if isinstance(node.targets[0], ast.Name)}
        for function in ast.walk(tree):  # one that makes hints stands for what it returns
            if isinstance(function, ast.FunctionDef) and isinstance(function.body[-1], ast.Return):
                constants |= {function.name: function.body[-1].value} if function.body[-1].value else {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                values = [keyword.value for keyword in node.keywords if keyword.arg in NAMES]
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                values = [node.value] if node.targets[0].id.strip("_").lower() in NAMES else []
            else:
                continue
            for value in values:
                found |= {text: f"{path.relative_to(ROOT)}:{value.lineno}" for text in texts(value, constants)}
    return found


def commands(hint: str, *, whole: bool = True) -> list[str]:
    """The commands of a hint: in backticks, and the hint itself if it is one."""
    marked = [*re.findall(r"`([^`]*)`", hint), *([hint] if whole else [])]
    return [text for text in marked if re.match(r"twoview \S", text)]


def messages() -> Iterator[str]:
    """All other strings of the code with a command in backticks: warnings, advice, help texts."""
    for path in sorted((ROOT / "twoview").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documents = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, DOCUMENTED)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield from texts(node, {})
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in documents:
                yield node.value


HINTS = hints()
COMMANDS = sorted(
    {command for text in HINTS for command in commands(text)}
    | {command for text in messages() for command in commands(text, whole=False)}
)


def options(command: Any) -> set[str]:
    """Names of all options of a command and its commands."""
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*(options(inner) for inner in getattr(command, "commands", {}).values()))


def test_hints_are_found():
    assert len(HINTS) > 140
    assert len(COMMANDS) > 15
    assert "twoview sync --motion" in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_in_a_hint_is_one_that_can_be_typed(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[1:]
    assert not WORDS & set(words), command
    assert "..." not in words, command
    if words[0] not in LONG and words[:2] != ["weights", "get"]:  # nor a download
        assert type_command(*words).code in (0, 1), command


@pytest.mark.parametrize("hint", sorted(hint for hint in HINTS if "twoview " in hint))
def test_commands_stand_apart_from_the_prose_of_a_hint(hint):
    known = set(getattr(CLI, "commands", {}))
    rest = re.sub(r"`[^`]*`", "", "" if hint.startswith("twoview ") else hint)
    assert not [word for word in re.findall(r"twoview ([a-z]+)", rest) if word in known], HINTS[hint]


@pytest.mark.parametrize("hint", sorted(hint for hint in HINTS if "--" in hint))
def test_an_option_in_a_hint_is_one_of_a_command(hint):
    known = options(CLI) | {"--help", *OF_OTHERS}
    assert set(re.findall(r"--[a-z][a-z_-]*", hint)) <= known, HINTS[hint]


def test_a_hint_that_cannot_be_typed_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert type_command("sync", "--moton").code == 2
    assert type_command("evaluate").code == 2
