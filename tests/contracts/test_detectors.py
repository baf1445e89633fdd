"""What every detector of the table promises, whatever finds the joints."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from markers import COLORS
from places import ASSETS

from twoview.detection.estimation import surroundings
from twoview.detectors import DETECTORS, Detector, TopDown, build
from twoview.errors import MissingBackend
from twoview.media.pixels import Pixels
from twoview.media.video import frames
from twoview.skeleton import SKELETONS
from twoview.storage.weights import WeightsError

RENDERED = ASSETS / "demo" / "golf" / "take1" / "view_a.mp4"


def a_person() -> np.ndarray:
    """A frame with a person, of a rendered scene."""
    return next(iter(frames(RENDERED))).rgb


def dots() -> np.ndarray:
    rgb = np.full((240, 320, 3), 90, np.uint8)
    for joint, color in enumerate(COLORS):
        cv2.circle(rgb, (30 + 60 * (joint % 5), 40 + 50 * (joint // 5)), 7, color, -1, cv2.LINE_AA)
    return rgb


@pytest.fixture(params=[*(name for name in DETECTORS if name != "mmpose"), "markers:Markers"], scope="module")
def detector(request, tmp_path_factory) -> Detector:
    """Every row of the table whose weights are here; mmpose, which needs a config, is in test_engines.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("twoview.storage.weights._fetch", _no_network)
        try:
            return build(request.param, device="cpu")
        except (WeightsError, MissingBackend) as missing:
            pytest.skip(missing.message)


def _no_network(*_):
    raise ConnectionError("tests use no network")


def picture_for(detector: Detector) -> np.ndarray:
    return dots() if detector.name.startswith("markers") else a_person()


def test_people_have_the_skeletons_joints_in_picture_pixels(detector):
    rgb = picture_for(detector)
    before = rgb.copy()
    people = detector(rgb)
    assert detector.skeleton in SKELETONS.values()
    assert len(people) >= 1
    for person in people:
        assert person.xy.shape == (len(detector.skeleton), 2)
        assert person.score.shape == (len(detector.skeleton),)
        assert ((person.score >= 0) & (person.score <= 1)).all()
        assert person.box[0] < person.box[2]
        assert person.box[1] < person.box[3]
        sure = person.score > 0.3
        assert (person.xy[sure] > -0.1 * rgb.shape[0]).all()
        assert (person.xy[sure] < 1.1 * np.array(rgb.shape[1::-1])).all()
    np.testing.assert_array_equal(rgb, before)


def test_an_empty_picture_holds_nobody(detector):
    assert detector(np.full((120, 160, 3), 127, np.uint8)) == []


def test_the_same_picture_gives_the_same_answer_from_several_threads(detector):
    rgb = picture_for(detector)
    first = detector(rgb)
    with ThreadPoolExecutor(2) as pool:
        for people in pool.map(detector, [rgb, rgb]):
            for a, b in zip(first, people, strict=True):
                np.testing.assert_array_equal(a.xy, b.xy)


def test_moving_the_picture_moves_the_joints(detector):
    rgb = picture_for(detector)
    person = detector(rgb)[0]
    moved = np.zeros_like(rgb) + rgb[:1, :1]
    moved[:, 16:] = rgb[:, :-16]
    again = detector(moved)[0]
    both = (person.score > 0.4) & (again.score > 0.4)
    assert both.sum() >= 8
    shift = np.median(again.xy[both] - person.xy[both], axis=0)
    np.testing.assert_allclose(shift, [16, 0], atol=3.0)


def test_two_steps_agree_with_one(detector):
    if not isinstance(detector, TopDown):
        pytest.skip("a detector in one step")
    rgb = picture_for(detector)
    boxes = detector.find(rgb)
    assert boxes.shape[1] == 5
    assert (np.diff(boxes[:, 4]) <= 0).all()
    xy, score = detector.pose([rgb] * len(boxes), boxes[:, :4])
    for person, points, sure in zip(detector(rgb), xy, score, strict=True):
        np.testing.assert_array_equal(person.xy, points)
        np.testing.assert_array_equal(person.score, sure)
    nobody = detector.pose([], np.zeros((0, 4)))
    assert nobody[0].shape == (0, len(detector.skeleton), 2)


def test_the_surroundings_of_the_box_are_all_that_is_looked_at(detector):
    if not isinstance(detector, TopDown):
        pytest.skip("a detector in one step")
    rgb = picture_for(detector)
    height, width = rgb.shape[:2]
    found = detector.find(rgb)[0, :4]
    flat = np.array([0.1 * width, 0.6 * height, 0.9 * width, 0.8 * height])
    for box in (found, found + 7.3, flat):
        part, (left, top) = Pixels(0.0, rgb).part(surroundings(box))
        assert part.size < 0.9 * rgb.size or box is flat
        xy, score = detector.pose([rgb], box[None])
        cut_xy, cut_score = detector.pose([part], box[None] - [left, top, left, top])
        np.testing.assert_allclose(cut_score, score, atol=1e-6)
        np.testing.assert_allclose(cut_xy + np.array([left, top]), xy, atol=1e-3)
