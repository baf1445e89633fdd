"""twoview in a notebook: README's lines run and save, names and paths do as models, and objects say what they are."""

from __future__ import annotations

import re
import shutil
from dataclasses import fields

import numpy as np
import pytest
from places import ROOT
from scenes import small_scene

import twoview as tv
from twoview.config import Checked, allowed
from twoview.errors import ConfigError, FormatError
from twoview.formats import FORMATS
from twoview.poses import Poses3D


def test_the_lines_in_readme_run_and_save(tmp_path, monkeypatch, start):
    (text,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    small_scene(tmp_path, seconds=3.0)
    shutil.copyfile("a.mp4", "clip.mp4")
    quick = f'tv.FinetuneConfig(method="paper", epochs=1, weights={str(start)!r})'
    given = {"tv.FinetuneConfig()": quick, '"movenet"': '"markers:Markers"'}
    for named, instead in given.items():
        assert named in text
        text = text.replace(named, instead)
    monkeypatch.setattr("twoview.detectors.choose", lambda *_, **__: "markers:Markers")
    names: dict = {}
    exec(compile(text, "README.md", "exec"), names)
    assert (tmp_path / "clip.trc").read_text().startswith("PathFileType")
    assert repr(names["clocks"]).startswith("Sync(by sound, reference a, b began +0.35")
    assert repr(names["poses"]["a"]) == "Poses2D(90 frames, 0.00 to 2.97 s, coco17, 320 x 240 px)"
    assert repr(names["result"]) == "Poses3D(view 'clip', 90 frames, 0.00 to 2.97 s, h36m17, m, origin root)"
    assert repr(tv.load_model(names["run"].model)).startswith("Model(")
    again = tv.infer(names["poses"]["a"], "twoview-small")
    assert (len(again), again.unit) == (90, "screen")


def test_poses_are_saved_by_the_suffix(tmp_path):
    poses = Poses3D(np.random.default_rng(0).normal(size=(9, 17, 3)), np.arange(9) / 30, unit="m")
    for name in ("npz", *FORMATS):
        assert poses.save(tmp_path / f"x.{name}").stat().st_size > 100
    assert np.array_equal(tv.load(tmp_path / "x.npz").xyz, poses.xyz)
    flat = tv.Poses2D(np.ones((2, 17, 2)), np.ones((2, 17)), np.arange(2.0), tv.H36M17, (64, 48))
    flat.save(tmp_path / "flat.npz")
    with pytest.raises(FormatError, match="csv"):
        flat.save(tmp_path / "flat.csv")
    with pytest.raises(FormatError, match="fbx"):
        poses.save(tmp_path / "x.fbx")


@pytest.mark.parametrize("kind", Checked.__subclasses__(), ids=lambda kind: kind.__name__)
def test_help_explains_every_setting_with_unit_and_bounds(kind):
    for entry in fields(kind):
        about = entry.metadata
        assert f"    {entry.name}" in kind.__doc__
        assert str(about.get("help") or "") in kind.__doc__
        assert allowed(about) in kind.__doc__


def test_help_names_the_unit():
    assert "height_m = 0.0 m; at least 0 and at most 3 m" in tv.InferConfig.__doc__


@pytest.mark.parametrize(("height", "meant"), [(178, "1.78"), (1810, "1.81")])
def test_a_height_in_centimeters_is_asked_about(height, meant):
    with pytest.raises(ConfigError, match="at most 3 m") as raised:
        tv.InferConfig(height_m=height)
    assert raised.value.hint == f"it is in meters: {meant}?"
    with pytest.raises(ConfigError) as raised:
        tv.InferConfig(height_m=-1)
    assert raised.value.hint == ""
