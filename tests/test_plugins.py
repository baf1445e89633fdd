"""Plug-ins named as `module:Name`."""

from __future__ import annotations

import math

import pytest

from twoview import plugins
from twoview.errors import DetectorError, LifterError


def test_a_name_leads_to_its_object():
    assert plugins.load("math:pi", "detector", DetectorError) == math.pi


@pytest.mark.parametrize("name", ["no.such.module:Name", "math:Absent", "math:", ":Name", "math"])
def test_a_name_that_leads_nowhere_is_the_error_asked_for(name):
    with pytest.raises(DetectorError, match=f"cannot load the detector '{name}'") as caught:
        plugins.load(name, "detector", DetectorError)
    assert "package.module:Name" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("movenet", False), ("C:\\models\\mine.onnx", False), ("os:system.pth", False), ("auto", False),
        ("os:system", True), ("mmpose:config.py,weights.pth", True), ("mmpose:td-hm_hrnet", True),
    ],
)  # fmt: skip
def test_names_that_run_code_are_told_from_names_of_data(name, code):
    assert plugins.is_code(name) == code


@pytest.mark.parametrize("name", ["subprocess:Popen", "no.such.module:Name", 7, None, ["tcn"], "nobody"])
def test_a_name_in_a_file_is_refused_and_not_imported(name, monkeypatch):
    monkeypatch.setattr(plugins.importlib, "import_module", lambda _: pytest.fail("imported"))
    with pytest.raises(LifterError, match=r"m\.pt") as caught:
        plugins.check_trust(name, "lifter", known=["tcn"], where="m.pt", trust=["own:Net"], error=LifterError)
    assert ("--trust" in caught.value.hint) == (isinstance(name, str) and ":" in name)


@pytest.mark.parametrize("name", ["tcn", "own:Net"])
def test_names_of_the_table_and_trusted_ones_pass(name):
    assert plugins.check_trust(name, "lifter", known=["tcn"], where="", trust=["own:Net"], error=LifterError) == name
