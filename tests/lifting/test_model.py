"""Model files and the official checkpoints: loaded strictly, the same bit by bit after conversion, or refused."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace

import pytest
import torch
from fingerprint import FINGERPRINT, asked, distance, filled
from small_lifters import FULL, LITE, SMALL, made
from torch import nn

from twoview import plugins
from twoview.errors import FormatError, LifterError
from twoview.lifters import build, motionbert
from twoview.lifters.dstformer import DSTformer
from twoview.lifting.model import (
    Model,
    add_checkpoint,
    convert,
    find_model,
    load_model,
    save_model,
)
from twoview.storage import records, weights

TINY = {"dim_feat": 32, "dim_rep": 24, "depth": 2, "maxlen": 9}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TWOVIEW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def lite() -> dict[str, torch.Tensor]:
    return blank(LITE)


def blank(settings) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        names = DSTformer(**settings).state_dict()
    generator = torch.Generator().manual_seed(1)
    return {name: 0.02 * torch.randn(value.shape, generator=generator) for name, value in names.items()}


def model(**changes) -> Model:
    torch.manual_seed(0)
    made = Model(build("dstformer", TINY).eval(), "dstformer", TINY, "screen", 50.0, 9, card={"name": "tiny"})
    return replace(made, **changes)


def same(a, b) -> bool:
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def layouts(state) -> dict[str, dict]:
    """One set of weights as it is found in the wild."""
    prefixed = {f"module.{key}": value for key, value in state.items()}
    mmpose = {motionbert.to_mmpose(key): value for key, value in state.items()}
    return {
        "training": {"epoch": 60, "lr": 1e-4, "optimizer": {"state": {}}, "model_pos": prefixed, "min_loss": 37.2},
        "slim": {"model_pos": state},
        "model": {"model": prefixed},
        "bare": state,
        "mmpose": {"meta": {"epoch": 1}, "state_dict": mmpose},
    }


@pytest.mark.parametrize("wild", layouts({}))
def test_official_layouts_load_and_say_what_they_are(wild, lite, tmp_path):
    path = tmp_path / "best_epoch.bin"
    torch.save(layouts(lite)[wild], path)
    loaded = load_model(path)
    assert same(loaded.lifter.state_dict(), lite)
    assert (loaded.name, loaded.framing, loaded.rate_hz, loaded.clip_length) == ("dstformer", "screen", 50.0, 243)
    assert loaded.card["name"] == "MotionBERT Lite"
    assert loaded.card["layout"] == ("mmpose" if wild == "mmpose" else "motionbert")
    assert loaded.card.get("best_mpjpe_mm") == (37.2 if wild == "training" else None)


def test_published_accuracy_goes_by_the_names_that_the_files_are_published_under(lite):
    found = motionbert.recognize({"model_pos": lite}, "x")
    full = replace(found, family="MotionBERT full")
    for folder, mm in (("MB_train_h36m", "39.2"), ("FT_MB_release_MB_ft_h36m", "37.2"), ("mine", "which it is")):
        assert mm in full.card(weights.Path("/x") / folder / "best_epoch.bin")["published"]
    assert "not stated" in found.card(weights.Path("/x/best_epoch.bin"))["published"]


def test_full_size_goes_round_the_layouts_and_still_answers_the_originals_numbers(tmp_path):
    with torch.device("meta"):
        names = DSTformer(**FULL).state_dict()
    state = {key: value.float() for key, value in filled(names, "B").items()}
    torch.save(motionbert.lay_out(state, "motionbert"), tmp_path / "first.bin")
    convert(tmp_path / "first.bin", "mmpose", tmp_path / "second.pth")
    convert(tmp_path / "second.pth", "twoview", tmp_path / "third.pt")
    convert(tmp_path / "third.pt", "motionbert", tmp_path / "fourth.bin")
    again = torch.load(tmp_path / "fourth.bin", weights_only=True)
    assert same(again["model_pos"], {f"module.{key}": value for key, value in state.items()})
    last = load_model(tmp_path / "third.pt")
    assert last.card["name"] == "MotionBERT full"
    with torch.inference_mode():
        answer = last.lifter(asked(2, 9).float())
    assert distance(answer, FINGERPRINT["cases"]["full_fillB"]["B2_F9"]["output"]) < 5e-5


def test_our_own_files_keep_everything(tmp_path):
    save_model(tmp_path / "m.pt", model())
    loaded = load_model(tmp_path / "m.pt")
    assert loaded.facts() == model().facts()
    assert same(loaded.lifter.state_dict(), model().lifter.state_dict())
    assert not loaded.lifter.training
    save_model(tmp_path / "half.pt", model(), half=True)
    assert (tmp_path / "half.pt").stat().st_size < 0.6 * (tmp_path / "m.pt").stat().st_size
    halved = load_model(tmp_path / "half.pt").lifter.state_dict()
    assert all(value.dtype == torch.float32 for value in halved.values())


def test_a_setting_under_its_older_name_is_read(tmp_path):
    save_model(tmp_path / "m.pt", model(config={**TINY, "remember": "blocks"}))
    assert load_model(tmp_path / "m.pt").lifter.checkpointing == "blocks"


def test_a_weight_that_is_not_a_number_is_not_written(tmp_path):
    broken = model()
    nn.init.constant_(broken.lifter.head.weight, float("nan"))
    with pytest.raises(LifterError, match=r"head\.weight has values that are not finite"):
        save_model(tmp_path / "m.pt", broken)
    assert not list(tmp_path.iterdir())


def test_root_relative_checkpoints_are_put_back_into_the_picture(tmp_path):
    """A network that copies its input is in the picture; one that takes the pelvis away is not."""

    class Copy(nn.Module):
        def __init__(self, relative: bool) -> None:
            super().__init__()
            self.relative = relative

        def forward(self, x):
            return x - x[:, :, :1] if self.relative else x

    assert motionbert.is_root_relative(Copy(True))
    assert not motionbert.is_root_relative(Copy(False))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model_pos": {"layers_conv.0.weight": torch.zeros(2)}}, ["VideoPose3D", "missing temp_embed"]),
        ({"model": {"module.head.fc1.weight": torch.zeros(2)}}, ["action recognition"]),
        ({"state_dict": {"backbone.layer1.0.conv1.weight": torch.zeros(2)}}, ["ResNet"]),
        ({"state_dict": {"head.mlp.0.weight": torch.zeros(2)}}, ["2D detector", "--detector"]),
        ({"something": torch.zeros(2)}, ["1 weights, from something on"]),
        ({"epoch": 3, "note": "hello"}, ["holds no weights", "epoch, note"]),
        ([1, 2], ["holds a list"]),
        ({**records.header("model"), "lifter": {}}, ["damaged model file", "'name'"]),
    ],
)
def test_other_files_are_refused_with_what_they_seem_to_be(content, words, tmp_path):
    torch.save(content, tmp_path / "f.pth")
    with pytest.raises((LifterError, FormatError)) as caught:
        load_model(tmp_path / "f.pth")
    for word in words:
        assert word in str(caught.value)


def test_missing_unknown_and_misshapen_weights_are_named(lite, tmp_path):
    state = dict(lite)
    del state["blocks_ts.3.mlp_t.fc1.weight"]
    state |= {"extra": torch.zeros(1), "norm.bias": torch.zeros(7)}
    torch.save({"model_pos": state}, tmp_path / "f.bin")
    with pytest.raises(LifterError) as caught:
        load_model(tmp_path / "f.bin")
    for words in ("1 missing: blocks_ts.3.mlp_t.fc1.weight", "1 unknown: extra", "norm.bias (7,) instead of (256,)"):
        assert words in str(caught.value)


class Bomb:
    """A pickle that leaves a file behind where it is read carelessly."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def test_code_is_neither_run_nor_read(tmp_path):
    mark = tmp_path / "ran"
    torch.save({"model_pos": Bomb(str(mark))}, tmp_path / "f.bin")
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(Bomb(str(mark))))
    torch.save(DSTformer(**TINY), tmp_path / "whole.bin")
    for name, culprit in (("f.bin", "mkdir"), ("f.pkl", "is a pickle"), ("whole.bin", "DSTformer")):
        with pytest.raises(LifterError, match=rf"{culprit}.*could run code.*refused"):
            load_model(tmp_path / name)
    assert not mark.exists()


def test_half_a_file_an_empty_one_and_a_text(tmp_path):
    save_model(tmp_path / "m.pt", model())
    whole = (tmp_path / "m.pt").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello"):
        (tmp_path / "f.pt").write_bytes(content)
        with pytest.raises(LifterError, match="truncated or not a PyTorch file"):
            load_model(tmp_path / "f.pt")


def test_a_model_of_a_later_version_says_so(tmp_path):
    save_model(tmp_path / "m.pt", model())
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    torch.save(content | {"version": 99, "made_by": "twoview 9.0"}, tmp_path / "m.pt")
    with pytest.raises(FormatError, match=r"twoview 9\.0"):
        load_model(tmp_path / "m.pt")


def test_conversions_that_would_lose_what_the_model_means(tmp_path):
    save_model(tmp_path / "box.pt", model(framing="box"))
    with pytest.raises(LifterError, match="framed by 'box'"):
        convert(tmp_path / "box.pt", "motionbert", tmp_path / "out.bin")
    with pytest.raises(LifterError, match="DSTformers only"):
        convert("twoview-small", "mmpose", tmp_path / "out.bin")
    gate = Model(made("gated"), "gated", SMALL["gated"], "screen", 30.0, 9)
    save_model(tmp_path / "gate.pt", gate)
    with pytest.raises(LifterError, match="'gated'") as error:
        convert(tmp_path / "gate.pt", "motionbert", tmp_path / "out.bin")
    assert "gate=false" in error.value.hint
    save_model(tmp_path / "m.pt", model())
    with pytest.raises(LifterError, match="no layout 'caffe'"):
        convert(tmp_path / "m.pt", "caffe", tmp_path / "out.bin")
    assert not (tmp_path / "out.bin").exists()


def test_a_recognized_checkpoint_goes_into_the_cache_under_its_name(lite, tmp_path, cache):
    torch.save({"model_pos": lite}, tmp_path / "best_epoch.bin")
    added, name = add_checkpoint(tmp_path / "best_epoch.bin")
    assert name == "motionbert-lite"
    assert find_model(name) == cache / "motionbert-lite.pth"
    assert same(load_model(name).lifter.state_dict(), added.lifter.state_dict())


def test_own_models_and_strangers_are_not_put_there(tmp_path, cache):
    save_model(tmp_path / "m.pt", model())
    assert add_checkpoint(tmp_path / "m.pt")[1] == ""
    torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(LifterError):
        add_checkpoint(tmp_path / "other.pth", "motionbert-lite")
    assert not cache.exists()


def test_names_and_devices_that_there_are_not():
    with pytest.raises(LifterError, match="no model 'nobody'") as caught:
        load_model("nobody")
    assert "twoview-small" in caught.value.hint
    with pytest.raises(LifterError, match="no device 'cuda:77'"):
        load_model("twoview-small", device="cuda:77")
    assert load_model("twoview-small", device="auto").device.type in ("cpu", "cuda")


class Own(nn.Module):
    """A lifter that is no part of twoview."""

    clip_length = 9

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)


OWN = f"{__name__}:Own"
POPEN = {"name": "subprocess:Popen", "config": {"args": "touch ran", "shell": True}}


def changed(tmp_path, **content):
    """A model file with other content than was written."""
    save_model(tmp_path / "m.pt", model())
    old = torch.load(tmp_path / "m.pt", weights_only=True)
    torch.save(old | content, tmp_path / "m.pt")
    return tmp_path / "m.pt"


@pytest.mark.parametrize(
    "named",
    [
        POPEN,
        {"name": "gated", "config": {"adapted": POPEN, "unadapted": {"name": "tcn", "config": {}}}},
        {"name": "gated", "config": {"unadapted": POPEN, "adapted": {"name": "tcn", "config": {}}}},
        {"name": "no.such.module:Net", "config": {}},
    ],
)
def test_a_file_runs_no_program_that_it_names(named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = changed(tmp_path, lifter=named)
    monkeypatch.setattr(plugins, "load", lambda *_: pytest.fail("imported"))
    for open_it in (load_model, add_checkpoint, lambda p: convert(p, "twoview", tmp_path / "out.pt")):
        with pytest.raises(LifterError, match="program and no part of twoview") as caught:
            open_it(path)
    assert "--trust" in caught.value.hint
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.pt"]


def test_a_lifter_that_is_trusted_by_its_whole_name_is_built(tmp_path):
    save_model(tmp_path / "m.pt", Model(Own(), OWN, {}, "box", 30.0, 9))
    assert load_model(tmp_path / "m.pt", trust=[OWN]).name == OWN
    for other in ((), ("subprocess:Popen",), (__name__,), ("test_model:Own2",)):
        with pytest.raises(LifterError, match="refused"):
            load_model(tmp_path / "m.pt", trust=other)


DEEP: dict = {}
for _ in range(200):
    DEEP = {"x": DEEP}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"version": 0}, "its version is 0"),
        ({"version": "1"}, "its version is '1'"),
        ({"version": True}, "its version is True"),
        ({"lifter": 5}, "damaged model file"),
        ({"lifter": {"name": ["tcn"], "config": {}}}, "names no lifter"),
        ({"lifter": {"name": "tcn", "config": [1]}}, "no table of names"),
        ({"lifter": {"name": "tcn", "config": {"width": 10**9}}, "sha256": None}, "cannot have width=1000000000"),
        ({"lifter": {"name": "tcn", "config": {"width": 20_000}}, "sha256": None}, "does not fit|weights"),
        ({"lifter": {"name": "gated", "config": {}}}, "no adapted lifter"),
        ({"framing": ["screen"]}, "framing"),
        ({"space": 3}, "space"),
        ({"rate_hz": float("nan")}, "rate_hz=nan"),
        ({"rate_hz": "fast"}, "rate_hz='fast'"),
        ({"rate_hz": -30.0}, "rate_hz=-30"),
        ({"rate_hz": 1e12}, "rate_hz"),
        ({"clip_length": 10**9}, "clip_length=1000000000"),
        ({"clip_length": 0}, "clip_length=0"),
        ({"clip_length": 27.5}, "clip_length=27.5"),
        ({"clip_length": 100, "sha256": None}, "clips of 100 frames"),
        ({"skeleton": "coco17"}, "skeleton 'coco17'"),
        ({"card": 5}, "card"),
        ({"card": DEEP}, "card|PyTorch"),
        ({"card": {"accuracy": "another"}}, "checksum"),
        ({"sha256": "0" * 64}, "checksum"),
        ({"state_dict": 5}, "state_dict"),
        ({"state_dict": {"x": "y"}}, "state_dict"),
        ({"state_dict": {3: torch.zeros(1)}}, "state_dict"),
        ({"state_dict": {"x": torch.zeros(1).to_sparse()}}, "unknown kind"),
    ],
)
def test_damaged_and_absurd_model_files_answer_in_one_line(content, words, tmp_path):
    with pytest.raises((LifterError, FormatError), match=words) as caught:
        load_model(changed(tmp_path, **content))
    assert len(caught.value.message) < 500
    assert "\n" not in caught.value.message


def test_one_changed_bit_of_a_weight_is_noticed(tmp_path):
    state = {key: value.clone() for key, value in model().lifter.state_dict().items()}
    state["head.weight"][0, 0] += 1e-6
    with pytest.raises(LifterError, match="checksum"):
        load_model(changed(tmp_path, state_dict=state))
    state["head.weight"][0, 0] = float("nan")
    with pytest.raises(LifterError, match=r"head\.weight has values that are not finite"):
        load_model(changed(tmp_path, state_dict=state))


def test_files_from_before_there_was_a_checksum_are_read(tmp_path):
    content = torch.load(changed(tmp_path), weights_only=True)
    torch.save({key: value for key, value in content.items() if key != "sha256"}, tmp_path / "m.pt")
    assert load_model(tmp_path / "m.pt").name == "dstformer"


@pytest.mark.parametrize("key", ["blocks_st.x.mlp_s.fc1.weight", "blocks_st.999999999.mlp_s.fc1.weight"])
def test_checkpoints_with_names_that_no_network_has(key, lite, tmp_path):
    torch.save({"model_pos": {**lite, key: torch.zeros(1)}}, tmp_path / "f.bin")
    with pytest.raises(LifterError):
        load_model(tmp_path / "f.bin")


def test_checkpoints_whose_weights_have_no_shape(lite, tmp_path):
    torch.save({"model_pos": {**lite, "head.weight": torch.zeros(())}}, tmp_path / "f.bin")
    with pytest.raises(LifterError, match="damaged checkpoint"):
        load_model(tmp_path / "f.bin")
