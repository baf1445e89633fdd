from __future__ import annotations

from collections.abc import Callable

import pytest
from terminal import Answer, type_command


@pytest.fixture
def twoview(monkeypatch, tmp_path) -> Callable[..., Answer]:
    """Type a command in an empty folder; what came back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return type_command
