"""Angles as a table and as OpenSim's .mot, read back; by OpenSim itself where it is installed."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from scenes import swinging_person

from twoview.biomechanics.angles import ANGLES, Angles, angles
from twoview.errors import FormatError
from twoview.formats import write
from twoview.formats.angles import write_angles_csv, write_angles_mot
from twoview.skeleton import H36M17


@pytest.fixture
def poses():
    body = swinging_person(40, rate=29.97)
    xyz = body.xyz.copy()
    xyz[5, H36M17.index("right_ankle")] = np.nan
    return replace(body, xyz=xyz, time=body.time + 1.5)


def read_mot(path) -> tuple[list[str], list[str], np.ndarray]:
    """Header lines, column names and rows of a .mot file."""
    lines = path.read_text().splitlines()
    end = lines.index("endheader")
    return lines[:end], lines[end + 1].split("\t"), np.array([line.split("\t") for line in lines[end + 2 :]], float)


def test_mot_has_opensims_header_coordinates_and_signs(tmp_path, poses):
    head, names, rows = read_mot(write(poses, tmp_path / "a.mot"))
    assert head[:5] == ["Coordinates", "version=1", "nRows=40", f"nColumns={len(names)}", "inDegrees=yes"]
    found = angles(poses).degrees
    assert names[0] == "time"
    assert rows[:, 0] == pytest.approx(poses.time, abs=1e-6)
    for coordinate, angle, sign in (
        ("knee_angle_r", "right_knee_flexion", 1), ("hip_flexion_l", "left_hip_flexion", 1),
        ("hip_adduction_r", "right_hip_abduction", -1), ("arm_add_l", "left_shoulder_abduction", -1),
        ("elbow_flex_r", "right_elbow_flexion", 1), ("lumbar_rotation", "x_factor", 1),
    ):  # fmt: skip
        np.testing.assert_allclose(rows[:, names.index(coordinate)], sign * found[angle], atol=1e-4)
    assert np.isnan(rows[5, names.index("knee_angle_r")])
    assert "pelvis_tilt" not in names
    assert "ankle_angle_r" not in names  # this skeleton has no feet


def test_csv_has_a_row_per_frame_with_units_in_the_names(tmp_path, poses):
    found = angles(poses, up=(0, -1, 0))
    write_angles_csv(found, tmp_path / "a.csv")
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert len(rows) == 40
    assert list(rows[0]) == ["frame", "time_s", *(f"{name}_deg" for name in found.degrees)]
    assert float(rows[3]["x_factor_deg"]) == pytest.approx(found.degrees["x_factor"][3], abs=1e-3)
    assert float(rows[3]["time_s"]) == pytest.approx(poses.time[3], abs=1e-6)
    assert rows[5]["right_knee_flexion_deg"] == ""


def test_contacts_of_the_feet_are_columns_of_0_and_1(tmp_path, poses):
    contact = np.zeros((40, 2), bool)
    contact[10:20, 0] = contact[15:, 1] = True
    write_angles_csv(angles(poses), tmp_path / "a.csv", contact=contact)
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [int(row["right_foot_on_floor"]) for row in rows] == contact[:, 0].astype(int).tolist()
    assert [int(row["left_foot_on_floor"]) for row in rows] == contact[:, 1].astype(int).tolist()


def test_angles_that_opensim_does_not_know_make_no_file(tmp_path):
    with pytest.raises(FormatError, match="no joints"):
        write_angles_mot(Angles(np.arange(3.0), {"pelvis_turn": np.zeros(3)}), tmp_path / "a.mot")


def test_opensim_reads_it(tmp_path, poses, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where OpenSim writes its log
    opensim = pytest.importorskip("opensim", reason="opensim is not installed")
    path = write(poses, tmp_path / "a.mot")
    table = opensim.TimeSeriesTable(str(path))
    found = angles(poses).degrees
    assert (table.getNumRows(), table.getTableMetaDataAsString("inDegrees")) == (40, "yes")
    known = {f"{about.opensim[0]}_r": name for name, about in ANGLES.items() if about.sided and about.opensim[0]}
    for coordinate, name in known.items():
        if coordinate in table.getColumnLabels():
            column = table.getDependentColumn(coordinate).to_numpy()
            np.testing.assert_allclose(column, ANGLES[name].opensim[1] * found[f"right_{name}"], atol=1e-4)
    storage = opensim.Storage(str(path))
    assert storage.isInDegrees()
    assert storage.getFirstTime() == pytest.approx(poses.time[0], abs=1e-6)
