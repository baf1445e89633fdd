"""Several views on one clock, from relations whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from twoview.errors import SyncError
from twoview.synchronization.several_views import Relation, chained, inverse, solve
from twoview.timeline import ClockMap, ClockQuality

TRUE = {"a": ClockMap(), "b": ClockMap(1.25, 1 + 40e-6), "c": ClockMap(-3.5, 1 - 25e-6), "d": ClockMap(0.4, 1 + 5e-6)}


def relation(
    first: str, second: str, *, wrong_s: float = 0.0, se_s: float = 1e-4, confidence: float = 0.999, refusal: str = ""
):
    """The true relation of two views, off by `wrong_s`."""
    clock = chained(inverse(TRUE[first]), TRUE[second])
    quality = ClockQuality(confidence, se_s, 2.0, 20.0, (9, 10), 1e-4)
    return Relation(first, second, ClockMap(clock.offset_s + wrong_s, clock.rate), quality, refusal, middle_s=30.0)


def test_exact_relations_give_the_exact_clocks():
    sync = solve([relation("a", "b"), relation("a", "c"), relation("b", "c")], "a", "sound")
    for view, clock in sync.clocks.items():
        assert clock.offset_s == pytest.approx(TRUE[view].offset_s, abs=1e-9)
        assert clock.drift_ppm == pytest.approx(TRUE[view].drift_ppm, abs=1e-3)
    assert sync.loop_s == pytest.approx(0, abs=1e-9)
    assert sync.warnings == ()


def test_any_view_can_be_the_reference():
    sync = solve([relation("a", "b"), relation("b", "c"), relation("a", "c")], "c", "sound")
    assert sync.views[0] == "c"
    at = float(sync.to_view("a", sync.to_session("b", 10.0)))
    assert at == pytest.approx(float(TRUE["b"].to_session(10.0)), abs=1e-9)


def test_a_view_that_is_reached_only_through_another_is_solved():
    relations = [relation("a", "b"), relation("a", "c", refusal="no shared sound"), relation("b", "c", confidence=0.99)]
    sync = solve(relations, "a", "sound")
    assert sync.clocks["c"].offset_s == pytest.approx(TRUE["c"].offset_s, abs=1e-9)
    assert sync.quality["c"].confidence == pytest.approx(0.999 * 0.99)
    assert sync.quality["c"].offset_se_s == pytest.approx(np.sqrt(2) * 1e-4, rel=1e-6)
    assert np.isnan(sync.loop_s)
    assert "a and c could not be compared directly" in sync.warnings[0]


def test_the_accuracy_of_a_chain_is_that_of_its_least_certain_pair():
    relations = [
        relation("a", "b", confidence=0.9),
        relation("b", "c", confidence=0.99),
        relation("a", "c", refusal="no"),
    ]
    rough = replace(relations[0], quality=replace(relations[0].quality, residual_s=0.02))
    for pairs in ([rough, *relations[1:]], [relations[1], relations[2], rough]):
        sync = solve(pairs, "a", "sound")
        assert sync.quality["c"].residual_s == 0.02
        assert sync.quality["c"].confidence == pytest.approx(0.9 * 0.99)


def test_the_more_certain_pair_has_the_greater_weight():
    apart = relation("a", "c", wrong_s=0.009, se_s=0.009)
    sync = solve([relation("a", "b"), apart, relation("b", "c")], "a", "sound")
    assert sync.clocks["c"].offset_s == pytest.approx(TRUE["c"].offset_s, abs=2e-5)
    assert sync.loop_s == pytest.approx(0.009, abs=1e-4)


def test_a_less_certain_pair_that_contradicts_is_named_and_left_out():
    relations = [relation("a", "b"), relation("a", "c"), relation("b", "c", wrong_s=0.8, confidence=0.95)]
    sync = solve(relations, "a", "sound")
    assert sync.clocks["c"].offset_s == pytest.approx(TRUE["c"].offset_s, abs=1e-9)
    assert "b and c contradict" in sync.warnings[0]
    assert "800.0 ms" in sync.warnings[0]


def test_the_odd_one_of_many_equally_certain_pairs_is_left_out():
    pairs = ["ab", "ac", "ad", "bc", "bd", "cd"]
    relations = [relation(*pair, wrong_s=0.3 if pair == "bd" else 0.0) for pair in pairs]
    sync = solve(relations, "a", "sound")
    assert "b and d contradict" in sync.warnings[0]
    assert sync.clocks["d"].offset_s == pytest.approx(TRUE["d"].offset_s, abs=1e-9)


def test_copies_are_named():
    sync = solve([replace(relation("a", "b"), copies=True)], "a", "sound")
    assert sync.warnings == ("a and b are the same recording: give the file of the other phone",)


def test_three_pairs_equally_certain_that_contradict_are_refused():
    with pytest.raises(SyncError, match=r"contradict each other by .* ms, and none is clearly the wrong one"):
        solve([relation("a", "b"), relation("a", "c"), relation("b", "c", wrong_s=0.8)], "a", "sound")


def test_an_unreachable_view_is_refused_with_the_reasons():
    relations = [relation("a", "b"), *(relation(v, "c", refusal=f"{v} is too far") for v in "ab")]
    with pytest.raises(
        SyncError, match=r"c and a, b cannot be related by sound: .*a is too far.*b is too far"
    ) as caught:
        solve(relations, "a", "sound", hint="try motion")
    assert caught.value.hint == "try motion"
