"""Every option of every command is tried with the example in its help: it has an effect, or is refused with the reason.

A check names the options that it tries; an option that no check names fails the first test.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer
from data_set_files import write_sportspose
from people import standing_people
from scenes import small_scene
from terminal import Answer, type_command

from twoview.cli.commands import app
from twoview.cli.options import EXAMPLES, described, field_of, keys, presets, spelled
from twoview.command_settings import COMMANDS, PRESETS, resolve
from twoview.config import default
from twoview.datasets.motion import Motion, write_motions
from twoview.poses import Poses3D
from twoview.storage import records
from twoview.timeline import Sync

MARKERS = ("--detector", "markers:Markers")
OF_TYPER = {"--install-completion", "--show-completion", "--help"}
SETTINGS = """
[sync]
min_overlap_s = 1.0
[detect]
score = 0.2
[triangulate]
sync_sigma_s = 0.02
[finetune]
method = "paper"
clip_norm = 0.5
[infer]
max_gap_s = 0.2
"""


@dataclass(frozen=True)
class Place:
    """A folder with two videos of one event, a small lifter, and a session that is synchronized and detected."""

    folder: Path

    def __call__(self, *words: str | Path, code: int = 0) -> Answer:
        """Type a command in the folder; the code that it ends with is checked."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setenv("COLUMNS", "300")
            answer = type_command(*words)
        assert answer.code == code, f"{words} ended with {answer.code}\n{answer.out}\n{answer.err}"
        assert "Traceback" not in answer.err
        return answer

    def refused(self, *words: str | Path, because: str, code: int = 1) -> None:
        """The command is refused with this reason."""
        assert because in " ".join(self(*words, code=code).err.split())

    def path(self, name: str) -> Path:
        return self.folder / name

    def head(self, name: str) -> records.Header:
        """The header of a result."""
        return records.read_header(self.folder / name)

    def clock(self, name: str = "session/takes/take1/sync.json", view: str = "b"):
        return records.load_as(self.folder / name, Sync).clocks[view]


Check = Callable[[Place, pytest.MonkeyPatch], None]
CHECKS: list[Check] = []
TRIED: set[str] = set()


def tries(command: str, *options: str) -> Callable[[Check], Check]:
    """Marks a check with the options and arguments of a command that it tries."""

    def mark(check: Check) -> Check:
        if check not in CHECKS:
            CHECKS.append(check)
        TRIED.update(f"{command} {option}".strip() for option in options)
        return check

    return mark


@functools.cache
def parameters() -> dict[str, typer.core.TyperOption]:
    """Command and option (or argument), as typed -> the parameter."""
    found = {}

    def walk(command, words: tuple[str, ...]) -> None:
        for parameter in command.params:
            name = next((opt for opt in parameter.opts if opt.startswith("--")), parameter.name)
            if name not in OF_TYPER:
                found[" ".join((*words, name))] = parameter
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*words, name))

    walk(typer.main.get_command(app), ())
    return found


def example(option: str, value: str) -> str:
    """The value, which the option's help gives as an example."""
    assert value in parameters()[option].help, f"{value} is not in the help of {option}"
    return value


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    import torch

    from twoview import lifters
    from twoview.lifting.model import Model, save_model

    folder = tmp_path_factory.mktemp("prepared")
    small_scene(folder, seconds=3.0, offset_s=0.35)
    short = small_scene(folder / "short", seconds=0.4).views["a"]
    records.save(folder / "short" / "flat.npz", short.poses2d)
    records.save(folder / "short" / "solid.npz", short.poses3d)
    torch.manual_seed(0)
    size = {"width": 32, "dilations": [1, 3]}
    save_model(folder / "start.pt", Model(lifters.build("tcn", size).eval(), "tcn", size, "box", 30.0, 27))
    (folder / "golf.toml").write_text(SETTINGS)
    place = Place(folder)
    place("sync", "a.mp4", "b.mp4")
    place("detect", *MARKERS)
    shutil.copyfile(folder / "start.pt", folder / "session" / "model.pt")
    return folder


@pytest.fixture
def place(prepared, tmp_path) -> Place:
    return Place(Path(shutil.copytree(prepared, tmp_path / "place")))


def test_every_option_is_tried():
    assert set(parameters()) == TRIED


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_an_option_has_an_effect_or_is_refused(check, place, monkeypatch):
    check(place, monkeypatch)


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_and_defaults_in_the_help_of_settings_are_accepted(command):
    assert set(EXAMPLES) == set(COMMANDS)
    help = parameters()[f"{command} --set"].help
    (text,) = re.findall(r"--set (\S+)\.(?= May)", help)
    resolve(command, sets=[text])
    for section in COMMANDS[command]:
        for key in keys(section):
            value, name = default(field_of(key)), key.removeprefix(f"{COMMANDS[command][0]}.")
            assert re.search(rf"\b{re.escape(name)}\b", help), name
            if not key.startswith(("finetune.loss", "finetune.batch", "finetune.flip")) and spelled(value) != "none":
                resolve(command, sets=[f"{key}={value if isinstance(value, float) else spelled(value)}"])


@pytest.mark.parametrize("command", [command for command in COMMANDS if f"{command} --config" in parameters()])
def test_the_presets_in_the_help_are_those_that_ship(command):
    help = parameters()[f"{command} --config"].help
    listed = re.findall(r"name of a preset: ([^.]*)\.", help)
    named = listed[0].split(", ") if listed else []
    assert named == presets(command)
    for name in named:
        resolve(command, file=name)
    if command == "finetune":
        assert named == sorted(path.stem for path in PRESETS.glob("*.toml"))


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("finetune --epochs", "finetune.epochs"), ("finetune --seed", "finetune.seed"),
        ("finetune --device", "finetune.device"), ("finetune --weights", "finetune.weights"),
        ("finetune --precision", "finetune.precision"), ("finetune --devices", "finetune.devices"),
        ("finetune --nodes", "finetune.nodes"), ("finetune --detector", "detect.detector"),
        ("detect --detector", "detect.detector"), ("detect --device", "detect.device"),
        ("infer --height", "infer.height_m"), ("infer --device", "infer.device"),
        ("infer --detector", "detect.detector"), ("triangulate --height", "triangulate.height_m"),
        ("plan --weights", "finetune.weights"), ("plan --device", "finetune.device"),
        ("reproduce --weights", "finetune.weights"),
    ],
)  # fmt: skip
def test_a_flag_says_what_its_setting_says(option, key):
    assert parameters()[option].help == described(key)


# --- the checks ------------------------------------------------------------------------------------------------------


@tries("", "--version")
def version(place, _):
    assert place("--version").out.startswith("twoview ")


@tries(
    "run", "videos", "--height", "--focal", "--format", "--filter", "--axes", "--level", "--picture", "--run",
    "--method", "--epochs", "--seed", "--weights", "--detector", "--device", "--session", "--config", "--set",
    "--trust", "--jobs", "--on",
)  # fmt: skip
def run_settings(place, monkeypatch):
    given = spy(monkeypatch, "twoview.workflow.main_job.steps")
    place(
        "run", "a.mp4", "b.mp4", "--height", "1.75", "--format", "csv,trc", "--filter", "butterworth", "--no-picture",
        "--run", "quick", "--method", "phones", "--epochs", "2", "--seed", "7", "--weights", "start.pt", *MARKERS,
        "--device", "cpu", "--session", "other", "--config", "golf.toml", "--set", "detect.people_every=5",
        "--trust", "stranger:Net", "--axes", "z-up", "--level", "--focal", "26mm", "--jobs", "3",
        "--on", "slurm:local", code=3,
    )  # fmt: skip
    assert (given[0], given[1]) == (Path("other"), [Path("a.mp4"), Path("b.mp4")])
    assert (given["name"], given["formats"], given["picture"]) == ("quick", ["csv", "trc"], False)
    assert given["trust"] == ["stranger:Net"]
    assert (given["workers"].jobs, given["workers"].on) == (3, "slurm:local")
    one = given["settings"]
    assert (one.infer.height_m, one.triangulate.height_m, one.filter.kind) == (1.75, 1.75, "butterworth")
    assert {one.finetune.device, one.detect.device, one.infer.device} == {"cpu"}
    assert (one.finetune.method, one.finetune.epochs, one.finetune.seed) == ("phones", 2, 7)
    assert (one.finetune.weights, one.detect.detector, one.detect.people_every) == ("start.pt", MARKERS[1], 5)
    assert (one.sync.min_overlap_s, one.infer.max_gap_s) == (1.0, 0.2)
    assert (one.world.axes, one.world.level, one.triangulate.focal) == ("z-up", True, "26mm")


@tries("run", "--json")
@tries("detect", "--json")
@tries("finetune", "--json")
@tries("demo", "--json")
@tries("render", "--json")
@tries("export", "--json")
@tries("convert", "--json")
@tries("remove", "--json")
@tries("rename", "--json")
@tries("pretrain", "--json")
@tries("weights get", "--json")
@tries("weights add", "--json")
@tries("doctor", "--try", "--json")
def json_of_every_command(place, _):
    """What every command prints is tried in tests/contracts/test_json.py."""
    assert place("doctor", "--no-try", "--json").json["ok"] is True


@tries("detect", "videos")
def detect_videos_in_an_empty_folder(place, _):
    answer = place(
        "detect", "a.mp4", "b.mp4", *MARKERS, "--session", "other", "--views", "left,right", "--take", "jump"
    )
    assert "next: twoview finetune --views left,right" in answer.out
    assert place.clock("other/takes/jump/sync.json", "right").offset_s == pytest.approx(0.35, abs=0.02)
    answer = place("detect", "short/a.mp4", "short/b.mp4", *MARKERS, "--session", "third")
    assert "take1 is not synchronized yet" in answer.err
    assert "next: twoview sync" in answer.out
    place.refused("detect", "a.mp4", *MARKERS, "--session", "fourth", because="twoview infer a.mp4")
    place.refused("detect", "a.mp4", "b.mp4", "--take", "x,y", because="one take", code=2)


@tries("sync", "videos", "--views", "--take", "--reference", "--session", "--config", "--set", "--json")
def sync_names_and_settings(place, _):
    answer = place(
        "sync", "a.mp4", "b.mp4", "--views", "left,right", "--take", "jump", "--reference", "right",
        "--session", "other", "--config", "golf.toml", "--set", "max_drift_ppm=250", "--json",
    )  # fmt: skip
    assert (answer.json["take"], answer.json["reference"], set(answer.json["views"])) == (
        "jump", "right", {"left", "right"},
    )  # fmt: skip
    settings = place.head("other/takes/jump/sync.json")["settings"]
    assert (settings["min_overlap_s"], settings["max_drift_ppm"]) == (1.0, 250.0)


@tries("sync", "--motion", "--refine")
def sync_by_motion(place, _):
    heard = place.clock()
    assert "motion" in place("sync", "a.mp4", "b.mp4", "--motion").out
    moved = place.clock()
    assert 0 < abs(moved.offset_s - heard.offset_s) < 0.05
    place("sync", "a.mp4", "b.mp4", "--refine")
    assert place.clock().offset_s not in (heard.offset_s, moved.offset_s)


@tries("sync", "--offset", "--at", "--capture-fps")
def sync_by_hand(place, _):
    place("sync", "a.mp4", "b.mp4", "--offset", example("sync --offset", "b=0.61"))
    assert place.clock().offset_s == 0.61
    place("sync", "a.mp4", "b.mp4", "--at", "a=1.30", "--at", "b=1.10")
    assert place.clock().offset_s == pytest.approx(0.2)
    place("sync", "a.mp4", "b.mp4", "--offset", "0.61", "--capture-fps", example("sync --capture-fps", "b=240"))
    assert place.clock().rate == pytest.approx(30 / 240)
    example("sync --at", "--at a=12.30 --at b=4.10")
    place.refused("sync", "a.mp4", "b.mp4", "--at", "a=12.30", "--at", "b=4.10", because="no moment that both filmed")


@tries("sync", "--timestamps")
def sync_by_capture_times(place, _):
    for name in example("sync --timestamps", "a.csv,b.csv").split(","):
        late = 0.5 if name == "b.csv" else 0.0
        place.path(name).write_text("".join(f"{late + frame / 30}\n" for frame in range(90)))
    place("sync", "a.mp4", "b.mp4", "--timestamps", "a.csv,b.csv")
    assert place.clock().offset_s == pytest.approx(0.5, abs=1e-3)


@tries("sync", "--from")
@tries("finetune", "--athlete", "--by-athlete", "--steps")
@tries("infer", "--athlete")
def sheets_and_athletes(place, _):
    """What they do is tried in tests/workflow/test_sheet.py and test_athletes.py."""
    place.path("sheet.csv").write_text("take,view,file,athlete\ntake1,a,a.mp4,Ann\ntake1,b,b.mp4,Ann\n")
    assert "1 takes" in place("sync", "--from", "sheet.csv").out
    place.refused(
        "finetune", "--views", "a,b", "--athlete", "Bea", because="no take of session shows 'Bea'; it has Ann"
    )
    place.refused("finetune", "--views", "a,b", "--by-athlete", "--use", because="leave out --athlete", code=2)
    paper = ("finetune", "--views", "a,b", "--method", "paper", "--steps", "9")
    place.refused(*paper, because="--steps is for the method phones", code=2)
    place.refused("infer", "a.mp4", "--athlete", "Ann", because="no model of 'Ann'")


@tries("sync", "--distance")
def sync_with_the_travel_of_sound(place, _):
    heard = place.clock().offset_s
    place("sync", "a.mp4", "b.mp4", "--distance", example("sync --distance", "a=3,b=8"))
    assert abs(place.clock().offset_s - heard) == pytest.approx(5 / 343, rel=0.05)


@tries("detect", "--views", "--take", "--detector", "--session", "--config", "--set")
def detect_names_and_settings(place, _):
    shutil.move(place.path("session"), place.path("other"))
    answer = place(
        "detect", "--views", "a", "--take", "take1", *MARKERS, "--session", "other", "--config", "golf.toml",
        "--set", "people_every=5",
    )  # fmt: skip
    assert "take1" in answer.out
    settings = place.head("other/takes/take1/detections/a.npz")["settings"]
    assert (settings["detector"], settings["score"], settings["people_every"]) == ("markers:Markers", 0.2, 5)
    assert place.head("other/takes/take1/detections/b.npz")["settings"]["score"] == 0.1
    place.refused("detect", "--take", "take2", "--session", "other", because="no take 'take2'")


@tries("detect", "--person")
def detect_a_person(place, _):
    place("detect", *MARKERS, "--views", "a", "--person", "0")
    assert place.head("session/takes/take1/detections/a.npz")["settings"]["person"] == 0
    place("detect", *MARKERS, "--views", "a", "--person", "auto")
    assert place.head("session/takes/take1/detections/a.npz")["settings"]["person"] is None
    place.refused("detect", *MARKERS, "--views", "a", "--person", "7", because="no person 7")


@tries("detect", "--device")
def detect_on_a_device(place, _):
    place.refused("detect", "--detector", "movenet", "--device", "tpu", because="unknown device 'tpu'")


@tries("detect", "--jobs", "--on")
@tries("sync", "--jobs", "--on")
@tries("triangulate", "--jobs", "--on")
@tries("infer", "--jobs", "--on")
@tries("reproduce", "--jobs", "--on")
def tasks_elsewhere(place, monkeypatch):
    """All of them open the place that is named, and refuse what is none."""
    from twoview.workers import places

    subject = np.random.default_rng(3)
    for name in ("S06", "S08"):
        write_sportspose(place.path("data_set"), subject, name)
    place.refused("detect", "--from", "a.json", "--jobs", "2", because="--from imports")
    commands = {
        ("sync",): ["--set", "max_drift_ppm=299"],
        ("detect", *MARKERS): ["--set", "score=0.31"],
        ("triangulate",): ["--no-picture", "--model", "start.pt"],
        ("infer", "short"): ["--no-picture", *MARKERS],
        ("reproduce", "sportspose", "data_set"): ["--rows", "unadapted", "--weights", "start.pt"],
    }
    opened = []
    make = places._place
    monkeypatch.setattr(places, "_place", lambda workers, folder: opened.append(workers) or make(workers, folder))
    for words, more in commands.items():
        place.refused(*words, "--on", "somewhere", because="no place where tasks can run")
        place.refused(*words, "--set", "cluster.cores=3", because="--on slurm")
        place(*words, *more, "--jobs", "2", "--on", "own_tasks:threads")
        assert (opened.pop().jobs, opened) == (2, []), words
        assert "package.module:make" in parameters()[f"{words[0]} --on"].help


@tries("sync", "--track")
def one_of_several_sound_tracks(place, _):
    place("sync", "a.mp4", "b.mp4", "--take", "tracks", "--track", "b=1")
    place.refused(
        "sync", "a.mp4", "b.mp4", "--take", "other", "--track", example("sync --track", "b=2"), because="no track 2"
    )


@tries("detect", "--skeleton", "--first-frame", "--from-size")
def what_other_tools_files_do_not_say(place, _):
    place("detect", *MARKERS, "--format", "coco")
    file = ("--from", "session/takes/{take}/detections/{view}_coco.json", "--set", "check=false")
    place("detect", *file, "--skeleton", "coco17", "--first-frame", "0")
    assert "frames 0 to " in place("detect", *file).out
    place.refused("detect", *file, "--from-size", "8x6", because="lie outside the picture")
    place.refused(
        "detect", *file, "--skeleton", example("detect --skeleton", "h36m17"), because="not in the order h36m17"
    )
    place.refused("detect", *file, "--first-frame", "1", because="counted from 1")
    place.refused("detect", *file, "--skeleton", "kinect", because="known: coco17")
    place.refused("detect", *file, "--from-size", "large", because="--from-size 1280x720")
    place.refused("detect", "--from-size", "640x480", because="name the file or folder with --from")


@tries("detect", "--from", "--format")
def detections_of_other_tools(place, _):
    formats = example("detect --format", "openpose,alphapose,coco,mmpose,deeplabcut")
    place("detect", *MARKERS, "--format", formats)
    folder = place.path("session/takes/take1/detections")
    for tool in formats.split(","):
        assert len(list(folder.glob(f"?_{tool}*"))) == 2, tool
    example("detect --from", "{view}")
    place("detect", "--from", "session/takes/{take}/detections/{view}_coco.json", "--set", "check=false")
    assert place.head("session/takes/take1/detections/b.npz")["settings"]["imported"].endswith("b_coco.json")


@tries("finetune", "--views", "--run", "--epochs", "--seed", "--device", "--weights", "--precision")
@tries("finetune", "--take", "--without")
@tries("plan", "--take", "--without")
@tries("triangulate", "--take", "--without")
@tries("detect", "--without")
def takes_are_chosen(place, _):
    place("sync", "a.mp4", "b.mp4", "--take", "undetected")
    small = ("--method", "paper", "--weights", "start.pt")
    trained = ("finetune", "--views", "a,b", *small, "--epochs", "1")
    for words in (("plan", *small), ("triangulate", "--model", "start.pt"), trained):
        assert "left out: view 'a' of take 'undetected'" in place(*words).err
        place.refused(*words, "--take", "undetected", because="is not detected yet")
        place.refused(*words, "--without", "take7", because="no take 'take7'")
        assert "left out" not in place(*words, "--without", "undetected").err
    assert "undetected" not in place("detect", *MARKERS, "--without", "undetected").out


@tries("finetune", "--use")
def a_run_is_used_by_hand(place, _):
    trained = ("finetune", "--views", "a,b", "--method", "paper", "--weights", "start.pt", "--epochs", "1")
    place("finetune", "--run", "none", "--use", code=1)
    for run in ("one", "two"):
        place(*trained, "--run", run, "--set", "keep=last", "--seed", str(len(run)), "--use")
    place("finetune", "--run", "one", "--use")
    shown = place("show", "--json").json
    assert {row["run"]: row["model"] for row in shown["runs"]} == {"one": "in use", "two": ""}
    assert "in use" in place("show").out
    place("finetune", code=2)


@tries("remove", "take", "--view", "--session")
@tries("rename", "old", "new", "--session")
def takes_removed_and_renamed(place, _):
    more = ("--offset", "b=0", "--offset", "c=0")
    place("sync", "a.mp4", "b.mp4", "short/a.mp4", "--views", "a,b,c", "--take", "t", *more)
    place("remove", "t", "--view", "c", "--session", "session")
    place("rename", "t", "jump", "--session", "session")
    assert "jump" in place("show").out
    place("remove", "jump")
    assert "jump" not in place("show").out


@tries("finetune", "--config", "--set")
def finetune_settings(place, _):
    place(
        "finetune", "--views", example("finetune --views", "a,b"), "--run", "quick", "--epochs", "1", "--seed", "7",
        "--device", "cpu", "--weights", "start.pt", "--precision", "fp32", "--config", "golf.toml",
        "--set", "loss.consistency=0.5",
    )  # fmt: skip
    settings = json.loads(place.path("session/runs/quick/config.json").read_text())["finetune"]
    wanted = {"epochs": 1, "seed": 7, "device": "cpu", "weights": "start.pt", "precision": "fp32", "clip_norm": 0.5}
    assert {key: settings[key] for key in wanted} == wanted
    assert settings["loss"]["consistency"] == 0.5
    assert len(place.path("session/runs/quick/log.jsonl").read_text().splitlines()) == 1
    place.refused("finetune", "--views", "a,c", because="no view 'c'")
    place.refused("finetune", "--views", "a,b", "--device", "tpu", "--weights", "start.pt", because="tpu")


@tries("finetune", "--method")
def finetune_by_a_method(place, monkeypatch):
    quick = ("finetune", "--views", "a,b", "--weights", "start.pt", "--epochs", "1")
    place(*quick, "--method", "paper", "--run", "published")
    shaped = json.loads(place.path("session/runs/published/config.json").read_text())["finetune"]["loss"]
    assert (shaped["alignment"]["direction"], shaped["alignment"]["confidence"]) == ("forward", False)
    place(*quick, "--set", "method=paper", "--set", "clip_norm=0", "--run", "ours")
    logs = [json.loads(place.path(f"session/runs/{run}/log.jsonl").read_text()) for run in ("published", "ours")]
    for log in logs:
        assert {name for name in log if name.startswith("loss")} == {"loss_reprojection", "loss_consistency"}
    assert logs[0]["loss_consistency"] != pytest.approx(logs[1]["loss_consistency"], rel=1e-3)
    assert logs[0]["loss_reprojection"] == pytest.approx(logs[1]["loss_reprojection"], rel=0.05)
    place.refused(*quick, "--method", "both", because="should be one of phones, paper")
    given = spy(monkeypatch, "twoview.workflow.stages.finetune_session")
    place(*quick, "--config", "golf.toml", "--method", "phones", code=3)
    assert (given["config"].method, given["config"].clip_norm) == ("phones", 0.5)


@tries("finetune", "--devices", "--nodes")
def finetune_on_several_machines(place, monkeypatch):
    given = spy(monkeypatch, "twoview.workflow.stages.finetune_session")
    place("finetune", "--views", "a,b", "--devices", "2", "--nodes", "3", code=3)
    assert (given["config"].devices, given["config"].nodes) == (2, 3)


@tries("finetune", "--detector", "--session")
def finetune_from_files(place, monkeypatch):
    place.refused("finetune", "--views", "a,b", *MARKERS, because="reads [detect], since a,b are views of the session")
    trained = spy(monkeypatch, "twoview.workflow.stages.finetune_session")
    synced = spy(monkeypatch, "twoview.workflow.synchronization.sync_take", stop=False)
    detected = spy(monkeypatch, "twoview.workflow.stages.detect_views", stop=False)
    place(
        "finetune", "--views", example("finetune --views", "a.mp4,b.mp4"), *MARKERS, "--session", "other",
        "--device", "cpu", "--config", "golf.toml", "--set", "method=phones", "--set", "detect.people_every=5",
        "--set", "triangulate.height_m=1.8", code=3,
    )  # fmt: skip
    assert (trained["triangulation"].height_m, trained["triangulation"].sync_sigma_s) == (1.8, 0.02)
    assert (synced["config"].min_overlap_s, synced[0].folder) == (1.0, Path("other"))
    found = detected["config"]
    assert (found.detector, found.score, found.people_every, found.device) == ("markers:Markers", 0.2, 5, "cpu")


@tries(
    "infer",
    "videos",
    "--json",
    "--model",
    "--height",
    "--format",
    "--out",
    "--compare",
    "--detector",
    "--config",
    "--set",
)
def infer_settings(place, _):
    formats = example("infer --format", "csv,json,trc,mot,c3d,bvh,dlc.csv,nc,html")
    place(
        "infer", "short/a.mp4", "--model", "start.pt", "--height", "1.75", "--format", formats, "--out", "out/a",
        "--compare", example("infer --compare", "twoview-small"), *MARKERS, "--config", "golf.toml",
        "--set", "detect.people_every=5", "--set", "flip=false",
    )  # fmt: skip
    head = place.head("out/a.npz")
    assert head["inputs"]["model"] == records.fingerprint(place.path("start.pt"))
    settings = head["settings"]
    assert (settings["height_m"], settings["max_gap_s"], settings["flip"]) == (1.75, 0.2, False)
    assert (place.head("out/a.2d.npz")["settings"]["score"], head["unit"]) == (0.2, "m")
    assert place.head("out/a.2d.npz")["settings"]["people_every"] == 5
    assert place.head("out/a.before.npz")["inputs"]["model"] == "twoview-small"
    for suffix in formats.split(","):
        assert place.path(f"out/a.{suffix}").stat().st_size > 100
    assert place.path("out/a.png").exists()


@tries("infer", "--person")
def infer_a_person(place, _):
    place("infer", "short/a.mp4", "--model", "start.pt", *MARKERS, "--person", "0", "--out", "one", "--no-picture")
    assert place.head("one.2d.npz")["settings"]["person"] == 0
    place("infer", "short/a.mp4", "--model", "start.pt", *MARKERS, "--person", "auto", "--out", "one", "--no-picture")
    assert place.head("one.2d.npz")["settings"]["person"] is None
    place.refused("infer", "short/a.mp4", "--model", "start.pt", *MARKERS, "--person", "3", because="no person 3")


@tries("infer", "--picture", "--session", "--device")
def infer_where_and_how(place, _):
    shutil.move(place.path("session"), place.path("other"))
    poses = "short/flat.npz"
    place("infer", "short/a.mp4", *MARKERS, "--session", "other", "--no-picture")
    assert place.path("other/results/a.npz").exists()
    assert not place.path("other/results/a.png").exists()
    place("infer", poses, "--session", "other", "--out", "solid")
    place.refused("infer", poses, *MARKERS, "--session", "other", because="short/flat.npz holds 2D poses")
    place.refused("infer", "short/b.mp4", *MARKERS, "--session", "other", "--device", "tpu", because="tpu")


@tries("infer", "--force")
def infer_over_what_is_there(place, _):
    words = ("infer", "short/flat.npz", "--model", "start.pt", "--out", "mine", "--format", "csv")
    place.path("mine.csv").write_text("mine")
    place.refused(*words, because="holds mine.csv, and not from short/flat.npz")
    assert place.path("mine.csv").read_text() == "mine"
    place(*words, "--force")
    assert place.path("mine.csv").read_text() != "mine"
    place(*words, "--filter", "butterworth", "--set", "filter.cutoff_hz=4")  # its own results
    place.refused("infer", "short/a.mp4", *words[2:], *MARKERS, because="--force")


@tries("infer", "--axes", "--level", "--camera")
def infer_in_axes(place, monkeypatch):
    given = spy(monkeypatch, "twoview.workflow.inference.to_infer")
    place("infer", "short/a.mp4", "--model", "start.pt", "--axes", "z-up", "--level", "--camera", "b", code=3)
    assert (given["world"].axes, given["world"].level, given["world"].camera) == ("z-up", True, "b")


@tries("infer", "--filter")
def infer_filtered(place, _):
    words = ("infer", "short/flat.npz", "--model", "start.pt", "--out", "solid")
    place(*words)
    raw = records.load_as(place.path("solid.npz"), Poses3D)
    assert "filter" not in place.head("solid.npz")["settings"]
    said = place(*words, "--filter", example("infer --filter", "butterworth"), "--set", "filter.cutoff_hz=4").out
    smooth = records.load_as(place.path("solid.npz"), Poses3D)
    assert smooth.filter == "butterworth, 4 Hz, order 4, no lag"
    assert smooth.filter in said
    assert place.head("solid.npz")["settings"]["filter"]["cutoff_hz"] == 4.0
    assert 0 < np.abs(smooth.xyz - raw.xyz).max() < 1
    assert "up to date" in place(*words, "--filter", "butterworth", "--set", "filter.cutoff_hz=4").out
    place(*words)
    assert np.array_equal(records.load_as(place.path("solid.npz"), Poses3D).xyz, raw.xyz, equal_nan=True)
    place.refused(*words, "--filter", "butterworth", "--set", "filter.cutoff_hz=20", because="below 15 Hz")
    place.refused(*words, "--filter", "median", because="one of none, butterworth, one-euro")


@tries("evaluate", "predicted", "truth", "--scale", "--joints", "--html", "--json")
def evaluate_files(place, _):
    screen = Poses3D(np.random.default_rng(0).normal(size=(9, 17, 3)), np.arange(9) / 30)
    records.save(place.path("found.npz"), screen)
    meters = Poses3D(1.7 * screen.xyz, screen.time, unit="m")
    records.save(place.path("truth.npz"), meters)
    values = {}
    for scale in ("fit", "bones", "1.7"):
        rows = place(
            "evaluate", "found.npz", "truth.npz", "--scale", example("evaluate --scale", scale), "--json"
        ).json["rows"]
        values[scale] = next(row["value"] for row in rows if row["name"] == "MPJPE")
    assert values["1.7"] == pytest.approx(0, abs=1e-3)
    assert values["fit"] != values["bones"]
    assert "by joint" not in place("evaluate", "found.npz", "truth.npz", "--scale", "fit").out
    assert "by joint" in place("evaluate", "found.npz", "truth.npz", "--scale", "fit", "--joints").out
    place("evaluate", "found.npz", "truth.npz", "--html", "page.html")
    assert "<html" in place.path("page.html").read_text()
    place.refused("evaluate", "found.npz", "--model", "start.pt", because="--model is for --take", code=2)


@tries("evaluate", "--take", "--model", "--session")
def evaluate_takes(place, _):
    shutil.move(place.path("session"), place.path("other"))
    own = place("evaluate", "--take", "take1", "--session", "other", "--json").json
    named = place("evaluate", "--take", "take1", "--session", "other", "--model", "twoview-small", "--json").json
    assert own["rows"] != named["rows"]
    place.refused("evaluate", "--take", "take1", "--scale", "fit", because="--scale is for a file", code=2)


@tries("show", "path", "--session", "--take", "--json")
def show(place, _):
    place.refused("show", "--take", "serve", because="no take 'serve'")
    place.refused("show", "a.mp4", "--take", "take1", because="--take is a take of the session", code=2)
    shutil.move(place.path("session"), place.path("other"))
    assert place("show", "--session", "other", "--json").json["rows"][0]["take"] == "take1"
    assert "30" in place("show", "a.mp4").out
    place.refused("show", because="no session in session")


@tries("demo", "folder", "--real", "--quick")
def demo(place, monkeypatch):
    given = spy(monkeypatch, "twoview.workflow.demo.demo")
    place("demo", "there", "--real", "--quick", code=3)
    assert (given[0], given["real"], given["quick"]) == (Path("there"), True, True)


@tries("plan", "--method")
def plan_of_a_method(place, monkeypatch):
    steps = []
    monkeypatch.setattr("twoview.training.planning.seconds_per_step", lambda _, *step, **__: steps.append(step) or 0.1)
    place("plan", "--weights", "start.pt", "--method", "paper", "--set", "batch=5")
    assert steps == [(10, 27)]  # clips of a step with two views each, and their frames


@tries("plan", "--views", "--weights", "--device", "--session", "--config", "--set", "--json")
def plan(place, monkeypatch):
    shutil.move(place.path("session"), place.path("other"))
    coarse = place("plan", "--session", "other", "--weights", "start.pt", "--set", "stride=1.0", "--json").json
    fine = place(
        "plan", "--session", "other", "--views", "a,b", "--weights", "start.pt", "--config", "golf.toml",
        "--set", "stride=0.1", "--json",
    ).json  # fmt: skip
    assert fine["clips"] > coarse["clips"]
    place.refused("plan", "--session", "other", "--views", "a,c", because="no view 'c'")
    given = spy(monkeypatch, "twoview.workflow.stages.plan_session")
    place("plan", "--session", "other", "--device", "cpu", "--weights", "start.pt", "--config", "golf.toml", code=3)
    assert (given["config"].device, given["config"].weights, given["config"].clip_norm) == ("cpu", "start.pt", 0.5)


@tries("angles", "result", "--filter", "--level", "--out", "--plot", "--config", "--set", "--json")
def angles_of_a_result(place, _):
    said = place("angles", "short/solid.npz").out
    assert "right knee flexion" in said
    assert "filter: none" in said
    for suffix in ("csv", "mot", "png"):
        assert place.path(f"short/solid.angles.{suffix}").stat().st_size > 500
    place.path("soft.toml").write_text("[filter]\ncutoff_hz = 3\n")
    words = ("angles", "short/solid.npz", "--out", "other", "--no-plot", "--json")
    plain = place(*words).json
    assert not place.path("other.angles.png").exists()
    soft = place(
        *words, "--level", "--config", "soft.toml", "--filter", example("angles --filter", "butterworth"),
        "--set", "order=2",
    ).json  # fmt: skip
    assert soft["filter"] == "butterworth, 3 Hz, order 2, no lag"
    assert set(soft["angles"]) - set(plain["angles"]) >= {"pelvis_turn", "trunk_lean"}
    assert max(abs(one["range_deg"] - soft["angles"][name]["range_deg"]) for name, one in plain["angles"].items()) > 0.1
    place.refused("angles", "short/flat.npz", because="holds Poses2D")


@tries("triangulate", "--axes", "--level", "--focal")
def triangulate_in_axes(place, monkeypatch):
    given = spy(monkeypatch, "twoview.workflow.triangulation.triangulate_session")
    focal = example("triangulate --focal", "a=1200,b=26mm")
    place("triangulate", "--axes", example("triangulate --axes", "z-up"), "--level", "--focal", focal, code=3)
    assert (given["world"].axes, given["world"].level, given["config"].focal) == ("z-up", True, focal)


@tries("triangulate", "--filter")
def triangulate_filtered(place, _):
    place("triangulate", "--model", "start.pt", "--filter", "one-euro", "--set", "filter.fill_s=0.1")
    head = place.head("session/takes/take1/triangulated/b.npz")
    assert head["filter"] == "one-euro, 6 Hz at rest, +10 Hz per m/s, gaps up to 0.1 s filled"
    assert head["settings"]["filter"]["fill_s"] == 0.1


@tries("triangulate", "--format", "--picture")
def triangulate_for_others(place, _):
    command = ("triangulate", "--model", "start.pt", "--height", "1.75")
    place.refused(*command, "--format", "csv,pdf", because="unknown format 'pdf'")
    folder = place.path("session/takes/take1/triangulated")
    assert not folder.exists()
    assert "up to date" not in place(*command, "--format", "csv,trc", "--no-picture").out
    assert {path.name for path in folder.iterdir()} == {
        "a.npz", "b.npz", "a.csv", "b.csv", "a.trc", "b.trc", "solved",
    }  # fmt: skip
    said = place(*command, "--json").json["takes"][0]
    assert said["fresh"] is False
    assert {"a.mp4", "a.png", "b.mp4", "b.png", "solved/cameras.json", "solved/pose2sim.toml"} < set(said["files"])
    again = place(*command).out
    assert "up to date" in again
    assert "a.png" in again
    assert "next: twoview angles session/takes/take1/triangulated/a.npz" in again
    place("show", "session/takes/take1/triangulated/a.npz")


@tries("triangulate", "--views", "--height", "--model", "--session", "--config", "--set", "--json")
def triangulate(place, _):
    shutil.move(place.path("session"), place.path("other"))
    answer = place(
        "triangulate", "--session", "other", "--views", "a,b", "--height", "1.75", "--model", "twoview-small",
        "--config", "golf.toml", "--set", "pixel_noise=0.01", "--json",
    )  # fmt: skip
    assert answer.json["takes"][0]["take"] == "take1"
    head = place.head("other/takes/take1/triangulated/a.npz")
    settings = head["settings"]
    assert (settings["height_m"], settings["sync_sigma_s"], settings["pixel_noise"]) == (1.75, 0.02, 0.01)
    assert head["unit"] == "m"
    with np.load(place.path("other/takes/take1/triangulated/a.npz")) as file:
        assert file["sigma"].shape == file["xyz"].shape[:2]
        assert 1000 * np.median(file["sigma"][:, 1:]) == pytest.approx(answer.json["takes"][0]["sigma_mm"], rel=1e-4)
    place.refused("triangulate", "--session", "other", "--views", "a,c", because="no view 'c'")
    place.refused("triangulate", "--session", "other", "--model", "twoview-smal", because="twoview-smal")


@tries("render", "video", "poses2d", "poses3d", "out", "--sync", "--take", "--session")
def render(place, _):
    place("render", "short/a.mp4", "short/flat.npz", "short/solid.npz", "drawn.mp4")
    assert place.path("drawn.mp4").stat().st_size > 1000
    shutil.move(place.path("session"), place.path("other"))
    assert "sync.mp4" in place("render", "--sync", "--take", "take1", "--session", "other").out
    assert place.path("other/takes/take1/sync.mp4").stat().st_size > 1000
    place.refused("render", "--sync", "--take", "take2", "--session", "other", because="no take 'take2'")
    place.refused("render", "--take", "take1", because="--take is for --sync", code=2)


@tries("export", "path", "--model", "--session")
def export(place, _):
    shutil.move(place.path("session"), place.path("other"))
    place("export", example("export path", "model.pt"), "--session", "other")
    assert "tcn" in place("show", "model.pt").out
    place("export", "named.pt", "--model", "twoview-small")
    assert place.path("named.pt").read_bytes() != place.path("model.pt").read_bytes()
    example("export path", "model.onnx")


@tries("convert", "model", "layout", "out")
def convert(place, _):
    example("convert layout", "motionbert, mmpose or twoview")
    place("convert", "start.pt", "twoview", "same.pt")
    assert place.path("same.pt").exists()
    place.refused("convert", "start.pt", "motionbert", "m.bin", because="motionbert")
    place.refused("convert", "start.pt", "mmpose", "m.pth", because="mmpose")
    place.refused("convert", "start.pt", "openpose", "m.pth", because="openpose")


@tries("weights list", "--json")
def weights_list(place, _):
    assert len(place("weights", "list", "--json").json["weights"]) > 3


@tries("weights get", "name")
def weights_get(place, monkeypatch):
    monkeypatch.setenv("TWOVIEW_CACHE", str(place.path("cache")))
    place.refused("weights", "get", "rtmpose-x", because="rtmpose-x")


@tries("weights add", "name", "file")
def weights_add(place, monkeypatch):
    monkeypatch.setenv("TWOVIEW_CACHE", str(place.path("cache")))
    assert "tcn" in place("weights", "add", "start.pt").out
    place.refused("weights", "add", "rtmpose-m", "start.pt", because="start.pt holds no end2end.onnx")


@tries("pretrain", "config", "--out", "--set")
def pretrain(place, _):
    motions = [Motion(f"m{i}", body.numpy(), 60.0) for i, body in enumerate(standing_people(2, 120))]
    write_motions(place.path("motions.npz"), motions)
    place.path("small.toml").write_text(
        '[pretrain]\nlifter_settings = {width = 32, dilations = [1, 3]}\ndata = ["motions.npz"]\n'
        'steps = 9\nframes = 108\nwarmup = 2\nprecision = "fp32"\n'
    )
    place("pretrain", "small.toml", "--out", "learned", "--set", "steps=2")
    assert place.path("learned/model.pt").exists()
    assert "progress" not in place("show", "learned/model.pt").out
    import torch

    assert torch.load(place.path("learned/state.pt"), weights_only=True)["step"] == 2


@tries("reproduce", "dataset", "path", "--rows", "--views", "--weights", "--detector", "--out", "--set", "--json")
def reproduce(place, monkeypatch):
    for subject in ("S06", "S08"):
        write_sportspose(place.path("data_set"), np.random.default_rng(3), subject)
    given = ("reproduce", "sportspose", "data_set", "--weights", "start.pt")
    answer = place(
        *given, "--rows", "unadapted,L_2Dcon", "--views", "right,back", "--detector", "truth", "--out", "tables",
        "--set", "epochs=1", "--set", "clip_length=9", "--set", "device=cpu", "--json",
    )  # fmt: skip
    assert list(answer.json["rows"]) == ["unadapted", "L_2Dcon"]
    settings = json.loads(place.path("tables/runs/paper_sportspose/config.json").read_text())["finetune"]
    assert (settings["epochs"], settings["clip_length"], settings["weights"]) == (1, 9, "start.pt")
    rows = example("reproduce --rows", "unadapted,L_2Dcon,phones")
    called = spy(monkeypatch, "twoview.workflow.reproduction.reproduce")
    place(*given, "--rows", rows, "--views", "right,left", code=3)
    assert (called["rows"], called["views"]) == (rows.split(","), ["right", "left"])
    monkeypatch.undo()
    place.refused(*given, "--views", "nowhere,right", because="nowhere")
    place.refused(*given, "--detector", "movenet", because="data_set/videos/indoors")
    place.refused(*given, "--set", "detect.score=0.2", because="reads [detect]")


@tries(
    "", "show --trust", "infer --trust", "export --trust", "convert --trust", "weights add --trust",
    "finetune --trust", "plan --trust", "triangulate --trust", "evaluate --trust", "reproduce --trust",
    "detect --trust", "pretrain --trust",
)  # fmt: skip
def trust(place, monkeypatch):
    """A file names a program: every command refuses it, and runs it once it is trusted by name."""
    import torch

    from twoview.lifting.model import Model, save_model

    place.path("stranger.py").write_text(
        "import pathlib, torch\npathlib.Path('imported').touch()\n"
        "class Net(torch.nn.Module):\n"
        "    clip_length = 27\n"
        "    def __init__(self):\n        super().__init__()\n        self.net = torch.nn.Linear(3, 3)\n"
        "    def forward(self, x):\n        return self.net(x)\n"
    )
    monkeypatch.syspath_prepend(str(place.folder))

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(3, 3)

    save_model(place.path("m.pt"), Model(Net(), "stranger:Net", {}, "box", 30.0, 27))
    shutil.copyfile(place.path("m.pt"), place.path("session/model.pt"))
    write_sportspose(place.path("data_set"), np.random.default_rng(3), "S06")
    write_sportspose(place.path("data_set"), np.random.default_rng(3), "S08")
    for name, content in {
        "detect": {"detect": {"detector": "stranger:Net"}},
        "pretrain": {"pretrain": {"lifter": "stranger:Net"}},
        "loss": {"finetune": {"method": "paper", "loss": {"own": {"stranger:Net": 1.0}}}},
    }.items():
        place.path(f"{name}.json").write_text(json.dumps(content))
    commands = [
        ("show", "m.pt"), ("infer", "short/flat.npz"), ("infer", "short/flat.npz", "--model", "m.pt"),
        ("infer", "short/flat.npz", "--model", "start.pt", "--compare", "m.pt"), ("export", "out.pt"),
        ("convert", "m.pt", "twoview", "out.pt"), ("weights", "add", "m.pt"),
        ("finetune", "--views", "a,b", "--weights", "m.pt"), ("finetune", "--views", "a,b", "--config", "loss.json"),
        ("plan", "--weights", "m.pt"), ("triangulate", "--model", "m.pt"), ("evaluate", "--take", "take1"),
        ("reproduce", "sportspose", "data_set", "--rows", "unadapted", "--weights", "m.pt"),
        ("detect", "--config", "detect.json"), ("pretrain", "pretrain.json"),
    ]  # fmt: skip
    for command in commands:
        place.refused(*command, because="program and no part of twoview: refused")
        assert not place.path("imported").exists()
        assert "stranger" not in sys.modules
    place("show", "m.pt", "--trust", "stranger:Net")
    assert place.path("imported").exists()
    own = ("--trust", "another:Name", "--trust", "stranger:Net")
    for command in commands[:7]:
        place(*command, *own)
    place("evaluate", "--take", "take1", *own)
    place("reproduce", "sportspose", "data_set", "--rows", "unadapted", "--weights", "m.pt", *own)
    for command, function in {
        "finetune --views a,b --config loss.json": "twoview.workflow.stages.finetune_session",
        "plan --weights m.pt": "twoview.workflow.stages.plan_session",
        "triangulate --model m.pt": "twoview.workflow.triangulation.triangulate_session",
        "detect --config detect.json": "twoview.workflow.stages.detect_views",
        "pretrain pretrain.json": "twoview.training.pretraining.pretrain",
    }.items():
        with pytest.MonkeyPatch.context() as patch:
            given = spy(patch, function)
            place(*command.split(), *own, code=3)
            assert given.get("trust", ["another:Name", "stranger:Net"]) == ["another:Name", "stranger:Net"]
    sys.modules.pop("stranger")


def spy(monkeypatch: pytest.MonkeyPatch, where: str, *, stop: bool = True) -> dict:
    """Puts a function in the place of another that keeps what it is given; `stop` ends the command with code 3."""
    given: dict = {}

    def called(*values, **named):
        given.update(enumerate(values))
        given.update(named)
        if stop:
            raise typer.Exit(3)
        return ()

    monkeypatch.setattr(where, called)
    return given
