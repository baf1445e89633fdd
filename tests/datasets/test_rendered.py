from __future__ import annotations

import json

import numpy as np
import pytest
from places import ASSETS

from twoview.datasets.rendered import read_scene
from twoview.errors import FormatError
from twoview.skeleton import H36M17

GOLF = ASSETS / "demo" / "golf"


@pytest.mark.parametrize("view", ["a", "b"])
def test_truth_in_3d_projects_onto_truth_in_2d(view):
    scene = read_scene(GOLF / "take1")
    flat, solid = scene.views[view].poses2d.to(H36M17), scene.views[view].poses3d
    matrix = np.array(json.loads((GOLF / "take1" / "truth.json").read_text())["views"][view]["K"])
    seen = solid.xyz.astype(float) @ matrix.T
    distance = np.linalg.norm(seen[..., :2] / seen[..., 2:] - flat.xy, axis=-1)
    single = [1, 2, 3, 4, 5, 6, 9, 11, 12, 13, 14, 15, 16]  # the others are means, which do not project exactly
    assert distance[:, single].max() < 0.05
    assert distance.max() < 3.0
    assert scene.height_m == pytest.approx(1.81, abs=0.01)


def test_a_folder_without_truth_is_refused(tmp_path):
    with pytest.raises(FormatError, match="not a rendered scene"):
        read_scene(tmp_path)
