"""Settings for all tests: no time limit on an example (machines are shared), one thread, the same examples."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from hypothesis import settings

settings.register_profile("ours", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("ours")
