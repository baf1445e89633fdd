"""What a plan says about takes before anybody trains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from triangulated_takes import takes

from twoview import lifters
from twoview.config import FinetuneConfig
from twoview.errors import LifterError, TrainingError
from twoview.lifting.model import Model
from twoview.training import planning
from twoview.training.planning import plan


@pytest.fixture
def model():
    settings = {"width": 32, "dilations": (1, 3)}
    return Model(lifters.build("tcn", settings).eval(), "tcn", settings, "box", 30.0, 27)


@pytest.fixture
def session(monkeypatch):
    """Two takes whose triangulation is known, as an untrained lifter could not give it."""
    made, found = takes(2, frames=60)
    by_name = {f.take: f for f in found}
    monkeypatch.setattr(planning, "triangulate_takes", lambda given, *_, **__: [by_name[t.name] for t in given])
    return made, by_name


def test_a_plan_counts_and_measures(session, model):
    made, _ = session
    result = plan(made, model)
    assert [row.take for row in result.takes] == ["take0", "take1"]
    assert result.clips == sum(row.clips for row in result.takes) == 8
    assert result.minutes == pytest.approx(2 * 59 / 30 / 60, rel=0.02)
    assert 0 < result.training_minutes < 10
    assert all(row.angle_deg == pytest.approx(90, abs=10) for row in result.takes)
    assert any("takes" in said for said in result.advice)


@pytest.mark.parametrize(
    ("apart", "method", "said"),
    [(40.0, "paper", "usually makes"), (90.0, "paper", "sometimes makes"), (120.0, "paper", ""), (40.0, "phones", "")],
)
def test_a_plan_says_where_the_papers_loss_alone_harms(session, model, apart, method, said):
    made, by_name = session
    for name, found in by_name.items():
        by_name[name] = replace(found, lifter_mm=dict.fromkeys(found.views, apart))
    result = plan(made, model, FinetuneConfig(method=method))
    assert [row.lifter_mm for row in result.takes] == [apart, apart]
    sentences = [s for s in result.advice if "two-view 3D" in s]
    assert len(sentences) == bool(said)
    assert all(said in s and f"{apart:.0f} mm" in s for s in sentences)


def test_more_epochs_take_longer(session, model):
    made, _ = session
    config = FinetuneConfig()
    longer = replace(config, epochs=20 * config.epochs)
    assert plan(made, model, longer).training_minutes > 5 * plan(made, model, config).training_minutes


def test_the_time_covers_the_clips_for_the_papers_loss(session, model, monkeypatch):
    made, _ = session
    monkeypatch.setattr(planning, "seconds_per_step", lambda _, batch, frames, **__: batch * frames)
    default = FinetuneConfig()
    without = replace(default, phones=replace(default.phones, consistency=0.0))
    both = [plan(made, model, config).training_minutes for config in (default, without)]
    assert both[0] == pytest.approx(both[1] * (64 + 16 + 64) / 128)


def test_a_plan_counts_clips_of_the_rate_and_length_that_training_takes(session, model):
    made, _ = session
    few = plan(made, model, FinetuneConfig(rate_hz=15.0))
    assert few.clips < plan(made, model).clips
    assert plan(made, model, FinetuneConfig(clip_length=5)).clips > plan(made, model).clips
    with pytest.raises(LifterError, match="clips of 243 frames"):
        plan(made, model, FinetuneConfig(clip_length=243))
    assert few.minutes == pytest.approx(plan(made, model).minutes, rel=0.02)


def test_a_bad_angle_is_told(session, model):
    made, found = session
    for name in found:
        found[name] = replace(found[name], angle_deg={"a": 0.0, "b": 17.0})
    assert any("17 degrees apart" in said for said in plan(made, model).advice)


def test_takes_that_do_not_belong_are_named(model, monkeypatch):
    made, found = takes(5, frames=60)
    by_name = {f.take: f for f in found}
    monkeypatch.setattr(planning, "triangulate_takes", lambda given, *_, **__: [by_name[t.name] for t in given])
    assert not any("athlete" in said for said in plan(made, model).advice)
    odd = np.array([0.4, 1.5])[np.arange(17) % 2][:, None]
    by_name["take3"] = replace(by_name["take3"], points={v: p * odd for v, p in by_name["take3"].points.items()})
    still = {v: replace(p, xy=np.repeat(p.xy[:1], len(p), axis=0)) for v, p in made[1].poses.items()}
    advice = plan([made[0], replace(made[1], poses=still), *made[2:]], model).advice
    assert any(said.startswith("take3 seems to show another athlete") for said in advice)
    assert any("hardly moves in take1" in said for said in advice)


def test_one_view_is_refused(session, model):
    made, _ = session
    with pytest.raises(TrainingError, match="one view"):
        plan([replace(made[0], poses={"a": made[0].poses["a"]})], model)
