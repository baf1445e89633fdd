"""Files from one view: what is up to date is loaded without the network, and what is stale is computed again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from blobs import film
from scenes import small_scene

from twoview.config import DetectConfig, InferConfig, WorldConfig
from twoview.errors import ConfigError, DetectorError, FormatError, LifterError, SessionError
from twoview.storage import records
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


def test_a_result_has_its_world_and_formats_its_axes(folder):
    video, out, meters = folder / "a.mp4", folder / "out", InferConfig(height_m=1.8)
    options = {"config": meters, "detect_config": MARKERS, "picture": False}
    made = infer_file(video, "start.pt", out, formats=("csv",), **options)
    world = made.poses.world
    assert (made.poses.axes, world.up_sigma_deg < 15) == ("camera", True)
    first = (folder / "out.csv").read_text()
    infer_file(video, "start.pt", out, formats=("csv",), world=WorldConfig(axes="z-up"), **options)
    turned = (folder / "out.csv").read_text()
    values = [np.array(text.split()[1].split(",")[3:6], float) for text in (first, turned)]
    assert values[1] == pytest.approx(values[0][[0, 2, 1]] * [1, -1, 1], abs=1e-4)
    infer_file(video, "start.pt", out, **options)
    assert (folder / "out.csv").read_text() == turned, "what nobody asks for again stays as it was made"
    level = infer_file(video, "start.pt", out, world=WorldConfig(level=True), **options)
    assert level.fresh
    assert np.degrees(np.arccos(-level.poses.world.up[1])) < 1
    plain = infer_file(video, "start.pt", out, detect_config=MARKERS, picture=False)
    assert plain.poses.world is not None, "up is known without a height too"
    with pytest.raises(SessionError, match="no session that knows view b"):
        infer_file(video, "start.pt", out, world=WorldConfig(camera="b"), **options)


def test_the_athlete_is_whom_the_settings_name(folder):
    video, out = folder / "a.mp4", folder / "out"
    named = DetectConfig(detector="markers:Markers", person=0)
    for config in (MARKERS, named, MARKERS):
        assert infer_file(video, "start.pt", out, detect_config=config, picture=False).fresh
    with pytest.raises(ConfigError, match="height_m"):
        infer_file(video, "start.pt", out, config=InferConfig(height_m=181))


def test_of_several_people_one_has_to_be_named_where_it_is_not_clear(folder):
    two = film(folder / "two men.mp4", lambda f: (90, 120, 100.0), lambda f: (230, 120, 100.0), frames=40)
    blobs = DetectConfig(detector="blobs:Blobs")
    with pytest.raises(DetectorError, match="2 people, and who is the athlete is not clear") as raised:
        infer_file(two, "start.pt", folder / "out", detect_config=blobs)
    assert f"{folder}/out.2d.people.png, then: twoview infer '{two}' --person N" in raised.value.hint
    assert (folder / "out.2d.people.png").exists()
    assert not (folder / "out.2d.npz").exists()
    made = infer_file(two, "start.pt", folder / "out", detect_config=replace(blobs, person=1), picture=False)
    assert (made.athlete.track, made.athlete.people, made.athlete.by_hand) == (1, 2, True)
    guess = infer_file(two, "start.pt", folder / "out", detect_config=replace(blobs, sureness=0.0), picture=False)
    assert guess.athlete.sureness < 0.8
    again = infer_file(two, "start.pt", folder / "out", detect_config=replace(blobs, sureness=0.0), picture=False)
    assert (again.fresh, again.athlete) == (False, guess.athlete)


def test_the_overlay_is_never_written_over_the_video(folder):
    with pytest.raises(FormatError, match="written over"):
        infer_file(folder / "a.mp4", "start.pt", folder / "a", detect_config=MARKERS)
    infer_file(folder / "a.mp4", "start.pt", folder / "a", detect_config=MARKERS, picture=False)


class Killed(BaseException):
    """What stops a command at once."""


def infer(folder, model="start.pt", **more):
    return infer_file(folder / "a.mp4", model, folder / "out", detect_config=MARKERS, **more)


@pytest.fixture
def other(folder):
    """Another model."""
    from dataclasses import replace

    from twoview.lifting.model import load_model, save_model

    model = load_model("start.pt")
    for value in model.lifter.parameters():
        value.data.mul_(1.5)
    save_model(folder / "other.pt", replace(model))
    return "other.pt"


def contents(folder, *suffixes: str) -> dict[str, bytes]:
    return {suffix: (folder / f"out{suffix}").read_bytes() for suffix in suffixes}


def test_files_beside_a_result_are_made_again_with_it_asked_for_or_not(folder, other):
    shown = (".csv", ".json", ".mp4", ".png", ".html")
    infer(folder, formats=("csv", "json"))
    first = contents(folder, *shown)
    infer(folder, other)
    second = contents(folder, *shown)
    assert all(first[suffix] != second[suffix] for suffix in shown)
    infer(folder)
    assert contents(folder, ".csv", ".json") == contents(folder, ".csv", ".json")
    assert contents(folder, *shown)[".csv"] == first[".csv"]
    infer(folder, other, picture=False)
    assert not (folder / "out.mp4").exists()  # it would show the first model's poses
    assert not (folder / "out.png").exists()
    assert not (folder / "out.html").exists()
    assert contents(folder, ".csv")[".csv"] == second[".csv"]


@pytest.mark.parametrize("at", ["save", "write", "render", "contact_sheet"])
def test_a_kill_leaves_no_file_that_shows_other_poses(folder, other, monkeypatch, at):
    from twoview.visualization import overlay
    from twoview.workflow import inference

    infer(folder, formats=("csv",))
    first = contents(folder, ".csv", ".mp4", ".png", ".html")
    homes = {"save": inference._Lifting, "write": inference}

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(homes.get(at, overlay), at, killed)
        with pytest.raises(Killed):
            infer(folder, other)
    for suffix, content in first.items():
        path = folder / f"out{suffix}"
        assert not path.exists() or path.read_bytes() != content
    infer(folder, other, formats=("csv",))
    assert all(content != first[suffix] for suffix, content in contents(folder, *first).items())


def test_a_kill_between_detection_and_lifting_does_not_pass_old_poses_as_current(folder, monkeypatch):
    from twoview.workflow import inference

    infer(folder, picture=False)
    fewer = DetectConfig(detector="markers:Markers", score=0.95, repair=False)

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(inference._Lifting, "save", killed)
        with pytest.raises(Killed):
            infer_file(folder / "a.mp4", "start.pt", folder / "out", detect_config=fewer, picture=False)
    again = infer_file(folder / "a.mp4", "start.pt", folder / "out", detect_config=fewer, picture=False)
    assert again.fresh


def test_files_that_were_not_made_here_are_left_alone(folder, other):
    (folder / "a.csv").write_text("mine")
    video = (folder / "a.mp4").read_bytes()
    for model in ("start.pt", other):
        infer_file(folder / "a.mp4", model, folder / "a", detect_config=MARKERS, picture=False)
    assert (folder / "a.csv").read_text() == "mine"
    assert (folder / "a.mp4").read_bytes() == video


def test_a_video_that_changes_while_it_is_detected_is_noticed(folder, monkeypatch):
    from markers import Markers

    from twoview.errors import SessionError

    def changing(self, rgb):
        with (folder / "a.mp4").open("ab") as file:
            file.write(b"more")
        return found(self, rgb)

    found = Markers.__call__
    monkeypatch.setattr(Markers, "__call__", changing)
    with pytest.raises(SessionError, match=r"a\.mp4 changed while"):
        infer(folder, picture=False)
    assert not list(folder.glob("out*.npz"))


def test_a_folder_in_the_poses_place_costs_none_of_the_files_beside_it(folder):
    from twoview.errors import StorageError

    infer(folder, formats=("csv",), picture=False)
    (folder / "out.npz").unlink()
    (folder / "out.npz").mkdir()
    with pytest.raises(StorageError, match=r"out\.npz is a folder"):
        infer(folder, formats=("csv",), picture=False)
    assert (folder / "out.csv").exists()


def test_a_model_that_is_replaced_while_it_is_loaded_makes_no_result(folder, other, monkeypatch):
    from twoview.errors import SessionError
    from twoview.lifting import model

    def replacing(path, **more):
        loaded = load(path, **more)
        shutil.copyfile(other, path)
        return loaded

    load = model.load_model
    monkeypatch.setattr(model, "load_model", replacing)
    with pytest.raises(SessionError, match="replaced"):
        infer(folder, picture=False)
    assert not (folder / "out.npz").exists()


@pytest.mark.parametrize(("formats", "hint"), [(("csv", "fbx"), "trc"), (("csv", "trc"), "--height")])
def test_a_format_that_cannot_be_written_is_refused_before_any_work(folder, formats, hint):
    with pytest.raises(FormatError) as error:
        infer_file(folder / "a.mp4", "start.pt", folder / "out", formats=formats, detect_config=MARKERS)
    assert hint in error.value.hint
    assert list(folder.glob("out*")) == []


def test_rows_that_are_not_the_frames_are_said(folder):
    height = InferConfig(height_m=1.75)
    made = infer_file(folder / "a.mp4", "start.pt", folder / "out", config=height, detect_config=MARKERS, picture=False)
    found = made.detections
    missed = np.arange(len(found)) == 5
    uneven = replace(found, xy=found.xy[~missed], score=found.score[~missed], time=found.time[~missed])
    records.save(folder / "uneven.npz", uneven)
    again = infer_file(folder / "uneven.npz", "start.pt", folder / "u", config=height, formats=("csv", "trc"))
    (said,) = (sentence for sentence in again.warnings if "rows" in sentence)
    assert said.startswith(f"trc: {len(found)} rows at 30 per second from {len(found) - 1} frames")
