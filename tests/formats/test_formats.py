from __future__ import annotations

import csv
import json
import warnings
from dataclasses import replace

import c3d
import ezc3d
import numpy as np
import pandas as pd
import pytest
import xarray
from scenes import swinging_person

from twoview.formats import FORMATS, notes, write
from twoview.formats.markers import marker_names, y_up
from twoview.poses import Poses3D
from twoview.skeleton import COCO17, H36M17, HALPE26, SKELETONS
from twoview.storage import records

RATE = 30000 / 1001


@pytest.fixture
def poses():
    body = swinging_person(40, rate=RATE)
    xyz = body.xyz.copy()
    xyz[5, 3] = np.nan
    return replace(body, xyz=xyz, time=body.time + 1.5)


def read_trc(path) -> tuple[dict[str, str], list[str], np.ndarray]:
    """Header, marker names and rows (T, 2 + 3 J) of a TRC file, gaps as NaN, as Pose2Sim reads them: with pandas."""
    head = pd.read_csv(path, sep="\t", skiprows=1, nrows=1, dtype=str).iloc[0].dropna().to_dict()
    names = pd.read_csv(path, sep="\t", skiprows=3, nrows=1, header=None).iloc[0, 2::3].dropna().tolist()
    rows = pd.read_csv(path, sep="\t", skiprows=4)
    rows.columns = ["frame", "time", *rows.columns[2:]]
    assert list(rows.columns[2:5]) == ["X1", "Y1", "Z1"]
    assert rows.shape[1] == 2 + 3 * len(names)
    return head, names, rows.to_numpy(float)


def in_c3d(path) -> tuple[np.ndarray, np.ndarray, c3d.Reader]:
    """Places (T, J, 3) and residuals (T, J) that the package c3d reads."""
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no analog data
        reader = c3d.Reader(file)
        frames = np.array([points for _, points, _ in reader.read_frames()])
    return frames[..., :3], frames[..., 3], reader


def test_trc_has_the_header_that_opensim_expects(tmp_path, poses):
    path = write(poses, tmp_path / "Ana's best 1.trc")
    assert path.read_text().splitlines()[0].split("\t") == ["PathFileType", "4", "(X/Y/Z)", "Ana's best 1.trc"]
    head, names, rows = read_trc(path)
    assert list(head) == ["DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units", "OrigDataRate",
                          "OrigDataStartFrame", "OrigNumFrames"]  # fmt: skip
    assert float(head["DataRate"]) == float(head["OrigDataRate"]) == pytest.approx(RATE, abs=1e-5)
    assert (head["NumFrames"], head["OrigNumFrames"], head["NumMarkers"], head["Units"]) == ("40", "40", "17", "m")
    assert names[:3] == ["Hip", "RHip", "RKnee"]
    assert rows[:, 0].tolist() == list(range(1, 41))
    assert rows[:, 1] == pytest.approx(poses.time, abs=1e-6)
    places = rows[:, 2:].reshape(40, 17, 3)
    assert np.isnan(places[5, 3]).all()
    assert np.isfinite(np.delete(places[5], 3, axis=0)).all()
    assert places[0, names.index("Head"), 1] > places[0, names.index("RAnkle"), 1] + 1.0


def test_opensim_reads_trc(tmp_path, poses):
    opensim = pytest.importorskip("opensim", reason="opensim is not installed")
    table = opensim.TimeSeriesTableVec3(str(write(poses, tmp_path / "a.trc")))
    assert list(table.getColumnLabels()) == marker_names(H36M17)
    assert table.getIndependentColumn() == pytest.approx(poses.time, abs=1e-6)
    assert table.getTableMetaDataAsString("Units") == "m"
    for name, place in zip(marker_names(H36M17), y_up(poses.xyz).swapaxes(0, 1), strict=True):
        column = table.getDependentColumn(name)
        theirs = np.array([column[row].to_numpy() for row in range(40)])
        assert np.array_equal(np.isnan(theirs), np.isnan(place))
        assert np.nanmax(np.abs(theirs - place)) < 1e-5


def test_the_axes_stay_right_handed():
    x, y, z = y_up(np.eye(3))
    assert np.dot(np.cross(x, y), z) == 1.0


def test_markers_have_the_names_that_biomechanics_uses():
    assert marker_names(H36M17)[:8] == ["Hip", "RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "Spine"]
    assert marker_names(H36M17)[8] == "Neck"
    assert marker_names(COCO17)[:3] == ["Nose", "LEye", "REye"]
    assert marker_names(HALPE26)[17:20] == ["Head", "Neck", "Hip"]
    assert marker_names(HALPE26)[20:] == ["LBigToe", "RBigToe", "LSmallToe", "RSmallToe", "LHeel", "RHeel"]
    for skeleton in SKELETONS.values():
        assert len(set(marker_names(skeleton))) == len(skeleton)


def test_csv_has_one_row_per_joint_with_its_unit(tmp_path, poses):
    rows = list(csv.DictReader(write(poses, tmp_path / "a.csv").open()))
    assert len(rows) == 40 * 17
    assert rows[0]["joint"] == "pelvis"
    assert float(rows[0]["time_s"]) == pytest.approx(1.5)
    assert float(rows[18]["x_m"]) == pytest.approx(float(poses.xyz[1, 1, 0]), abs=1e-5)
    assert rows[5 * 17 + 3]["x_m"] == ""


def test_pandas_reads_csv_and_numpy_the_arrays(tmp_path, poses):
    table = pd.read_csv(write(poses, tmp_path / "a.csv"))
    places = table[["x_m", "y_m", "z_m"]].to_numpy().reshape(40, 17, 3)
    assert np.array_equal(np.isnan(places), np.isnan(poses.xyz))
    assert np.nanmax(np.abs(places - poses.xyz)) < 1e-5
    assert table["time_s"].to_numpy()[::17] == pytest.approx(poses.time, abs=1e-6)
    records.save(tmp_path / "a.npz", poses)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert np.array_equal(file["xyz"], poses.xyz, equal_nan=True)
        assert np.array_equal(file["time"], poses.time)
        assert json.loads(str(file["header"]))["unit"] == "m"


def test_sigmas_are_in_files_that_can_hold_them(tmp_path, poses):
    sigma = np.random.default_rng(0).uniform(0.01, 0.1, poses.xyz.shape[:2])
    sigma[4, 2] = np.nan
    known = replace(poses, sigma=sigma)
    table = pd.read_csv(write(known, tmp_path / "a.csv"))
    assert table["sigma_m"].to_numpy().reshape(sigma.shape) == pytest.approx(sigma, abs=1e-5, nan_ok=True)
    content = json.loads(write(known, tmp_path / "a.json").read_text())
    assert np.array(content["sigma"], float) == pytest.approx(sigma, abs=1e-5, nan_ok=True)
    data = xarray.load_dataset(write(known, tmp_path / "a.nc"), engine="scipy")
    assert data["sigma"].dims == ("time", "keypoints", "individuals")
    assert data["sigma"].values[..., 0] == pytest.approx(sigma, abs=1e-7, nan_ok=True)
    records.save(tmp_path / "a.npz", known)
    assert np.array_equal(records.load(tmp_path / "a.npz").sigma, known.sigma, equal_nan=True)
    assert "sigma" not in pd.read_csv(write(poses, tmp_path / "b.csv")).columns.str.cat()


def test_json_names_its_unit_and_joints(tmp_path, poses):
    content = json.loads(write(poses, tmp_path / "a.json").read_text())
    assert (content["unit"], content["origin"]) == ("m", "camera")
    assert content["skeleton"]["joints"] == list(H36M17.joints)
    assert content["xyz"][5][3] == [None, None, None]
    assert np.array(content["xyz"][0], float) == pytest.approx(poses.xyz[0], abs=1e-5)


def test_two_programs_read_c3d(tmp_path, poses):
    path = write(poses, tmp_path / "a.C3D")
    file = ezc3d.c3d(str(path))
    about = file["parameters"]["POINT"]
    assert about["UNITS"]["value"] == ["m"]
    assert about["RATE"]["value"][0] == pytest.approx(RATE, abs=1e-4)
    assert about["LABELS"]["value"] == marker_names(H36M17)
    assert file["parameters"]["TWOVIEW"]["START_S"]["value"][0] == pytest.approx(1.5)
    theirs = file["data"]["points"][:3].transpose(2, 1, 0)
    assert np.isnan(theirs[5, 3]).all()
    assert np.nanmax(np.abs(theirs - y_up(poses.xyz))) < 1e-5
    assert file["data"]["meta_points"]["residuals"][0, 3, 4:7].tolist() == [0, -1, 0]
    places, residuals, reader = in_c3d(path)
    assert [label.strip() for label in reader.point_labels] == marker_names(H36M17)
    assert (reader.frame_count, reader.point_rate) == (40, pytest.approx(RATE, abs=1e-4))
    assert residuals[4:7, 3].tolist() == [0, -1, 0]
    known = residuals == 0
    assert known.sum() == 40 * 17 - 1
    assert np.abs(places - y_up(poses.xyz))[known].max() < 1e-5


def test_c3d_of_more_frames_than_its_header_counts_is_whole_and_its_limit_is_said(tmp_path):
    time = np.arange(70_000) / 240
    xyz = np.zeros((70_000, 17, 3), np.float32)
    xyz[..., 0] = time[:, None]
    long = Poses3D(xyz, time, unit="m")
    path = write(long, tmp_path / "long.c3d")
    places, _, reader = in_c3d(path)
    assert reader.frame_count == len(places) == 70_000
    assert places[-1, 0, 0] == pytest.approx(time[-1], abs=1e-4)
    assert reader.get("POINT:LONG_FRAMES").float_value == 70_000
    theirs = ezc3d.c3d(str(path))["data"]["points"]
    assert theirs.shape == (4, 17, 70_000)
    assert theirs[0, 0, -1] == pytest.approx(time[-1], abs=1e-4)
    (note,) = notes(long, ["c3d", "csv"])
    assert "misses the last 4465" in note
    assert notes(long, ["trc", "csv"]) == ()
    assert notes(long.between(0, 65_534 / 240), ["c3d"]) == ()


def test_files_of_one_rate_say_that_their_rows_are_not_the_frames(tmp_path, poses):
    missing = np.isin(np.arange(40), [7, 20, 22])
    uneven = Poses3D(poses.xyz[~missing], poses.time[~missing], unit="m")
    head, _, rows = read_trc(write(uneven, tmp_path / "a.trc"))
    assert (head["NumFrames"], head["OrigNumFrames"]) == ("40", "37")
    assert float(head["DataRate"]) == pytest.approx(RATE, abs=1e-5)
    assert float(head["OrigDataRate"]) == pytest.approx(RATE * 36 / 39, abs=1e-5)
    assert rows[:, 1] == pytest.approx(poses.time, abs=1e-6)
    note = ezc3d.c3d(str(write(uneven, tmp_path / "a.c3d")))["parameters"]["TWOVIEW"]["NOTE"]["value"][0]
    assert note == "40 rows at 29.97003 per second from 37 frames of uneven times: 3 are interpolated"
    (said,) = notes(uneven, ["csv", "trc", "c3d"])
    assert said.startswith(f"trc, c3d: {note}")
    assert notes(uneven, ["csv", "json", "html"]) == ()
    assert notes(poses, [name for name in FORMATS if name != "bvh"]) == ()
