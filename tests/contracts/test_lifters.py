"""What every lifter of the table promises, whatever network it is."""

from __future__ import annotations

import resource
import tracemalloc
from dataclasses import replace

import pytest
import torch
from small_lifters import SMALL, made, settings
from torch import nn

from twoview import lifters
from twoview.errors import LifterError
from twoview.lifters import LIFTERS
from twoview.lifters.dstformer import DSTformer
from twoview.lifting.model import Model, load_model, save_model


class Mine(nn.Module):
    """A lifter of somebody else: every frame by itself."""

    clip_length = 9

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(51, width), nn.GELU(), nn.Linear(width, 51))

    def forward(self, x):
        return self.net(x.flatten(-2)).unflatten(-1, (17, 3))


@pytest.fixture(params=[*LIFTERS, "mine"])
def name(request) -> str:
    return f"{__name__}:Mine" if request.param == "mine" else request.param


def clips(batch: int, frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    score = (torch.rand(batch, frames, 17, 1, generator=generator) - 0.1).clamp(min=0)
    xy = torch.randn(batch, frames, 17, 2, generator=generator)
    return torch.cat([torch.where(score > 0, xy, torch.zeros(())), score], dim=-1)


def test_takes_every_length_up_to_its_longest(name):
    lifter = made(name)
    for batch, frames in ((1, 1), (3, 2), (2, lifter.clip_length)):
        answer = lifter(clips(batch, frames))
        assert answer.shape == (batch, frames, 17, 3)
        assert torch.isfinite(answer).all()


def test_nothing_seen_is_no_trouble(name):
    assert torch.isfinite(made(name)(torch.zeros(2, 5, 17, 3))).all()


def test_clips_of_a_batch_do_not_see_each_other(name):
    lifter, x = made(name), clips(5, 7)
    with torch.inference_mode():
        together, apart = lifter(x), torch.cat([lifter(clip[None]) for clip in x])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_the_input_is_left_alone_and_the_answer_depends_on_it(name):
    lifter, x = made(name), clips(2, 5)
    before = x.clone()
    with torch.inference_mode():
        first, again = lifter(x), lifter(x)
        other = lifter(x + 0.1)
    assert torch.equal(x, before)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_training_and_prediction_compute_the_same(name):
    """Shortcuts that are taken where nothing is differentiated change nothing."""
    lifter, x = made(name), clips(3, 9)
    with torch.inference_mode():
        quick = lifter(x)
    with torch.no_grad():
        plain = lifter(x)
    taught = lifter(x)
    assert taught.requires_grad
    torch.testing.assert_close(quick, taught.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plain, taught.detach(), atol=1e-5, rtol=1e-5)


def test_every_weight_learns(name):
    if name == "gated":
        pytest.skip("its two lifters are trained apart")
    lifter = made(name).train()
    lifter(clips(2, lifter.clip_length)).square().sum().backward()
    still = [key for key, value in lifter.named_parameters() if value.grad is None or not value.grad.any()]
    assert not still


def test_a_model_file_holds_all_it_takes(name, tmp_path):
    lifter = made(name)
    model = Model(lifter, name, settings(name), "box", 30.0, lifter.clip_length)
    save_model(tmp_path / "m.pt", model)
    loaded, x = load_model(tmp_path / "m.pt", trust=[f"{__name__}:Mine"]), clips(2, 5)
    with torch.inference_mode():
        assert torch.equal(loaded.lifter(x), lifter(x))
    assert loaded.name == name
    assert replace(loaded, lifter=lifter).facts() == model.facts()


def test_half_precision_is_nearly_the_same(name):
    lifter, x = made(name), clips(2, 9)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        half = lifter(x).float()
    with torch.inference_mode():
        whole = lifter(x)
    assert (half - whole).abs().max() < 0.1 * whole.abs().max()


@pytest.mark.parametrize(
    ("wrong", "config", "words"),
    [
        ("nobody", {}, "unknown lifter 'nobody'"),
        ("no.such.module:Thing", {}, "cannot load the lifter"),
        (f"{__name__}:Absent", {}, "cannot load the lifter"),
        ("tcn", {"heads": 3}, "does not take these settings"),
        ("dstformer", {"dim_feat": 30}, "not a multiple of num_heads"),
    ],
)
def test_names_and_settings_that_lead_nowhere(wrong, config, words):
    with pytest.raises(LifterError, match=words):
        lifters.build(wrong, config)


@pytest.mark.parametrize(
    ("absurd", "config"),
    [
        ("tcn", {"width": 10**9}),
        ("tcn", {"width": 40_000}),
        ("tcn", {"dilations": [1] * 10**6}),
        ("tcn", {"dilations": [10**12]}),
        ("tcn", {"width": -4}),
        ("tcn", {"width": "wide"}),
        ("dstformer", {"depth": 10**9}),
        ("dstformer", {"mlp_ratio": float("inf")}),
        ("dstformer", {"num_heads": 0}),
        ("gated", {"adapted": {"name": "tcn", "config": {}}, "unadapted": {"name": "tcn", "config": {"width": 10**9}}}),
        ("gated", {"adapted": {"name": "tcn"}, "unadapted": {}}),
        ("gated", {**SMALL["gated"], "steady": 10**12}),
    ],
)
def test_absurd_settings_are_refused_before_memory_is_taken(absurd, config):
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LifterError, match=f"lifter '{absurd if absurd != 'gated' else ''}"):
        lifters.build(absurd, config)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_finding_out_the_size_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    one = DSTformer(**SMALL["dstformer"]).state_dict()
    torch.manual_seed(3)
    two = lifters.build("dstformer", SMALL["dstformer"]).state_dict()
    assert all(torch.equal(value, two[key]) for key, value in one.items())
