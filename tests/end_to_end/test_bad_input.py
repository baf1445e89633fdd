"""Whatever is wrong, one clear line, the next command, the right exit code, and no half-written file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import twoview as package

GOLF = Path(package.__file__).parent / "assets" / "demo" / "golf"


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    for view in "ab":
        shutil.copyfile(GOLF / "take1" / f"view_{view}.mp4", tmp_path / f"{view}.mp4")
    return tmp_path / "a.mp4", tmp_path / "b.mp4"


def write_video(path: Path, *, sound: np.ndarray | None, seconds: float = 4.0) -> Path:
    """A grey clip without anybody in it, with or without sound (mono, 48 kHz)."""
    from twoview.video import Audio, VideoWriter

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


def test_a_view_that_does_not_exist(twoview, tmp_path, pair):
    assert twoview("sync", "a.mp4", "b.mp4").code == 0
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
    refused(twoview("infer", "c.mp4", "--model", "twoview-small", "--detector", "movenet"), "hint")
    assert not list(tmp_path.rglob("*.npz"))


def test_an_unknown_detector(twoview, pair):
    assert twoview("sync", "a.mp4", "b.mp4").code == 0
    refused(twoview("detect", "--detector", "movenett"), "movenett", "movenet")


def test_a_session_of_a_newer_version(twoview, tmp_path, pair):
    (tmp_path / "session").mkdir()
    content = {"format": "session", "version": 99, "made_by": "twoview 9.0"}
    (tmp_path / "session" / "session.json").write_text(json.dumps(content))
    refused(twoview("sync", "a.mp4", "b.mp4"), "twoview 9.0", "upgrade")


def test_a_truncated_detection(twoview, tmp_path, pair):
    assert twoview("sync", "a.mp4", "b.mp4").code == 0
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
    refused(twoview("sync"), "Missing argument", code=2)
    refused(twoview("lift"), "No such command", code=2)


def test_control_c_keeps_what_is_done(twoview, tmp_path, pair, monkeypatch):
    assert twoview("sync", "a.mp4", "b.mp4").code == 0
    import twoview.detection

    real = package.detection.detect
    calls = []

    def interrupted(video, **options):
        calls.append(video)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(video, **options)

    monkeypatch.setattr("twoview.detection.detect", interrupted)
    answer = twoview("detect", "--detector", "movenet")
    refused(answer, "continues", code=130)
    folder = tmp_path / "session" / "takes" / "take1" / "detections"
    assert [p.name for p in folder.iterdir()] == ["a.npz"]


def test_a_full_disk_half_way(twoview, tmp_path, pair, monkeypatch):
    assert twoview("sync", "a.mp4", "b.mp4").code == 0
    before = sorted(p for p in tmp_path.rglob("*") if p.is_file())

    def full(file, *_, **__):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    refused(twoview("detect", "--detector", "movenet"), "No space left", "hint")
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == before
