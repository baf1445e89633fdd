"""DSTformer against the original: names and shapes of all weights, and its answers to many digits."""

from __future__ import annotations

import pytest
import torch
from fingerprint import FINGERPRINT, SIZES, asked, distance, filled, listed
from small_lifters import FULL, LITE

from twoview.geometry.similarity import mirror
from twoview.lifters import dstformer, motionbert
from twoview.lifters.dstformer import DSTformer

SETTINGS = {"full": FULL, "lite": LITE}
FLOAT64, FLOAT32 = 1e-10, 5e-5  # the original's own float32 differs from its float64 by 8.5e-6


def network(size: str, fill: str, dtype: torch.dtype = torch.float64) -> DSTformer:
    with torch.device("meta"):  # no time for random weights that are replaced
        lifter = DSTformer(**SETTINGS[size]).eval()
    lifter.load_state_dict(filled(lifter.state_dict(), fill), assign=True)
    return lifter.to(dtype)


def shape_of(case: str) -> tuple[int, int]:
    batch, frames = case.removeprefix("B").split("_F")
    return int(batch), int(frames)


@pytest.mark.parametrize("size", SIZES)
def test_weights_have_the_originals_names_shapes_and_order(size):
    with torch.device("meta"):
        own = {name: tuple(value.shape) for name, value in DSTformer(**SETTINGS[size]).state_dict().items()}
    original = {name: full if size == "full" else lite for name, full, lite, _ in listed()}
    assert own == original
    assert sum(torch.Size(shape).numel() for shape in own.values()) == {"full": 42_466_317, "lite": 16_001_549}[size]


def test_the_defaults_are_the_lite_network():
    assert {k: v.shape for k, v in DSTformer().state_dict().items()} == {
        k: v.shape for k, v in DSTformer(**LITE).state_dict().items()
    }


def test_names_of_mmposes_port_both_ways():
    for name, _, _, mmpose in listed():
        assert motionbert.to_mmpose(name) == mmpose
        assert motionbert.from_mmpose(mmpose) == name


@pytest.mark.parametrize("fill", ["A", "B"])
@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_answers_the_originals_numbers_in_float64(size, fill):
    lifter, cases = network(size, fill), FINGERPRINT["cases"][f"{size}_fill{fill}"]
    for case in ("B2_F9", "B1_F1"):
        assert distance(lifter(asked(*shape_of(case))), cases[case]["output"]) < FLOAT64, case


@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_answers_the_originals_representation_and_mean_over_both_sides(size):
    lifter, cases, x = network(size, "B"), FINGERPRINT["cases"][f"{size}_fillB"], asked(1, 27)
    assert distance(lifter.represent(x), cases["B1_F27"]["representation"]) < FLOAT64
    both = (lifter(x) + mirror(lifter(mirror(x)))) / 2
    assert distance(both, cases["B1_F27"]["flip_tta_average"]) < FLOAT64


@torch.inference_mode()
def test_answers_the_originals_numbers_in_float32_up_to_the_longest_clip():
    """The full network's longest clip takes seconds: `benchmarks/lifter_speed.py` compares it."""
    lifter, cases = network("lite", "B", torch.float32), FINGERPRINT["cases"]["lite_fillB"]
    for case in ("B1_F27", "B2_F9", "B1_F1", "B1_F243"):
        assert distance(lifter(asked(*shape_of(case)).float()), cases[case]["output"]) < FLOAT32, case


def test_one_detail_wrong_is_seen(monkeypatch):
    """The smallest mistake, the other GELU, moves the answer by more than the tolerance: the tests above can fail."""
    gelu = dstformer.functional.gelu
    monkeypatch.setattr(dstformer.functional, "gelu", lambda x: gelu(x, approximate="tanh"))
    with torch.inference_mode():
        answer = network("lite", "B", torch.float32)(asked(1, 27).float())
    assert distance(answer, FINGERPRINT["cases"]["lite_fillB"]["B1_F27"]["output"]) > FLOAT32


def test_checkpointing_gives_the_same_gradients():
    torch.manual_seed(0)
    lifter = DSTformer(dim_feat=32, dim_rep=32, depth=2, num_heads=4)
    x, found = torch.randn(2, 5, 17, 3), {}
    for lifter.checkpointing in ("all", "blocks"):
        lifter.zero_grad()
        lifter(x).square().sum().backward()
        found[lifter.checkpointing] = torch.cat([p.grad.flatten() for p in lifter.parameters()])
    assert torch.allclose(found["all"], found["blocks"], rtol=1e-5, atol=1e-7)
    assert found["all"].abs().sum() > 0
