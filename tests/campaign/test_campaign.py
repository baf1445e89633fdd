"""The short form of the campaign; `python tests/campaign --minutes 60` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks processes and asks Linux about them")
def test_nothing_is_bad_in_a_short_campaign():
    command = [sys.executable, str(Path(__file__).parent), "--short", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
