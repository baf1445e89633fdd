"""Every command and option that a message of the package names is one that there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
from places import ROOT
from test_howto_pages import parsed

from twoview.cli.commands import app

# Options of OpenPose, pip and Dask, and one that every command has.
OF_OTHERS = {"--keypoint_scale", "--force-reinstall", "--only-binary", "--nthreads", "--resources", "--debug"}


def texts(tree: ast.AST) -> Iterator[str]:
    """The texts of a module but its docstrings; X stands for what is filled in."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | inside:
            yield node.value


@cache
def options() -> set[str]:
    command, known = typer.main.get_command(app), {"--help"}
    groups = [command]
    while groups:
        group = groups.pop()
        for one in (group, *getattr(group, "commands", {}).values()):
            known |= {name for parameter in one.params for name in (*parameter.opts, *parameter.secondary_opts)}
            groups += [one] if one is not group and hasattr(one, "commands") else []
    return known


MODULES = sorted((ROOT / "twoview").rglob("*.py"))


def wrong(source: str) -> list[str]:
    """What a module's messages name that there is not."""
    found = []
    for text in texts(ast.parse(source)):
        mentioned = re.findall(r"`(twoview [a-z][^`]*)`", text) + re.findall(r"^(twoview [a-z].*)$", text, re.MULTILINE)
        for mention in mentioned:
            line = re.split(r"[,;:(]| or | with | to | and | in ", mention)[0].strip(" .")
            if "X" in line.split()[1] or '"' in line or "'" in line:
                continue
            try:
                parsed(line, whole=False)
            except (AssertionError, KeyError, IndexError) as error:
                found.append(str(error) or line)
        named = set(re.findall(r"(?<![\w-])(--[a-z][a-z_-]+)", text))
        found += [] if "pip " in text else sorted(named - options() - OF_OTHERS)
    return found


def test_messages_name_commands_and_options_that_exist(monkeypatch):
    monkeypatch.setattr(typer.main, "get_command", cache(typer.main.get_command))
    assert {path.name: bad for path in MODULES if (bad := wrong(path.read_text()))} == {}


@pytest.mark.parametrize("text", ["run `twoview detct`", "name the tool with --tool", "`twoview sync a --epochs 2`"])
def test_wrong_hints_are_seen(text):
    assert wrong(f"raise E('no', hint={text!r})")


def test_names_are_found_in_texts_that_are_filled_in():
    assert list(texts(ast.parse("f'--{a} x'"))) == ["--X x"]
    assert Path(ROOT, "twoview").is_dir()
