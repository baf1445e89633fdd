"""Whatever is wrong, one clear line, the next command, the right exit code, and no half-written file."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from places import ASSETS
from terminal import type_command

import twoview as package
from twoview.timeline import ClockMap, Sync
from twoview.workflow.stages import add_videos, save_sync

GOLF = ASSETS / "demo" / "golf"


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    for view in "ab":
        shutil.copyfile(GOLF / "take1" / f"view_{view}.mp4", tmp_path / f"{view}.mp4")
    return tmp_path / "a.mp4", tmp_path / "b.mp4"


@pytest.fixture(autouse=True)
def control_c_works():
    """Whoever is started in the background ignores SIGINT, and so do its children: as at a terminal, here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def synced(pair, tmp_path) -> Path:
    """A session of the two views whose clocks are known."""
    session, take = add_videos(tmp_path / "session", pair)
    save_sync(session, take, Sync("a", {"a": ClockMap(), "b": ClockMap()}), settings={})
    return tmp_path / "session"


def write_video(path: Path, *, sound: np.ndarray | None, seconds: float = 4.0) -> Path:
    """A gray clip without anybody in it, with or without sound (mono, 48 kHz)."""
    from twoview.media.audio import Audio
    from twoview.media.writer import VideoWriter

    audio = None if sound is None else Audio(sound.astype(np.float32).reshape(-1, 1), 48000, 0.0)
    with VideoWriter(path, (128, 96), 25, audio=audio) as writer:
        for _ in range(int(seconds * 25)):
            writer.write(np.full((96, 128, 3), 90, np.uint8))
    return path


def refused(answer, *words: str, code: int = 1) -> None:
    assert answer.code == code, answer
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err, answer.err


def test_a_missing_file(twoview, tmp_path, pair):
    refused(twoview("sync", "a.mp4", "absent.mp4"), "absent.mp4", "hint")
    assert not (tmp_path / "session").exists()


def test_one_video_is_no_take(twoview, tmp_path, pair):
    refused(twoview("sync", "a.mp4"), "one video", "twoview sync a.mp4 b.mp4")
    assert not (tmp_path / "session" / "session.json").exists()


def test_not_a_video(twoview, tmp_path, pair):
    (tmp_path / "c.mp4").write_text("this is a text")
    refused(twoview("sync", "a.mp4", "c.mp4"), "c.mp4", "hint")


def test_no_audio_track(twoview, tmp_path, pair):
    write_video(tmp_path / "c.mp4", sound=None)
    refused(twoview("sync", "a.mp4", "c.mp4"), "c", "hint")
    assert not (tmp_path / "session" / "takes" / "take1" / "sync.json").exists()


def test_silent_audio(twoview, tmp_path, pair):
    write_video(tmp_path / "c.mp4", sound=np.zeros(4 * 48000))
    refused(twoview("sync", "a.mp4", "c.mp4"), "silent", "hint")


def test_unrelated_audio(twoview, tmp_path):
    random = np.random.default_rng(5)
    for name in ("c", "d"):
        write_video(tmp_path / f"{name}.mp4", sound=0.1 * random.standard_normal(8 * 48000), seconds=8)
    refused(twoview("sync", "c.mp4", "d.mp4"), "hint")
    assert not list(tmp_path.rglob("sync.json"))


def test_one_file_given_as_both_views(twoview, pair):
    refused(twoview("sync", "a.mp4", "a.mp4"), "--views")


def test_a_view_that_does_not_exist(twoview, tmp_path, synced):
    refused(twoview("detect", "--views", "a,c", "--detector", "movenet"), "'c'", "it has a, b")
    refused(twoview("finetune", "--views", "a,c"), "'c'", "it has a, b")


def test_stages_out_of_order(twoview, pair):
    refused(twoview("detect"), "no session", "twoview sync")
    refused(twoview("infer", "a.mp4"), "no session")
    assert twoview("sync", "a.mp4", "b.mp4").code == 0
    refused(twoview("finetune", "--views", "a,b"), "not detected yet", "twoview detect")
    refused(twoview("infer", "a.mp4"), "model.pt", "twoview finetune")


def test_no_person_in_view(twoview, tmp_path, pair):
    write_video(tmp_path / "c.mp4", sound=None, seconds=1.0)
    refused(twoview("infer", "c.mp4", "--model", "twoview-small", "--detector", "movenet"), "c.mp4", "hint")
    assert [path.name for path in tmp_path.rglob("*.npz")] == ["c.2d.people.npz"]  # so that asking again takes no time


def test_an_unknown_detector(twoview, synced):
    refused(twoview("detect", "--detector", "movenett"), "movenett", "movenet")


def test_a_session_of_a_newer_version(twoview, tmp_path, pair):
    (tmp_path / "session").mkdir()
    content = {"format": "session", "version": 99, "made_by": "twoview 9.0"}
    (tmp_path / "session" / "session.json").write_text(json.dumps(content))
    refused(twoview("sync", "a.mp4", "b.mp4"), "twoview 9.0", "upgrade")


def test_a_truncated_detection(twoview, tmp_path, synced):
    for view in "ab":
        path = tmp_path / "session" / "takes" / "take1" / "detections" / f"{view}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"PK\x03\x04 half a file")
    refused(twoview("finetune", "--views", "a,b"), "truncated")


def test_mistyped_settings(twoview, tmp_path, pair):
    (tmp_path / "golf.toml").write_text("[finetune]\nepoch = 3\n")
    refused(twoview("finetune", "--views", "a,b", "--config", "golf.toml"), "golf.toml", "did you mean epochs")
    refused(twoview("finetune", "--views", "a,b", "--set", "loss.consistensy=1"), "did you mean consistency")


def test_usage_errors_have_their_own_code(twoview):
    refused(twoview("render", "--nothing"), "No such option", code=2)
    refused(twoview("lift"), "No such command", code=2)


def press_control_c(monkeypatch, *, after: int) -> None:
    """As if the person pressed Ctrl-C when the keypoint network was called that often."""
    from twoview.detectors.movenet import MoveNet

    real, calls = MoveNet.pose_crops, []

    def counted(self, crops):
        calls.append(len(crops))
        if len(calls) == after:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, crops)

    monkeypatch.setattr(MoveNet, "pose_crops", counted)


def test_control_c_keeps_what_is_done_and_so_does_a_full_disk(twoview, synced, monkeypatch):
    press_control_c(monkeypatch, after=60)
    refused(twoview("detect", "--detector", "movenet", "--views", "a"), "continues", code=130)
    folder = synced / "takes" / "take1" / "detections"
    assert [path.name for path in folder.iterdir()] == ["a.people.npz"]
    kept = (folder / "a.people.npz").read_bytes()
    assert 30 <= len(np.load(folder / "a.people.npz")["time"]) <= 60

    def full(file, *_, **__):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    press_control_c(monkeypatch, after=20)  # the disk is full when what was done till then is to be saved
    refused(twoview("detect", "--detector", "movenet", "--views", "a"), "No space left", "hint")
    assert [path.name for path in folder.iterdir()] == ["a.people.npz"]
    assert (folder / "a.people.npz").read_bytes() == kept


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_keeps_what_is_done_of_several_videos(synced, stop):
    command = [
        sys.executable,
        "-c",
        "from twoview.__main__ import main; main()",
        "detect",
        "--detector",
        "movenet",
        "--jobs",
        "2",
        "--set",
    ]
    command += ["detect.save_every_s=1"]
    folder = synced / "takes" / "take1" / "detections"
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1])}
    with subprocess.Popen(command, cwd=synced.parent, env=environment, stderr=subprocess.PIPE, text=True) as running:
        for _ in range(600):
            if len(list(folder.glob("[ab].people.npz"))) == 2 or running.poll() is not None:
                break
            time.sleep(0.1)
        running.send_signal(stop)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert {path.name for path in folder.iterdir()} == {"a.people.npz", "b.people.npz"}


def test_a_full_disk_before_anything_is_done(twoview, tmp_path, synced, monkeypatch):
    before = sorted(p for p in tmp_path.rglob("*") if p.is_file())

    def full(file, *_, **__):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    press_control_c(monkeypatch, after=30)
    refused(twoview("detect", "--detector", "movenet"), "No space left", "hint")
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == before


@pytest.mark.parametrize("missing", ["mmpose", "mmengine"])
def test_without_mmpose_the_command_that_installs_it(twoview, synced, monkeypatch, missing):
    find_spec = importlib.util.find_spec
    monkeypatch.delitem(sys.modules, missing, raising=False)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *package: None if name == missing else find_spec(name, *package)
    )
    answer = twoview("detect", "--detector", "mmpose:td-hm_hrnet-w32_8xb64-210e_coco-256x192,hrnet.pth")
    refused(answer, missing, 'pip install "twoview[mmpose]" && pip install --no-deps mmpose==1.3.2')


def test_an_onnx_file_that_is_damaged_or_another_model(twoview, tmp_path, synced):
    (tmp_path / "rtmpose.onnx").write_bytes(b"\x08\x07 half a model")
    refused(twoview("detect", "--detector", "rtmpose.onnx"), "rtmpose.onnx cannot be read as an ONNX model", "hint")
    other = ASSETS / "movenet" / "movenet-thunder.w16.onnx"
    shutil.copyfile(other, tmp_path / "other.onnx")
    refused(twoview("detect", "--detector", "other.onnx"), "another kind of model: expected", "SimCC", "got inputs")
    shutil.copyfile(other, tmp_path / "yolox.onnx")
    answer = twoview("detect", "--detector", "movenet", "--set", "detect.finder=yolox.onnx")
    refused(answer, "another kind of model: expected", "got inputs", "detect.finder")
    assert not (synced / "takes" / "take1" / "detections").exists()


def test_weights_that_are_not_here_and_no_network(twoview, synced, monkeypatch, tmp_path):
    monkeypatch.setenv("TWOVIEW_CACHE", str(tmp_path / "cache"))

    def offline(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", offline)
    named = twoview("detect", "--detector", "rtmpose-m")
    refused(named, "rtmpose-m", "twoview weights add rtmpose-m", "--detector movenet")


def test_a_video_that_was_cut_off_is_used_as_far_as_it_goes_and_that_is_said(twoview, tmp_path):
    from videos import encode

    path = encode(tmp_path / "cut.mp4", count=60, g="12")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    answer = twoview("infer", "cut.mp4", "--model", "twoview-small", "--detector", "movenet")
    refused(answer, "warning: cut.mp4: ", "the file was cut off: its last frame is at", "no person found")
    assert answer.err.count("the file was cut off") == 1
    assert "cut off before the 2.0 s it should last" in twoview("show", "cut.mp4").out


@pytest.mark.parametrize("name", ["x" * 300, "é" * 200])
@pytest.mark.parametrize(
    "words",
    [
        "plan --config {}", "pretrain {}", "demo {}", "run {}", "show {}", "angles {}", "evaluate {} {}",
        "sync a.mp4 {}", "export m.pt --model {}", "convert {} motionbert out.pth", "weights add rtmpose-m {}",
        "reproduce human36m {}",
        "infer {} --model twoview-small --detector movenet", "infer a.npz --model {}", "infer a.npz --out {}",
        "detect --detector {} --session s", "finetune --views a,b --weights {} --session s", "show --session {}",
    ],
)  # fmt: skip
def test_a_name_that_no_file_can_have_is_refused_in_one_line(words, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s" / "takes").mkdir(parents=True)
    shown = type_command(*(word.replace("{}", name) for word in words.split()))
    assert shown.code in (1, 2), shown.err
    assert "bug in twoview" not in shown.err
