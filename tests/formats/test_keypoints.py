from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray
from scenes import swinging_person

from twoview.formats import write
from twoview.poses import Source
from twoview.skeleton import H36M17

RATE = 30000 / 1001


@pytest.fixture
def poses():
    body = swinging_person(40, rate=RATE)
    xyz = body.xyz.copy()
    xyz[5, 3] = np.nan
    return replace(body, xyz=xyz, time=body.time + 1.5, source=Source("", "Müller's model"))


def test_pandas_reads_deeplabcuts_csv(tmp_path, poses):
    table = pd.read_csv(write(poses, tmp_path / "a.b.dlc.csv"), header=[0, 1, 2], index_col=0)
    assert table.columns.names == ["scorer", "bodyparts", "coords"]
    assert table.columns.get_level_values("scorer").unique().tolist() == ["Müller's model"]
    assert table.columns.get_level_values("bodyparts").unique().tolist() == list(H36M17.joints)
    assert table.index.tolist() == list(range(40))
    places = table.to_numpy().reshape(40, 17, 3)
    assert np.array_equal(np.isnan(places), np.isnan(poses.xyz))
    assert np.nanmax(np.abs(places - poses.xyz)) < 1e-5
    knee = table["Müller's model"]["left_knee"][["x", "y", "z"]].to_numpy()
    assert np.abs(knee - poses.xyz[:, H36M17.index("left_knee")]).max() < 1e-5


def test_xarray_reads_netcdf(tmp_path, poses):
    data = xarray.load_dataset(write(poses, tmp_path / "a.nc"), engine="scipy")
    assert data["position"].dims == ("time", "space", "keypoints", "individuals")
    assert data["confidence"].dims == ("time", "keypoints", "individuals")
    assert data["keypoints"].values.tolist() == list(H36M17.joints)
    assert data["space"].values.tolist() == ["x", "y", "z"]
    assert np.array_equal(data["time"], poses.time)
    assert (data.attrs["ds_type"], data.attrs["time_unit"]) == ("poses", "seconds")
    assert data.attrs["fps"] == pytest.approx(RATE, rel=1e-9)
    assert data["position"].attrs["units"] == "m"
    places = data["position"].transpose("time", "keypoints", "individuals", "space").values[:, :, 0]
    assert np.array_equal(places, poses.xyz, equal_nan=True)


@pytest.mark.parametrize("times", [np.sort(np.random.default_rng(1).uniform(0, 2, 40)), [*np.arange(39) / 30, 1e7]])
def test_netcdf_of_uneven_times_has_them_and_no_rate(tmp_path, poses, times):
    data = xarray.load_dataset(write(replace(poses, time=times), tmp_path / "a.nc"), engine="scipy")
    assert np.array_equal(data["time"], times)
    assert "fps" not in data.attrs


def test_movement_reads_both(tmp_path, poses):
    load_poses = pytest.importorskip("movement.io.load_poses", reason="movement is not installed")
    validators = pytest.importorskip("movement.validators.datasets")
    kinematics = pytest.importorskip("movement.kinematics")
    data = xarray.load_dataset(write(poses, tmp_path / "a.nc"))
    validators.ValidPosesInputs.validate(data)
    speed = kinematics.compute_velocity(data["position"]).sel(keypoints="left_wrist", space="x").values[:, 0]
    truth = np.gradient(poses.xyz[:, H36M17.index("left_wrist"), 0], poses.time)
    assert np.abs(speed - truth).max() < 1e-3
    table = load_poses.from_dlc_file(write(poses, tmp_path / "a.dlc.csv"), fps=RATE)
    assert np.nanmax(np.abs(table["position"].values[..., 0].swapaxes(1, 2) - poses.xyz)) < 1e-5
