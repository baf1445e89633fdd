"""Data set files that are damaged or made to do harm: one line, no code run, no memory for what is not there."""

from __future__ import annotations

import io
import os
import pickle
import resource
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bodies import moving_body
from data_set_files import FRAMES, write_aspset, write_human36m, write_sportspose
from motion_files import UNIT, write_acclaim, write_bvh

from twoview.datasets import aspset, human36m, motion_capture, mpi_inf_3dhp, sportspose
from twoview.datasets.motion import Motion, read_motions, write_motions
from twoview.datasets.recordings import Recording
from twoview.datasets.rendered import read_scene
from twoview.errors import FormatError
from twoview.storage import objects
from twoview.storage.objects import read_array, read_arrays, read_objects, read_pickle

ROOM = 400_000  # KiB that reading a damaged file may take


def in_one_line(read: Callable[[], object]) -> str:
    """The message with which reading is refused; "" where it is not."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read()
    except FormatError as error:
        message = error.message
    else:
        message = ""
    assert len(message) < 700, message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < ROOM
    return message


def small_3dhp(path: Path, rng: np.random.Generator) -> Path:
    body = moving_body(FRAMES, rng)
    cameras = {
        str(view): {
            "data_2d": rng.normal(size=(FRAMES, 17, 2)) * 100 + 900,
            "data_3d": (body + np.array([0, 0, 4 + view])) * 1000,
        }
        for view in range(2)
    }
    np.savez(path, data=np.array({"S1 Seq1": [cameras, 25]}, dtype=object))
    return path


def made(name: str, folder: Path, rng: np.random.Generator) -> tuple[Path, Callable[[], object]]:
    """A whole file of a kind, and how it is read."""
    if name == "bvh":
        path = write_bvh(folder)
        return path, lambda: motion_capture.read_bvh(path, unit_m=UNIT)
    if name in ("asf", "amc"):
        amc, asf = write_acclaim(folder)
        return (asf if name == "asf" else amc), lambda: motion_capture.read_amc(amc, asf, rate=120.0)
    if name == "human36m":
        write_human36m(folder / "h.pkl", moving_body(FRAMES, rng))
        return folder / "h.pkl", lambda: list(human36m.read(folder / "h.pkl", split="test"))
    if name in ("calib.pkl", "soccer0001.npy", "soccer0001_timing.pkl"):
        write_sportspose(folder, rng)
        (path,) = folder.rglob(name)
        return path, lambda: list(sportspose.read(folder))
    if name == "3dhp":
        path = small_3dhp(folder / "d.npz", rng)
        return path, lambda: list(mpi_inf_3dhp.read_train(path))
    if name in ("splits.csv", ".c3d", ".json"):
        write_aspset(folder, moving_body(FRAMES, rng))
        path = next(file for file in sorted(folder.rglob("*")) if file.name.endswith(name))
        return path, lambda: list(aspset.read(folder, split="train"))
    write_motions(folder / "m.npz", [Motion("walk", moving_body(40, rng).astype(np.float32), 60.0, "walk", "1")])
    return folder / ("m.npz" if name == "motion" else "m.json"), lambda: read_motions(folder / "m.npz")


KINDS = (
    "bvh", "asf", "amc", "human36m", "calib.pkl", "soccer0001.npy", "soccer0001_timing.pkl", "3dhp", "splits.csv",
    ".c3d", ".json", "motion", "motion list",
)  # fmt: skip
WORDS = (b"0", b"-1", b"nan", b"inf", b"1e99", b"999999999", b"x", b"", b"\x00")


@pytest.mark.parametrize("kind", KINDS)
def test_files_changed_at_random_are_read_or_refused_in_one_line(kind, tmp_path, rng):
    path, read = made(kind, tmp_path, rng)
    whole = path.read_bytes()
    read()
    for number in range(60):
        content = bytearray(whole)
        if number % 3 == 0:
            content = content[: int(rng.integers(len(content)))]
        elif number % 3 == 1 and kind in ("bvh", "asf", "amc", "splits.csv", ".json", "motion list"):
            words = bytes(content).split(b" ")
            words[int(rng.integers(len(words)))] = WORDS[number % len(WORDS)]
            content = bytearray(b" ".join(words))
        else:
            for _ in range(int(rng.integers(1, 6))):
                content[int(rng.integers(len(content)))] = int(rng.integers(256))
        path.write_bytes(content)
        in_one_line(read)
    for absurd in (b"", b"\x00" * 1000, b"[" * 100_000, b"\xff\xfe" + b"x" * 100, whole + whole):
        path.write_bytes(absurd)
        in_one_line(read)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are no files there")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_at_once(kind, tmp_path, rng):
    path, read = made(kind, tmp_path, rng)
    path.unlink()
    os.mkfifo(path)
    assert in_one_line(read)
    path.unlink()
    path.symlink_to(path)
    assert in_one_line(read) or kind == "soccer0001.npy"
    path.unlink()
    path.symlink_to("/dev/zero")
    assert in_one_line(read)


def called(module: str, name: str, *values: object) -> bytes:
    """A pickle that calls module.name with these values."""
    return f"c{module}\n{name}\n".encode() + pickle.dumps(values, protocol=2)[2:-1] + b"R."


@pytest.mark.parametrize(
    "content",
    [
        called("numpy", "ndarray", (10**12,)),
        called("numpy", "zeros", (10**12,)),
        called("builtins", "bytearray", 10**12),
        called("_codecs", "encode", "x", "zlib_codec"),
        called("os", "mkdir", "ran"),
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        + pickle.dumps(((10**12,), b"b"), protocol=2)[2:-1]
        + b"R.",
        b"\x80\x02\x8e" + struct.pack("<Q", 10**13) + b"x.",
        b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".",
        b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b".",
    ],
)
def test_pickles_made_to_do_harm(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("p.pkl").write_bytes(content)
    nested = content.startswith(b"\x80\x02(")
    assert in_one_line(lambda: read_pickle("p.pkl")) or nested
    inside = io.BytesIO()
    np.lib.format.write_array_header_1_0(inside, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile("p.npz", "w") as archive:
        archive.writestr("data.npy", inside.getvalue() + content)
    assert in_one_line(lambda: read_objects("p.npz")) or nested
    assert not Path("ran").exists()


def test_arrays_that_are_not_there(tmp_path, monkeypatch):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**10, 17, 3)})
    (tmp_path / "a.npy").write_bytes(head.getvalue() + bytes(100))
    assert "bytes, and 100 are there" in in_one_line(lambda: read_array(tmp_path / "a.npy"))
    parts = zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED)
    with parts as archive, archive.open("a.npy", "w", force_zip64=True) as file:
        file.write(head.getvalue())
        for _ in range(20):
            file.write(bytes(1 << 20))
    monkeypatch.setattr(objects, "MOST_BYTES", 1 << 24)
    assert "unpacks to 0.0 GiB" in in_one_line(lambda: read_arrays(tmp_path / "a.npz"))


@pytest.mark.parametrize("order", ["C", "F"])
def test_whole_arrays_are_read_in_either_order(order, tmp_path, rng):
    value = np.asarray(rng.normal(size=(4, 3, 2)), order=order)
    np.save(tmp_path / "a.npy", value)
    assert np.array_equal(read_array(tmp_path / "a.npy"), value)
    np.savez_compressed(tmp_path / "a.npz", a=value, text=np.array("x"))
    assert np.array_equal(read_arrays(tmp_path / "a.npz")["a"], value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Frames: 4", "Frames: 999999999"), ("Frame Time: 0.", "Frame Time: nan 0."),
        ("CHANNELS 3", "CHANNELS 999999999"),
        ("Zrotation", "Wrotation"), ("OFFSET", "OFFSET nan"),
    ],
)  # fmt: skip
def test_bvh_files_that_claim_what_they_do_not_hold(old, new, tmp_path):
    path = write_bvh(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 2))
    assert "BVH" in in_one_line(lambda: motion_capture.read_bvh(path, unit_m=UNIT))


def test_a_bvh_of_a_million_joints(tmp_path):
    joints = "".join(f"JOINT j{n}\n{{\nOFFSET 0 0 0\n}}\n" for n in range(50_000))
    path = tmp_path / "a.bvh"
    head = "ROOT r\n{\nOFFSET 0 0 0\nCHANNELS 1 Xposition\n"
    path.write_text(head + joints + "}\nMOTION\nFrames: 1000\nFrame Time: 0.1\n" + "0\n" * 1000)
    assert "at most 1000 joints" in in_one_line(lambda: motion_capture.read_bvh(path, unit_m=UNIT))


def test_a_c3d_header_that_claims_more_than_the_file_holds(tmp_path, rng):
    path, read = made(".c3d", tmp_path, rng)
    whole = path.read_bytes()
    for at, value in ((2, 60_000), (4, 60_000), (8, 60_000), (16, 60_000), (6, 50)):
        path.write_bytes(whole[:at] + struct.pack("<H", value) + whole[at + 2 :])
        assert "C3D" in in_one_line(read)


@pytest.mark.parametrize("name", ["../outside", "a/b", "", "x\ny", "/etc/x"])
def test_takes_are_no_paths(name):
    with pytest.raises(FormatError, match="no name of a file"):
        Recording(name, "", "", "train", {}, {})


def test_a_damaged_scene(tmp_path):
    from places import ROOT

    shutil.copytree(ROOT / "twoview" / "assets" / "demo" / "golf" / "test1", tmp_path / "scene")
    assert read_scene(tmp_path / "scene")
    for name, content in (("truth.json", b"[]"), ("truth.json", b"[" * 100_000), ("truth.npz", b"PK")):
        (tmp_path / "scene" / name).write_bytes(content)
        assert "not a rendered scene" in in_one_line(lambda: read_scene(tmp_path / "scene"))
