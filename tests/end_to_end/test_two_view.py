"""The main job by the four commands, in an empty folder, on a scene whose truth is known; and once more."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from scenes import small_scene

from twoview.poses import Poses3D
from twoview.storage import records

DETECTOR = ("--detector", "markers:Markers")
QUICK = ("--epochs", "2", "--set", "phones.steps_per_epoch=4", "--set", "phones.batch=8", "--set", "phones.virtual=4")


@pytest.fixture
def filmed(tmp_path):
    return small_scene(tmp_path, seconds=4.0, offset_s=0.35)


def test_four_commands_make_a_model_that_needs_one_view(twoview, tmp_path, filmed):
    answer = twoview("sync", "a.mp4", "b.mp4", "--json")
    assert answer.code == 0, answer.err
    said = json.loads(answer.out)
    assert said["reference"] == "a"
    assert "next" in twoview("sync", "a.mp4", "b.mp4").out
    clock = records.load(tmp_path / "session/takes/take1/sync.json").clocks["b"]
    assert clock.offset_s == pytest.approx(0.35, abs=0.5 / 30)

    answer = twoview("detect", *DETECTOR)
    assert answer.code == 0, answer.err
    assert "twoview finetune --views a,b" in answer.out

    assert "saved" in twoview("sync", "a.mp4", "b.mp4").out  # now with what the motion says beside it
    answer = twoview("finetune", "--views", "a,b", *QUICK)
    assert answer.code == 0, answer.err
    assert re.search(r"share of the loss: pseudo-labels \d.*rehearsal \d.*the paper's consistency \d", answer.out)
    assert (tmp_path / "session/model.pt").exists()
    assert "data:image/jpeg" in (tmp_path / "session/runs/run1/report.html").read_text()  # held-out takes, drawn

    answer = twoview("infer", "a.mp4", *DETECTOR, "--height", "1.75")
    assert answer.code == 0, answer.err
    poses = records.load_as(tmp_path / "session/results/a.npz", Poses3D)
    assert (poses.unit, poses.origin) == ("m", "root")
    for name in ("a.mp4", "a.png", "a.html"):
        assert (tmp_path / "session/results" / name).stat().st_size > 1000

    before = {path: path.stat().st_mtime_ns for path in Path(tmp_path, "session").rglob("*") if path.is_file()}
    for words in (("sync", "a.mp4", "b.mp4"), ("detect", *DETECTOR), ("infer", "a.mp4", *DETECTOR, "--height", "1.75")):
        assert "up to date" in twoview(*words).out
    assert twoview("finetune", "--views", "a,b", *QUICK).code == 0
    after = {path: path.stat().st_mtime_ns for path in Path(tmp_path, "session").rglob("*") if path.is_file()}
    kept = {path for path in before if path.name != "model.pt"}
    assert {path: after[path] for path in kept} == {path: before[path] for path in kept}

    sheet, other = tmp_path / "session/results/a.png", tmp_path / "session/results/a.before.npz"
    alone = sheet.read_bytes()
    compared = ("infer", "a.mp4", *DETECTOR, "--height", "1.75", "--compare", "twoview-small")
    assert twoview(*compared).code == 0
    assert other.exists()
    assert sheet.read_bytes() != alone
    assert twoview(*compared[:-2]).code == 0
    assert not other.exists()
    assert sheet.read_bytes() == alone
