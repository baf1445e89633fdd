"""Settings for all tests: no time limit on an example (machines are shared), one thread, the same examples."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # for tests that load the runtime themselves

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("ours", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("ours")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A small untrained lifter in a file."""
    import torch

    from twoview import lifters
    from twoview.lifting.model import Model, save_model

    torch.manual_seed(0)
    lifter = lifters.build("tcn", {"width": 32, "dilations": [1, 3]}).eval()
    path = tmp_path / "start.pt"
    save_model(path, Model(lifter, "tcn", {"width": 32, "dilations": [1, 3]}, "box", 30.0, 27))
    return path


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def body(rng) -> np.ndarray:
    """Joints (FRAMES, 17, 3) m of a moving body."""
    from bodies import moving_body
    from data_set_files import FRAMES

    return moving_body(FRAMES, rng)
