"""Up, the floor and contacts of a walking and jumping figure before tilted phones; world axes; what cannot be known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from twoview.biomechanics.contacts import spans, standing
from twoview.biomechanics.events import find_contacts, find_jumps, travelled
from twoview.biomechanics.ground import ANKLE_M, TOES_AHEAD_M, KnownCamera, center_of_mass, find_ground
from twoview.biomechanics.world import in_world, one_view_world
from twoview.errors import FormatError
from twoview.geometry.framing import DEFAULT_FOCAL
from twoview.poses import Poses2D, Poses3D, World
from twoview.skeleton import H36M17
from twoview.storage import records

RATE, STEP_S, STEP_M = 30.0, 0.5, 0.6
STANDING = {
    "pelvis": (0, 0, 0.95), "hip": (0.12, 0, 0.95), "knee": (0.12, 0.02, 0.52), "ankle": (0.12, 0, ANKLE_M),
    "spine": (0, 0, 1.2), "thorax": (0, 0, 1.45), "nose": (0, 0.1, 1.6), "head": (0, 0.08, 1.65),
    "shoulder": (0.18, 0, 1.45), "elbow": (0.22, 0, 1.15), "wrist": (0.22, 0.05, 0.9),
}  # fmt: skip


def body() -> np.ndarray:
    """A standing figure (17, 3) m that faces y, x to its right, z up."""
    points = [np.array(STANDING[joint.split("_")[-1]], float) for joint in H36M17.joints]
    return np.stack([p * [-1, 1, 1] if j.startswith("left") else p for j, p in zip(H36M17.joints, points, strict=True)])


def walk(seconds: float = 6.0, *, turn_deg: float = 90.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time (T,), points (T, 17, 3) m of a walk round a corner, z up, and which feet stand (T, 2: right, left)."""
    time = np.arange(round(seconds * RATE)) / RATE
    phase = time / STEP_S
    distance = STEP_M * phase
    points = np.repeat(body()[None], len(time), axis=0)
    points[..., 1] += distance[:, None]
    contact = np.zeros((len(time), 2), bool)
    for foot, side in enumerate(("right", "left")):
        own = phase + foot  # two steps of one foot: stands over the first, swings over the second
        share = own % 2
        contact[:, foot] = share < 1
        place = STEP_M * (2 * (own // 2) + 0.5 - foot)
        swing = 2 * STEP_M * (1 - np.cos(np.pi * np.clip(share - 1, 0, 1))) / 2
        at = H36M17.index(f"{side}_ankle")
        points[:, at, 1] = place + swing
        points[:, at, 2] += 0.15 * np.sin(np.pi * np.clip(share - 1, 0, 1))
    half = time > seconds / 2
    corner = np.array([0.0, STEP_M * seconds / 2 / STEP_S, 0.0])
    rotated = Rotation.from_euler("z", turn_deg, degrees=True).apply((points[half] - corner).reshape(-1, 3))
    points[half] = rotated.reshape(-1, 17, 3) + corner
    return time, points, contact


def phone(azimuth: float, *, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """From z-up axes to those of a camera (3, 3)."""
    level = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # x right, y down, z away
    tilt = Rotation.from_euler("ZX", [roll, pitch], degrees=True).as_matrix()
    return tilt @ level @ Rotation.from_euler("z", -azimuth, degrees=True).as_matrix()


def degrees_between(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))


def seen(points: np.ndarray, camera: np.ndarray, *, noise: float = 0.01) -> np.ndarray:
    away = camera @ np.array([0.0, 5.0, -1.2])  # the floor is 1.2 m below the camera
    return points @ camera.T + away + noise * np.random.default_rng(0).normal(size=points.shape)


@pytest.mark.parametrize(("rolls", "pitch"), [((0.0, 0.0), 10.0), ((4.0, -3.0), 15.0), ((-16.0, 24.0), 20.0)])
def test_two_phones_feet_and_balance_tell_up(rolls, pitch):
    time, points, true = walk()
    cameras = [phone(0, pitch=pitch, roll=rolls[0]), phone(80, pitch=5, roll=rolls[1])]
    turns = [camera @ cameras[0].T for camera in cameras]
    ground = find_ground(seen(points, cameras[0]), time, turns)
    up = cameras[0][:, 2]
    assert degrees_between(ground.up, up) < 4 < degrees_between(np.array([0, -1.0, 0]), up)
    assert degrees_between(ground.up, up) < 2 * ground.up_sigma_deg < 6
    assert ground.level == pytest.approx(-1.2, abs=0.12)
    assert (ground.contact == true).mean() > 0.9
    level = find_ground(seen(points, cameras[0]), time, turns[:1], level=True)
    assert degrees_between(level.up, np.array([0, -1.0, 0])) < 0.5
    assert "level" in level.source


def test_a_walk_before_one_tilted_phone_tells_its_pitch():
    time, points, _ = walk()
    camera = phone(20, pitch=20)
    ground = find_ground(seen(points, camera), time, [np.eye(3)])
    assert degrees_between(ground.up, camera[:, 2]) < 4


def test_who_sits_is_not_weighed_and_who_lies_does_not_turn_the_world():
    time = np.arange(90) / RATE
    sitting = body()
    above = [j for j, name in enumerate(H36M17.joints) if name.split("_")[-1] not in ("knee", "ankle")]
    sitting[above] += [0, -0.43, -0.43]
    points = np.repeat(sitting[None], 90, axis=0)
    camera = phone(40, pitch=5)
    found = find_ground(seen(points, camera, noise=0.003), time, [np.eye(3)])
    assert degrees_between(found.up, camera[:, 2]) < 3
    lying = np.repeat((body()[:, [0, 2, 1]] * [1, -1, 1])[None], 90, axis=0)
    found = find_ground(seen(lying, camera, noise=0.003), time, [np.eye(3)])
    assert degrees_between(found.up, camera[:, 2]) < 12


def test_contacts_are_those_of_the_walk_and_a_standing_foot_does_not_flicker():
    time, points, true = walk()
    noisy = points + 0.01 * np.random.default_rng(1).normal(size=points.shape)
    feet = noisy[:, [H36M17.index("right_ankle"), H36M17.index("left_ankle")]]
    found = standing(time, feet, np.array([0, 0, 1.0]), ANKLE_M)
    assert (found == true).mean() > 0.9
    assert len(list(spans(found))) <= 13
    high = standing(time, feet + np.array([0, 0, 0.5]), np.array([0, 0, 1.0]), ANKLE_M)
    assert not high.any(), "half a meter up nobody stands"


def known(poses: np.ndarray, time: np.ndarray, contact: np.ndarray, camera: np.ndarray) -> Poses3D:
    """Root-relative poses with their true world, of points in z-up axes."""
    own = poses @ camera.T + camera @ np.array([0, 5.0, -1.2])
    world = World(camera[:, 2], camera[:, 0], camera @ np.array([0, 5.0, -1.2]), own[:, 0], contact, 1.0, 0.03,
                  np.zeros(len(time)), "the scene")  # fmt: skip
    return Poses3D(own - own[:, :1], time, unit="m", world=world)


def test_world_axes_put_the_walk_on_its_floor():
    time, points, contact = walk()
    poses = known(points, time, contact, phone(0, pitch=12, roll=3))
    assert np.abs(in_world(poses, "z-up").xyz - points).max() < 1e-4
    y_up = in_world(poses)
    assert np.abs(y_up.xyz - points[..., [0, 2, 1]] * [1, 1, -1]).max() < 1e-4
    assert (y_up.axes, y_up.origin, y_up.world) == ("y-up", "world", None)
    forward = in_world(known(points[:80], time[:80], contact[:80], phone(70)), "x-forward").xyz
    assert np.abs(forward - points[:80][..., [1, 2, 0]]).max() < 1e-4, "the figure faces y, and its right is x"
    assert in_world(poses, "camera") is poses
    for lacking in (replace(poses, world=None), replace(poses, unit="screen")):
        with pytest.raises(FormatError, match="axes"):
            in_world(lacking)


def test_jumps_contacts_and_the_way_are_read_off_the_world():
    time, points, contact = walk()
    poses = known(points, time, contact, phone(30, pitch=8))
    assert travelled(poses) == pytest.approx(STEP_M * 6.0 / STEP_S, rel=0.02)
    late = np.where(np.arange(len(time)) < len(time) // 2, time, time + 1e12)  # one frame after another hole of years
    assert travelled(replace(poses, time=late)) == pytest.approx(STEP_M * 6.0 / STEP_S, rel=0.05)
    assert find_jumps(poses) == []
    assert [c.foot for c in find_contacts(poses)][:3] == ["right", "left", "right"]
    still = np.repeat(body()[None], 60, axis=0)
    flight = (np.arange(60) >= 20) & (np.arange(60) < 35)
    rise = np.where(flight, 0.3 * np.sin(np.pi * (np.arange(60) - 20) / 15), 0)
    still[..., 2] += rise[:, None]
    (jump,) = find_jumps(known(still, np.arange(60) / RATE, np.repeat(~flight[:, None], 2, axis=1), phone(0)))
    assert jump.rise_m == pytest.approx(0.3, abs=0.01)
    assert (jump.start, jump.end) == pytest.approx((19 / RATE, 35 / RATE))
    still[..., 2] -= rise[:, None]  # both feet were lost from sight
    assert find_jumps(known(still, np.arange(60) / RATE, np.repeat(~flight[:, None], 2, axis=1), phone(0))) == []
    assert np.isnan(travelled(replace(poses, world=None)))


def test_a_world_is_kept_in_the_file_and_goes_with_its_frames(tmp_path):
    time, points, contact = walk()
    poses = known(points, time, contact, phone(0, pitch=12))
    records.save(tmp_path / "a.npz", poses)
    loaded = records.load(tmp_path / "a.npz")
    for name in ("up", "right", "floor", "root", "contact", "root_sigma_m"):
        assert np.array_equal(getattr(loaded.world, name), getattr(poses.world, name)), name
    assert (loaded.world.up_sigma_deg, loaded.world.source) == (1.0, "the scene")
    part = loaded.between(1.0, 2.0)
    assert np.abs(in_world(part, "z-up").xyz - points[(time >= 1) & (time <= 2)]).max() < 1e-4
    between = loaded.at(np.array([1.01, 99.0]))
    assert np.isfinite(in_world(between).xyz[0]).all()
    assert np.isnan(in_world(between).xyz[1]).all()
    placed = in_world(poses, "z-up")
    records.save(tmp_path / "w.npz", placed)
    assert records.load(tmp_path / "w.npz").axes == "z-up"


def test_gaps_single_frames_and_unseen_feet():
    time, points, _ = walk()
    camera = phone(0, pitch=10)
    own = seen(points, camera)
    gone = own.copy()
    gone[30:60] = np.nan
    gone[::7, H36M17.index("left_ankle")] = np.nan
    ground = find_ground(gone, time, [np.eye(3)])
    assert degrees_between(ground.up, camera[:, 2]) < 6
    assert not ground.contact[30:60].any()
    single = find_ground(own[:1], time[:1], [np.eye(3)])
    assert np.isfinite(single.up).all()
    assert single.up_sigma_deg > 10
    assert single.floor_sigma_m >= 0.1
    feetless = own.copy()
    feetless[:, [H36M17.index("left_ankle"), H36M17.index("right_ankle")]] = np.nan
    assert find_ground(feetless, time, [np.eye(3)]) is None


def test_the_center_of_mass_is_in_the_middle_of_a_standing_body():
    x, y, z = center_of_mass(body()[None])[0]
    assert abs(x) < 1e-9
    assert abs(y) < 0.03
    assert 0.9 < z < 1.05


def test_a_world_is_checked():
    time, points, contact = walk(1.0)
    world = known(points, time, contact, phone(0)).world
    with pytest.raises(ValueError, match="right angle"):
        replace(world, right=world.up)
    with pytest.raises(ValueError, match="world of"):
        Poses3D(points[:5], time[:5], world=world)
    with pytest.raises(ValueError, match="do not go"):
        Poses3D(points[:5], time[:5], axes="y-up")


@pytest.mark.parametrize("focal", [0.0, 1300.0])
def test_one_view_places_the_athlete_where_the_body_is_on_its_pixels(focal):
    time, points, _ = walk()
    camera = phone(15, pitch=12)
    own = seen(points, camera, noise=0.0)
    size, true_focal = (1920, 1080), focal or DEFAULT_FOCAL * 1920
    xy = own[..., :2] / own[..., 2:] * true_focal + np.array(size) / 2
    poses = Poses3D(own - own[:, :1], time, unit="m")
    score = np.ones(xy.shape[:2])
    xy[40:45], score[40:45] = np.nan, 0.0
    world = one_view_world(poses, Poses2D(xy, score, time, H36M17, size), focal_px=focal)
    known = np.isfinite(world.root[:, 0])
    assert (~known).sum() == 5
    assert np.abs(world.root - own[:, 0])[known].max() < 0.05, "smoothing rounds the corner off a little"
    assert degrees_between(world.up, camera[:, 2]) < 5
    assert travelled(replace(poses, world=world)) == pytest.approx(STEP_M * 6.0 / STEP_S, rel=0.05)
    solved = KnownCamera(camera[:, 2], 0.2, true_focal)
    told = one_view_world(poses, Poses2D(xy, score, time, H36M17, size), known=solved)
    assert degrees_between(told.up, camera[:, 2]) < 0.5 > told.up_sigma_deg
    assert "solved take" in told.source
    assert np.abs(told.root - own[:, 0])[known].max() < 0.05


def test_nobody_or_no_feet_have_no_world():
    time, points, _ = walk(1.0)
    own = seen(points, phone(0))
    seen_2d = Poses2D(np.full((30, 17, 2), np.nan), np.zeros((30, 17)), time, H36M17, (640, 480))
    assert one_view_world(Poses3D(own - own[:, :1], time, unit="m"), seen_2d) is None
    assert one_view_world(Poses3D(np.full(own.shape, np.nan), time, unit="m"), seen_2d) is None
    for frames in (1, 2):
        few = Poses2D(own[:frames, :, :2] * 300 + 320, np.ones((frames, 17)), time[:frames], H36M17, (640, 480))
        world = one_view_world(Poses3D(own[:frames] - own[:frames, :1], time[:frames], unit="m"), few)
        assert np.isfinite(world.up).all()
        assert world.up_sigma_deg > 10


@pytest.mark.parametrize(("roll", "azimuth", "allowed"), [(0.0, 0.0, 1.0), (0.0, 90.0, 1.0), (28.0, 0.0, 6.0)])
def test_who_stands_is_above_the_middle_of_the_feet_which_is_ahead_of_the_ankles(roll, azimuth, allowed):
    time = np.arange(120) / RATE
    standing_still = body()
    above = [j for j, name in enumerate(H36M17.joints) if not name.endswith("ankle")]
    lean = TOES_AHEAD_M - center_of_mass(standing_still[None])[0, 1]
    standing_still[above] += np.array([0.0, lean, 0.0])
    camera = phone(azimuth, pitch=5, roll=roll)
    found = find_ground(seen(np.repeat(standing_still[None], 120, axis=0), camera, noise=0.003), time, [np.eye(3)])
    assert degrees_between(found.up, camera[:, 2]) < allowed
