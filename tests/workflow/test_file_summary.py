"""`twoview show` of every kind of file and folder that twoview writes, and what follows from each."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from session_takes import put_take
from terminal import type_command

from twoview.biomechanics.angles import angles
from twoview.formats import FORMATS, write
from twoview.formats.angles import write_angles_csv
from twoview.poses import Poses3D
from twoview.storage import records


@pytest.fixture
def poses(rng) -> Poses3D:
    from bodies import moving_body

    return Poses3D(moving_body(30, rng), np.arange(30) / 30, unit="m")


def shown(path: Path | str) -> tuple[dict[str, str], str]:
    answer = type_command("show", path, "--json")
    assert answer.code == 0, answer.err
    return {row["what"]: row["value"] for row in answer.json["rows"]}, answer.json["next"]


def test_files_of_other_programs_say_what_they_hold(tmp_path, poses):
    expected = {
        "csv": {"rows": 30 * 17}, "trc": {"frames": "30", "unit": "m", "markers": 17}, "bvh": {"frames": 30},
        "c3d": {"points": 17, "frames per second": 30.0}, "mot": {"rows": "30", "degrees": "yes"},
    }  # fmt: skip
    for name in FORMATS:
        rows, following = shown(write(poses, tmp_path / f"a.{name}"))
        assert {key: rows[key] for key in expected.get(name, {})} == expected.get(name, {}), (name, rows)
        assert rows, name
        assert following == "twoview show"
    write_angles_csv(angles(poses), tmp_path / "a.angles.csv")
    assert shown(tmp_path / "a.angles.csv")[0]["seconds"] == "0.000 to 0.967"


@pytest.mark.parametrize("suffix", ["trc", "c3d", "bvh", "mot", "nc", "png", "toml", "onnx", "jsonl"])
def test_a_damaged_file_of_another_program_is_refused(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").write_text("{ damaged")
    answer = type_command("show", tmp_path / f"a.{suffix}")
    assert answer.code == 1
    assert f"a.{suffix} is no {suffix}" in answer.err.replace("no TRC", "no trc")  # TRC has a reader of pixels, too


def test_a_session_and_its_folders_are_shown_by_their_paths(tmp_path, start, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = put_take(tmp_path / "session", "serve 2")
    rows = type_command("show", "session", "--json").json
    assert rows == type_command("show", "--json").json
    assert rows["next"] == "twoview finetune --views a,b"
    take = type_command("show", "session/takes/serve 2", "--json").json
    assert [row["view"] for row in take["videos"]] == ["a", "b"]
    assert take["rows"][0]["athlete"] == "detected"
    assert shown("session/takes/serve 2/take.json")[0]["views.a.rate"] == "30/1"
    assert shown("session/takes/serve 2/sync.json")[1] == "twoview render --sync"
    assert (
        shown("session/takes/serve 2/detections/a.npz")[1] == "twoview infer 'session/takes/serve 2/detections/a.npz'"
    )
    quick = ("--weights", "start.pt", "--method", "paper", "--epochs", "1")
    assert type_command("finetune", "--views", "a,b", *quick).code == 0
    rows, following = shown("session/runs/run1")
    assert (rows["run"], rows["epochs"], rows["model"]) == ("run1", "1 of 1", "model.pt")
    assert following == "twoview finetune --run run1 --use"
    assert shown("session/runs/run1/last.pt")[0]["epoch"] == 1
    assert shown("session/runs/run1/log.jsonl")[0]["rows"] == 1
    assert shown("session/runs/run1/config.json")[0]["finetune.method"] == "paper"
    assert shown("session/model.pt")[1] == "twoview infer clip.mp4 --model session/model.pt"
    assert type_command("show", "--json").json["next"] == "twoview infer clip.mp4"
    session.sync_path("serve 2").unlink()
    assert type_command("show", "--json").json["next"] == "twoview sync"
    shutil.rmtree("session/takes/serve 2/detections")
    answer = type_command("show", "session/takes", "--json")
    assert answer.code == 1
    assert "no video" in answer.err


def test_a_folder_of_videos_and_poses(tmp_path, poses):
    (tmp_path / "broken.mov").write_text("no video")
    records.save(tmp_path / "a.npz", poses)
    answer = type_command("show", tmp_path, "--json").json
    assert [row["video"] for row in answer["rows"]] == ["broken.mov"]
    assert answer["next"] == f"twoview infer {tmp_path}"
    assert shown(tmp_path / "a.npz")[1] == f"twoview angles {tmp_path / 'a.npz'}"
