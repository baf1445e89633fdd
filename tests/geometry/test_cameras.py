"""The camera: OpenCV's projection, turned pictures, numpy and torch alike, and where the optical axis is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from data_set_files import FRAMES, a_camera
from scipy.spatial.transform import Rotation

from twoview.geometry.cameras import Camera, principal_point, project, turned
from twoview.geometry.framing import frame_clip, to_screen


def test_projection_is_opencvs(rng, body):
    camera = a_camera(rng)
    matrix = np.array([[1100.0, 0, 950.0], [0, 1120.0, 610.0], [0, 0, 1]])
    vector = cv2.Rodrigues(camera.rotation)[0]
    wanted = cv2.projectPoints(
        body.reshape(-1, 3), vector, -camera.rotation @ camera.position, matrix, np.array(camera.distortion)
    )[0]
    np.testing.assert_allclose(camera.project(camera.to_camera(body)), wanted.reshape(FRAMES, 17, 2), atol=1e-9)


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_a_turned_camera_sees_what_the_turned_picture_shows(rng, body, times):
    camera = a_camera(rng)
    xy = camera.project(camera.to_camera(body))
    width, height = camera.size
    picture = np.zeros((height, width), bool)
    column, row = np.round(xy[0, 5]).astype(int)
    picture[row, column] = True
    upright = turned(camera, times)
    found = upright.project(upright.to_camera(body))
    shown = np.argwhere(np.rot90(picture, -times))[0][::-1]
    assert upright.size == np.rot90(picture, -times).shape[::-1]
    np.testing.assert_allclose(found[0, 5], shown, atol=0.5 + 1e-9)
    np.testing.assert_allclose(upright.to_camera(body)[..., 2], camera.to_camera(body)[..., 2], atol=1e-12)


def test_what_is_behind_a_camera_is_unseen(rng):
    camera = a_camera(rng)
    assert np.isnan(camera.project(np.array([0.1, 0.2, -3.0]))).all()


def test_a_batch_of_torch_cameras_sees_what_each_numpy_camera_sees(rng, body):
    rotation, position = Rotation.random(3, random_state=0).as_matrix(), rng.normal(size=(3, 3))
    focal, size = np.array([900.0, 1200.0, 1500.0]), np.array([[1920.0, 1080.0]] * 3)
    world = np.stack([body, body + 1, body - 1])
    batch = Camera(*map(torch.from_numpy, (rotation, position, focal, principal_point(size))), torch.from_numpy(size))
    together = batch.to_camera(torch.from_numpy(world))
    pixels = batch.project(together, nearest=0.1).numpy()
    for i in range(3):
        one = Camera(rotation[i], position[i], np.full(2, focal[i]), principal_point(size[i]), size[i])
        points = one.to_camera(world[i])
        np.testing.assert_allclose(together[i].numpy(), points, atol=1e-12)
        np.testing.assert_allclose(pixels[i], one.project(points, nearest=0.1), rtol=1e-12)


@pytest.mark.parametrize("values", [np.asarray, torch.tensor])
def test_points_behind_or_beside_the_camera_stay_finite(values):
    points = values([[0.1, 0.2, -3.0], [0.1, 0.2, 0.0], [0.1, 0.2, 2.0]])
    np.testing.assert_allclose(np.asarray(project(points, 100.0)), [[200, 400], [200, 400], [5, 10]], rtol=1e-6)


def test_the_principal_point_of_an_uncalibrated_picture_is_where_screen_units_begin():
    """MotionBERT's normalization, 2 * x / width - 1, which trained lifters read: half a pixel more fails here."""
    size = torch.tensor([[1920.0, 1080.0]])
    framing = frame_clip(torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1), size, "screen")
    assert to_screen(principal_point(size)[:, None], framing)[0, 0].tolist() == [0.0, 0.0]
    assert to_screen(torch.tensor([[[0.0, 0.0]]]), framing)[0, 0].tolist() == pytest.approx([-1.0, -1080 / 1920])


@pytest.mark.parametrize("size", [(4, 3), (5, 3)])
def test_a_calibrated_center_turns_with_the_pixels(size):
    """Pixel (0, 0) is the center of the top left pixel, so the middle is that of 0 and size - 1."""
    middle = np.argwhere(np.ones(size)).mean(axis=0)
    camera = Camera(np.eye(3), np.zeros(3), np.ones(2), middle, size)
    for quarters in range(4):
        seen = turned(camera, quarters)
        assert seen.center.tolist() == np.argwhere(np.ones(seen.size)).mean(axis=0).tolist()
