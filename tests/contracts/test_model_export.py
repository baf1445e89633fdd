"""Every kind of exported file answers as the model does, from pixels, for any clip, and says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_lifters import SMALL, made

from twoview.errors import LifterError, MissingBackend
from twoview.lifting import model_export
from twoview.lifting.model import Model, load_model
from twoview.lifting.model_export import EXPORTERS, INPUTS, Monocular, export

RULES = {"tcn": "box", "dstformer": "screen", "gated": "box"}
CASES = [
    (kind, lifter) for kind in EXPORTERS for lifter in RULES if (kind, lifter) not in {("pt2", "tcn"), ("pt2", "gated")}
]  # it is slow


def model(lifter: str) -> Model:
    network = made(lifter)
    return Model(network, lifter, SMALL[lifter], RULES[lifter], 30.0, network.clip_length, card={"title": "small"})


def people(batch: int, frames: int) -> tuple[np.ndarray, ...]:
    """Others than the exporters try: landscape, some joints unseen, one clip's focal length known."""
    random = np.random.default_rng(batch + frames)
    xy = (random.normal(size=(batch, frames, 17, 2)) * 80 + [1400, 500]).astype(np.float32)
    score = random.random((batch, frames, 17)).astype(np.float32)
    score[score < 0.2] = 0
    size = np.tile(np.float32([1920, 1080]), (batch, 1))
    return xy, score, size, np.float32([1700, *[0] * (batch - 1)])


def answer(path: Path, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    """What the file says, with none of our code for those that claim to need none."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return session.run(None, dict(zip(INPUTS, inputs, strict=True)))[0]
    tensors = [torch.from_numpy(value) for value in inputs]
    with torch.inference_mode():
        if path.suffix == ".pt2":
            return torch.export.load(path).module()(*tensors).numpy()
        loaded = load_model(path)
        return Monocular(loaded.lifter, loaded.framing)(*tensors).numpy()


@pytest.mark.parametrize(("kind", "lifter"), CASES)
def test_the_file_answers_as_the_model_does(kind, lifter, tmp_path):
    source = model(lifter)
    made_file = export(source, tmp_path / f"m.{kind}", kind=kind)
    assert made_file.difference is None or made_file.difference < model_export.TOLERANCE
    assert list(tmp_path.iterdir()) == [tmp_path / f"m.{kind}"]
    for batch, frames in ((1, 1), (4, 6), (2, 9)):
        inputs = people(batch, frames)
        with torch.inference_mode():
            expected = Monocular(source.lifter, source.framing)(*map(torch.from_numpy, inputs)).numpy()
        np.testing.assert_allclose(answer(made_file.path, inputs), expected, atol=1e-4)
    if kind == "onnx":
        says_what_it_reads_and_answers(made_file.path)


@pytest.mark.parametrize("kind", ["pt", "onnx"])
def test_a_model_of_single_frames_and_another_framing_stays_one(kind, tmp_path):
    source = model("dstformer").adjusted(framing="crop", clip_length=1)
    path = export(source, tmp_path / f"m.{kind}", kind=kind).path
    inputs = people(3, 1)
    with torch.inference_mode():
        expected = Monocular(source.lifter, source.framing)(*map(torch.from_numpy, inputs)).numpy()
    np.testing.assert_allclose(answer(path, inputs), expected, atol=1e-4)
    if kind == "pt":
        assert (load_model(path).clip_length, load_model(path).framing) == (1, "crop")
    else:
        assert (facts(path)["twoview.clip_length"], facts(path)["twoview.framing"]) == ("1", "crop")


def facts(path: Path) -> dict[str, str]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map


def says_what_it_reads_and_answers(path: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["twoview.inputs"]) == INPUTS
    assert "half the" in told["twoview.output"]
    assert json.loads(told["twoview.card"])["title"] == "small"
    assert [given.name for given in session.get_inputs()] == list(INPUTS)


def test_a_file_that_differs_from_the_model_is_removed(tmp_path, monkeypatch):
    def wrong(_, path):
        path.write_text("x")
        return 0.5

    monkeypatch.setattr(model_export, "EXPORTERS", {"bad": wrong})
    with pytest.raises(LifterError, match=r"by up to 0\.5 screen units"):
        export(model("tcn"), tmp_path / "m.bad", kind="bad")
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(LifterError, match="no export to 'tflite'") as caught:
        export(model("tcn"), tmp_path / "m.tflite", kind="tflite")
    assert "onnx" in caught.value.hint


def test_onnx_without_its_packages_is_refused_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(model_export, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(MissingBackend, match=r"^onnxscript not installed") as caught:
        export(model("tcn"), tmp_path / "m.onnx", kind="onnx")
    assert "pip install onnx onnxscript" in caught.value.hint
    assert not list(tmp_path.iterdir())
