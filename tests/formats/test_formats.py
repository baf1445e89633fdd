from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from scenes import swinging_person

from twoview.errors import MissingBackend
from twoview.formats import write
from twoview.formats.markers import at_even_rate, marker_names, y_up
from twoview.skeleton import COCO17, H36M17

RATE = 30000 / 1001


@pytest.fixture
def poses():
    body = swinging_person(40, rate=RATE)
    xyz = body.xyz.copy()
    xyz[5, 3] = np.nan
    return replace(body, xyz=xyz, time=body.time + 1.5)


def read_trc(path) -> tuple[dict[str, str], list[str], np.ndarray]:
    """Header, marker names and rows (T, 2 + 3 J) of a TRC file, gaps as NaN."""
    lines = path.read_text().splitlines()
    assert lines[0].startswith("PathFileType\t4\t(X/Y/Z)\t")
    head = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
    names = [name for name in lines[3].split("\t")[2:] if name]
    rows = [[float(value) if value else np.nan for value in line.split("\t")] for line in lines[5:]]
    assert lines[4].split("\t")[2:5] == ["X1", "Y1", "Z1"]
    assert {len(row) for row in rows} == {2 + 3 * len(names)}
    return head, names, np.array(rows)


def test_trc_has_the_header_that_opensim_expects(tmp_path, poses):
    head, names, rows = read_trc(write(poses, tmp_path / "a.trc"))
    assert list(head) == ["DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units", "OrigDataRate",
                          "OrigDataStartFrame", "OrigNumFrames"]  # fmt: skip
    assert float(head["DataRate"]) == pytest.approx(RATE, abs=1e-5)
    assert (head["NumFrames"], head["NumMarkers"], head["Units"]) == ("40", "17", "m")
    assert names[:3] == ["Hip", "RHip", "RKnee"]
    assert rows[:, 0].tolist() == list(range(1, 41))
    assert rows[:, 1] == pytest.approx(poses.time, abs=1e-6)
    places = rows[:, 2:].reshape(40, 17, 3)
    assert np.isnan(places[5, 3]).all()
    assert np.isfinite(np.delete(places[5], 3, axis=0)).all()
    assert places[0, names.index("Head"), 1] > places[0, names.index("RAnkle"), 1] + 1.0


def test_the_axes_stay_right_handed():
    x, y, z = y_up(np.eye(3))
    assert np.dot(np.cross(x, y), z) == 1.0


def test_markers_have_the_names_that_biomechanics_uses():
    assert marker_names(H36M17)[:8] == ["Hip", "RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "Spine"]
    assert marker_names(H36M17)[8] == "Neck"
    assert marker_names(COCO17)[:3] == ["Nose", "LEye", "REye"]


def test_uneven_times_become_even_and_even_ones_stay(poses):
    even, rate = at_even_rate(poses)
    assert rate == pytest.approx(RATE)
    assert np.array_equal(even.xyz, poses.xyz, equal_nan=True)
    times = np.sort(poses.time + np.random.default_rng(0).uniform(-0.012, 0.012, 40))
    uneven = swinging_person(40, rate=RATE).at(times - 1.5)
    uneven = replace(uneven, time=times).between(times[1], times[-2])
    even, rate = at_even_rate(uneven)
    assert np.ptp(np.diff(even.time)) < 1e-9
    assert rate == pytest.approx(RATE, rel=0.1)
    truth = swinging_person(400, rate=10 * RATE).at(even.time - 1.5).xyz
    assert np.nanmax(np.abs(even.xyz - truth)) < 0.02


def test_csv_has_one_row_per_joint_with_its_unit(tmp_path, poses):
    rows = list(csv.DictReader(write(poses, tmp_path / "a.csv").open()))
    assert len(rows) == 40 * 17
    assert rows[0]["joint"] == "pelvis"
    assert float(rows[0]["time_s"]) == pytest.approx(1.5)
    assert float(rows[18]["x_m"]) == pytest.approx(float(poses.xyz[1, 1, 0]), abs=1e-5)
    assert rows[5 * 17 + 3]["x_m"] == ""


def test_json_names_its_unit_and_joints(tmp_path, poses):
    content = json.loads(write(poses, tmp_path / "a.json").read_text())
    assert (content["unit"], content["origin"]) == ("m", "camera")
    assert content["skeleton"]["joints"] == list(H36M17.joints)
    assert content["xyz"][5][3] == [None, None, None]
    assert np.array(content["xyz"][0], float) == pytest.approx(poses.xyz[0], abs=1e-5)


def test_c3d_reads_back(tmp_path, poses):
    ezc3d = pytest.importorskip("ezc3d", reason="ezc3d is not installed")
    file = ezc3d.c3d(str(write(poses, tmp_path / "a.c3d")))
    about = file["parameters"]["POINT"]
    assert about["UNITS"]["value"] == ["m"]
    assert about["RATE"]["value"][0] == pytest.approx(RATE, abs=1e-4)
    assert about["LABELS"]["value"] == marker_names(H36M17)
    places = file["data"]["points"][:3].transpose(2, 1, 0)
    assert np.nanmax(np.abs(places - y_up(poses.xyz))) < 1e-5
    assert file["data"]["meta_points"]["residuals"][0, 3, 4:7].tolist() == [0, -1, 0]


@pytest.mark.parametrize(("name", "package"), [("c3d", "ezc3d"), ("html", "plotly")])
def test_a_missing_package_is_named_with_its_command(tmp_path, poses, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingBackend, match=package) as error:
        write(poses, tmp_path / f"a.{name}")
    assert error.value.hint == f"pip install {package}"
    assert list(tmp_path.iterdir()) == []
