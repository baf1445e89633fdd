"""What `twoview doctor` finds where something needed is missing, and what it says to do."""

from __future__ import annotations

import pytest
from terminal import type_command

from twoview.errors import DetectorError
from twoview.storage import weights
from twoview.workflow import checkup
from twoview.workflow.checkup import doctor


def broken(**more) -> dict[str, str]:
    return {check.name: check.remedy for check in doctor(**more) if check.state == "broken"}


def test_a_machine_that_has_everything_is_well_and_every_part_was_tried():
    checks = doctor()
    assert not [check for check in checks if check.state == "broken"]
    tried = [check.name for check in checks if check.part == "trial"]
    assert tried == ["read a video", "read its sound", "write a video", "detector movenet", "lifter twoview-small"]
    assert all(check.remedy for check in checks if check.state == "note" and check.part == "storage")


def test_what_is_broken_has_a_remedy(monkeypatch, tmp_path):
    asked = [("torch", "2.6"), ("av", "99"), ("nothing-such", "1.0")]
    monkeypatch.setattr(checkup, "_required", lambda: iter(asked))
    monkeypatch.setitem(checkup.DECODERS, "no-such-codec", "tests")
    monkeypatch.setitem(weights.WEIGHTS, "gone", weights.Weights("gone", "none", 1, shipped="gone.pt", sha256="0" * 64))
    monkeypatch.setenv("TWOVIEW_CACHE", str(tmp_path / "cache"))
    assert broken(try_out=False) == {
        "av": 'pip install "av>=99"',
        "nothing-such": 'pip install "nothing-such>=1.0"',
        "read no-such-codec": "pip install --force-reinstall --only-binary av av",
        "gone": "pip install --force-reinstall twoview",
    }


def test_a_part_that_fails_is_named_and_what_stands_on_it_is_not_tried(monkeypatch):
    def fails(_):
        raise DetectorError("nobody", hint="look")

    monkeypatch.setattr(checkup, "_try_detector", fails)
    assert broken() == {"detector movenet": "look"}
    answer = type_command("doctor")
    assert answer.code == 1
    assert "broken" in answer.out
    assert "do: look" in answer.out
    assert "next: twoview doctor" in answer.out


def test_the_cache_is_counted(monkeypatch, tmp_path):
    monkeypatch.setenv("TWOVIEW_CACHE", str(tmp_path))
    (tmp_path / "weights.onnx").write_bytes(bytes(3_000_000))
    (value,) = (check.value for check in doctor(try_out=False) if check.name == "cache")
    assert value == f"{tmp_path}: 1 files, 3 MB"


@pytest.mark.parametrize(("version", "least", "older"), [("2.13.0+cpu", "2.6", False), ("2.5.9", "2.6", True)])
def test_versions_are_compared_as_numbers(version, least, older):
    assert (checkup._numbers(version) < checkup._numbers(least)) == older
