"""The presets are settings that exist, and say what the paper says."""

from __future__ import annotations

from pathlib import Path

import pytest
from places import ASSETS

from twoview.command_settings import resolve
from twoview.errors import ConfigError
from twoview.training.losses import LOSSES, weights

PRESETS = sorted((ASSETS / "presets").glob("*.toml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_is_found_by_its_name(path):
    assert resolve("finetune", file=path.stem) == resolve("finetune", file=path)
    assert set(weights(resolve("finetune", file=path.stem).finetune.loss)) <= set(LOSSES)


def test_a_file_of_the_same_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("l2d").with_suffix("").write_text("[finetune]\nepochs = 3\n")
    assert resolve("finetune", file="l2d").finetune.epochs == 3


def test_an_unknown_name_is_an_error():
    with pytest.raises(ConfigError, match="cannot read l4d"):
        resolve("finetune", file="l4d")


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_iqbal_trains_on_single_frames_and_all_others_on_sequences(path):
    """0 stands for the longest clip that the lifter reads."""
    assert resolve("finetune", file=path.stem).finetune.clip_length == (1 if path.stem == "iqbal" else 0)


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("l2d", {"reprojection": 1.0}),
        ("paper_sportspose", {"reprojection": 1.0, "consistency": 0.3}),
        ("l3d", {"position": 1.0, "scale": 0.5, "velocity": 20.0}),
        ("l3dcon", {"position": 1.0, "scale": 0.5, "velocity": 20.0, "consistency": 0.2}),
        ("iqbal", {"reprojection": 1.0, "consistency": 0.3}),
        ("per_frame", {"reprojection": 1.0, "consistency": 0.3}),
    ],
)
def test_the_terms_are_those_of_the_equations(name, terms):
    config = resolve("finetune", file=name).finetune
    assert dict(weights(config.loss)) == terms
    assert (config.method, config.lr, config.epochs, config.weight_decay) == ("paper", 2e-4, 30, 0.0)
