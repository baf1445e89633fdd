"""PyTorch files that claim more than they hold are refused before memory is taken; whole ones are read."""

from __future__ import annotations

import collections
import io
import pickle
import resource
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from no_files import put_no_file

from twoview.errors import FormatError
from twoview.storage import pickles, torch_files


def refused(path: Path, words: str = "") -> None:
    """The file is refused in one line, and takes less than 300 MB on the way."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FormatError, match=words) as caught:
        torch_files.read(path)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


class Named:
    """What a pickle names as module.name, called with these values when it is read."""

    def __init__(self, module: str, name: str, *values: object) -> None:
        self.given = module, name, values

    def __reduce__(self):
        return self, self.given[2]


class Writer(pickle._Pickler):
    """Writes a pickle of any shape: names that need not exist, and storages with any claim."""

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Named):
            module, name, values = value.given
            self.write(b"c" + module.encode() + b"\n" + name.encode() + b"\n")
            if values is not None:
                super().save(tuple(values))
                self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)

    def persistent_id(self, value):
        return value[1:] if isinstance(value, tuple) and value[:1] == ("storage-of",) else None


def pickled(value) -> bytes:
    file = io.BytesIO()
    Writer(file, protocol=2).dump(value)
    return file.getvalue()


def storage(numel: int, key: str = "0", kind: str = "FloatStorage"):
    return ("storage-of", "storage", Plain(kind), key, "cpu", numel)


class Plain(Named):
    """A name that is not called."""

    def __init__(self, kind: str) -> None:
        self.given = "torch", kind, None


def tensor(numel: int, size: tuple, stride: tuple, *, offset: int = 0, function: str = "_rebuild_tensor_v2"):
    hooks = collections.OrderedDict()
    return Named("torch._utils", function, storage(numel), offset, size, stride, False, hooks)


def zipped(path: Path, value, *, data: bytes = bytes(40), method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("m/data.pkl", value if isinstance(value, bytes) else pickled(value))
        archive.writestr("m/byteorder", "little")
        archive.writestr("m/data/0", data)
        archive.writestr("m/version", "3\n")
    return path


def test_the_writer_of_these_tests_writes_what_torch_reads(tmp_path):
    path = zipped(tmp_path / "m.pt", {"w": tensor(10, (2, 5), (5, 1))}, data=np.arange(10, dtype="<f4").tobytes())
    assert torch_files.read(path)["w"].tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (tensor(25 * 10**9, (25 * 10**9,), (1,)), "claims 1e\\+11 bytes"),
        (tensor(11, (11,), (1,)), "claims 44 bytes"),
        (tensor(10, (10**10,), (1,)), "larger than its storage"),
        (tensor(10, (10**10,), (0,)), "larger than its storage"),
        (tensor(10, (10,), (1,), offset=1), "larger than its storage"),
        (tensor(10, (2, 5), (1,)), "larger than its storage"),
        (tensor(10, (-1,), (1,)), "without a size"),
        (tensor(10, (10,), (1,), offset=-5), "without a size"),
        (tensor(-1, (1,), (1,)), "storage of -1"),
        (tensor(10, (10,), (1,), function="_rebuild_wrapper_subclass"), "unknown kind"),
        (tensor(10, (10,), (1,), function="_rebuild_meta_tensor_no_storage"), "unknown kind"),
        (Named("builtins", "bytearray", 10**12), "bytes that are not there"),
        (Named("numpy", "ndarray", (10**12,)), "makes an array"),
        (Named("numpy.core.multiarray", "_reconstruct", Plain("x"), (10**12,), b"b"), "array that is not there"),
        (Named("os", "mkdir", "ran"), "could run code"),
    ],
)
def test_claims_that_are_not_there(value, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(zipped(tmp_path / "m.pt", {"w": value}), words)
    assert [file.name for file in tmp_path.iterdir()] == ["m.pt"]


def test_an_archive_that_unpacks_to_more_than_itself(tmp_path):
    path = zipped(tmp_path / "m.pt", {"w": 1}, data=bytes(500_000_000), method=zipfile.ZIP_DEFLATED)
    refused(path, "compressed")


def test_the_old_layout(tmp_path):
    content = {"w": torch.arange(5.0), "half": torch.ones(3).half()}
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch_files.read(tmp_path / "old.pt")["w"].tolist() == [0, 1, 2, 3, 4]
    whole = (tmp_path / "old.pt").read_bytes()
    for cut in (len(whole) - 1, len(whole) // 2, 40, 3):
        (tmp_path / "cut.pt").write_bytes(whole[:cut])
        refused(tmp_path / "cut.pt")
    small, large = b"K\x05", b"\x8a\x05" + (10**11).to_bytes(5, "little")
    head = b"cpuq" + whole.split(b"cpuq")[1][:1]
    (tmp_path / "large.pt").write_bytes(whole.replace(head + small, head + large))
    assert (tmp_path / "large.pt").read_bytes() != whole
    refused(tmp_path / "large.pt")


def test_what_torch_saves_is_read(tmp_path):
    base = torch.arange(20.0)
    content = {
        "view": base[3:9:2], "turned": base.reshape(4, 5).T, "none": torch.zeros(0, 3), "scalar": torch.tensor(2.0),
        "parameter": torch.nn.Parameter(base), "text": "x", "list": [1, (2.5, None)], "array": np.arange(3.0),
        "number": np.float64(3), "ordered": collections.OrderedDict(a=base), "kinds": torch.ones(2).bfloat16(),
    }  # fmt: skip
    torch.save(content, tmp_path / "m.pt")
    found = torch_files.read(tmp_path / "m.pt")
    for key in ("view", "turned", "none", "scalar", "parameter", "kinds"):
        assert torch.equal(found[key], content[key])
    assert (found["list"], found["array"].tolist(), float(found["number"])) == ([1, (2.5, None)], [0, 1, 2], 3)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02\x8e" + struct.pack("<Q", 10**13) + b"x.",  # bytes of 10 TB
        b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".",  # a place beyond four billion objects
        b"\x80\x02N" + b"p999999999999\n.",
        b"\x80\x04\x95" + struct.pack("<Q", 10**12) + b"N.",
        b"\x80\x02X\xff\xff\xff\x7fx.",
        b"\x80\x02]",
        b"cno end",
        b"\xff",
        b"",
    ],
)
def test_pickles_that_claim_more_than_they_hold(data, tmp_path):
    with pytest.raises(ValueError, match="pickle"):
        pickles.end_of(data)
    refused(zipped(tmp_path / "m.pt", data))


@pytest.mark.parametrize("protocol", range(6))
def test_the_end_of_whole_pickles(protocol, rng):
    value = {
        "a": [rng.normal(size=5), "text" * 100, 10**40, -3, 2.5, b"x" * 300, None, True],
        "b": {1, 2},
        "c": Path("x"),
    }
    data = pickle.dumps(value, protocol=protocol)
    assert pickles.end_of(data) == len(data)
    assert pickles.end_of(b"12" + data + b"more", 2) == len(data) + 2
    assert pickles.end_of(pickle.dumps(list(range(5000)) + [str(n) for n in range(5000)], protocol=protocol))


def test_deep_nesting(tmp_path):
    refused(zipped(tmp_path / "m.pt", b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b"."))
    within = b"\x80\x02}U\x01w" + b"]" * 100_000 + b"a" * 99_999 + b"s."
    assert list(torch_files.read(zipped(tmp_path / "m.pt", within))) == ["w"]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are no files there")
@pytest.mark.parametrize("kind", ["pipe", "circle", "folder", "device", "missing"])
def test_what_is_no_file(kind, tmp_path):
    path = tmp_path / "m.pt"
    put_no_file(path, kind)
    refused(path)
