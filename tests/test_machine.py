"""What the machine gives: memory that is kept between steps, and memory that goes back."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, numpy as np
from twoview.machine import keep_memory, keep_memory_low
def faults():  # pages fetched from the system by 20 arrays of 2 MB, one after the other
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(1 << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for setting in (keep_memory, keep_memory_low, keep_memory):
    setting()
    np.ones(1 << 18)
    print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have settings of their own")
def test_kept_memory_is_fetched_once_and_low_memory_every_time():
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    kept, low, again = map(int, done.stdout.split())
    assert low > 20 * 400 > 100 * max(kept, again)
