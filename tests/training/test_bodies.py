import pytest
import torch
from people import standing_people

from twoview.config import BodyRange
from twoview.geometry.similarity import mirror
from twoview.skeleton import COCO17, to_h36m
from twoview.training.bodies import coco_like, from_bones, to_bones, vary_bodies, vary_definition
from twoview.training.virtual_cameras import Chance, J


def chance(seed: int = 0) -> Chance:
    return Chance(torch.Generator().manual_seed(seed))


STILL = BodyRange((1.0, 1.0), 0.0, swapped_arms=0, swapped_legs=0, turned_limbs=0, bent=0, leaning=0, tumbling=0)


def lengths(motion):
    return to_bones(motion)[..., 1:, :].norm(dim=-1)


def test_bones_and_back():
    motion = standing_people(3, 5)
    assert torch.allclose(from_bones(to_bones(motion)), motion, atol=1e-6)


def test_with_every_change_off_only_the_mirror_is_left():
    motion = standing_people(40, 4)
    out = vary_bodies(motion, chance(), STILL)
    mirrored = mirror(motion)
    same = (out - motion).abs().amax(dim=(1, 2, 3)) < 1e-5
    flipped = (out - mirrored).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert (same | flipped).all()
    assert 5 < same.sum() < 35


def test_a_mirrored_person_has_left_on_the_left():
    motion = standing_people(40, 2)
    out = vary_bodies(motion, chance(), STILL)
    side = out[:, :, J["left_hip"]] - out[:, :, J["right_hip"]]
    face = torch.linalg.cross(side, torch.tensor([0.0, 0.0, 1.0]).expand_as(side))
    nose = out[:, :, J["nose"]] - out[:, :, J["thorax"]]
    assert ((face * nose).sum(-1) > 0).all(), "the nose is in front"


def test_bones_keep_their_length_over_a_clip_and_left_equals_right():
    motion = standing_people(64, 9)
    out = lengths(vary_bodies(motion, chance(1)))
    assert out.std(dim=1).max() < 1e-4
    assert torch.allclose(out[..., J["left_knee"] - 1], out[..., J["right_knee"] - 1], atol=1e-4)
    factor = out.mean(dim=1) / lengths(motion).mean(dim=1)
    assert 0.6 < factor.min() < 0.95
    assert 1.05 < factor.max() < 1.5


def test_elbows_and_knees_bend_as_they_did():
    """Whole limbs are turned or taken over, so the angle at the knee is one that somebody in the batch had."""
    motion = standing_people(6, 5)
    how = BodyRange(height=(1, 1), build=0.0, leaning=0.5, tumbling=0.5, turned_limbs=1.0, swapped_legs=0.5)

    def bend(m):
        thigh, shin = (
            torch.nn.functional.normalize(to_bones(m)[:, :, J[n]], dim=-1) for n in ("left_knee", "left_ankle")
        )
        return (thigh * shin).sum(-1)

    def bend_right(m):
        thigh, shin = (
            torch.nn.functional.normalize(to_bones(m)[:, :, J[n]], dim=-1) for n in ("right_knee", "right_ankle")
        )
        return (thigh * shin).sum(-1)

    known = torch.cat([bend(motion), bend_right(motion)])
    out = bend(vary_bodies(motion, chance(2), how))
    assert ((out[:, None] - known[None]).abs().amax(dim=-1).amin(dim=1) < 1e-4).all()


def test_coco_like_hips_are_higher_and_wider_and_the_nose_is_in_front():
    motion = standing_people(8, 3)
    out = coco_like(motion, raise_hips=0.05, widen_hips=0.015)
    hips = lambda m: m[:, :, J["left_hip"]] - m[:, :, J["right_hip"]]  # noqa: E731
    assert torch.allclose(hips(out).norm(dim=-1) - hips(motion).norm(dim=-1), torch.tensor(0.03), atol=1e-5)
    moved = out[:, :, J["pelvis"]] - (motion[:, :, J["left_hip"]] + motion[:, :, J["right_hip"]]) / 2
    assert torch.allclose(moved.norm(dim=-1), torch.tensor(0.05), atol=1e-5)
    assert (moved[..., 2] > 0.03).all()
    face = out[:, :, J["nose"]] - motion[:, :, J["nose"]]
    across = motion[:, :, J["left_shoulder"]] - motion[:, :, J["right_shoulder"]]
    assert ((face * across).sum(-1).abs() < 0.02).all()
    assert ((face * (motion[:, :, J["nose"]] - motion[:, :, J["thorax"]]))[..., :2].sum(-1) > 0).float().mean() > 0.9


def test_coco_like_joints_obey_the_conversion():
    """Pelvis, thorax and spine are the means that the detector conversion makes of hips and shoulders."""
    out = coco_like(standing_people(2, 3))
    coco = torch.zeros(2, 3, len(COCO17), 3)
    for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip"):
        coco[:, :, COCO17.index(name)] = out[:, :, J[name]]
    converted, _ = to_h36m(coco[0, ..., :2].numpy(), torch.ones(3, 17).numpy(), COCO17)
    for name in ("pelvis", "thorax", "spine"):
        assert converted[:, J[name]] == pytest.approx(out[0, :, J[name], :2].numpy(), abs=1e-5)


def test_both_definitions_occur():
    motion = standing_people(60, 2)
    changed = (vary_definition(motion, chance(), 0.5) - motion).abs().amax(dim=(1, 2, 3)) > 1e-4
    assert 15 < changed.sum() < 45
