"""Readers of public data sets, on files of the same layout made from a body whose every joint is known."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
from bodies import around
from data_set_files import FRAMES, to_3dhp, write_aspset, write_c3d, write_human36m, write_sportspose

from twoview.datasets import aspset, human36m, mpi_inf_3dhp, sportspose
from twoview.errors import FormatError, MissingBackend
from twoview.geometry.cameras import Camera, turned
from twoview.poses import Poses2D
from twoview.skeleton import COCO17, to_h36m
from twoview.storage.objects import read_objects, read_pickle

# --- SportsPose ----------------------------------------------------------------------------------------------------


def test_sportspose_is_projected_turned_and_timed(tmp_path, rng):
    world, cameras, turns = write_sportspose(tmp_path, rng)
    (take,) = sportspose.read(tmp_path, split="test", views=("right", "back"))
    assert (take.subject, take.activity, take.split, take.views) == ("S06", "soccer", "test", ("right", "back"))
    index = {"right": 3, "back": 1}
    for view in take.views:
        plain = cameras[index[view]]
        camera = turned(plain, turns[index[view]])
        points = camera.to_camera(to_h36m(world, np.ones(world.shape[:2], np.float32), COCO17)[0])
        np.testing.assert_allclose(take.truth[view].xyz, points, atol=1e-5)
        np.testing.assert_allclose(take.poses[view].xy, camera.project(points), atol=1e-3)
        assert take.poses[view].size == (1216, 1936)
        assert take.videos[view] == tmp_path / "videos/indoors/S06/soccer0001" / f"CAM{index[view]}.avi"
        np.testing.assert_allclose(take.video_time[view], (np.arange(FRAMES) + 100 + 2 * index[view]) / 90)
    np.testing.assert_allclose(take.poses["back"].time, np.arange(FRAMES) / 90, atol=1e-9)


def test_sportspose_detections_are_taken_at_the_frames_of_the_poses(tmp_path, rng):
    write_sportspose(tmp_path, rng)
    (take,) = sportspose.read(tmp_path)
    found = {}
    for view in take.views:
        time = np.arange(200) / 90
        xy = np.zeros((200, 17, 2)) + time[:, None, None]  # where a joint is tells when it was
        found[view] = Poses2D(xy, np.ones((200, 17)), time, COCO17, (1216, 1936))
    seen = take.with_detections(found)
    for view in take.views:
        np.testing.assert_allclose(seen.poses[view].xy[:, 0, 0], take.video_time[view], atol=1e-6)
        np.testing.assert_allclose(seen.poses[view].time, take.truth[view].time)


def test_sportspose_splits_are_the_papers(tmp_path, rng):
    """Section 4.1 of the paper, of all 24 people."""
    people = [f"S{number:02d}" for number in range(24)]
    for subject in people:
        write_sportspose(tmp_path, rng, subject)
    found = {
        split: [t.subject for t in sportspose.read(tmp_path, split=split)] for split in ("train", "validation", "test")
    }
    assert found["test"] == ["S06", "S12", "S19"]
    assert found["validation"] == ["S04", "S07", "S09", "S14", "S22"]
    assert sorted(subject for part in found.values() for subject in part) == people


@pytest.mark.parametrize(
    ("place", "subject", "view", "index"),
    [("indoors", "S00", "right", 3), ("indoors", "S21", "right", 2), ("indoors", "S15", "back", 5),
     ("outdoors", "S10", "back", 2), ("outdoors", "S10", "front-left", 4)],
)  # fmt: skip
def test_sportspose_view_names_follow_the_session(place, subject, view, index):
    assert sportspose.camera_index(place, subject, view) == index


def test_sportspose_says_what_is_wrong(tmp_path, rng):
    with pytest.raises(FormatError, match=r"no SportsPose takes.*\n.*reproduce-the-paper"):
        list(sportspose.read(tmp_path))
    write_sportspose(tmp_path, rng)
    take = next((tmp_path / "data").rglob("soccer0001.npy"))
    np.save(take, np.load(take)[:-1])
    with pytest.raises(FormatError, match=r"\(11, 17, 3\) joints, 12 times"):
        list(sportspose.read(tmp_path))


# --- Human3.6M -----------------------------------------------------------------------------------------------------


def test_human36m_views_of_a_take_come_together(tmp_path, body):
    write_human36m(tmp_path / "h36m.pkl", body)
    first, second = human36m.read(tmp_path / "h36m.pkl", split="test")
    assert (first.subject, first.activity, second.activity) == ("S9", "Direction", "Greet")
    assert first.views == ("54138969", "55011271")
    assert second.name == "s_09_act_05_subact_02"
    assert np.unique(first.poses["54138969"].score) == pytest.approx(0.8)
    assert list(human36m.read(tmp_path / "h36m.pkl", split="test", subjects=["S11"])) == []


def test_human36m_truth_is_the_true_shape_up_to_its_unit(tmp_path, body):
    points = write_human36m(tmp_path / "h36m.pkl", body)
    take = next(human36m.read(tmp_path / "h36m.pkl", split="test"))
    for view in take.views:
        solid = take.truth[view].xyz.astype(np.float64)
        solid, true = solid - solid[:, :1], points[view] - points[view][:, :1]
        scale = (solid * true).sum((1, 2)) / (solid**2).sum((1, 2))
        # what is left: the principal point (0.7 degrees off the picture's center) and the 1/2000 of the recipe
        assert np.linalg.norm(solid * scale[:, None, None] - true, axis=-1).mean() < 0.012


# --- MPI-INF-3DHP --------------------------------------------------------------------------------------------------


def test_3dhp_joints_are_put_in_our_order(tmp_path, rng, body):
    lens = Camera(np.eye(3), np.zeros(3), np.array([1500.0, 1495.0]), np.array([1024.0, 1030.0]), (2048, 2048))
    cameras, points = {}, {}
    for view, angle in (("0", 0.0), ("4", 80.0)):
        rotation, translation = around(angle)
        points[view] = body @ rotation.T + translation
        xy = lens.project(points[view])
        cameras[view] = {"data_2d": to_3dhp(xy), "data_3d": to_3dhp(points[view] * 1000)}
    path = tmp_path / "data_train_3dhp.npz"
    np.savez(path, data=np.array({"S1 Seq2": [cameras, 25]}, dtype=object))
    (take,) = mpi_inf_3dhp.read_train(path)
    assert (take.name, take.subject, take.views) == ("S1_Seq2", "S1", ("0", "4"))
    for view in take.views:
        np.testing.assert_allclose(take.truth[view].xyz, points[view], atol=1e-5)
        np.testing.assert_allclose(take.cameras[view].focal, lens.focal, rtol=1e-6)
        np.testing.assert_allclose(take.cameras[view].center, lens.center, rtol=1e-6)
    np.testing.assert_allclose(np.diff(take.poses["0"].time), 1 / 25)


def test_3dhp_test_frames_that_are_not_valid_are_left_out(tmp_path, body):
    points = body @ around(20.0)[0].T + around(20.0)[1]
    xy = points[..., :2] / points[..., 2:] * 1500 + [960, 540]
    valid = np.array([0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    rows = {"data_2d": to_3dhp(xy), "data_3d": to_3dhp(points * 1000), "valid": valid}
    np.savez(tmp_path / "test.npz", data=np.array({"TS5": rows}, dtype=object))
    (take,) = mpi_inf_3dhp.read_test(tmp_path / "test.npz", rate=25)
    assert take.poses["0"].size == (1920, 1080)
    np.testing.assert_allclose(take.poses["0"].time * 25, np.flatnonzero(valid))


# --- ASPset --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["mm", "cm"])
def test_aspset_clips_have_the_cameras_that_were_released(tmp_path, body, unit):
    pytest.importorskip("ezc3d", reason="ezc3d is not installed")
    body[2, 3] = np.nan
    _, points = write_aspset(tmp_path, body, unit)
    (take,) = aspset.read(tmp_path, views=("left", "right"))
    assert take.views == ("left", "right")
    np.testing.assert_allclose(take.truth["left"].xyz, points, atol=1e-5)
    np.testing.assert_allclose(np.diff(take.truth["left"].time), 1 / 50)
    assert take.videos["right"] == tmp_path / "trainval/videos/04ac/04ac-0026-right.mkv"
    (tmp_path / "splits.csv").write_text("04ac,0026,train,mid\n")
    assert list(aspset.read(tmp_path, views=("left", "right"))) == []


def test_aspset_motion_that_cannot_be_read_is_named(tmp_path, body):
    pytest.importorskip("ezc3d", reason="ezc3d is not installed")
    path, _ = write_aspset(tmp_path, body)
    whole = path.read_bytes()
    for content, message in (
        (whole[:-600], "12 frames of 17 points do not fit"),
        (whole[:300], "C3D"),
        (b"hello", "C3D"),
    ):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=rf"04ac-0026\.c3d cannot be read.*{message}"):
            list(aspset.read(tmp_path))
    write_c3d(path, ["a", "b"], body[:, :2], 50.0)
    with pytest.raises(FormatError, match="pelvis"):
        list(aspset.read(tmp_path))


def test_aspset_without_ezc3d_names_the_command(tmp_path, body, monkeypatch):
    pytest.importorskip("ezc3d", reason="ezc3d is not installed")
    write_aspset(tmp_path, body)
    monkeypatch.setitem(sys.modules, "ezc3d", None)
    with pytest.raises(MissingBackend, match="pip install ezc3d"):
        list(aspset.read(tmp_path))


# --- pickles -------------------------------------------------------------------------------------------------------


class Trap:
    def __reduce__(self):
        return print, ("this must not run",)


def test_a_pickle_cannot_run_code(tmp_path, capsys):
    (tmp_path / "trap.pkl").write_bytes(pickle.dumps({"calibration": [Trap()]}))
    with pytest.raises(FormatError, match=r"builtins\.print, which could run code"):
        read_pickle(tmp_path / "trap.pkl")
    np.savez(tmp_path / "trap.npz", data=np.array({"S1": Trap()}, dtype=object))
    with pytest.raises(FormatError, match="could run code"):
        read_objects(tmp_path / "trap.npz")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_arrays_come_out_of_pickles_of_any_age(tmp_path, protocol, rng):
    value = {"a": rng.normal(size=(3, 2)), "b": ["x", 1.5, np.float64(2.0)], "c": np.array(["s_01"])}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol=protocol))
    found = read_pickle(tmp_path / "a.pkl")
    np.testing.assert_array_equal(found["a"], value["a"])
    assert found["b"] == value["b"]
    assert found["c"].tolist() == ["s_01"]


def test_a_pickle_of_numpy_1_is_read(tmp_path, rng):
    content = pickle.dumps(rng.normal(size=4), protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "old.pkl").write_bytes(content)
    assert read_pickle(tmp_path / "old.pkl").shape == (4,)


def test_a_file_that_is_no_pickle_is_named(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"not a pickle")
    with pytest.raises(FormatError, match=r"a\.pkl cannot be read"):
        read_pickle(tmp_path / "a.pkl")
