"""What `twoview reproduce` measures: exact answers have no error, and a known error has the score that it must have."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bodies import moving_body
from data_set_files import FRAMES, write_human36m, write_sportspose
from known_lifter import KnownAnswers, save_lifter
from numpy import ndarray as Array

from twoview.datasets import human36m, sportspose
from twoview.geometry.framing import RULES, Rule, frame_clip, from_camera, to_screen
from twoview.lifting.model import load_model

JOINT, OFF = 13, 0.05  # one joint, and how far it is moved along z, in screen units

TRUSTED = "known_lifter:KnownAnswers"


def moved(answers: Array) -> Array:
    out = answers.copy()
    out[:, JOINT, 2] += OFF
    return out


def framed(
    xy: Array, score: Array, size: tuple[int, int], points: Array, *, focal: float, rule: Rule
) -> tuple[Array, Array]:
    """What a lifter sees of one clip (T, 17, 3) and its label, by the camera's focal length."""
    pixels, shape, length = torch.from_numpy(xy)[None], torch.tensor([size]), torch.tensor([focal])
    framing = frame_clip(pixels, torch.from_numpy(score)[None], shape, rule, focal=length)
    label = from_camera(torch.from_numpy(points)[None], length, framing)
    return to_screen(pixels, framing)[0].numpy(), label[0].numpy()


def human36m_file(folder: Path, rule: Rule) -> SimpleNamespace:
    """A file whose detections are off, what a lifter sees of its test part, the official labels, and mm per unit."""
    path, rng = folder / "h36m.pkl", np.random.default_rng(0)
    write_human36m(path, moving_body(FRAMES, rng))
    content = pickle.loads(path.read_bytes())
    table = content["test"]
    table["joint_2d"] = table["joint_2d"] + rng.normal(scale=4.0, size=table["joint_2d"].shape)
    content["train"]["joint_2d"] = np.concatenate([table["joint_2d"], table["joint_2d"]])
    path.write_bytes(pickle.dumps(content))
    size = np.array([human36m.lens(view).size for view in table["camera_name"]], float)[:, None]
    width = size[..., :1]
    shift = np.concatenate([np.ones_like(width), size[..., 1:] / width, np.zeros_like(width)], axis=-1)
    seen = table["joint_2d"] / width * 2 - shift[..., :2]
    answers = table["joints_2.5d_image"] / table["2.5d_factor"][:, None, None] / width * 2 - shift
    if rule != "screen":
        for start in range(0, len(seen), FRAMES):
            at = slice(start, start + FRAMES)
            camera = human36m.lens(table["camera_name"][start])
            points = human36m.from_pixel_pose(table["joint3d_image"][at], camera)
            score = table["confidence"][at, :, 0]
            seen[at], answers[at] = framed(
                table["joint_2d"][at], score, camera.size, points, focal=camera.mean_focal, rule=rule
            )
    mm = width[:, 0, 0] / 2 * table["2.5d_factor"]
    return SimpleNamespace(path=path, seen=seen, answers=answers, mm=mm, rate=human36m.RATE)


def sportspose_folder(folder: Path, rule: Rule) -> SimpleNamespace:
    """As `human36m_file`; the 2D is projected from the 3D by the whole lens, the labels by its focal length.

    Everybody moves alike, and the lifter's own rate is not that of the takes: it knows no frame between two of theirs.
    """
    for subject in ("S06", "S08"):
        write_sportspose(folder / "data_set", np.random.default_rng(3), subject)
    (take,) = sportspose.read(folder / "data_set", split="test", views=("right", "back"))
    seen, answers, mm = {}, {}, {}
    for view, poses in take.poses.items():
        points, focal, (width, height) = take.truth[view].xyz.astype(float), take.cameras[view].mean_focal, poses.size
        ray, root = points / points[..., 2:], points[:, :1, 2:]
        seen[view] = poses.xy / width * 2 - [1, height / width]
        depth = (points[..., 2:] - root) / root
        answers[view] = np.concatenate([ray[..., :2], depth], axis=-1) * focal / (width / 2)
        if rule != "screen":
            xy, score = poses.xy.astype(float), poses.score.astype(float)
            seen[view], answers[view] = framed(xy, score, poses.size, points, focal=focal, rule=rule)
        mm[view] = 1000 * root[:, 0, 0] * (width / 2) / focal * np.linalg.norm(ray[:, JOINT], axis=-1)
    seen, answers = (np.concatenate(list(values.values())) for values in (seen, answers))
    return SimpleNamespace(path=folder / "data_set", seen=seen, answers=answers, mm=mm["right"], rate=50.0)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("name", "write"), [("human36m", human36m_file), ("sportspose", sportspose_folder)])
def test_an_exact_answer_has_no_error(twoview, tmp_path, name: str, write: Callable, rule: Rule):
    made = write(tmp_path, rule)
    lifter = save_lifter(tmp_path, made.seen, made.answers, rule=rule, rate=made.rate)
    assert score(twoview, tmp_path, name, made.path, lifter) < 0.01


@pytest.mark.parametrize(("name", "write"), [("human36m", human36m_file), ("sportspose", sportspose_folder)])
def test_a_known_error_has_its_score(twoview, tmp_path, name: str, write: Callable):
    made = write(tmp_path, "screen")
    lifter = save_lifter(tmp_path, made.seen, moved(made.answers), rule="screen", rate=made.rate)
    found = score(twoview, tmp_path, name, made.path, lifter)
    assert found == pytest.approx(OFF * made.mm.mean() / 17, abs=0.01)  # the root, which is exact, is one of the 17


ROWS = {
    "human36m": ("L_3D", "L_3D of S1 + L_2Dcon"),
    "sportspose": ("Iqbal et al.", "L_3D", "L_3Dcon", "L_2D", "per frame", "L_2Dcon"),
}


@pytest.mark.parametrize(("name", "write"), [("human36m", human36m_file), ("sportspose", sportspose_folder)])
def test_every_row_trains_and_tests_on_the_frames_as_they_were_recorded(twoview, tmp_path, name: str, write: Callable):
    """A frame in between, or a blank one, is none that the lifter knows, and its answer wrong."""
    made = write(tmp_path, "screen")
    assert len(made.seen) % FRAMES == 0
    assert KnownAnswers.clip_length > FRAMES
    lifter = save_lifter(tmp_path, made.seen, made.answers, rule="screen", rate=made.rate)
    options = ("--set", "epochs=1", "--set", "device=cpu")
    found = scores(twoview, tmp_path, name, made.path, lifter, *options, rows=("unadapted", *ROWS[name]))
    assert list(found) == ["unadapted", *ROWS[name]]
    assert max(found.values()) < 0.01
    made_by = (tmp_path / "out" / "runs").glob("*/model.pt")
    models = {path.parent.name: load_model(path, trust=[TRUSTED]) for path in made_by}
    assert len(models) == len(ROWS[name])
    for preset, model in models.items():
        assert model.rate_hz == (90.0 if name == "sportspose" else 50.0)
        assert model.clip_length == (1 if preset == "iqbal" else 27)


def score(twoview: Callable, folder: Path, name: str, path: Path, lifter: Path) -> float:
    """MPJPE mm of the row "unadapted", from the file that the command writes."""
    return scores(twoview, folder, name, path, lifter, rows=("unadapted",))["unadapted"]


def scores(
    twoview: Callable, folder: Path, name: str, path: Path, lifter: Path, *options: str, rows: Sequence[str]
) -> dict[str, float]:
    """MPJPE mm of each row, from the file that the command writes."""
    named = ("--weights", lifter, "--rows", ",".join(rows), "--out", folder / "out")
    answer = twoview("reproduce", name, path, *named, *options, "--trust", TRUSTED)
    assert answer.code == 0, answer.err
    found = json.loads((folder / "out" / f"{name}.json").read_text())["rows"]
    return {row: next(m["value"] for m in report["rows"] if m["name"] == "MPJPE") for row, report in found.items()}
