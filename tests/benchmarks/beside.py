"""What the benchmarks share with the tests: a script started as a file finds only its own folder by itself."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from places import ASSETS, ROOT, SHARED, TESTS

__all__ = ["ASSETS", "ROOT", "SHARED", "TESTS"]
