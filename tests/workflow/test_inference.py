"""Files from one view: what is up to date is loaded without the network, and what is stale is computed again."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from scenes import small_scene

from twoview.config import DetectConfig, InferConfig
from twoview.errors import ConfigError, FormatError, LifterError
from twoview.workflow.inference import infer_file

MARKERS = DetectConfig(detector="markers:Markers")
LOADED = """
import sys
from pathlib import Path
from twoview.config import DetectConfig
from twoview.workflow.inference import infer_file

made = infer_file(Path("a.mp4"), "start.pt", Path("out"), detect_config=DetectConfig(detector="markers:Markers"))
print(made.fresh, *sorted(name for name in ("torch", "onnxruntime", "markers") if name in sys.modules))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, start):
    small_scene(tmp_path, seconds=1.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_up_to_date_result_needs_neither_model_nor_detector(folder, start):
    assert infer_file(folder / "a.mp4", "start.pt", folder / "out", detect_config=MARKERS).fresh
    before = {path: path.read_bytes() for path in folder.glob("out.*")}
    answer = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=False)
    assert answer.stdout.split() == ["False"], answer.stderr
    assert {path: path.read_bytes() for path in folder.glob("out.*")} == before


def test_what_is_stale_is_computed_and_a_bad_model_is_refused_before_detection(folder, start):
    video, out = folder / "a.mp4", folder / "out"
    infer_file(video, "start.pt", out, detect_config=MARKERS, picture=False)
    assert not infer_file(video, "start.pt", out, detect_config=MARKERS, picture=False).fresh
    shutil.copyfile(start, folder / "other.pt")
    assert not infer_file(video, "other.pt", out, detect_config=MARKERS, picture=False).fresh  # the same content
    made = infer_file(video, "start.pt", out, config=InferConfig(height_m=1.8), detect_config=MARKERS, picture=False)
    assert made.fresh
    assert made.poses.unit == "m"
    scored = DetectConfig(detector="markers:Markers", score=0.5)
    assert infer_file(video, "start.pt", out, detect_config=scored, picture=False).fresh
    (folder / "out.2d.npz").unlink()
    (folder / "other.pt").write_bytes(b"no model")
    with pytest.raises(LifterError, match="other"):
        infer_file(video, "other.pt", out, detect_config=scored, picture=False)
    assert not (folder / "out.2d.npz").exists()


def test_the_athlete_is_whom_the_settings_name(folder):
    video, out = folder / "a.mp4", folder / "out"
    named = DetectConfig(detector="markers:Markers", person=0)
    for config in (MARKERS, named, MARKERS):
        assert infer_file(video, "start.pt", out, detect_config=config, picture=False).fresh
    with pytest.raises(ConfigError, match="height_m"):
        infer_file(video, "start.pt", out, config=InferConfig(height_m=181))


def test_the_overlay_is_never_written_over_the_video(folder):
    with pytest.raises(FormatError, match="written over"):
        infer_file(folder / "a.mp4", "start.pt", folder / "a", detect_config=MARKERS)
    infer_file(folder / "a.mp4", "start.pt", folder / "a", detect_config=MARKERS, picture=False)
