"""Angles of a result: files beside it, which are removed once the result changes."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from scenes import swinging_person

from twoview.config import FilterConfig
from twoview.errors import FormatError
from twoview.poses import World
from twoview.storage import records
from twoview.workflow.angles import angles_of_file

FILES = [".angles.csv", ".angles.mot", ".angles.png"]


def test_files_stand_beside_the_poses_or_where_they_are_asked_for(tmp_path):
    records.save(tmp_path / "a.npz", swinging_person(60))
    made = angles_of_file(tmp_path / "a.npz")
    assert sorted(path.name for path in made.files) == [f"a{suffix}" for suffix in FILES]
    assert all(path.stat().st_size > 1000 for path in made.files)
    elsewhere = angles_of_file(tmp_path / "a.npz", tmp_path / "out" / "b.1", plot=False)
    assert sorted(path.name for path in elsewhere.files) == ["b.1.angles.csv", "b.1.angles.mot"]
    angles_of_file(tmp_path / "a.npz", plot=False)
    assert not (tmp_path / "a.angles.png").exists()


def test_the_filter_and_up_are_used(tmp_path):
    records.save(tmp_path / "a.npz", swinging_person(60))
    raw = angles_of_file(tmp_path / "a.npz", plot=False)
    made = angles_of_file(tmp_path / "a.npz", filter=FilterConfig(kind="butterworth", cutoff_hz=2), up=(0, -1, 0))
    assert made.angles.filter.startswith("butterworth, 2 Hz")
    assert set(made.angles.degrees) - set(raw.angles.degrees) >= {"pelvis_turn", "trunk_lean"}
    assert 0 < np.abs(made.angles.degrees["x_factor"] - raw.angles.degrees["x_factor"]).max() < 90
    rows = list(csv.DictReader((tmp_path / "a.angles.csv").open()))
    assert float(rows[20]["pelvis_turn_deg"]) == pytest.approx(made.angles.degrees["pelvis_turn"][20], abs=1e-3)


def test_contacts_are_in_the_table_where_the_floor_is_known(tmp_path):
    poses, contact = swinging_person(60), np.zeros((60, 2), bool)
    contact[10:30, 1] = True
    up, right = np.array([0.0, -1.0, 0.0]), np.array([1.0, 0.0, 0.0])
    world = World(up, right, np.array([0.0, 1.0, 3.0]), poses.xyz[:, 0], contact, 1.0, 0.03, np.zeros(60), "feet")
    records.save(tmp_path / "a.npz", replace(poses, world=world))
    made = angles_of_file(tmp_path / "a.npz")
    rows = list(csv.DictReader((tmp_path / "a.angles.csv").open()))
    assert [int(row["left_foot_on_floor"]) for row in rows] == contact[:, 1].astype(int).tolist()
    assert [contact.foot for contact in made.contacts] == ["left"]


def test_poses_of_nobody_are_refused_and_leave_no_file(tmp_path):
    poses = swinging_person(5)
    records.save(tmp_path / "a.npz", replace(poses, xyz=np.full_like(poses.xyz, np.nan)))
    with pytest.raises(FormatError, match="no frame shows an angle"):
        angles_of_file(tmp_path / "a.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_angles_of_a_result_that_changes_are_removed(tmp_path, monkeypatch, start):
    from scenes import small_scene

    from twoview.config import DetectConfig, InferConfig
    from twoview.workflow.inference import infer_file

    small_scene(tmp_path, seconds=1.0)
    monkeypatch.chdir(tmp_path)

    def infer(**settings):
        infer_file(tmp_path / "a.mp4", "start.pt", tmp_path / "out", config=InferConfig(**settings),
                   detect_config=DetectConfig(detector="markers:Markers"), picture=False)  # fmt: skip

    infer()
    made = angles_of_file(tmp_path / "out.npz")
    infer()
    assert all(path.exists() for path in made.files)
    infer(height_m=1.8)
    assert not any(path.exists() for path in made.files)
    (tmp_path / "out.angles.csv").write_text("mine")
    infer()
    assert (tmp_path / "out.angles.csv").read_text() == "mine"


def test_angles_of_two_view_3d_that_changes_are_removed(tmp_path, start):
    from session_takes import put_take

    from twoview.workflow.triangulation import triangulate_session

    session = put_take(tmp_path / "s", "t1", seconds=1.5)

    def solve(**more):
        (made,) = triangulate_session(session, model=str(start), picture=False, **more)
        return made.folder / "a.npz"

    made = angles_of_file(solve())
    solve()
    assert all(path.exists() for path in made.files)
    solve(filter=FilterConfig(kind="butterworth"))
    assert not any(path.exists() for path in made.files)
