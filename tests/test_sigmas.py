"""Sigmas of single joints: what they contain, and that they grow with what is known to be worse."""

from __future__ import annotations

import numpy as np
import pytest

from twoview.sigmas import CONSTANT_M, LIFTED_M, USUAL_FLIP_M, constant_sigma, lifted_sigma
from twoview.skeleton import COCO17, H36M17, HALPE26


def features(**other):
    usual = {"score": np.full((3, 17), 0.8), "window": np.full((3, 17), 0.005), "flip": np.full((3, 17), 0.01)}
    return {**usual, **other}


@pytest.mark.parametrize("skeleton", [H36M17, HALPE26, COCO17])
def test_every_joint_but_the_root_has_a_constant_part(skeleton):
    found = constant_sigma(skeleton)
    assert found[skeleton.root] == 0
    kinds = [joint.split("_")[-1] for joint in skeleton.joints]
    for joint, kind in enumerate(kinds):
        if joint != skeleton.root and kind in CONSTANT_M:
            assert found[joint] == CONSTANT_M[kind]
        assert 0 <= found[joint] <= max(CONSTANT_M.values())


def test_feet_are_as_ankles_and_eyes_as_heads():
    found = constant_sigma(HALPE26)
    assert found[HALPE26.index("left_heel")] == CONSTANT_M["ankle"]
    assert found[HALPE26.index("right_eye")] == CONSTANT_M["head"]


@pytest.mark.parametrize(("name", "worse"), [("score", 0.3), ("window", 0.05), ("flip", 0.05)])
def test_a_sigma_from_one_view_grows_with_each_sign_of_error(name, worse):
    usual = lifted_sigma(H36M17, **features())
    more = lifted_sigma(H36M17, **features(**{name: np.full((3, 17), worse)}))
    assert (more[:, 1:] > usual[:, 1:]).all()
    assert (usual[:, 0] == 0).all()
    assert (usual[:, 1:] > [LIFTED_M[joint.split("_")[-1]] for joint in H36M17.joints[1:]]).all()


def test_without_the_mirror_image_its_usual_answer_is_assumed():
    found = lifted_sigma(H36M17, **features(flip=None))
    assert found == pytest.approx(lifted_sigma(H36M17, **features(flip=np.full((3, 17), USUAL_FLIP_M))))
