"""Smoothing in true Hz, without lag, over gaps and uneven times, on sines whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import swinging_person

from twoview.biomechanics.filtering import filter_poses
from twoview.config import FilterConfig
from twoview.errors import ConfigError
from twoview.poses import Poses3D
from twoview.skeleton import H36M17
from twoview.storage import records

BUTTERWORTH = FilterConfig(kind="butterworth")
HALF_POWER = 1 / np.sqrt(2)


def swaying(time, hz: float, *, amplitude: float = 0.1) -> Poses3D:
    """A figure that stands but for one sine of all joints but the root along x."""
    body = swinging_person(1).xyz[0].astype(float)
    xyz = np.repeat(body[None], len(time), axis=0)
    xyz[:, 1:, 0] += amplitude * np.sin(2 * np.pi * hz * time)[:, None]
    return Poses3D(xyz, time, H36M17, "camera", "m")


def response(poses: Poses3D, truth: Poses3D, hz: float) -> tuple[float, float]:
    """What is left of the sine, and by how many seconds it comes late, in the middle half."""
    middle = slice(len(poses) // 4, -len(poses) // 4)
    time, moved = poses.time[middle], (poses.xyz[:, 5, 0] - truth.xyz[:, 0, 0])[middle].astype(float)
    waves = np.stack([np.sin(2 * np.pi * hz * time), np.cos(2 * np.pi * hz * time), np.ones_like(time)], axis=1)
    (sine, cosine, _), *_ = np.linalg.lstsq(waves, moved, rcond=None)
    return float(np.hypot(sine, cosine) / 0.1), float(-np.arctan2(cosine, sine) / (2 * np.pi * hz))


@pytest.mark.parametrize("rate", [25.0, 29.97, 60.0, 240.0])
@pytest.mark.parametrize("order", [2, 4, 8])
def test_butterworth_leaves_71_percent_at_its_cutoff_at_any_rate_and_order_and_has_no_lag(rate, order):
    config = replace(BUTTERWORTH, order=order)
    time = 3.0 + np.arange(round(8 * rate)) / rate
    for hz, low, high in ((1.0, 0.97, 1.001), (6.0, HALF_POWER - 0.005, HALF_POWER + 0.005)):
        poses = swaying(time, hz)
        left, late = response(filter_poses(poses, config), poses, hz)
        assert low < left < high, (hz, left)
        assert abs(late) < 1e-4


def test_beyond_the_cutoff_an_order_falls_as_steeply_as_its_name_says():
    time = np.arange(2400) / 300
    for order in (2, 4, 6, 8):
        poses = swaying(time, 12.0)
        left, _ = response(filter_poses(poses, replace(BUTTERWORTH, order=order)), poses, 12.0)
        each = order / 2  # two passes of half the order each, whose common -3 dB point is at 6 Hz
        expected = 1 / (1 + (np.sqrt(2) - 1) * 2 ** (2 * each))
        assert left == pytest.approx(expected, rel=0.05)


def test_uneven_times_get_the_same_cutoff_in_real_time():
    rng = np.random.default_rng(0)
    steps = rng.choice([1 / 60, 1 / 30], 400)  # a phone that halves its rate in the dark
    time = np.cumsum(steps)
    for hz, low, high in ((1.0, 0.98, 1.01), (6.0, HALF_POWER - 0.06, HALF_POWER + 0.06)):
        poses = swaying(time, hz)
        filtered = filter_poses(poses, BUTTERWORTH)
        left, late = response(filtered, poses, hz)
        assert low < left < high
        assert abs(late) < 1e-3
        assert np.array_equal(filtered.time, time)


@pytest.mark.parametrize("kind", ["butterworth", "one-euro"])
def test_a_gap_stays_a_gap_and_makes_nothing_else_unknown(kind):
    poses = swaying(np.arange(200) / 30, 1.0)
    xyz = poses.xyz.copy()
    xyz[50:52, 5], xyz[100:130, 5], xyz[0, 6], xyz[199, 6], xyz[:, 7], xyz[60, 8, 1] = (np.nan,) * 6
    gapped = replace(poses, xyz=xyz)
    filtered = filter_poses(gapped, FilterConfig(kind=kind))
    unknown = np.isnan(xyz).any(axis=-1)
    assert np.array_equal(np.isnan(filtered.xyz[..., 0]), np.isnan(xyz[..., 0]))
    assert np.isfinite(filtered.xyz[~unknown]).all()
    assert np.abs(filtered.xyz - poses.xyz)[~unknown].max() < 0.06


def test_a_long_gap_separates_what_is_before_from_what_is_after():
    time = np.r_[np.arange(60) / 30, 7.0 + np.arange(60) / 30]
    poses = swaying(time, 1.0)
    xyz = poses.xyz.copy()
    xyz[60:] += 1.0
    moved = filter_poses(replace(poses, xyz=xyz), BUTTERWORTH)
    assert np.abs(moved.xyz[:60] - filter_poses(poses, BUTTERWORTH).xyz[:60]).max() < 1e-6


def test_gaps_are_filled_up_to_the_time_that_is_asked_for_and_no_longer():
    poses = swaying(np.arange(300) / 30, 0.5)
    xyz = poses.xyz.copy()
    xyz[50:55, 5] = np.nan  # 0.2 s between the frames that know it
    xyz[100:106, 5] = np.nan  # 0.233 s
    xyz[:3, 5] = np.nan
    filled = filter_poses(replace(poses, xyz=xyz), FilterConfig(fill_s=0.2))
    assert np.abs(filled.xyz[50:55] - poses.xyz[50:55]).max() < 0.006
    assert np.isnan(filled.xyz[100:106, 5]).all()
    assert np.isnan(filled.xyz[:3, 5]).all()
    known = np.isfinite(xyz)
    assert np.array_equal(filled.xyz[known], xyz[known])
    both = filter_poses(replace(poses, xyz=xyz), FilterConfig(kind="butterworth", fill_s=0.25))
    assert np.abs(both.xyz[50:55] - poses.xyz[50:55]).max() < 0.006
    assert np.isfinite(both.xyz[3:]).all()


@pytest.mark.parametrize("kind", ["butterworth", "one-euro"])
def test_noise_falls_and_motion_stays(kind):
    truth = swaying(np.arange(300) / 30, 0.7)
    noise = np.random.default_rng(0).normal(size=truth.xyz.shape) * 0.02
    noisy = replace(truth, xyz=truth.xyz + noise)
    before, after = (np.abs(p.xyz - truth.xyz).mean() for p in (noisy, filter_poses(noisy, FilterConfig(kind=kind))))
    assert after < 0.75 * before


def test_one_euro_does_the_same_in_screen_units():
    poses = swaying(np.arange(90) / 30, 2.0)
    small = replace(poses, xyz=poses.xyz * 0.21, unit="screen")
    config = FilterConfig(kind="one-euro")
    assert np.allclose(filter_poses(small, config).xyz, 0.21 * filter_poses(poses, config).xyz, atol=1e-5)


def test_nothing_is_done_unasked():
    poses = swinging_person(30)
    assert filter_poses(poses) is poses
    assert not FilterConfig().is_on
    assert poses.filter == ""


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("kind", ["butterworth", "one-euro", "none"])
def test_short_poses_come_through(frames, kind):
    poses = swinging_person(10).between(-1, frames / 30 - 0.01)
    filtered = filter_poses(poses, FilterConfig(kind=kind, fill_s=0.1))
    assert len(filtered) == frames
    assert np.isfinite(filtered.xyz).all()
    if frames < 3 and kind != "one-euro":
        assert np.allclose(filtered.xyz, poses.xyz)


def test_a_joint_that_too_few_frames_know_for_the_cutoff_stays_as_it_is():
    poses = swinging_person(31)
    xyz = poses.xyz.copy()
    xyz[1::2, 3] = np.nan
    filtered = filter_poses(replace(poses, xyz=xyz), FilterConfig(kind="butterworth", cutoff_hz=8.0))
    assert np.array_equal(filtered.xyz[:, 3], xyz[:, 3], equal_nan=True)
    assert not np.allclose(filtered.xyz[:, 6], xyz[:, 6])


def test_a_cutoff_that_the_rate_cannot_tell_is_refused_with_both_numbers():
    with pytest.raises(ConfigError, match=r"15 Hz.*25 frames per second.*12\.5 Hz"):
        filter_poses(swinging_person(30, rate=25.0), FilterConfig(kind="butterworth", cutoff_hz=15.0))


def test_the_file_says_which_filter_it_was(tmp_path):
    poses = filter_poses(swinging_person(30), FilterConfig(kind="butterworth", fill_s=0.2))
    assert poses.filter == "butterworth, 6 Hz, order 4, no lag, gaps up to 0.2 s filled"
    records.save(tmp_path / "a.npz", poses)
    assert records.read_header(tmp_path / "a.npz")["filter"] == poses.filter
    assert records.load_as(tmp_path / "a.npz", Poses3D).filter == poses.filter
    twice = filter_poses(poses, FilterConfig(kind="one-euro"))
    assert twice.filter == f"{poses.filter}; one-euro, 6 Hz at rest, +10 Hz per m/s"
    records.save(tmp_path / "b.npz", swinging_person(30))
    assert "filter" not in records.read_header(tmp_path / "b.npz")


@pytest.mark.parametrize(
    "config",
    [
        FilterConfig(kind="one-euro", cutoff_hz=1e308),
        FilterConfig(kind="one-euro", rise=1000.0, fill_s=1e308),
        FilterConfig(kind="butterworth", cutoff_hz=0.1, order=8),
        FilterConfig(kind="butterworth", cutoff_hz=14.99, fill_s=1e308),
    ],
)
def test_absurd_settings_lose_no_joint(config):
    assert np.isfinite(filter_poses(swinging_person(60), config).xyz).all()
    with pytest.raises(ConfigError, match="at most 1000"):
        FilterConfig(rise=1e308)
