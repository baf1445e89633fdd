from __future__ import annotations

import base64
import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from pages import Page, browser, refused_scripts, shown_in_browser
from scenes import seen_flat, swinging_person
from scipy.spatial.transform import Rotation
from synthetic import camera_around
from videos import number, picture

from twoview.biomechanics.angles import angles
from twoview.biomechanics.events import find_swing
from twoview.biomechanics.world import in_world
from twoview.errors import FormatError
from twoview.geometry.similarity import rooted
from twoview.media.small_copy import small_copy
from twoview.media.video import frames
from twoview.media.writer import VideoWriter
from twoview.poses import World
from twoview.reconstruction.solved_cameras import SolvedCamera
from twoview.timeline import ClockMap
from twoview.visualization.page import ASSETS
from twoview.visualization.viewer import MOST_FRAMES, ShownVideo, write_page

SIZE = (96, 72)
TIMES = np.array([0.0, 0.04, 0.08, 0.14, 0.2, 0.24, 0.3])  # of a phone: uneven
CLOCK = ClockMap(0.05, 1.001)
EVIL = "<!--<script></script><img src=x onerror=alert(1)>\u2028&amp;"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "view.mp4"
    with VideoWriter(path, SIZE, 25) as writer:
        for count, time in enumerate(TIMES):
            writer.write(picture(count, SIZE), time)
    return path


def page(folder, poses, **options) -> Page:
    write_page(poses, folder / "a.html", **options)
    return Page(folder / "a.html")


def shown(video, poses) -> ShownVideo:
    """The video as view a, from a camera that looks along the axes of the poses."""
    camera = SolvedCamera(SIZE, 80.0, CLOCK, np.zeros(1), np.eye(3)[None], np.zeros((1, 3)), np.zeros(1))
    flat = replace(seen_flat(poses, size=SIZE), time=CLOCK.to_view(poses.time))
    return ShownVideo("a", video, CLOCK, flat, camera)


def joints(content, figure=0) -> np.ndarray:
    rows = [[np.nan if v is None else v for v in row] for row in content["figures"][figure]["joints"]]
    return np.array(rows).reshape(len(rows), -1, 3) / content["perUnit"]


def test_a_page_holds_everything_and_refuses_every_request(tmp_path, video):
    poses = swinging_person(8)
    made = page(tmp_path, poses, before=poses, videos=[shown(video, poses)], notes=["a note"])
    assert made.loaded() == made.handlers() == refused_scripts(made) == []
    assert made.policy["default-src"] == ["'none'"]
    assert set(made.policy) == {
        "default-src", "script-src", "style-src", "img-src", "media-src", "base-uri", "form-action"
    }  # fmt: skip
    assert "'unsafe-inline'" not in made.policy["script-src"]
    assert not [source for sources in made.policy.values() for source in sources if "http" in source or source == "*"]
    assert len(made.scripts) == 3
    assert len(made.text) < 1_000_000


def test_what_a_page_loads_is_seen(tmp_path):
    (tmp_path / "b.html").write_text(
        '<meta http-equiv="Content-Security-Policy" content="script-src \'sha256-x\'"><link rel=x><img src="http://a/b">'
        "<style>@import 'c'; p { background: url(d) }</style><script>run()</script><p onclick=run()>"
    )
    planted = Page(tmp_path / "b.html")
    assert planted.loaded() == ["http://a/b", "@import 'c'", "url(d)", "<link>"]
    assert planted.handlers() == ["onclick"]
    assert refused_scripts(planted) == ["run()"]


def test_the_figure_is_the_poses_to_rounding(tmp_path):
    poses = swinging_person(12)
    content = page(tmp_path, poses).data["content"]
    assert np.array(content["times"]) == pytest.approx(poses.time, abs=1e-4)
    expected = rooted(poses.xyz.astype(np.float64)) * [1, -1, -1]  # up is up, and the camera is in front
    assert rooted(joints(content)) == pytest.approx(expected, abs=1.5e-4)
    travel = joints(content)[:, 0] - joints(content)[0, 0]
    assert travel == pytest.approx((poses.xyz[:, 0] - poses.xyz[0, 0]) * [1, -1, -1], abs=2e-4)
    assert abs(np.nanpercentile(joints(content)[..., 1], 0.5)) < 1e-3  # the floor


def world_of(poses, *, tilt_deg: float) -> World:
    """The world of poses from a camera that looks down by so many degrees, 1.2 m above the floor."""
    tilt, root = np.radians(tilt_deg), poses.xyz[:, 0].astype(np.float64)
    up = np.array([0.0, -np.cos(tilt), -np.sin(tilt)])
    contact = np.zeros((len(poses), 2), bool)
    contact[2:5, 0] = True
    floor = np.array([0.1, 0.0, 3.0])
    floor -= (floor @ up + 1.2) * up
    return World(up, np.array([1.0, 0.0, 0.0]), floor, root, contact, 1.5, 0.03, np.full(len(poses), 0.02))


def test_with_a_world_the_figure_is_upright_at_its_place_as_other_files_have_it(tmp_path, video):
    poses = swinging_person(8)
    placed = replace(poses, world=world_of(poses, tilt_deg=20))
    expected = in_world(placed, "y-up")
    standing = replace(placed, xyz=rooted(poses.xyz), origin="root")
    for one in (placed, standing, expected, in_world(placed, "z-up")):
        content = page(tmp_path, one, videos=[shown(video, poses)]).data["content"]
        assert joints(content) == pytest.approx(expected.xyz, abs=2e-4)
        assert "trunk lean" in [panel["title"] for panel in content["angles"]]
        (apex, *_) = np.array([camera["windows"][0]["points"][:3] for camera in content["cameras"]] or [[np.nan] * 3])
        assert one.origin == "world" or apex[1] == pytest.approx(1.2, abs=1e-3)
    assert "up known to 1.5 degrees" in page(tmp_path, placed).data["content"]["facts"]
    assert "trunk lean" not in [panel["title"] for panel in page(tmp_path, poses).data["content"]["angles"]]


def test_feet_on_the_floor_are_marked_and_the_ghost_stands_at_the_same_place(tmp_path):
    poses = swinging_person(8)
    placed = replace(poses, xyz=rooted(poses.xyz), origin="root", world=world_of(poses, tilt_deg=10))
    content = page(tmp_path, placed, before=replace(placed, world=None)).data["content"]
    assert content["contacts"] == {"right": [pytest.approx([2 / 30, 4 / 30], abs=1e-4)], "left": []}
    assert joints(content, 1) == pytest.approx(joints(content))


@pytest.mark.parametrize(("apart", "marked"), [(0.05, True), (0.8, False)])
def test_the_top_of_a_swing_is_marked_where_the_hands_hold_one_thing(tmp_path, apart, marked):
    time = np.arange(60) / 30
    turn = np.where(time < 1.2, -np.sin(np.pi * time / 2.4), 4 * np.clip(time - 1.2, 0, 0.5) * 2 - 1)
    still = swinging_person(60)
    xyz = np.repeat(still.xyz[:1], 60, axis=0)
    club = xyz[:, 0] + 0.8 * np.stack([np.sin(turn), np.cos(turn), np.zeros(60)], axis=1)
    for side, sign in (("left", 1), ("right", -1)):
        xyz[:, still.skeleton.index(f"{side}_wrist")] = club + np.array([0, 0, sign * apart / 2])
    poses = replace(still, xyz=xyz)
    swing = find_swing(poses)
    assert swing is not None
    expected = {"top of swing": pytest.approx(swing.top, abs=1e-4)} if marked else {}
    events = page(tmp_path, poses, events={"hit": 1.5}).data["content"]["events"]
    assert events == {**expected, "hit": 1.5}


def test_a_jump_is_marked_with_its_height(tmp_path):
    poses = swinging_person(30)
    world = world_of(poses, tilt_deg=0)
    contact, root = np.ones((30, 2), bool), np.repeat(world.root[:1], 30, axis=0)
    contact[10:20], root[10:20] = False, root[10:20] + 0.3 * world.up
    jumping = replace(poses, world=replace(world, contact=contact, root=root))
    assert page(tmp_path, jumping).data["content"]["events"] == {"jump, 30 cm": pytest.approx(9 / 30, abs=1e-4)}


def test_without_a_scale_the_figure_is_upright_but_has_no_place(tmp_path):
    poses = swinging_person(8)
    world = world_of(poses, tilt_deg=20)
    small = replace(poses, xyz=0.3 * rooted(poses.xyz), origin="root", unit="screen", world=world)
    content = page(tmp_path, small).data["content"]
    turn = np.stack([world.right, world.up, np.cross(world.right, world.up)])
    assert rooted(joints(content)) == pytest.approx(small.xyz @ turn.T, abs=2e-4)
    assert np.abs(joints(content)[:, 0, [0, 2]]).max() < 1e-3


def test_curves_are_the_angles_at_the_figure_s_times(tmp_path):
    poses = swinging_person(12)
    content = page(tmp_path, poses).data["content"]
    (knee,) = (panel for panel in content["angles"] if panel["title"] == "knee flexion")
    left, right = knee["curves"]
    assert (left["side"], right["side"]) == ("left", "right")
    assert np.array(right["degrees"]) == pytest.approx(angles(poses).degrees["right_knee_flexion"], abs=0.051)


def test_a_gap_is_a_gap_and_not_a_guess(tmp_path):
    xyz = swinging_person(6).xyz.copy()
    xyz[2], xyz[4, 3] = np.nan, np.nan
    content = page(tmp_path, replace(swinging_person(6), xyz=xyz)).data["content"]
    assert np.isnan(joints(content)).all(axis=2).any(axis=1).tolist() == [False, False, True, False, True, False]
    assert content["angles"][0]["curves"][1]["degrees"][2] is None


def test_a_camera_stands_where_its_rays_meet_what_it_sees(tmp_path, video):
    poses = swinging_person(8)
    turn = Rotation.from_euler("yxz", [-40, 12, 5], degrees=True).as_matrix()
    solved = replace(shown(video, poses).camera, rotation=turn[None], translation=np.array([[2.4, 0.3, 0.6]]))
    one = replace(shown(video, poses), camera=solved)
    content = page(tmp_path, poses, videos=[one]).data["content"]
    apex, *corners = np.array(content["cameras"][0]["windows"][0]["points"]).reshape(5, 3)
    left_top, right_top, _, left_bottom = corners
    across, down = right_top - left_top, left_bottom - left_top
    away = np.mean(corners, axis=0) - apex
    ray = joints(content)[3] - apex
    at = ray * (away @ away) / (ray @ away)[:, None] - away  # in the picture's plane, from its middle
    seen = np.stack([at @ across / (across @ across), at @ down / (down @ down)], axis=1) * SIZE + np.array(SIZE) / 2
    camera = solved.camera()
    assert seen == pytest.approx(camera.project(camera.to_camera(poses.xyz[3].astype(np.float64))), abs=0.3)


def test_the_camera_of_a_single_view_is_the_one_that_sees_the_poses_where_they_are(tmp_path, video):
    poses = swinging_person(8)
    standing = replace(poses, xyz=rooted(poses.xyz), origin="root", world=world_of(poses, tilt_deg=20))
    one = shown(video, poses)
    given, found, two = (
        page(tmp_path, standing, videos=videos).data["content"]["cameras"]
        for videos in ([one], [replace(one, camera=None)], [replace(one, camera=None)] * 2)
    )
    focal = camera_around(0.0, size=SIZE).focal[0]
    assert found[0]["tall"] == pytest.approx(np.degrees(2 * np.arctan(SIZE[1] / 2 / focal)), abs=0.1)
    assert found[0]["windows"][0]["points"][:3] == pytest.approx(given[0]["windows"][0]["points"][:3], abs=1e-3)
    assert two == []


def test_poses_without_a_place_stand_on_the_floor_without_cameras(tmp_path, video):
    poses = swinging_person(8)
    standing = replace(poses, xyz=rooted(poses.xyz), origin="root")
    content = page(tmp_path, standing, videos=[shown(video, poses)]).data["content"]
    assert content["cameras"] == []
    assert np.abs(joints(content)[:, 0, [0, 2]]).max() < 1e-3
    assert joints(content)[..., 1].min() > -0.01


def test_uncertain_joints_are_pale(tmp_path, video):
    poses = swinging_person(8)
    sigma = np.full((8, 17), 0.01)
    sigma[5, 3], sigma[6, 3] = 0.5, np.nan
    (figure,) = page(tmp_path, poses, sigma=sigma).data["content"]["figures"]
    assert np.array(figure["certainty"], float)[:6, 3].tolist() == [100, 100, 100, 100, 100, 0]
    assert figure["certainty"][6][3] is None
    assert page(tmp_path, replace(poses, sigma=sigma)).data["content"]["figures"] == [figure]
    one = shown(video, poses)
    score = np.ones((8, 17))
    score[4, 2] = 0.1
    one = replace(one, poses=replace(one.poses, score=score))
    (figure,) = page(tmp_path, poses, videos=[one]).data["content"]["figures"]
    assert np.array(figure["certainty"])[3:6, 2].tolist() == [100, 20, 100]
    assert "certainty" not in page(tmp_path, poses).data["content"]["figures"][0]


def test_a_second_result_is_drawn_beside_and_must_have_the_same_unit(tmp_path):
    poses = swinging_person(5)
    content = page(tmp_path, poses, before=replace(poses, xyz=poses.xyz + np.float32(0.1))).data["content"]
    assert joints(content, 1) - joints(content, 0) == pytest.approx(
        np.broadcast_to([0.1, -0.1, -0.1], (5, 17, 3)), abs=3e-4
    )
    with pytest.raises(FormatError, match="screen"):
        page(tmp_path, poses, before=replace(poses, origin="root", unit="screen"))


def test_no_text_becomes_code(tmp_path, video):
    poses = swinging_person(5)
    one = replace(shown(video, poses), name=EVIL)
    made = page(tmp_path, replace(poses, view=EVIL, filter=EVIL), videos=[one], title=EVIL, notes=[EVIL])
    content, stored = made.data["content"], made.text.split('id="content">')[1].split("</script>")[0]
    assert not set("<>&") & set(stored)
    assert (
        content["title"] == content["notes"][0] == content["videos"][0]["name"] == content["cameras"][0]["name"] == EVIL
    )
    assert [tag for tag, _ in made.tags if tag == "img"] == made.handlers() == refused_scripts(made) == []
    assert len(made.scripts) == 3


def test_our_scripts_and_libraries_end_where_they_should():
    for name in ("libraries.js", "motion.js", "viewer.js"):
        text = (ASSETS / name).read_text(encoding="utf-8").lower()
        assert "</script" not in text
        assert "<!--" not in text
    for library in ("three", "uplot"):
        assert "MIT" in (ASSETS / f"LICENSE.{library}").read_text(encoding="utf-8")


def test_the_copy_of_a_video_keeps_its_times_and_is_small(tmp_path, video):
    poses = swinging_person(10)
    made = page(tmp_path, poses, videos=[shown(video, poses), ShownVideo("b", video)])
    row = made.data["content"]["videos"][0]
    assert np.array(row["times"]) == pytest.approx(TIMES, abs=1e-4)
    assert row["size"] == list(SIZE)
    drawn = np.array(row["xy"], float).reshape(10, 17, 2)[4] / 10
    assert drawn == pytest.approx(seen_flat(poses, size=SIZE).xy[4], abs=0.06)
    (tmp_path / "copy.mp4").write_bytes(base64.b64decode(made.data["video-1"]))
    shown_frames = list(frames(tmp_path / "copy.mp4"))
    assert [frame.time for frame in shown_frames] == pytest.approx(TIMES - TIMES[0], abs=1e-4)
    assert [number(frame.rgb) for frame in shown_frames] == [0, 1, 2, 3, 4, 5, 6]


def test_videos_have_a_bound_and_one_that_is_too_long_is_left_out(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (96, 800, 3), dtype=np.uint8)
    path = tmp_path / "noise.mp4"
    with VideoWriter(path, (800, 96), 25, quality=35) as writer:
        for count in range(50):
            writer.write(np.roll(noise, 7 * count, axis=1))
    free, bound, tight = (small_copy(path, start=0.0, end=4.0, most_bytes=most) for most in (10**7, 100_000, 15_000))
    assert free.size == (640, 76)
    assert len(free.content) > 100_000 >= len(bound.content)
    assert len(bound.times) == len(free.times) == 50
    assert tight is None
    assert small_copy(path, start=8.0, end=9.0, most_bytes=10**7) is None
    content = page(tmp_path, swinging_person(5), videos=[ShownVideo("a", path, ClockMap(100.0))]).data["content"]
    (row,) = content["videos"]
    assert "too long" in row.pop("why")
    assert row == {"name": "a", "offset": 100.0, "rate": 1.0}
    content = page(tmp_path, swinging_person(5), videos=[ShownVideo("a", tmp_path / "gone.mp4")]).data["content"]
    assert "gone.mp4" in content["videos"][0]["why"]


def test_a_long_result_is_thinned_to_what_a_page_can_hold(tmp_path):
    content = page(tmp_path, swinging_person(2 * MOST_FRAMES + 1, rate=120.0)).data["content"]
    assert len(content["times"]) == len(content["figures"][0]["joints"]) == 6001
    assert "one in 3 is shown" in content["facts"]


def test_a_page_of_no_poses_is_refused(tmp_path):
    with pytest.raises(FormatError, match="no pose"):
        page(tmp_path, swinging_person(5).between(10, 11))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_page_s_sums(tmp_path):
    code = """
    const motion = require(process.argv[1]);
    const video = { offset: 0.05, rate: 1.001, times: [0.5, 0.54, 0.58, 0.64, 0.7] };
    const frames = video.times.map((_, k) => motion.toPage(video, video.times[k]));
    const seeks = frames.map((t) => motion.seekTime(video, t));
    console.log(JSON.stringify({
      nearest: [-1, 0.04, 0.06, 9].map((t) => motion.nearest([0, 0.05, 0.1], t)),
      step: [motion.step([0, 1, 2], 1, 1), motion.step([0, 1, 2], 2, 5), motion.step([0, 1, 2], 0.9, -1)],
      seeks,
      back: seeks.map((s) => motion.pageTime(video, s)).map((t, k) => Math.abs(t - frames[k]) < 1e-9),
      outside: [motion.seekTime(video, 0.3), motion.seekTime(video, 1.5)],
      gaps: motion.gaps([0, 1, 2, 3, 4], [[1], [null], [null], [1], [null]]),
      box: motion.box([{ joints: [[0, 10, 20, null, null, null], [5, -5, 0, 1, 1, 1]] }], 10),
      joint: [motion.joint([10, 20, 30, null, null, null], 0, 10), motion.joint([1, 2, 3, null, null, null], 1, 10)],
      window: [-1, 1, 5].map((t) => motion.window([{ start: 0 }, { start: 2 }], t).start),
      front: motion.project([1, 2, 3], { yaw: 0, pitch: 0, scale: 10, target: [0, 0, 0] }),
      above: motion.project([0, 0, 1], { yaw: 0, pitch: Math.PI / 2, scale: 1, target: [0, 0, 0] }),
      grid: [motion.gridStep(1.5, 1, true), motion.gridStep(20, 1, true)],
      besides: [[1.78, 1.78], [0.56, 0.56], [0.56, 1.78], [1.78]].map((shapes) => motion.besides(shapes, 800, 600)),
      range: [motion.range([null, 3, -1]), motion.range([null])],
    }));
    """
    done = subprocess.run(
        ["node", "-e", code, str(ASSETS / "motion.js")], capture_output=True, text=True, check=True, timeout=30
    )
    found = json.loads(done.stdout)
    assert found["nearest"] == [0, 1, 1, 2]
    assert found["step"] == [2, 2, 0]
    times = np.array([0.0, 0.04, 0.08, 0.14, 0.2])
    assert (np.array(found["seeks"]) > times + 0.005).all()  # between this frame and the next
    assert (np.array(found["seeks"])[:-1] < times[1:] - 0.005).all()
    assert all(found["back"])
    assert found["outside"] == [None, None]
    assert found["gaps"] == [[0, 3], [3, 4]]
    assert found["box"] == {"low": [0, -0.5, 0], "high": [0.5, 1, 2]}
    assert found["joint"] == [[1, 2, 3], None]
    assert found["window"] == [0, 0, 2]
    assert found["front"] == [10, -20, -3]
    assert found["above"] == pytest.approx([0, 1, 0])
    assert found["grid"] == [0.25, 2]
    assert found["besides"] == [False, True, True, True]
    assert found["range"] == [[-1, 3], None]


@pytest.mark.skipif(browser() is None, reason="no Chromium is installed")
def test_in_a_browser_the_slider_moves_the_figure_the_video_and_the_curves(tmp_path, video):
    poses = swinging_person(10)
    write_page(poses, tmp_path / "a.html", before=poses, videos=[shown(video, poses)], title=EVIL, notes=[EVIL])
    found, asked = shown_in_browser(
        tmp_path / "a.html",
        """
        await pause(800);
        const look = () => ({
          time: player.time, clock: $("clock").textContent, video: videos[0].player && videos[0].player.currentTime,
          hand: room.figures && room.figures[0].balls[13].position.toArray(), knee: panels[0].values[0].textContent,
          line: panels[0].now.style.transform,
        });
        const first = look();
        $("slider").value = 0.2;
        $("slider").dispatchEvent(new Event("input"));
        await pause(800);
        const second = look();
        document.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
        const third = look();
        const plays = document.createElement("video").canPlayType('video/mp4; codecs="avc1.42E01E"') !== "";
        return { first, second, third, plays, frames: videos[0].player ? videos[0].player.videoWidth : 0,
          wide: document.documentElement.scrollWidth <= innerWidth,
        };
        """,
    )
    first, second, third = found["first"], found["second"], found["third"]
    assert [address for address in asked if not address.startswith(("file:", "blob:"))] == []
    assert len([address for address in asked if address.startswith("file:")]) == 1
    assert found["wide"]
    assert (first["time"], second["time"]) == (0, 0.2)
    assert second["clock"] == "0.200 s"
    if found["plays"]:  # some builds have no H.264
        assert found["frames"] == SIZE[0]
        assert first["video"] == pytest.approx(0.0, abs=0.03)
        assert 0.14 < second["video"] < 0.2  # between the frame that is nearest on the video's clock and the next
    assert first["hand"] != second["hand"]
    assert first["line"] != second["line"]
    assert first["knee"] != second["knee"]
    assert third["time"] == pytest.approx(7 / 30, abs=1e-4)


@pytest.mark.skipif(browser() is None, reason="no Chromium is installed")
def test_in_a_browser_events_are_marked_where_they_are(tmp_path):
    poses = swinging_person(60)
    moments = {"hit": 0.5, "end": 1.9}
    write_page(poses, tmp_path / "a.html", events=moments)
    found, _ = shown_in_browser(
        tmp_path / "a.html",
        """
        await pause(800);
        const plot = panels[0].plot;
        const zero = plot.over.getBoundingClientRect();
        const bar = $("marks").getBoundingClientRect();
        return {
          curves: panels[0].marks.map(([moment, mark]) => [
            moment, (mark.getBoundingClientRect().left - zero.left) / zero.width,
          ]),
          slider: [...$("marks").querySelectorAll("span")].map((mark) => [
            mark.title, parseFloat(mark.style.left) / 100,
          ]),
          wide: [zero.width, bar.width],
        };
        """,
    )
    share = {name: (at - poses.time[0]) / (poses.time[-1] - poses.time[0]) for name, at in moments.items()}
    assert min(found["wide"]) > 50
    assert found["curves"] == [[at, pytest.approx(share[name], abs=0.02)] for name, at in moments.items()]
    slider = dict(found["slider"])
    assert {name: slider[name] for name in moments} == pytest.approx(share, abs=0.01)
