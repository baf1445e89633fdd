"""Near the poses of the takes the adapted lifter answers, and far from them the unadapted one."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_takes import take
from torch import nn

from twoview.geometry.similarity import canonical, mirror
from twoview.lifters.gate import FAR
from twoview.lifting.inference import lift
from twoview.lifting.model import Model, load_model, save_model
from twoview.poses import Poses2D
from twoview.takes import resample
from twoview.training.clips import Clip, collate, cut
from twoview.training.gate import ALIKE_M, OWN, between_takes, gated, spread_out, with_mirrored
from twoview.training.method_phones import rehearsal_clips

ARMS = [11, 12, 13, 14, 15, 16]
SHIFT = 0.3  # screen units by which the adapted lifter moves the joints of the arms


def shifted(model: Model) -> nn.Module:
    """An adapted lifter whose corrections are known: it answers lower arms than the model's."""
    lifter = copy.deepcopy(model.lifter)
    with torch.no_grad():
        lifter.leave[1].bias.view(17, 3)[ARMS, 1] += SHIFT
    return lifter.eval()


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("twoview-small")


@pytest.fixture(scope="module")
def walks() -> list[Poses2D]:
    """Everyday movement of several people."""
    return [clip for clip in rehearsal_clips() if len(clip) > 120][:6]


def clips_of(poses: Poses2D, name: str) -> list[Clip]:
    """Clips of a take whose two views are the same."""
    whole = take(name)
    return cut(resample(replace(whole, poses={"a": poses, "b": poses}, sync=replace(whole.sync, clocks={
        "a": whole.sync.clocks["a"], "b": whole.sync.clocks["a"]})), 30.0), length=81)  # fmt: skip


def upside_down(poses: Poses2D) -> Poses2D:
    """A movement that nobody filmed."""
    return replace(poses, xy=[0.0, float(poses.size[1])] + poses.xy * [1.0, -1.0])


def moved(model: Model, gate: Model, poses: Poses2D) -> np.ndarray:
    """By how many screen units of the picture each frame's answer (T,) differs from the unadapted one."""
    return np.linalg.norm(lift(gate, poses).xyz - lift(model, poses).xyz, axis=-1).max(axis=1)


def test_the_adapted_lifter_answers_where_it_was_adapted_and_only_there(model, walks):
    adapted = shifted(model)
    gate = gated(model, adapted, clips_of(walks[0], "take1"))
    near, far = lift(gate, walks[0]), lift(gate, upside_down(walks[0]))
    assert near.adapted_share.mean() > 0.97
    everywhere = replace(model, lifter=adapted)
    taught = near.adapted_share > 0.999
    assert near.xyz[taught] == pytest.approx(lift(everywhere, walks[0]).xyz[taught], abs=1e-5)
    assert (far.adapted_share == 0).all()
    assert far.xyz == pytest.approx(lift(model, upside_down(walks[0])).xyz, abs=1e-6)
    assert moved(model, gate, walks[0]).mean() > 20 * moved(model, gate, upside_down(walks[0])).mean() + 0.05


def test_the_share_says_how_much_of_the_answer_is_the_adapted_lifters(model, walks):
    gate = gated(model, shifted(model), clips_of(walks[0], "take1"))
    x = collate(clips_of(walks[3], "take2")[:4], model.framing).x
    x = torch.cat([x, x * torch.tensor([1.0, -1.0, 1.0])])
    with torch.no_grad():
        answer, share = gate.lifter.parts(x)
        assert (gate.lifter(x) == answer).all()
        correction = (answer - model.lifter(x))[..., ARMS, 1]
    assert correction == pytest.approx(SHIFT * share[..., None].expand_as(correction), abs=1e-5)
    assert share.min() == 0


def test_mirrored_movement_is_as_near(model, walks):
    gate = gated(model, shifted(model), clips_of(walks[0], "take1"))
    x = collate(clips_of(walks[0], "take1")[:4], model.framing).x
    with torch.no_grad():
        assert gate.lifter.parts(mirror(x))[1].mean() > 0.9
    for poses in (gate.lifter.unadapted_poses, gate.lifter.adapted_poses):
        half = len(poses) // 2
        assert poses[half:] == pytest.approx(mirror(poses[:half]), abs=1e-6)
        assert torch.cdist(poses[:half].flatten(1), mirror(poses[:half]).flatten(1)).min() > 1e-3


def test_reach_is_what_was_corrected_there_and_in_all_and_how_far_takes_are_apart(model, walks):
    clips = [*clips_of(walks[0], "take1"), *clips_of(walks[1], "take2")]
    adapted = shifted(model)
    found = gated(model, adapted, clips).lifter
    x = [collate([clip], model.framing).x for clip in clips]
    with torch.no_grad():
        old, new = (
            torch.cat([canonical(lifter(one)).flatten(0, 1) for one in x]) for lifter in (model.lifter, adapted)
        )
    number = torch.cat([torch.full((2 * len(clip.time),), int(clip.take[-1])) for clip in clips])
    corrected = (new - old).norm(dim=-1).mean(-1)
    apart = between_takes(old, number - 1)
    assert 0.02 < apart < 0.5
    nearest = torch.cdist(found.unadapted_poses.flatten(1), old.flatten(1)).argmin(dim=1)
    half = len(found.reach) // 2
    expected = corrected[nearest[:half]] ** OWN * (corrected.median() * apart) ** (0.5 - OWN / 2)
    assert found.reach[:half] == pytest.approx(expected, rel=1e-3)
    assert (found.reach[half:] == found.reach[:half]).all()


def test_poses_of_both_lifters_count_and_the_nearer_decides(model, walks):
    """The unadapted answer to a movement that was taught may be far from all its answers to the takes."""
    gate = gated(model, shifted(model), clips_of(walks[0], "take1"))
    x = collate(clips_of(walks[0], "take1")[:2], model.framing).x
    for name in ("unadapted_poses", "adapted_poses"):
        other = copy.deepcopy(gate.lifter)
        setattr(other, name, getattr(other, name) + 10.0)
        with torch.no_grad():
            assert other.parts(x)[1].mean() > 0.9


def test_the_reach_of_the_nearest_pose_counts_and_of_no_other(model, walks):
    """A pose that was corrected much does not draw what is near to one that was hardly corrected."""
    gate = gated(model, shifted(model), clips_of(walks[0], "take1"))
    lifter, x = copy.deepcopy(gate.lifter), collate(clips_of(walks[0], "take1")[:1], model.framing).x
    with torch.no_grad():
        own = canonical(model.lifter(x))[0, 13]
        lifter.unadapted_poses.copy_((own + torch.tensor([0.0, 0.5, 0.0])).expand_as(lifter.unadapted_poses))
        lifter.unadapted_poses[0] = own + torch.tensor([0.0, 0.1, 0.0])
        lifter.adapted_poses += 10.0
        lifter.blur = torch.ones(1, 1, 1)
        lifter.reach.fill_(1.0)
        assert float(lifter.parts(x)[1][0, 13]) == 1
        lifter.reach[0] = 0.01
        assert float(lifter.parts(x)[1][0, 13]) == 0


def test_share_falls_steadily_from_one_reach_to_far(model, walks):
    gate = gated(model, shifted(model), clips_of(walks[0], "take1"))
    lifter, x = copy.deepcopy(gate.lifter), collate(clips_of(walks[0], "take1")[:1], model.framing).x
    with torch.no_grad():
        own = canonical(model.lifter(x))[0, 13]
        for pose in (lifter.unadapted_poses, lifter.adapted_poses):
            pose.copy_((own + torch.tensor([0.0, 0.1, 0.0])).expand_as(pose))
        lifter.adapted_poses += 10.0
        lifter.blur = torch.ones(1, 1, 1)
        for reach, share in ((0.11, 1.0), (0.1 / 1.5, 0.5), (0.1 / FAR, 0.0), (0.02, 0.0)):
            lifter.reach.fill_(reach)
            assert float(lifter.parts(x)[1][0, 13]) == pytest.approx(share, abs=1e-3)


def test_frames_that_show_nobody_have_no_share_and_decide_nothing(model, walks):
    gate = gated(model, shifted(model), clips_of(walks[0], "take1"))
    x = collate(clips_of(walks[0], "take1")[:1], model.framing).x
    with torch.no_grad():
        whole = gate.lifter.parts(x)[1]
        x = x.clone()
        x[:, 10:14] = 0
        share = gate.lifter.parts(x)[1]
    assert (share[:, 10:14] == 0).all()
    assert share[:, :10].min() > 0.9 * whole[:, :10].min()


def test_a_gate_can_be_adapted_again(model, walks):
    first = gated(model, shifted(model), clips_of(walks[0], "take1"))
    again = first.adapted_part()
    assert again.name == "tcn"
    second = gated(first, shifted(again), clips_of(walks[1], "take2"))
    far = upside_down(walks[0])
    assert lift(second, far).xyz == pytest.approx(lift(model, far).xyz, abs=1e-6)
    assert lift(second, walks[0]).xyz[60] == pytest.approx(lift(first, walks[0]).xyz[60], abs=0.2)
    assert model.adapted_part() is model


def test_a_gated_model_comes_back_from_its_file(model, walks, tmp_path):
    gate = gated(model, shifted(model), clips_of(walks[0], "take1"))
    save_model(tmp_path / "model.pt", gate)
    loaded = load_model(tmp_path / "model.pt")
    for poses in (walks[0], upside_down(walks[0])):
        assert lift(loaded, poses).xyz == pytest.approx(lift(gate, poses).xyz, abs=1e-6)


def test_long_takes_are_thinned_out_and_no_take_is_forgotten(model, walks, monkeypatch):
    other = upside_down(walks[0])
    clips = [*clips_of(walks[0], "take1"), *clips_of(other, "take2")]
    whole = gated(model, shifted(model), clips).lifter
    monkeypatch.setattr("twoview.training.gate.CANDIDATES", 40)
    few = gated(model, shifted(model), clips).lifter
    assert len(few.reach) < 0.3 * len(whole.reach)
    for poses in (walks[0], other):
        x = collate(clips_of(poses, "take3")[:1], model.framing).x
        with torch.no_grad():
            assert few.parts(x)[1].mean() > 0.8


def line(*meters: float) -> torch.Tensor:
    """Poses whose joints are all so far along x."""
    return torch.tensor(meters)[:, None, None] * torch.tensor([1.0, 0.0, 0.0]).expand(17, 3)


def test_poses_that_are_kept_are_far_apart():
    assert spread_out(line(0, 0.1, 1.0, 0.5, 0.97), 5, 0.05).tolist() == [0, 2, 3, 1]
    assert spread_out(line(0, 0.1, 1.0, 0.5, 0.97), 2, 0.05).tolist() == [0, 2]
    assert len(spread_out(line(0, 0, 0), 5, ALIKE_M)) == 1


def test_distance_between_takes_is_to_the_nearest_pose_of_another_take():
    poses = line(0.0, 0.3, 1.0, 1.4)
    assert between_takes(poses, torch.tensor([0, 0, 1, 1])) == pytest.approx(0.7)
    assert between_takes(poses, torch.tensor([0, 1, 0, 1])) == pytest.approx(0.3)
    assert between_takes(poses, torch.zeros(4).long()) == 0
    lifted = with_mirrored(line(1.0))
    assert between_takes(torch.cat([lifted, line(5.0, 5.0)]), torch.tensor([0, 1, 2, 2])) == 0
