"""Where the tests' inputs lie: the project, what it ships, and the data that developers have beside it."""

from __future__ import annotations

from pathlib import Path

import twoview

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
ASSETS = Path(twoview.__file__).parent / "assets"
SHARED = ROOT.parent / "shared"  # absent on most machines: tests that read it skip with a reason
