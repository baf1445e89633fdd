from __future__ import annotations

import json

import pytest

from twoview.config import SECTIONS, DetectConfig, FinetuneConfig, InferConfig, build, resolve, to_plain
from twoview.errors import ConfigError


def test_file_then_flags_then_sets(tmp_path):
    path = tmp_path / "golf.toml"
    path.write_text('[finetune]\nmethod = "paper"\nepochs = 5\nseed = 1\n[finetune.loss]\nconsistency = 0.1\n')
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
        ('[finetune]\nprecision = "8-bit"\n', "one of auto, fp32"),
        ("[finetune\n", "not valid toml"),
    ],
)
def test_mistakes_name_the_file_and_the_key(tmp_path, text, says):
    path = tmp_path / "golf.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as error:
        resolve(FinetuneConfig, file=path)
    assert "golf.toml" in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("finetune.phones.steps=10", r"is now finetune.phones.steps_per_epoch \(times finetune.epochs\)"),
        ("finetune.phones.triangulate.moving_s=2", r"is now \[triangulate\]"),
        ("finetune.precision=bf16-mixed", "finetune.precision: bf16-mixed is now bf16"),
        ("finetune.remember=blocks", "is now finetune.checkpointing"),
    ],
)
def test_old_names_are_refused_with_the_new_ones(text, says):
    with pytest.raises(ConfigError, match=says):
        resolve(FinetuneConfig, sets=[text])


@pytest.mark.parametrize(
    ("method", "text", "instead"),
    [
        ("phones", "batch=6", "finetune.phones.batch"),
        ("phones", "flip=true", "always"),
        ("phones", "loss.consistency=0.3", "finetune.method=paper"),
        ("paper", "phones.batch=64", "finetune.method=phones"),
    ],
)
def test_what_a_method_ignores_is_refused_even_at_its_default(tmp_path, method, text, instead):
    with pytest.raises(ConfigError, match=f"no effect with method {method}") as error:
        resolve(FinetuneConfig, sets=[f"method={method}", text])
    assert instead in error.value.hint
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_plain(FinetuneConfig(method=method))))
    assert resolve(FinetuneConfig, file=path).method == method


def test_what_a_method_ignores_is_refused_in_python_too():
    with pytest.raises(ConfigError, match=r"finetune.batch has no effect with method phones"):
        FinetuneConfig(batch=7)
    assert FinetuneConfig(method="paper", batch=7).batch == 7


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
