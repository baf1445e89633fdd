"""What the how-to pages about lifters show works: Python runs, commands parse, settings are known."""

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
from twoview.poses import Poses2D
from twoview.skeleton import H36M17
from twoview.storage import records

HOWTO = ROOT / "docs" / "howto"
PAGES = ("own-lifter", "pretrain", "use-motionbert-weights", "use-the-model-elsewhere")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (HOWTO / f"{page}.md").read_text(), re.DOTALL)


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
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_python_on_the_page_runs_from_top_to_bottom(page, folder):
    names: dict = {}
    for block in blocks(page, "python"):
        if name := re.match(r"# (\w+\.py)", block):
            (folder / name[1]).write_text(block)
        else:
            exec(compile(block, f"{page}.md", "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_settings_on_the_page_are_known(page, tmp_path):
    for block in blocks(page, "toml"):
        (tmp_path / "page.toml").write_text(block)
        command_settings.resolve("infer", file=tmp_path / "page.toml")


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_the_page_parse(page):
    """Whole lines parse as they are; commands inside a sentence may be incomplete, but their options exist."""
    text = (HOWTO / f"{page}.md").read_text()
    lines = re.findall(r"^    twoview (.*)$", text, re.MULTILINE)
    mentions = re.findall(r"`twoview ([a-z][^`]+)`", text)
    assert lines
    for line in (*lines, *mentions):
        words = shlex.split(line, comments=True)
        command = typer.main.get_command(app)
        while hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        if line in lines:
            command.make_context("twoview", list(words))
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line
