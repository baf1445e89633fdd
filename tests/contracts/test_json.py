"""Every command takes --json and prints one object with the keys that docs/reference/json.md lists, nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from places import ROOT
from scenes import small_scene
from session_takes import put_take
from terminal import type_command
from typer.main import get_command

from twoview.cli.commands import app
from twoview.storage import records
from twoview.workflow.main_job import Step

MARKERS = ("--detector", "markers:Markers", "--session", "films")
PAPER = ("--weights", "start.pt", "--method", "paper")
# Command -> a call of it in the folder below.
CALLS = {
    "run": ("a.mp4", "b.mp4"),
    "sync": ("a.mp4", "b.mp4", "--offset", "0.1", "--session", "films"),
    "detect": ("a.mp4", "b.mp4", *MARKERS),
    "finetune": ("--views", "a,b", *PAPER, "--epochs", "1"),
    "infer": ("flat.npz", "--model", "start.pt"),
    "angles": ("solid.npz", "--no-plot"),
    "evaluate": ("solid.npz",),
    "show": (),
    "demo": (),
    "plan": PAPER,
    "triangulate": ("--model", "start.pt", "--no-picture"),
    "render": ("a.mp4", "flat.npz", "solid.npz", "drawn.mp4"),
    "export": ("m.pt", "--model", "start.pt"),
    "convert": ("start.pt", "twoview", "c.pt"),
    "remove": ("take2",),
    "rename": ("take1", "serve"),
    "pretrain": ("small.toml",),
    "reproduce": ("sportspose", "there"),
    "doctor": ("--no-try",),
    "weights list": (),
    "weights get": ("movenet-thunder",),
    "weights add": ("start.pt",),
}
# What would take minutes, and what stands in its place.
REPLACED = {
    "twoview.workflow.main_job.steps": lambda *_, **__: iter([Step("sync", "take1", "new")]),
    "twoview.workflow.demo.demo": lambda *_, **__: SimpleNamespace(tables=(), pages=(), pictures=(), warnings=()),
    "twoview.training.pretraining.pretrain": lambda *_, **__: SimpleNamespace(card={}),
    "twoview.workflow.reproduction.reproduce": lambda *_, **__: {},
    "twoview.training.planning.seconds_per_step": lambda *_, **__: 0.1,
}


def commands(command=None, words: tuple[str, ...] = ()) -> dict[str, object]:
    """Every command as typed -> the command."""
    command = command or get_command(app)
    inner = getattr(command, "commands", {})
    found = {} if inner else {" ".join(words): command}
    for name, one in inner.items():
        found |= commands(one, (*words, name))
    return found


def documented() -> dict[str, set[str]]:
    """Command -> the keys of its object, as the page lists them; what stands in brackets is inside of them."""
    page = (ROOT / "docs" / "reference" / "json.md").read_text()
    rows = re.findall(r"^\| `([a-z ]+)` \| (.*) \|$", page, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", keys))) for name, keys in rows}


@pytest.fixture
def folder(tmp_path, monkeypatch, start) -> Path:
    truth = small_scene(tmp_path, seconds=0.4).views["a"]
    records.save(tmp_path / "flat.npz", truth.poses2d)
    records.save(tmp_path / "solid.npz", truth.poses3d)
    for number in (1, 2):
        put_take(tmp_path / "session", f"take{number}", seed=number)
    (tmp_path / "small.toml").write_text("[pretrain]\ndata = []\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWOVIEW_CACHE", str(tmp_path / "cache"))
    for where, instead in REPLACED.items():
        monkeypatch.setattr(where, instead)
    return tmp_path


def test_every_command_takes_json_and_is_documented():
    assert {
        name for name, command in commands().items() if not any("--json" in p.opts for p in command.params)
    } == set()
    assert set(commands()) == set(CALLS) == set(documented())


def test_every_command_prints_one_object_with_the_documented_keys(folder):
    for name, words in CALLS.items():  # in one test: making the folder takes longer than most of them
        answer = type_command(*name.split(), *words, "--json")
        assert answer.code == 0, f"{name}: {answer.err}"
        assert answer.out.startswith("{"), name
        found, known = set(answer.json), documented()[name]
        assert found <= known if name in ("sync", "show", "finetune") else found == known, name
        assert isinstance(answer.json["next"], str), name


def test_what_fails_prints_an_object_too(folder):
    for words in (("show", "absent.mp4"), ("infer", "absent.npz"), ("sync", "a.mp4"), ("run", "--set", "no=1")):
        answer = type_command(*words, "--json")
        assert answer.code == 1
        assert answer.json["failed"][0]["message"] in answer.err
