from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def twoview(monkeypatch, capsys, tmp_path) -> Callable[..., Answer]:
    """Type a command in an empty folder; what came back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def typed(*words: str | Path) -> Answer:
        from twoview.__main__ import main

        monkeypatch.setattr(sys, "argv", ["twoview", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        text = capsys.readouterr()
        return Answer(code, text.out, text.err)

    return typed
