import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from people import standing_people

from twoview.config import BodyRange, CameraRange, NoiseModel, PretrainConfig
from twoview.datasets.motion import Motion
from twoview.errors import FormatError, TrainingError
from twoview.training.pretraining import draw_batch, learning_rate, lifting_loss, pretrain, score_lifter
from twoview.training.virtual_cameras import MotionBank

SMALL = {"width": 32, "dilations": [1, 3]}


def config(**changes) -> PretrainConfig:
    values = {
        "lifter_settings": SMALL,
        "steps": 6,
        "frames": 108,
        "warmup": 2,
        "save_every": 2,
        "validate_every": 2,
        "precision": "fp32",
    }
    return PretrainConfig(**(values | changes))


@pytest.fixture(scope="module")
def motions() -> list[Motion]:
    return [Motion(f"m{i}", m.numpy(), 60.0) for i, m in enumerate(standing_people(4, 120))]


def weights(model) -> np.ndarray:
    return torch.cat([p.detach().flatten() for p in model.lifter.parameters()]).numpy()


def test_the_same_seed_gives_the_same_weights_and_another_does_not(motions, tmp_path):
    first, again, other = (
        weights(pretrain(config(seed=s), motions, out=tmp_path / name)) for name, s in (("a", 1), ("b", 1), ("c", 2))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_stopped_run_continues_as_if_nothing_had_happened(motions, tmp_path, optimizer):
    class StopError(Exception):
        pass

    def stop(event):
        if event.done == 4:
            raise StopError

    whole = weights(pretrain(config(optimizer=optimizer), motions, out=tmp_path / "whole"))
    with pytest.raises(StopError):
        pretrain(config(optimizer=optimizer), motions, out=tmp_path / "cut", on_progress=stop)
    assert np.array_equal(weights(pretrain(config(optimizer=optimizer), motions, out=tmp_path / "cut")), whole)


def test_a_run_with_other_settings_is_not_continued(motions, tmp_path):
    pretrain(config(), motions, out=tmp_path)
    with pytest.raises(TrainingError, match=r"other settings \(seed\)"):
        pretrain(config(seed=9), motions, out=tmp_path)


def test_a_state_of_the_old_layout_is_continued(motions, tmp_path):
    whole = weights(pretrain(config(), motions, out=tmp_path / "whole"))
    pretrain(config(steps=4), motions, out=tmp_path / "old")
    state = torch.load(tmp_path / "old" / "state.pt", weights_only=True)
    assert (state["format"], state["version"]) == ("pretraining state", 2)
    kept = {name: state[name] for name in ("step", "seconds", "lifter", "average", "optimizers")}
    torch.save({"format": "pretrain-state", "config": asdict(config()), **kept}, tmp_path / "old" / "state.pt")
    with pytest.raises(TrainingError, match=r"other settings \(frames\)"):
        pretrain(config(frames=54), motions, out=tmp_path / "old")
    pretrain(config(), motions, out=tmp_path / "old")
    assert json.loads((tmp_path / "old" / "log.jsonl").read_text().splitlines()[-1])["step"] == 6
    assert whole.shape == weights(pretrain(config(), motions, out=tmp_path / "old")).shape


def test_a_state_with_parts_missing_is_refused_in_one_line(motions, tmp_path):
    pretrain(config(steps=2), motions, out=tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    wrong = [
        {k: v for k, v in state.items() if k != key} for key in ("step", "lifter", "average", "optimizers", "settings")
    ]
    wrong += [{**state, **change} for change in ({"step": "x"}, {"lifter": {}}, {"average": 3}, {"optimizers": []})]
    for content in wrong:
        torch.save(content, tmp_path / "state.pt")
        with pytest.raises(FormatError, match="is damaged") as caught:
            pretrain(config(steps=2), motions, out=tmp_path)
        assert "\n" not in caught.value.message


def test_it_learns_and_logs(motions, tmp_path):
    settings = config(steps=60, frames=512, lr=1e-2, lr_rest=1e-2, save_every=20, validate_every=20)
    bank = MotionBank(motions)
    losses = []
    model = pretrain(
        settings,
        motions,
        out=tmp_path,
        validation={"same": motions},
        on_progress=lambda e: losses.append(e.values["loss"]),
    )
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [20, 40, 60]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])
    assert rows[-1]["same"][0] == pytest.approx(float(score_lifter(model.lifter, bank)["mpjpe"].mean()), abs=0.5)
    assert model.card["progress"]["step"] == 60
    assert (model.framing, model.rate_hz, model.clip_length) == ("box", 30.0, 81)


def test_a_perfect_answer_costs_nothing_and_a_wrong_depth_does(motions):
    batch = draw_batch(MotionBank(motions), config(), [NoiseModel()], 0)
    wrong = batch.label * torch.tensor([1.0, 1.0, -1.0])
    assert lifting_loss(batch.label.clone(), batch, config()) < 1e-3
    assert lifting_loss(wrong, batch, config()) > 0.05


def test_batches_are_a_function_of_seed_and_step(motions):
    bank = MotionBank(motions)
    first, again, later = (draw_batch(bank, config(), [NoiseModel()], step) for step in (3, 3, 4))
    assert torch.equal(first.input, again.input)
    assert first.input.shape != later.input.shape or not torch.equal(first.input, later.input)


def test_cameras_bodies_and_detector_errors_are_those_of_the_settings(motions):
    bank = MotionBank(motions)
    exact = NoiseModel(level=(1e-9, 1e-9), outliers=0.0, missing=0.0, blind=0.0, swaps=0.0)
    none = dict.fromkeys(("swapped_arms", "swapped_legs", "turned_limbs", "bent", "leaning", "tumbling"), 0.0)
    as_captured = BodyRange(mirrored=0.0, height=(1.0, 1.0), build=0.0, **none)
    level = CameraRange(distance=(4.0, 4.001), height=(1.0, 1.001), roll=0.0, off_center=0.0)
    settings = config(cameras=level, bodies=as_captured, detector=exact, converted=0.0)
    found = [draw_batch(bank, settings, [settings.detector], step) for step in range(4)]
    for batch in found:
        assert torch.allclose(batch.screen, batch.label[..., :2], atol=1e-4)
    names = ("cameras", "bodies", "detector")
    for name in names:
        others = replace(settings, **{name: type(getattr(settings, name))()})
        changed = [draw_batch(bank, others, [others.detector], step) for step in range(4)]
        assert any(not torch.allclose(a.screen, b.screen, atol=1e-3) for a, b in zip(found, changed, strict=True)), name


def test_no_clip_is_longer_than_the_lifter_takes(motions):
    bank = MotionBank(motions)
    assert max(draw_batch(bank, config(), [NoiseModel()], s, clip_length=9).input.shape[1] for s in range(12)) <= 9


def test_learning_rate_rises_and_falls_to_nothing():
    settings = config(steps=100, warmup=10)
    rates = [learning_rate(settings, step) for step in range(101)]
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[0] == pytest.approx(0.1)
    assert rates[100] == pytest.approx(0, abs=1e-9)


def test_a_perfect_lifter_scores_only_the_focal_length(motions):
    """What `score_lifter` reports for the input alone is large, so that the number means something."""

    class Flat(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x[..., :2], torch.zeros_like(x[..., :1])], dim=-1)

    errors = score_lifter(Flat(), MotionBank(motions))
    assert errors["mpjpe"].mean() > 100
    assert (errors["pa_mpjpe"] < errors["mpjpe"]).float().mean() > 0.9
