"""What the demo measures besides the stages that it calls."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from twoview.config import DetectConfig
from twoview.datasets.rendered import read_scene
from twoview.storage import records
from twoview.storage.session import Session
from twoview.workflow import demo
from twoview.workflow.stages import add_videos
from twoview.workflow.synchronization import sync_take


def perfect(take: str, view: str, px: float = 0.0):
    """The true 2D of a swing, with errors of so many pixels."""
    poses = read_scene(demo.ASSETS / "golf" / take).views[view].poses2d
    noise = np.random.default_rng(len(take)).normal(0, px, poses.xy.shape)
    return replace(poses, xy=poses.xy + noise, view=view)


@pytest.fixture
def session(tmp_path) -> Session:
    """The golf session with one take, and a test swing whose view a was lifted."""
    for name in ("take1", "test1"):
        shutil.copytree(demo.ASSETS / "golf" / name, tmp_path / "videos" / name)
    videos = [tmp_path / "videos" / "take1" / f"view_{view}.mp4" for view in demo.VIEWS]
    made, _ = add_videos(tmp_path, videos, views=demo.VIEWS, take="take1")
    sync_take(made, "take1")
    return made


@pytest.mark.parametrize(("px", "least", "most"), [(0.0, 0.0, 12.0), (12.0, 20.0, 90.0)])
def test_the_detectors_part_of_an_error_grows_with_the_detectors_errors(session, monkeypatch, px, least, most):
    def detect(filmed, **_):
        for take, files in filmed.takes.items():
            for view, file in files.items():
                path = filmed.detection_path(take, view)
                if not path.exists():
                    records.save(path, perfect(take, view, px), inputs={"video": file.fingerprint})
        return []

    detect(session)
    clip = session.folder / "videos/test1/view_a.mp4"
    lifted = session.results / "test1_a.2d.npz"
    records.save(lifted, perfect("test1", "a", px), inputs={"video": records.fingerprint(clip)})
    monkeypatch.setattr(demo, "detect_views", detect)
    found = demo._two_views(session, ["test1"], "golf", DetectConfig(), None)
    assert found.keys() == {"test1"}
    assert least < found["test1"][0] < most
    assert found["test1"][1] <= found["test1"][0]
    kept = session.folder / "tests/takes/test1/detections/a.npz"
    assert kept.read_bytes() == lifted.read_bytes()
    assert list(session.takes) == ["take1"]  # the lifter learns from the takes alone
