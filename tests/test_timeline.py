from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twoview.errors import SyncError
from twoview.timeline import ClockMap, ClockQuality, Sync, common_grid


@given(st.floats(-100, 100), st.floats(-300, 300), st.floats(0, 3600))
def test_there_and_back(offset, ppm, time):
    clock = ClockMap(offset, 1 + ppm * 1e-6)
    assert clock.to_view(clock.to_session(time)) == pytest.approx(time, abs=1e-9)
    assert clock.drift_ppm == pytest.approx(ppm, abs=1e-6)


def two(offset: float = 0.5) -> Sync:
    return Sync("a", {"a": ClockMap(), "b": ClockMap(offset)})


def test_reference_comes_first_and_must_exist():
    assert Sync("b", {"a": ClockMap(), "b": ClockMap()}).views == ("b", "a")
    with pytest.raises(ValueError, match="reference 'c'"):
        Sync("c", {"a": ClockMap()})


def test_the_error_of_a_clock_counts_the_way_of_the_sound_and_at_the_ends_the_drift():
    sharp = ClockQuality(0.97, 1e-5, 20.0, 100.0, travel_s=0.015)
    assert sharp.error_s == pytest.approx(0.015, abs=1e-4)
    assert sharp.end_error_s == pytest.approx(np.hypot(0.015, 2 * 20e-6 * 50), rel=1e-3)
    assert ClockQuality(1.0, 1e-3).error_s == pytest.approx(2e-3)  # by motion there is no way of sound
    assert np.isnan(ClockQuality(1.0).error_s)


def test_unknown_view_names_the_known_ones():
    with pytest.raises(SyncError, match=r"'c'.*a, b"):
        two().to_session("c", 0.0)


def test_common_grid_is_the_overlap_at_the_slower_rate():
    grid = common_grid(two(), {"a": np.arange(60) / 60, "b": np.arange(30) / 30})
    assert grid[0] == pytest.approx(0.5)
    assert grid[-1] <= 59 / 60
    assert np.diff(grid) == pytest.approx(1 / 30)


def test_a_negative_offset_is_as_good():
    grid = common_grid(two(-0.5), {"a": np.arange(60) / 60, "b": np.arange(60) / 30})
    assert grid[0] == pytest.approx(0.0)


def test_no_overlap_is_refused():
    with pytest.raises(SyncError, match=r"share only 0\.00 s"):
        common_grid(two(10.0), {"a": np.arange(60) / 60, "b": np.arange(30) / 30})
