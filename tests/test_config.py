from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from twoview.command_settings import COMMANDS, resolve
from twoview.config import (
    FRAMINGS,
    RENAMED,
    SECTIONS,
    CameraRange,
    DetectConfig,
    FinetuneConfig,
    InferConfig,
    LossConfig,
    PhonesConfig,
    PretrainConfig,
    shaping,
    to_plain,
)
from twoview.errors import ConfigError
from twoview.geometry.framing import RULES


def test_file_then_flags_then_sets(tmp_path):
    path = tmp_path / "golf.toml"
    path.write_text('[finetune]\nmethod = "paper"\nepochs = 5\nseed = 1\n[finetune.loss]\nconsistency = 0.1\n')
    flags = {"seed": 2, "device": None}
    config = resolve("finetune", file=path, flags=flags, sets=["loss.reprojection=2"]).finetune
    assert (config.epochs, config.seed, config.device) == (5, 2, FinetuneConfig().device)
    assert (config.loss.consistency, config.loss.reprojection) == (0.1, 2.0)
    config = resolve("finetune", file=path, sets=["finetune.loss.consistency=0.5"]).finetune
    assert config.loss.consistency == 0.5


MISTAKES = [
    ("[finetune]\nepoch = 5\n", "finetune.epoch; did you mean epochs"),
    ("[finetun]\nepochs = 5\n", r"\[finetun\]; did you mean finetune"),
    ('[finetune]\nepochs = "five"\n', "finetune.epochs should be int, got 'five'"),
    ("[finetune]\nepochs = 0\n", "at least 1, got 0"),
    ("[finetune]\nlr = nan\n", "finetune.lr should be a finite number, got nan"),
    ("[finetune]\nseed = 9223372036854775808\n", r"seed should be a whole number below 2\^63"),
    ("[finetune]\nlr = inf\n", "finetune.lr should be a finite number, got inf"),
    ("[finetune]\nflip = 1\n", "flip should be bool"),
    ("[finetune]\nloss = 3\n", "loss is a group"),
    ("[finetune.loss]\nconsistensy = 1\n", "finetune.loss.consistensy; did you mean consistency"),
    ('[finetune.loss]\nown = {"a:b" = "1"}\n', "finetune.loss.own.a:b should be float, got '1'"),
    ('[finetune]\nprecision = "8-bit"\n', "one of auto, fp32"),
    ("[detect]\nscore = 2\n", "detect.score should be at least 0 and at most 1, got 2"),
    ("[finetune\n", "not valid toml"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_mistakes_name_the_file_and_the_key(tmp_path, text, message):
    path = tmp_path / "golf.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        resolve("finetune", file=path)
    assert "golf.toml" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("finetune.phones.steps=10", r"is now finetune.phones.steps_per_epoch \(times finetune.epochs\)"),
        ("finetune.phones.triangulate.moving_s=2", r"is now \[triangulate\]"),
        ("finetune.precision=bf16-mixed", "finetune.precision: bf16-mixed is now bf16"),
        ("finetune.remember=blocks", "is now finetune.checkpointing"),
    ],
)
def test_old_names_are_refused_with_the_new_ones(text, message):
    with pytest.raises(ConfigError, match=message):
        resolve("finetune", sets=[text])


@pytest.mark.parametrize("old", [old for old in RENAMED if "." in old])
def test_every_old_name_is_refused_in_a_file_too(tmp_path, old):
    path = tmp_path / "golf.toml"
    path.write_text(f"{old} = 1\n")
    with pytest.raises(ConfigError, match=f"golf.toml: {old} is now"):
        resolve("infer", file=path)


@pytest.mark.parametrize(
    ("method", "text", "instead"),
    [
        ("phones", "batch=6", "finetune.phones.batch"),
        ("phones", "flip=true", "always"),
        ("phones", "loss.consistency=0.3", "--method paper"),
        ("paper", "phones.batch=64", "--method phones"),
    ],
)
def test_what_a_method_ignores_is_refused_even_at_its_default(tmp_path, method, text, instead):
    with pytest.raises(ConfigError, match=f"no effect with method {method}") as error:
        resolve("finetune", sets=[f"method={method}", text])
    assert instead in error.value.hint
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_plain(FinetuneConfig(method=method))))
    assert resolve("finetune", file=path).finetune.method == method


def test_the_papers_method_by_its_flag_is_the_published_one_and_the_rest_lies_over_it(tmp_path):
    given = {"method": "paper"}
    published = resolve("finetune", file="paper_sportspose").finetune
    assert resolve("finetune", flags=given).finetune == published
    assert (published.loss.alignment.direction, published.loss.alignment.confidence) == ("forward", False)
    assert (published.loss.consistency, published.clip_norm) == (0.3, 0.0)
    assert resolve("plan", flags=given).finetune == published

    path = tmp_path / "golf.toml"
    path.write_text("[finetune]\nepochs = 9\n[finetune.loss]\nconsistency = 0.1\n[triangulate]\nheight_m = 1.8\n")
    over = resolve("finetune", file=path, flags={**given, "seed": 5}, sets=["loss.alignment.confidence=true"]).finetune
    alignment = replace(published.loss.alignment, confidence=True)
    wanted = replace(published, epochs=9, seed=5, loss=replace(published.loss, consistency=0.1, alignment=alignment))
    assert over == wanted

    for name in ("l3d", "iqbal"):  # of the paper's method, each with its own losses
        assert resolve("finetune", file=name, flags=given) == resolve("finetune", file=name)
    run = tmp_path / "config.json"  # of a run of the other method, which ignored its [finetune.loss]
    run.write_text(json.dumps(to_plain(FinetuneConfig(lr=1e-4))))
    found = resolve("finetune", file=run, flags=given).finetune
    assert (found.lr, found.loss, found.batch) == (1e-4, published.loss, published.batch)

    assert resolve("finetune", flags={"method": "phones"}).finetune == FinetuneConfig()
    assert resolve("finetune", sets=["method=paper"]).finetune == FinetuneConfig(method="paper")
    with pytest.raises(ConfigError, match="one of phones, paper"):
        resolve("finetune", flags={"method": "papr"})


def test_what_a_method_ignores_is_refused_in_python_too():
    with pytest.raises(ConfigError, match=r"finetune.batch has no effect with method phones"):
        FinetuneConfig(batch=7)
    assert FinetuneConfig(method="paper", batch=7).batch == 7


def test_triangulation_is_for_the_method_that_triangulates(tmp_path):
    with pytest.raises(ConfigError, match=r"\[triangulate\] has no effect with method paper"):
        resolve("finetune", sets=["method=paper", "triangulate.height_m=1.8"])
    path = tmp_path / "golf.toml"
    path.write_text("[triangulate]\nheight_m = 1.8\n")
    assert resolve("finetune", file=path).triangulate.height_m == 1.8
    assert resolve("finetune", file=path, sets=["method=paper"]).triangulate.height_m == 0
    assert resolve("plan", file=path, sets=["method=paper"]).triangulate.height_m == 1.8


def test_sets_of_every_section_that_a_command_reads():
    found = resolve("infer", sets=["detect.person=2", "height_m=1.8", "infer.flip=false"])
    assert (found.detect.person, found.infer.height_m, found.infer.flip) == (2, 1.8, False)
    found = resolve("finetune", sets=["triangulate.height_m=1.8", "detect.score=0.2", "sync.min_overlap_s=3"])
    assert (found.triangulate.height_m, found.detect.score, found.sync.min_overlap_s) == (1.8, 0.2, 3.0)
    found = resolve("pretrain", sets=["lifter_settings.width=64", "lifter_settings.dilations=[1, 3]"]).pretrain
    assert found.lifter_settings == {"width": 64, "dilations": [1, 3]}
    found = resolve("finetune", sets=["method=paper", "loss.own.my.module:term=0.1"]).finetune
    assert found.loss.own == {"my.module:term": 0.1}


def test_what_no_stage_of_the_command_reads_is_refused_with_the_commands_that_do():
    with pytest.raises(ConfigError, match=r"`twoview infer` reads \[finetune\]") as error:
        resolve("infer", sets=["finetune.epochs=3"])
    assert "read by twoview run, twoview plan, twoview finetune, twoview reproduce" in error.value.hint
    assert "infer reads [infer], [detect]" in error.value.hint
    unread = {"detect": "a,b are views, not files"}
    for given in ({"sets": ["detect.score=0.2"]}, {"flags": {"detect.detector": "movenet"}}):
        with pytest.raises(ConfigError, match=r"reads \[detect\], since a,b are views"):
            resolve("finetune", unread=unread, **given)
    assert resolve("finetune", unread=unread, flags={"detect.detector": None}).detect == DetectConfig()


def test_sets_that_cannot_be_read():
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        resolve("infer", sets=["flip"])
    with pytest.raises(ConfigError, match=r"infer\.score; did you mean detect\.score"):
        resolve("infer", sets=["score=0.2"])
    with pytest.raises(ConfigError, match=r"--set height_m=nan: infer.height_m should be a finite number"):
        resolve("infer", sets=["height_m=nan"])
    with pytest.raises(ConfigError, match=r"command line: infer\.height_m should be at least 0 and at most 3 m"):
        resolve("infer", flags={"height_m": 181.0})
    with pytest.raises(ConfigError, match=r"infer\.flip is not a group"):
        resolve("infer", sets=["flip.x=1"])


BAD = [
    (InferConfig, {"height_m": 181}, r"InferConfig.height_m should be at least 0 and at most 3 m, got 181"),
    (InferConfig, {"height_m": float("nan")}, "finite"),
    (InferConfig, {"height_m": float("-inf")}, "finite"),
    (InferConfig, {"height_m": "1.8"}, "InferConfig.height_m should be float, got '1.8'"),
    (InferConfig, {"flip": 1}, "flip should be bool"),
    (LossConfig, {"consistency": float("inf")}, "finite"),
    (LossConfig, {"own": {"a:b": float("nan")}}, r"own.a:b should be a finite"),
    (LossConfig, {"own": {"a:b": "much"}}, r"own.a:b should be float"),
    (PhonesConfig, {"swap": 1.2}, "at most 1"),
    (FinetuneConfig, {"loss": {"consistency": 1.0}}, "loss should be LossConfig"),
    (FinetuneConfig, {"epochs": 2.5}, "epochs should be int"),
    (FinetuneConfig, {"epochs": True}, "epochs should be int"),
    (FinetuneConfig, {"method": "papers"}, "one of phones, paper"),
    (DetectConfig, {"detector": 3}, "detector should be str or Callable"),
    (PretrainConfig, {"data": [1]}, "data should be str"),
    (CameraRange, {"height": (1.0,)}, r"height should be 2 values, got \[1.0\]"),
]


@pytest.mark.parametrize(("kind", "values", "message"), BAD)
def test_a_config_built_in_python_is_checked_too(kind, values, message):
    with pytest.raises(ConfigError, match=message):
        kind(**values)
    with pytest.raises(ConfigError, match=message):
        replace(kind(), **values)


def test_numbers_become_what_the_setting_holds():
    assert isinstance(InferConfig(height_m=2).height_m, float)
    assert InferConfig(height_m=np.float32(1.5)).height_m == 1.5
    assert type(FinetuneConfig(epochs=np.int64(3)).epochs) is int
    assert PretrainConfig(data=["a.npz"]).data == ("a.npz",)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_resolved_config_reads_back(tmp_path, section):
    path = tmp_path / "config.json"
    config = SECTIONS[section]()
    path.write_text(json.dumps({"format": "config", "version": 1, **to_plain(config)}))
    command = next(command for command, read in COMMANDS.items() if section in read)
    assert getattr(resolve(command, file=path), section) == config


@pytest.mark.parametrize("kind", SECTIONS.values())
def test_every_setting_says_what_it_is(kind):
    for entry in fields(kind):
        nested = hasattr(entry.default_factory, "__dataclass_fields__")
        assert nested or entry.metadata.get("help"), entry.name


def test_every_rule_of_framing_may_be_asked_for():
    assert ("auto", *RULES) == FRAMINGS


def test_what_shapes_a_result():
    detect = set(SECTIONS["detect"].__dataclass_fields__)
    assert detect - set(shaping(DetectConfig())) == {"check", "device", "save_every_s", "sureness"}
    config = FinetuneConfig()
    assert set(vars(config)) - set(shaping(config)) == {"device", "devices", "nodes", "tensorboard"}
    assert shaping(config)["phones"] == vars(config.phones)
    assert shaping(PretrainConfig(data=("a",)))["data"] == ["a"]
    assert json.loads(json.dumps(shaping(config))) == shaping(config)


@pytest.mark.parametrize(
    ("command", "content", "name"),
    [
        ("detect", {"detect": {"detector": "os:system"}}, "os:system"),
        ("detect", {"detect": {"detector": "mmpose:config.py,weights.pth"}}, "mmpose:config.py,weights.pth"),
        ("finetune", {"finetune": {"method": "paper", "loss": {"own": {"os:system": 0.1}}}}, "os:system"),
        ("pretrain", {"pretrain": {"lifter": "os:system"}}, "os:system"),
    ],
)
def test_a_json_file_brings_no_programs_unless_they_are_trusted(command, content, name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="refused") as error:
        resolve(command, file=tmp_path / "config.json", trust=["another:Name"])
    assert f"--trust {name}" in error.value.hint
    assert resolve(command, file=tmp_path / "config.json", trust=[name])


def test_names_in_ones_own_settings_are_honored(tmp_path):
    (tmp_path / "own.toml").write_text('[detect]\ndetector = "mine:Detector"\n')
    assert resolve("detect", file=tmp_path / "own.toml").detect.detector == "mine:Detector"
    assert resolve("detect", flags={"detector": "mine:Detector"}).detect.detector == "mine:Detector"


@pytest.mark.parametrize("text", ["[1]", '{"detect": 5}', "[" * 100_000, '{"detect": [{}]}'])
def test_json_that_is_no_file_of_settings(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        resolve("detect", file=tmp_path / "config.json")
