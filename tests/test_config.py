from __future__ import annotations

import json

import pytest

from twoview.config import SECTIONS, DetectConfig, FinetuneConfig, InferConfig, build, resolve, to_plain
from twoview.errors import ConfigError


def test_file_then_flags_then_sets(tmp_path):
    path = tmp_path / "golf.toml"
    path.write_text("[finetune]\nepochs = 5\nseed = 1\n[finetune.loss]\nconsistency = 0.1\n")
    config = resolve(FinetuneConfig, file=path, flags={"seed": 2, "device": None}, sets=["loss.reprojection=2"])
    assert (config.epochs, config.seed, config.device) == (5, 2, FinetuneConfig().device)
    assert (config.loss.consistency, config.loss.reprojection) == (0.1, 2.0)
    assert resolve(FinetuneConfig, file=path, sets=["finetune.loss.consistency=0.5"]).loss.consistency == 0.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[finetune]\nepoch = 5\n", "finetune.epoch; did you mean epochs"),
        ("[finetun]\nepochs = 5\n", r"\[finetun\]; did you mean finetune"),
        ('[finetune]\nepochs = "five"\n', "finetune.epochs should be int, got 'five'"),
        ("[finetune]\nepochs = 0\n", "at least 1, got 0"),
        ("[finetune]\nflip = 1\n", "flip should be bool"),
        ("[finetune]\nloss = 3\n", "loss is a group"),
        ("[finetune.loss]\nconsistensy = 1\n", "finetune.loss.consistensy; did you mean consistency"),
        ('[finetune]\nprecision = "8-bit"\n', "one of auto, 32-true"),
        ("[finetune\n", "not valid toml"),
    ],
)
def test_mistakes_name_the_file_and_the_key(tmp_path, text, says):
    path = tmp_path / "golf.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as error:
        resolve(FinetuneConfig, file=path)
    assert "golf.toml" in str(error.value)


def test_sets_must_fit_the_command():
    with pytest.raises(ConfigError, match=r"reads \[infer\]"):
        resolve(InferConfig, sets=["finetune.epochs=3"])
    with pytest.raises(ConfigError, match="expected name=value"):
        resolve(InferConfig, sets=["flip"])
    assert resolve(DetectConfig, sets=["detector=movenet"]).detector == "movenet"


@pytest.mark.parametrize("kind", SECTIONS.values())
def test_a_resolved_config_reads_back(tmp_path, kind):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"format": "config", "version": 1, **to_plain(kind())}))
    assert resolve(kind, file=path) == kind()


@pytest.mark.parametrize("kind", SECTIONS.values())
def test_every_setting_says_what_it_is(kind):
    for name, entry in kind.__dataclass_fields__.items():
        nested = hasattr(entry.default_factory, "__dataclass_fields__")
        assert nested or entry.metadata.get("help"), name


@pytest.mark.parametrize("kind", SECTIONS.values())
def test_defaults_pass_their_own_checks(kind):
    assert build(kind, to_plain(kind())[next(n for n, k in SECTIONS.items() if k is kind)]) == kind()
