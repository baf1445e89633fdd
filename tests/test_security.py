"""The sentences of docs/explain/security.md: each number there is the number in the name of a test here."""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from places import ROOT
from session_takes import put_take
from small_lifters import SMALL, made
from terminal import type_command

from twoview.command_settings import resolve
from twoview.config import DetectConfig
from twoview.errors import ConfigError, FormatError, LifterError, SessionError, TwoViewError
from twoview.lifting.model import Model, load_model, save_model
from twoview.storage import torch_files, weights
from twoview.storage.objects import read_objects, read_pickle
from twoview.storage.session import Session, open_session
from twoview.workflow import remembered

PAGE = (ROOT / "docs" / "explain" / "security.md").read_text()
PROGRAM = "stranger:Net"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a program that leaves a mark when it is imported, and a model file that names it."""
    (tmp_path / "stranger.py").write_text(
        "import pathlib, torch\npathlib.Path('imported').touch()\n"
        "class Net(torch.nn.Linear):\n    clip_length = 9\n    def __init__(self):\n        super().__init__(3, 3)\n"
    )
    net = torch.nn.Linear(3, 3)
    save_model(tmp_path / "m.pt", Model(net, PROGRAM, {}, "box", 30.0, 9))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("stranger", None)


def imported() -> bool:
    return Path("imported").exists() or "stranger" in sys.modules


def test_every_numbered_sentence_has_a_test():
    numbers = set(map(int, re.findall(r"^(\d+)\. ", PAGE, re.MULTILINE)))
    tests = {int(name.split("_")[1]) for name in globals() if re.fullmatch(r"test_\d+_.*", name)}
    assert numbers == tests == set(range(1, len(numbers) + 1))


def test_1_a_file_that_names_a_program_is_refused(folder):
    with pytest.raises(LifterError, match="refused"):
        load_model(folder / "m.pt")
    for name, config in SMALL.items():
        if name != "mine":
            save_model(folder / "ours.pt", Model(made(name), name, config, "box", 30.0, 9))
            assert load_model(folder / "ours.pt").name == name
    assert type_command("show", "m.pt").code == 1
    assert not imported()


class Trap:
    """An object whose pickle leaves a mark where it is read carelessly."""

    def __reduce__(self):
        return os.mkdir, ("imported",)


def test_2_a_pickle_is_never_run(folder):
    torch.save({"model_pos": Trap()}, folder / "zip.bin")
    torch.save({"model_pos": Trap()}, folder / "old.bin", _use_new_zipfile_serialization=False)
    (folder / "p.pkl").write_bytes(pickle.dumps([Trap()]))
    for read, name in (
        (torch_files.read, "zip.bin"), (torch_files.read, "old.bin"), (read_pickle, "p.pkl"), (read_objects, "p.pkl"),
    ):  # fmt: skip
        with pytest.raises(FormatError):
            read(folder / name)
    assert not imported()


@pytest.mark.parametrize(
    ("command", "content"),
    [
        ("detect", {"detect": {"detector": PROGRAM}}),
        ("pretrain", {"pretrain": {"lifter": PROGRAM}}),
        ("finetune", {"finetune": {"method": "paper", "loss": {"own": {PROGRAM: 1.0}}}}),
    ],
)
def test_3_a_json_config_brings_no_program(command, content, folder):
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="refused"):
        resolve(command, file="config.json")
    (folder / "settings.json").write_text(
        json.dumps({"format": "session settings", "version": 1, "detector": PROGRAM, "height_m": 0})
    )
    auto = DetectConfig()
    with pytest.raises(SessionError, match="refused"):
        remembered.decided(remembered.with_detector(folder, auto), auto, folder)
    assert not imported()


def test_4_https_alone_is_spoken_and_no_telemetry(monkeypatch):
    """That detection and lifting use no network at all: tests/end_to_end/test_network.py."""
    monkeypatch.setitem(weights.WEIGHTS, "x", weights.Weights("x", "none", 1, url="http://localhost/x.onnx"))
    with pytest.raises(weights.WeightsError, match="not https"):
        weights.download("x")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_5_a_file_without_a_known_hash_is_tried_and_kept_to(folder, monkeypatch):
    monkeypatch.setenv("TWOVIEW_CACHE", str(folder / "cache"))
    with pytest.raises(weights.WeightsError, match="is not rtmpose-l"):
        weights.add("rtmpose-l", weights.ASSETS / "movenet" / "movenet-thunder.w16.onnx")
    monkeypatch.setitem(weights.WEIGHTS, "x", weights.Weights("x", "none", 1, url="https://localhost/x.bin"))
    (folder / "x.bin").write_bytes(b"content")
    path = weights.add("x", folder / "x.bin")
    path.write_bytes(b"changed")
    with pytest.raises(weights.WeightsError, match="first use"):
        weights.locate("x")


def test_6_what_a_person_names_is_run(folder):
    assert type_command("show", "m.pt", "--trust", PROGRAM).code == 0
    assert imported()
    (folder / "own.toml").write_text(f'[detect]\ndetector = "{PROGRAM}"\n[finetune]\nmethod = "paper"\n')
    assert resolve("detect", file="own.toml").detect.detector == PROGRAM
    assert resolve("detect", flags={"detector": PROGRAM}).detect.detector == PROGRAM
    found = resolve("finetune", file="own.toml", sets=[f"finetune.loss.own.{PROGRAM}=0.1"])
    assert found.finetune.loss.own == {PROGRAM: 0.1}


def test_7_trust_is_for_one_name_and_one_command(folder):
    for other in ("stranger", "stranger:Other", "stranger:*", "*"):
        with pytest.raises(TwoViewError, match="refused"):
            load_model(folder / "m.pt", trust=[other])
    assert not imported()
    load_model(folder / "m.pt", trust=[PROGRAM])
    with pytest.raises(LifterError, match="refused"):
        load_model(folder / "m.pt")


def readers() -> dict[str, Callable[[Path], object]]:
    """Suffix of a file from a stranger -> how it is opened."""
    from twoview.datasets.motion_capture import read_bvh
    from twoview.detectors.onnx_runtime import open_session
    from twoview.storage.objects import read_array

    return {
        ".pt": torch_files.read, ".onnx": lambda path: open_session(path, device="cpu"), ".pkl": read_pickle,
        ".npz": read_objects, ".npy": read_array, ".bvh": lambda path: read_bvh(path, unit_m=1.0),
        ".bin": lambda path: weights.add("rtmpose-l-torch", path),
    }  # fmt: skip


def test_8_claims_are_refused_before_memory_is_taken(folder):
    """Each kind of claim: tests/storage/test_torch_files.py, tests/datasets/test_damaged_files.py and others."""
    terabytes = b"\x80\x02\x8e" + (10**13).to_bytes(8, "little") + b"x."
    (folder / "a.pkl").write_bytes(terabytes)
    with zipfile.ZipFile(folder / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", terabytes)
    head = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    (folder / "a.npy").write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + str(head).ljust(117).encode() + b"\n")
    save_model(folder / "wide.pt", Model(made("tcn"), "tcn", {"width": 10**9}, "box", 30.0, 9))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("a.pkl", "a.pt", "a.npy"):
        with pytest.raises(TwoViewError, match=name):
            readers()[Path(name).suffix](folder / name)
    with pytest.raises(LifterError, match="width=1000000000"):
        load_model(folder / "wide.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are no files there")
@pytest.mark.parametrize("kind", ["pipe", "circle", "device"])
def test_9_what_is_no_file_is_refused_at_once(kind, folder):
    for suffix, read in readers().items():
        path = folder / f"x{suffix}"
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(path if kind == "circle" else "/dev/zero")
        with pytest.raises(TwoViewError, match=path.name):
            read(path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("place", ["takes", "runs", "results", "takes/serve", "takes/serve/detections", "runs/run1"])
def test_10_a_session_writes_inside_its_own_folder(folder, place):
    put_take(folder / "session", "serve")
    elsewhere, link = folder / "elsewhere", folder / "session" / place
    shutil.rmtree(link, ignore_errors=True)
    elsewhere.mkdir()
    if place == "takes/serve":
        (elsewhere / "take.json").write_text("{}")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere)
    with pytest.raises(SessionError, match="link"):
        open_session(folder / "session").take("serve")
    link.unlink()
    (folder / "session" / "round").symlink_to("round")
    open_session(folder / "session", create=True)
    for name in ("../elsewhere", "a/b", ".."):
        with pytest.raises(SessionError, match="name"):
            Session(folder / "other").with_take(name, {})


def test_11_no_file_says_where_tasks_run(folder):
    """Neither a table of settings nor a session brings an executor; the command line does."""
    for line in (f'on = "{PROGRAM}"', 'setup = ["touch imported"]', 'partition = "gpu\\ntouch imported"'):
        (folder / "own.toml").write_text(f"[cluster]\n{line}\n")
        with pytest.raises(ConfigError, match="cluster"):
            resolve("detect", file="own.toml")
    put_take(folder / "session", "serve")
    content = {"format": "session settings", "version": 1, "detector": "movenet", "height_m": 0, "on": PROGRAM}
    (folder / "session" / "settings.json").write_text(json.dumps(content))
    take = folder / "session" / "takes" / "serve" / "take.json"
    take.write_text(json.dumps({**json.loads(take.read_text()), "on": PROGRAM}))
    assert type_command("triangulate", "--no-picture").code == 0
    assert not imported()
    assert type_command("triangulate", "--no-picture", "--on", "stranger:make").code == 1
    assert imported()
