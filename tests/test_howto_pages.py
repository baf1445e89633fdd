"""What the pages show works: Python runs, commands parse, settings are known."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from motion_files import write_acclaim, write_bvh
from people import standing_people
from places import ROOT

from twoview import command_settings
from twoview.cli.commands import app
from twoview.lifters import build, motionbert
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import H36M17
from twoview.storage import records

PAGES = [ROOT / "README.md", *(p for p in sorted((ROOT / "docs").rglob("*.md")) if p.name != "cli.md")]
# README's own is run on real videos, by a test of its own.
WITH_PYTHON = [p for p in PAGES if "```python" in p.read_text() and p.name != "README.md"]
WITH_TOML = [p for p in PAGES if "```toml" in p.read_text()]
CONSOLE = re.compile(r"^(?:    |\$ )?(twoview [a-z].*)$", re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[str]:
    """Commands that stand on lines of their own, in fenced or indented blocks."""
    text = page.read_text()
    fenced = re.findall(r"^```(?:sh|console|)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    found = [line for block in fenced for line in CONSOLE.findall(block)]
    plain = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return found + re.findall(r"^    (twoview [a-z].*)$", plain, re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with the files that the pages mention."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "cmu").mkdir()
    write_bvh(tmp_path / "cmu")
    write_acclaim(tmp_path / "cmu")
    torch.manual_seed(0)
    state = build("dstformer", {"dim_feat": 16, "dim_rep": 16, "depth": 1, "maxlen": 27}).state_dict()
    torch.save(motionbert.lay_out(state, "motionbert"), tmp_path / "best_epoch.bin")
    xy = standing_people(1, 40)[0, ..., [0, 2]].numpy() * [300, -300] + [500, 900]
    poses = Poses2D(xy.astype(np.float32), np.ones((40, 17), np.float32), np.arange(40) / 30, H36M17, (1080, 1920), "a")
    records.save(tmp_path / "clip.npz", poses)
    lifted = Poses3D(np.zeros((40, 17, 3), np.float32), poses.time, H36M17)
    (tmp_path / "session" / "results").mkdir(parents=True)
    records.save(tmp_path / "session" / "results" / "video.npz", lifted)
    return tmp_path


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_python_on_the_page_runs_from_top_to_bottom(page, folder):
    names: dict = {}
    for block in blocks(page, "python"):
        if own := re.match(r"# (\w+\.py)", block):
            (folder / own[1]).write_text(block)
        else:
            exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", WITH_TOML, ids=name)
def test_settings_on_the_page_are_known(page, tmp_path):
    for block in blocks(page, "toml"):
        (tmp_path / "page.toml").write_text(block)
        command_settings.resolve("infer", file=tmp_path / "page.toml")


def parsed(line: str, *, whole: bool) -> None:
    """Raise unless a command parses, whole or in a sentence that leaves out some arguments; its options exist."""
    words = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
        if not words and not whole:
            return
    if whole:
        command.make_context("twoview", list(words))
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}, line


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_on_the_page_parse(page):
    for line in commands(page):
        parsed(line, whole=True)
    for mention in re.findall(r"`(twoview [a-z][^`]+)`", page.read_text()):
        parsed(" ".join(mention.split()), whole=False)


def test_commands_are_found_and_wrong_ones_seen(tmp_path):
    (tmp_path / "p.md").write_text("```sh\n$ twoview sync a b\ntwoview plan\n```\n\n    twoview detect --jbos 2\n")
    found = commands(tmp_path / "p.md")
    assert found == ["twoview sync a b", "twoview plan", "twoview detect --jbos 2"]
    parsed(found[0], whole=True)
    for wrong in (found[2], "twoview snyc a b", "twoview angles"):
        with pytest.raises((AssertionError, typer.BadParameter.__mro__[1])):
            parsed(wrong, whole=True)
    assert sum(len(commands(page)) for page in PAGES) > 35
