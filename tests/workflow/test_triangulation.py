"""Two-view 3D of a session: solved once, written with its cameras, drawn, and never shown beside other poses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import ezc3d
import numpy as np
import pytest
from bodies import moving_body, two_views
from pages import Page
from scenes import small_scene
from session_takes import put_take

import twoview
from twoview.config import DetectConfig, FilterConfig, InferConfig, TriangulateConfig, WorldConfig
from twoview.errors import ConfigError, FormatError, LifterError, SessionError
from twoview.formats import FORMATS
from twoview.poses import Poses2D
from twoview.reconstruction.solved_cameras import cameras_from_json
from twoview.skeleton import H36M17, HALPE26, single_joints
from twoview.storage import records
from twoview.storage.session import Session, open_session
from twoview.timeline import ClockMap, Sync
from twoview.workers.places import Workers
from twoview.workflow import triangulation
from twoview.workflow.detection import View
from twoview.workflow.inference import infer_file
from twoview.workflow.known_cameras import known_camera
from twoview.workflow.remembered import keep
from twoview.workflow.stages import add_videos, load_takes, save_sync
from twoview.workflow.summary import describe_file
from twoview.workflow.triangulation import triangulate_session

METERS = TriangulateConfig(height_m=1.8)


@pytest.fixture
def session(tmp_path) -> Session:
    """Two takes without videos that could be played."""
    put_take(tmp_path / "s", "t1", seconds=1.5)
    return put_take(tmp_path / "s", "t2", seconds=1.5, seed=1)


def solve(session, start, **more):
    """What the command does, without pictures."""
    return triangulate_session(session, model=str(start), **{"picture": False, "config": METERS, **more})


def contents(session) -> dict[str, bytes]:
    """Every file of the two-view 3D of all takes."""
    paths = [path for path in session.folder.glob("takes/*/triangulated/**/*") if path.is_file()]
    return {str(path.relative_to(session.folder)): path.read_bytes() for path in paths}


def test_what_is_up_to_date_is_loaded_as_it_was_solved(session, start):
    first = solve(session, start)
    before = contents(session)
    start.write_bytes(start.read_bytes())
    copy = start.with_name("copy.pt")
    shutil.copyfile(start, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("twoview.lifting.model.load_model", lambda *_, **__: pytest.fail("the lifter is not needed"))
        again = solve(session, copy)  # the same content
    assert [one.fresh for one in (*first, *again)] == [True, True, False, False]
    assert contents(session) == before
    for one, other in zip(first, again, strict=True):
        assert one.result.summary() == other.result.summary()
        assert one.result.warnings == other.result.warnings
        for name in ("time", "sigma", "reliable", "bones_m"):
            assert np.array_equal(getattr(one.result, name), getattr(other.result, name))
        for name in ("points", "view_time", "swapped", "size"):
            for view, value in getattr(one.result, name).items():
                assert np.array_equal(value, getattr(other.result, name)[view])
        for view, poses in one.poses.items():
            assert np.array_equal(poses.xyz, other.poses[view].xyz, equal_nan=True)


def test_workers_and_parts_that_are_locked_at_once_make_no_difference(session, start, monkeypatch):
    def made(workers: Workers | None = None, **more) -> dict[str, bytes]:
        for folder in session.folder.glob("takes/*/triangulated"):
            shutil.rmtree(folder)
        assert [one.fresh for one in solve(session, start, config=replace(METERS, **more), workers=workers)] == [
            True
        ] * 2
        return contents(session)

    whole, apart, away = made(), made(same_athlete=False), Workers("own_tasks:threads")
    assert made(away) == whole
    assert made(away, same_athlete=False) == apart
    monkeypatch.setattr(triangulation, "LOCKED", 1)
    assert made() == whole  # one athlete's takes stay together
    assert made(same_athlete=False) == apart
    assert [[take.name for take in part] for part in triangulation._parts(load_takes(session), together=False)] == [
        ["t1"], ["t2"],
    ]  # fmt: skip


def test_what_shaped_a_solution_has_it_solved_again(session, start):
    def fresh(**more):
        return [one.fresh for one in solve(session, start, **more)]

    alone = replace(METERS, same_athlete=False)
    assert fresh() == [True, True]
    assert fresh(config=TriangulateConfig(height_m=1.9)) == [True, True]
    assert fresh(config=alone) == [True, True]
    assert fresh(config=alone, takes=["t1"]) == [False]
    path = session.detection_path("t1", "a")
    poses, head = records.load(path), records.read_header(path)
    records.save(path, replace(poses, xy=poses.xy + 1), inputs=head["inputs"])
    assert fresh(config=alone) == [True, False]
    assert fresh() == [True, True]
    records.save(path, poses, inputs=head["inputs"])
    assert fresh() == [True, True]  # one athlete: each take shapes all
    assert fresh(takes=["t1"]) == [True]
    assert fresh(takes=["t2"]) == [True]
    assert fresh(takes=["t2"]) == [False]
    sync = records.load(session.sync_path("t2"))
    save_sync(session, "t2", replace(sync, warnings=("other",)), settings={})
    assert fresh(takes=["t2"]) == [True]
    other = start.with_name("other.pt")
    other.write_bytes(b"no model")
    with pytest.raises(LifterError):
        solve(session, other)


@pytest.mark.parametrize("name", ["a.npz", "solved/triangulation.npz", "solved/cameras.json", "solved/made.json",
                                  "solved/pose2sim.toml", "a.csv"])  # fmt: skip
@pytest.mark.parametrize("damage", ["gone", "half"])
def test_a_file_that_is_lost_or_damaged_is_made_again(session, start, name, damage):
    solve(session, start, takes=["t1"], formats=["csv"])
    path, before = session.take_folder("t1") / "triangulated" / name, contents(session)
    content = path.read_bytes()
    path.unlink()
    if damage == "half":
        path.write_bytes(content[: len(content) // 2])
    solve(session, start, takes=["t1"], formats=["csv"])
    assert contents(session) == before


def test_a_half_file_with_a_whole_header_is_solved_again(session, start):
    solve(session, start, takes=["t1"])
    path, before = session.take_folder("t1") / "triangulated" / "solved" / "triangulation.npz", contents(session)
    head, arrays = records.read_npz(path)
    backwards = {**arrays, "time": arrays["time"][::-1].copy()}
    short = {**arrays, "sigma": arrays["sigma"][:-1]}
    for wrong in (short, backwards, {k: v for k, v in arrays.items() if k != "points"}):
        records.write_npz(path, head, wrong)
        with pytest.raises(FormatError, match="is damaged"):
            twoview.load(path)
        assert solve(session, start, takes=["t1"])[0].fresh
        assert contents(session) == before


def test_the_files_hold_sigmas_reliability_swaps_and_cameras(session, start):
    (made,) = solve(session, start, takes=["t1"])
    result, folder = made.result, session.take_folder("t1") / "triangulated"
    for view in result.views:
        with np.load(folder / f"{view}.npz", allow_pickle=False) as file:
            assert np.allclose(file["sigma"], result.sigma_of(view), rtol=1e-6)
            assert np.array_equal(file["reliable"], result.reliable)
            assert np.array_equal(file["swapped"], result.swapped[view])
            assert np.array_equal(np.isfinite(file["xyz"]).all(axis=(1, 2)), result.reliable)
    assert records.load(folder / "a.npz").unit == "m"
    content = json.loads((folder / "solved" / "cameras.json").read_text())
    assert content["format"] == "cameras"
    assert "1.8 m" in content["convention"]["meters"]
    cameras = cameras_from_json(content)
    points = cameras["b"].camera().to_camera(result.points["a"])
    assert np.median(np.linalg.norm(points - result.points["b"], axis=-1)) < 0.02
    assert cameras["b"].clock == records.load(session.sync_path("t1")).clocks["b"]
    assert np.array_equal(twoview.load(folder / "solved" / "triangulation.npz").points["b"], result.points["b"])
    assert {"solved/pose2sim.toml", "solved/anipose.toml", "solved/caliscope.toml"} < set(made.files)
    assert all(path.exists() for path in made.files.values())


def test_cameras_in_hands_go_to_no_file_that_has_one_place_for_each(session, start):
    (made,) = solve(session, start, takes=["t1"], config=replace(METERS, moving_s=0.5))
    assert "solved/cameras.json" in made.files
    assert not [name for name in made.files if name.endswith(".toml")]
    assert not list(session.folder.glob("takes/t1/triangulated/solved/*.toml"))


def test_every_format_is_written_for_every_view_and_follows_the_poses(session, start):
    (made,) = solve(session, start, takes=["t1"], formats=list(FORMATS))
    folder = session.take_folder("t1") / "triangulated"
    names = {f"{view}.{format}" for view in ("a", "b") for format in FORMATS if format != "html"} | {"page.html"}
    for name in names:
        assert (folder / name).stat().st_size > 100
        assert made.files[name] == folder / name
    before = contents(session)
    smooth = FilterConfig(kind="butterworth", cutoff_hz=2.0)
    (made,) = solve(session, start, takes=["t1"], filter=smooth)
    assert not made.fresh
    after = contents(session)
    changed = {name.split("triangulated/")[1] for name in before if after[name] != before[name]} - {"solved/made.json"}
    assert changed == names | {"a.npz", "b.npz"}
    solve(session, start, takes=["t1"])
    now = contents(session)
    differ = {name for name in before if now[name] != before[name]}
    assert all(name.endswith("made.json") for name in differ)


def test_formats_that_could_not_be_written_are_refused_before_any_work(session, start):
    for formats, config, because in (
        (["csv", "xyz"], METERS, "unknown format 'xyz'"),
        (["trc"], TriangulateConfig(), "no scale"),
    ):
        with pytest.raises(FormatError, match=because):
            solve(session, start.with_name("no such model.pt"), formats=formats, config=config)
    assert not contents(session)


def test_formats_of_an_earlier_call_are_made_again_or_removed(session, start, caplog):
    solve(session, start, takes=["t1"], formats=["trc", "csv"])
    folder = session.take_folder("t1") / "triangulated"
    before = (folder / "a.csv").read_bytes()
    solve(session, start, takes=["t1"], config=replace(METERS, height_m=1.6))
    assert (folder / "a.csv").read_bytes() != before
    assert (folder / "a.trc").exists()
    keep(session.folder, height_m=0.0)
    solve(session, start, takes=["t1"], config=TriangulateConfig())
    assert (folder / "a.csv").exists()
    assert not (folder / "a.trc").exists()
    assert "a.trc was removed: it held other poses" in caplog.text


def test_a_kill_leaves_no_file_that_shows_other_poses(session, start, monkeypatch):
    class Killed(BaseException):
        pass

    solve(session, start, takes=["t1"], formats=["csv"])
    folder = session.take_folder("t1") / "triangulated"
    smooth, save = FilterConfig(kind="butterworth", cutoff_hz=2.0), records.save

    def killed(path, *values, **more):
        save(path, *values, **more)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(records, "save", killed)
        with pytest.raises(Killed):
            solve(session, start, takes=["t1"], filter=smooth)
    assert not (folder / "a.csv").exists()
    assert not (folder / "b.csv").exists() or records.load(folder / "b.npz").filter == ""


def test_a_take_with_another_name_is_loaded_under_that(session, start):
    solve(session, start, takes=["t1"])
    (made,) = solve(twoview.rename(session, "t1", "serve"), start, takes=["serve"])
    assert (made.fresh, made.result.take, made.summary()["take"]) == (False, "serve", "serve")


def test_what_was_solved_is_shown_and_loaded(session, start):
    (made,) = solve(session, start, takes=["t1"])
    folder = session.take_folder("t1") / "triangulated" / "solved"
    right, down, ahead = made.result.cameras["b"].camera().position
    for name in ("triangulation.npz", "cameras.json"):
        rows = {row["what"]: row["value"] for row in describe_file(folder / name)}
        assert f"stands {right:+.2f} m right, {-down:+.2f} m up, {ahead:+.2f} m ahead" in rows["b"]
        assert f"focal length {made.result.focal_px['a']:.0f} px" in rows["a"]
    assert np.array_equal(twoview.load(folder / "cameras.json")["b"].rotation, made.result.cameras["b"].rotation)
    assert np.array_equal(twoview.load(folder / "triangulation.npz").sigma, made.result.sigma)
    content = json.loads((folder / "cameras.json").read_text())
    for key, value in (("views", []), ("views", {"a": {}}), ("views", {"a": {**content["views"]["a"], "windows": []}})):
        (folder / "cameras.json").write_text(json.dumps({**content, key: value}))
        with pytest.raises(FormatError, match="is damaged"):
            twoview.load(folder / "cameras.json")


def test_all_joints_of_the_detector_are_written_where_it_has_more(session, start):
    solve(session, start, takes=["t1"])
    assert not (session.take_folder("t1") / "triangulated" / "all_joints").exists()
    names = single_joints(HALPE26)
    for view in ("a", "b"):
        path = session.detection_path("t1", view)
        head, poses = records.read_header(path), records.load(path)
        xy, score = (np.repeat(values[:, :1], 26, axis=1) for values in (poses.xy, poses.score))
        for ours, theirs in names.items():
            xy[:, theirs] = poses.xy[:, ours]
        feet = replace(poses, xy=xy, score=score, skeleton=HALPE26)
        records.save(path, feet, inputs=head["inputs"])
    (made,) = solve(session, start, takes=["t1"])
    assert made.fresh
    path = made.files["all_joints/b.npz"]
    poses = records.load(path)
    assert (poses.skeleton, poses.unit, len(poses)) == (HALPE26, "m", len(made.result.time))
    knee, ours = HALPE26.index("left_knee"), H36M17.index("left_knee")
    assert np.allclose(poses.xyz[:, knee], made.poses["b"].xyz[:, ours], atol=1e-6, equal_nan=True)
    with np.load(path) as file:
        assert file["sigma"].shape == poses.xyz.shape[:2]
        assert np.array_equal(file["reliable"], made.result.reliable)
    (made,) = solve(session, start, takes=["t1"], formats=["csv", "trc", "c3d"])
    table = made.files["all_joints/b.csv"].read_text().splitlines()
    assert len(table) == 1 + 26 * len(poses)
    assert table[0].endswith("sigma_m")
    assert "RSmallToe" in made.files["all_joints/b.trc"].read_text()
    points = ezc3d.c3d(str(made.files["all_joints/b.c3d"]))
    assert points["parameters"]["POINT"]["USED"]["value"][0] == 26
    assert np.nanmax(np.ptp(points["data"]["points"][:3], axis=2)) > 0.01
    before = contents(session)
    path.write_bytes(path.read_bytes()[:1000])
    solve(session, start, takes=["t1"])
    assert contents(session) == before
    (made,) = solve(session, start, takes=["t1"], filter=FilterConfig(kind="butterworth", cutoff_hz=2.0))
    assert records.load(path).filter.startswith("butterworth")
    smooth = (path.parent / "b.csv").read_text().splitlines()
    assert len(smooth) == len(table)  # asked for before, and made again from the new poses
    assert smooth != table


def test_videos_that_cannot_be_drawn_cost_the_pictures_alone(session, start):
    (made,) = solve(session, start, takes=["t1"], picture=True)
    assert made.fresh
    said = [sentence for sentence in made.warnings if "is not drawn" in sentence]
    assert [sentence.split(":")[0] for sentence in said] == ["view a is not drawn", "view b is not drawn"]
    assert "a.npz" in made.files
    assert "a.png" not in made.files


def walked(tmp_path) -> Session:
    """A session of one take whose videos can be played, with 2D poses of a body that moves."""
    small_scene(tmp_path, seconds=1.5)
    session = add_videos(tmp_path / "s", [tmp_path / "a.mp4", tmp_path / "b.mp4"])[0]
    rng = np.random.default_rng(0)
    tracks, _ = two_views(moving_body(40, rng), rng, noise=0.002, focal=300.0)
    for v, view in enumerate("ab"):
        xy = tracks.xy[v] - np.array([960, 540]) + np.array([160, 120])
        poses = Poses2D(xy, tracks.score[v], tracks.time - tracks.time[0], H36M17, (320, 240), view=view)
        records.save(session.detection_path("take1", view), poses,
                     inputs={"video": session.take("take1")[view].fingerprint})  # fmt: skip
    save_sync(session, "take1", Sync("a", {"a": ClockMap(), "b": ClockMap()}), settings={})
    return open_session(session.folder)


def test_the_3d_is_drawn_over_both_videos_once(tmp_path, start):
    session = walked(tmp_path)
    (made,) = solve(session, start, picture=True)
    folder = session.take_folder("take1") / "triangulated"
    names = ["a.mp4", "a.png", "b.mp4", "b.png", "page.html"]
    assert sorted(name for name in made.files if name in names) == names
    shown = Page(folder / "page.html").data["content"]
    assert [video["name"] for video in shown["videos"]] == [camera["name"] for camera in shown["cameras"]] == ["a", "b"]
    assert all("why" not in video and video["xy"] for video in shown["videos"])
    assert shown["figures"][0]["certainty"]
    before = {name: (folder / name).stat().st_mtime_ns for name in names}
    solve(session, start, picture=True)
    assert {name: (folder / name).stat().st_mtime_ns for name in names} == before
    (folder / "b.png").unlink()
    solve(session, start, picture=True)
    after = {name: (folder / name).stat().st_mtime_ns for name in names}
    assert [name for name in names if after[name] != before[name]] == ["b.png"]
    solve(session, start, picture=True, filter=FilterConfig(kind="butterworth", cutoff_hz=2.0))
    last = {name: (folder / name).stat().st_mtime_ns for name in names}
    assert all(last[name] != after[name] for name in names)


def test_the_world_of_a_take_is_one_for_all_views_and_tells_about_its_cameras(session, start):
    one, _ = solve(session, start, formats=("csv",))
    a, b = (one.poses[view].world for view in "ab")
    camera = one.result.cameras["b"]
    assert camera.rotation[0] @ a.up == pytest.approx(b.up)
    assert camera.rotation[0] @ a.floor + camera.translation[0] == pytest.approx(b.floor)
    assert one.summary()["world"]["a"]["up_sigma_deg"] == a.up_sigma_deg < 15
    (known, path) = known_camera(session, named="b")
    assert path.name == "b.npz"
    assert known.focal_px > 0
    own = session.take("t1")["a"].fingerprint
    (known, path) = known_camera(session, fingerprint=own)
    assert (path, known.up) == (one.folder / "a.npz", pytest.approx(a.up))
    assert known_camera(session, fingerprint="another") is None
    with pytest.raises(SessionError, match="how the phone of view t3/b stood"):
        known_camera(session, named="t3/b")
    with pytest.raises(ConfigError, match="one view"):
        solve(session, start, world=WorldConfig(camera="a"))
    (level, _) = solve(session, start, world=WorldConfig(level=True))
    assert not level.fresh, "cameras need no solving again"
    assert level.poses["a"].world.source == "the phones, taken as level"
    (hand, _) = solve(session, start, config=replace(METERS, moving_s=0.4))
    assert hand.poses["a"].world is None


def test_a_video_of_a_take_is_lifted_from_the_take_s_detections_and_its_solved_camera(tmp_path, start):
    session = walked(tmp_path)
    detected = session.detection_path("take1", "a")
    marked = DetectConfig(detector="markers:Markers")
    fingerprint = session.take("take1")["a"].fingerprint
    view = View.of("take1", "a", tmp_path / "a.mp4", detected, fingerprint=fingerprint, config=marked)
    view.save(records.load_as(detected, Poses2D))
    options = {"config": InferConfig(height_m=1.8), "detect_config": marked, "picture": False}
    options |= {"session": session.folder}

    def infer(name, **more):
        return infer_file(tmp_path / name, start, tmp_path / f"{name}.out", **{**options, **more})

    first = infer("a.mp4")
    assert np.array_equal(first.detections.xy, records.load_as(detected, Poses2D).xy)
    assert "solved take" not in first.poses.world.source
    (solved,) = solve(open_session(session.folder), start)
    own, other = infer("a.mp4"), infer("b.mp4", world=WorldConfig(camera="a"))
    assert own.fresh
    assert not infer("a.mp4").fresh
    assert "the camera of a solved take" in own.poses.world.source
    assert "the camera of a solved take" in other.poses.world.source
    assert np.degrees(np.arccos(own.poses.world.up @ solved.poses["a"].world.up)) < 5
    with pytest.raises(SessionError, match="how the phone of view c stood"):
        infer("b.mp4", world=WorldConfig(camera="c"))
    view.save(replace(own.detections, xy=own.detections.xy + 1))
    assert infer("a.mp4").fresh, "the take's detections are others now"
    assert infer("a.mp4", detect_config=replace(marked, person=0)).athlete.by_hand, "detected alone"
