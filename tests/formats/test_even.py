from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import swinging_person

from twoview.errors import FormatError
from twoview.formats.even import at_even_rate
from twoview.poses import Poses3D

RATE = 30000 / 1001


def poses_at(times) -> Poses3D:
    """A body whose joints are at x = sin of the time."""
    times = np.asarray(times)
    xyz = np.zeros((len(times), 17, 3))
    xyz[..., 0] = np.sin(times)[:, None]
    return Poses3D(xyz, times)


@pytest.mark.parametrize("rate", [RATE, 25.0, 60000 / 1001, 240.0])
@pytest.mark.parametrize("tick", [0, 1 / 1000, 1 / 600, 1 / 90000])
def test_even_videos_keep_every_sample_and_have_their_true_rate(rate, tick):
    times = 1.5 + np.arange(600) / rate
    times = times if not tick else np.rint(times / tick) * tick
    even = at_even_rate(poses_at(times))
    assert np.array_equal(even.poses.xyz, poses_at(times).xyz)
    assert even.rate == pytest.approx(rate, rel=1e-4 if tick else 1e-9)
    assert np.ptp(np.diff(even.poses.time)) < 1e-9
    assert (even.note, even.kept, even.frames) == ("", 600, 600)


def test_missing_frames_are_filled_and_the_others_keep_their_values():
    keep = np.delete(np.arange(234), [10, 50, 52, 200])
    times = keep / RATE
    even = at_even_rate(poses_at(times))
    assert (len(even.poses), even.kept, even.rate) == (234, 230, pytest.approx(RATE))
    assert np.array_equal(even.poses.xyz[keep], poses_at(times).xyz)
    assert np.abs(even.poses.xyz[:, 0, 0] - np.sin(even.poses.time)).max() < 1e-3
    assert even.note.startswith("234 rows at 29.97003 per second from 230 frames")


def test_times_that_follow_no_grid_are_interpolated():
    body = swinging_person(40, rate=RATE)
    times = np.sort(body.time + np.random.default_rng(0).uniform(-0.012, 0.012, 40))
    uneven = replace(body.at(times), time=times).between(times[1], times[-2])
    even = at_even_rate(uneven)
    assert np.ptp(np.diff(even.poses.time)) < 1e-9
    assert even.rate == pytest.approx(RATE, rel=0.1)
    truth = swinging_person(400, rate=10 * RATE).at(even.poses.time).xyz
    assert np.nanmax(np.abs(even.poses.xyz - truth)) < 0.02
    assert len(even.poses) == len(uneven)
    assert f"from {len(uneven)} frames" in even.note
    assert f"{len(even.poses) - even.kept} are interpolated" in even.note


def test_the_rate_survives_missing_frames_in_rounded_times():
    keep = np.delete(np.arange(600), [100, 101, 333])
    for rate, tick in ((240.0, 1 / 600), (600 / 2.6, 1 / 600), (60.0, 1 / 1000), (60000 / 1001, 1 / 1000)):
        even = at_even_rate(poses_at(np.rint(keep / rate / tick) * tick))
        assert (len(even.poses), even.kept, even.rate) == (600, 597, pytest.approx(rate, rel=1e-4))


def test_a_long_gap_stays_unknown():
    times = np.concatenate([np.arange(30), np.arange(60, 90)]) / 30
    even = at_even_rate(poses_at(times))
    assert len(even.poses) == 90
    assert np.isnan(even.poses.xyz[30:60]).all()
    assert even.note.endswith("0 are interpolated, and 30 in gaps of over 0.1 s are empty")


def test_frames_far_apart_are_refused_before_memory_is_taken():
    with pytest.raises(FormatError, match="4 frames over 10000000") as error:
        at_even_rate(poses_at([0.0, 0.001, 0.002, 1e7]))
    assert "csv" in error.value.hint
