import json

import pytest
import torch
from people import standing_people

from twoview.config import CameraRange, NoiseModel
from twoview.errors import FormatError
from twoview.skeleton import H36M17
from twoview.training.virtual_cameras import (
    NEAREST_M,
    Chance,
    load_noise,
    place_cameras,
    rotation_matrix,
    simulate_detector,
)


def chance(seed: int = 0) -> Chance:
    return Chance(torch.Generator().manual_seed(seed))


def pixels(cameras, motion):
    return cameras.project(cameras.to_camera(motion), nearest=NEAREST_M)


def test_cameras_are_upright_look_at_the_athlete_and_keep_their_distance():
    motion = standing_people(200, 9)
    cameras = place_cameras(motion, chance(), CameraRange(off_center=0.0, roll=0.0, distance=(4.0, 6.0)))
    points = cameras.to_camera(motion)
    assert torch.allclose(cameras.rotation @ cameras.rotation.mT, torch.eye(3).expand(200, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(cameras.rotation), torch.ones(200), atol=1e-5)
    middle = points.mean(dim=(1, 2))
    assert (middle[:, :2].norm(dim=-1) < 0.02).all()
    assert (middle[:, 2] > 3.5).all()
    assert (points[:, :, 10, 1] < points[:, :, 3, 1]).all(), "the head is above the feet: y points down"


def test_azimuth_0_sees_the_right_side():
    motion = standing_people(50, 3)
    cameras = place_cameras(motion, chance(), CameraRange(azimuth=(0.0, 0.0), off_center=0.0))
    points = cameras.to_camera(motion)
    assert (points[:, :, 1, 2] < points[:, :, 4, 2]).all(), "the right hip is nearer than the left one"


def test_pixels_are_those_of_a_pinhole():
    motion = standing_people(6, 2)
    cameras = place_cameras(motion, chance(1))
    points = cameras.to_camera(motion)
    xy = cameras.project(points, nearest=NEAREST_M)
    clip, joint = 3, 13
    x, y, z = points[clip, 1, joint]
    expected = torch.stack([x / z, y / z]) * cameras.focal[clip] + cameras.size[clip] / 2
    assert torch.allclose(xy[clip, 1, joint], expected, atol=1e-3)


def test_detections_err_as_much_as_asked_and_scores_follow():
    motion = standing_people(400, 27)
    cameras = place_cameras(motion, chance(), CameraRange(crop=(1.3, 1.5), off_center=0.0))
    xy = pixels(cameras, motion)
    noise = NoiseModel(joint=(1.0,) * 17, level=(0.01, 0.01), outliers=0.0, swaps=0.0)
    found, score = simulate_detector(xy, cameras.size, chance(2), noise)
    error = (found - xy) / (xy.amax(dim=2) - xy.amin(dim=2)).amax(dim=-1).mean(dim=1)[:, None, None, None]
    assert error[score > 0].std() == pytest.approx(0.01, rel=0.1)
    assert 0.01 < (score == 0).float().mean() < 0.06
    assert (found[score == 0] == 0).all()
    length = error.norm(dim=-1)
    seen = (score > 0) & (score < 1)
    assert score[seen & (length > 0.02)].mean() < score[seen & (length < 0.005)].mean() - 0.1


def test_errors_hold_over_time():
    motion = standing_people(300, 27)
    cameras = place_cameras(motion, chance(), CameraRange(crop=(1.3, 1.5), off_center=0.0))
    xy = pixels(cameras, motion)
    found, score = simulate_detector(
        xy, cameras.size, chance(3), NoiseModel(outliers=0.0, swaps=0.0, missing=0.0, blind=0.0)
    )
    error = (found - xy)[(score > 0).all(dim=1).all(dim=-1)]
    near = (error[:, 1:] * error[:, :-1]).mean() / error.square().mean()
    far = (error[:, 20:] * error[:, :-20]).mean() / error.square().mean()
    assert near > far > 0.2


def test_joints_outside_the_picture_are_unseen():
    motion = standing_people(20, 4)
    cameras = place_cameras(motion, chance())
    xy = pixels(cameras, motion)
    xy[:, :, 3] = -50.0
    _, score = simulate_detector(xy, cameras.size, chance(4), NoiseModel(swaps=0.0))
    assert (score[:, :, 3] == 0).all()


def test_whole_legs_are_swapped():
    motion = standing_people(200, 27)
    cameras = place_cameras(motion, chance(), CameraRange(off_center=0.0, crop=(1.3, 1.5)))
    xy = pixels(cameras, motion)
    quiet = NoiseModel(level=(1e-6, 1e-6), outliers=0.0, missing=0.0, blind=0.0, swaps=1.0)
    found, score = simulate_detector(xy, cameras.size, chance(5), quiet)
    crossed = (found[:, :, 3] - xy[:, :, 6]).norm(dim=-1) < 1
    straight = (found[:, :, 3] - xy[:, :, 3]).norm(dim=-1) < 1
    assert (crossed | straight)[score[:, :, 3] > 0].all()
    assert 0.05 < crossed.float().mean() < 0.6
    hips = (found[:, :, 1] - xy[:, :, 4]).norm(dim=-1) < 1
    both = score[:, :, [1, 3]].amin(-1) > 0
    assert (crossed == hips)[both].float().mean() > 0.95, "but for hips that hide each other"


def test_the_same_generator_gives_the_same_cameras():
    motion = standing_people(5, 9)
    first, second = (place_cameras(motion, chance(7)) for _ in range(2))
    assert torch.equal(first.position, second.position)


def test_a_measured_noise_file_is_read(tmp_path):
    path = tmp_path / "noise.json"
    path.write_text(json.dumps({"noise": {"joint": [1.0] * 17, "level": [0.002, 0.02], "missing": 0.1}}))
    noise = load_noise(path)
    assert noise.level == (0.002, 0.02)
    assert noise.missing == 0.1
    assert len(noise.joint) == len(H36M17)


def test_rotation_matrix_of_a_quarter_turn():
    quarter = rotation_matrix(torch.tensor([0.0, 0.0, torch.pi / 2]))
    assert torch.allclose(quarter @ torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{}", '{"noise": 5}', '{"noise": {"level": "x"}}', '{"noise": {"nothing": 1}}', "[" * 100_000, "\x00",
     '{"noise": {"outliers": NaN}}'],
)  # fmt: skip
def test_a_file_without_measured_errors_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "noise.json").write_text(text)
    with pytest.raises(FormatError, match=r"noise\.json holds no measured errors") as caught:
        load_noise(tmp_path / "noise.json")
    assert "\n" not in caught.value.message
