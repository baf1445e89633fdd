"""Plug-ins named as `module:Name`."""

from __future__ import annotations

import math

import pytest

from twoview import plugins
from twoview.errors import DetectorError


def test_a_name_leads_to_its_object():
    assert plugins.load("math:pi", "detector", DetectorError) == math.pi


@pytest.mark.parametrize("name", ["no.such.module:Name", "math:Absent", "math:", ":Name", "math"])
def test_a_name_that_leads_nowhere_is_the_error_asked_for(name):
    with pytest.raises(DetectorError, match=f"cannot load the detector '{name}'") as caught:
        plugins.load(name, "detector", DetectorError)
    assert "package.module:Name" in caught.value.hint
