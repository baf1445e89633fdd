import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twoview.geometry.cameras import principal_point, project
from twoview.geometry.framing import (
    DEFAULT_FOCAL,
    RULES,
    default_focal,
    frame_clip,
    from_camera,
    to_camera,
    to_pixels,
    to_screen,
    turn_towards,
)


def pixels(points, focal, size):
    return project(points, focal[:, None, None, None]) + principal_point(size)[:, None, None]


def people(seed: int, *, aside: float = 1.0, clips: int = 4, frames: int = 5):
    """Points before cameras (B, T, 17, 3) m, focal px, size px, xy px; everything in float64."""
    g = torch.Generator().manual_seed(seed)
    body = 0.4 * torch.randn(clips, frames, 17, 3, generator=g, dtype=torch.float64)
    points = body + torch.tensor([aside, -0.2, 5.0], dtype=torch.float64)
    size = torch.tensor([[1920.0, 1080.0], [1080.0, 1920.0]] * (clips // 2), dtype=torch.float64)
    focal = 1400 + 400 * torch.rand(clips, generator=g, dtype=torch.float64)
    xy = pixels(points, focal, size)
    return points, focal, size, xy


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), aside=st.floats(-2, 2))
def test_pixels_to_screen_and_back(rule, seed, aside):
    _, _, size, xy = people(seed, aside=aside)
    framing = frame_clip(xy, torch.ones(xy.shape[:3]), size, rule)
    turned = to_screen(xy, framing) * framing.scale[:, None, None, None] + framing.center[:, None, None]
    plane = turned / framing.focal[:, None, None, None]
    rays = torch.cat([plane, torch.ones_like(plane[..., :1])], dim=-1) @ framing.rotation[:, None]
    assert torch.allclose(pixels(rays, framing.focal, size), xy, atol=1e-8)


def test_screen_rule_is_motionberts():
    _, _, size, xy = people(0)
    w, h = size[:, None, None, 0], size[:, None, None, 1]
    expected = torch.stack([xy[..., 0] / w * 2 - 1, xy[..., 1] / w * 2 - h / w], dim=-1)
    framing = frame_clip(xy, torch.ones(xy.shape[:3]), size, "screen")
    assert torch.allclose(to_screen(xy, framing), expected, atol=1e-12)


def test_crop_rule_is_motionberts_in_the_wild():
    """Its `crop_scale` with a scale range of 1, written out: one box for all frames, unseen joints left out of it."""
    _, _, size, xy = people(8)
    score = torch.rand(xy.shape[:3], generator=torch.Generator().manual_seed(1))
    score[score < 0.3] = 0
    framing = frame_clip(torch.where(score[..., None] > 0, xy, 1e5), score, size, "crop")
    found = to_screen(xy, framing)
    for clip in range(len(xy)):
        seen = xy[clip][score[clip] > 0]
        (x_min, y_min), (x_max, y_max) = seen.amin(dim=0), seen.amax(dim=0)
        scale = max(x_max - x_min, y_max - y_min)
        corner = torch.stack([(x_min + x_max - scale) / 2, (y_min + y_max - scale) / 2])
        assert torch.allclose(found[clip], ((xy[clip] - corner) / scale - 0.5) * 2, atol=1e-9)
        assert found[clip][score[clip] > 0].abs().max() == pytest.approx(1.0)


def test_a_crop_of_fewer_than_four_joints_is_the_whole_picture():
    _, _, size, xy = people(9)
    score = torch.zeros(xy.shape[:3])
    score[:, 0, :3] = 1
    whole, crop = (frame_clip(xy, score, size, rule) for rule in ("screen", "crop"))
    assert torch.equal(to_screen(xy, crop), to_screen(xy, whole))
    score[:, 0, 3] = 1
    assert not torch.equal(frame_clip(xy, score, size, "crop").scale, whole.scale)


@pytest.mark.parametrize("rule", RULES)
def test_pixel_poses_of_exact_answers_are_the_projection_and_the_scaled_depth(rule):
    points, focal, size, xy = people(10, aside=1.2)
    framing = frame_clip(xy, torch.ones(xy.shape[:3]), size, rule, focal=focal)
    found = to_pixels(from_camera(points, focal, framing), framing)
    assert torch.allclose(found[..., :2], xy, atol=1e-8)
    root = points[:, :, :1, 2]
    assert torch.allclose(found[..., 2], (points[..., 2] - root) / root * focal[:, None, None], atol=1e-8)


@pytest.mark.parametrize("rule", ["screen", "crop"])
def test_labels_lie_on_the_picture_whatever_focal_length_is_assumed(rule):
    points, focal, size, xy = people(11, aside=1.2)
    framing = frame_clip(xy, torch.ones(xy.shape[:3]), size, rule)
    label = from_camera(points, focal, framing)
    assert torch.allclose(label[..., :2], to_screen(xy, framing), atol=1e-9)
    depth = (points[..., 2] / points[:, :, :1, 2] - 1) * focal[:, None, None]
    assert torch.allclose(label[..., 2] * framing.scale[:, None, None], depth, atol=1e-8)
    assert torch.allclose(to_pixels(label, framing)[..., :2], xy, atol=1e-8)


def test_screen_label_is_the_projection_and_the_scaled_depth():
    points, focal, size, xy = people(1)
    framing = frame_clip(xy, torch.ones(xy.shape[:3]), size, "screen", focal=focal)
    label = from_camera(points, focal, framing)
    ratio = focal[:, None, None] / points[:, :, :1, 2]  # px a meter at the root's depth
    depth = (points[..., 2] - points[:, :, :1, 2]) * ratio / (size[:, None, None, 0] / 2)
    assert torch.allclose(label[..., :2], to_screen(xy, framing), atol=1e-12)
    assert torch.allclose(label[..., 2], depth, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_to_camera_undoes_perspective_exactly_where_the_focal_length_is_known(rule):
    points, focal, size, xy = people(2, aside=1.5)
    framing = frame_clip(xy, torch.ones(xy.shape[:3]), size, rule, focal=focal)
    pose = to_camera(from_camera(points, focal, framing), framing)
    meters = pose * (points[:, :, :1, 2:] / focal[:, None, None, None] * size[:, None, None, :1] / 2)
    assert torch.allclose(meters, points - points[:, :, :1], atol=1e-10)


@pytest.mark.parametrize("rule", RULES)
def test_an_exact_answer_in_pixels_is_the_joint_in_the_picture_and_its_depth_at_the_roots_scale(rule):
    points, focal, size, xy = people(2, aside=1.5)
    framing = frame_clip(xy, torch.ones(xy.shape[:3]), size, rule, focal=focal)
    found = to_pixels(from_camera(points, focal, framing), framing)
    assert torch.allclose(found[..., :2], xy, atol=1e-8)
    root = points[:, :, :1, 2]
    assert torch.allclose(found[..., 2], (points[..., 2] - root) / root * focal[:, None, None], atol=1e-8)


def test_a_walk_through_depth_keeps_its_bones():
    """What MotionBERT's 2.5D loses: the same body at 3 m and at 6 m, without its floor of centimeters."""
    points, focal, size, _ = people(3, aside=0.5, clips=2, frames=1)
    points = torch.cat([points, points + torch.tensor([0.0, 0.0, 3.0])], dim=1)
    xy = pixels(points, focal, size)
    framing = frame_clip(xy, torch.ones(xy.shape[:3]), size, "box", focal=focal)
    label = from_camera(points, focal, framing)
    depth = points[:, :, :1, 2:]
    exact = to_camera(label, framing) * depth
    flat = (label - label[:, :, :1]) * depth * framing.scale[:, None, None, None]
    assert torch.allclose(exact[:, 0], exact[:, 1], atol=1e-9)
    assert ((flat[:, 0] - flat[:, 1]).norm(dim=-1) / flat[:, 0].norm(dim=-1).mean()).mean() > 0.02


def test_box_rule_does_not_turn_somebody_at_the_edge_of_the_picture():
    points, focal, size, _ = people(4, aside=0.0, clips=2)
    center = points - points.mean(dim=(1, 2), keepdim=True)
    labels = []
    for angle in (0.0, 0.45):
        direction = torch.tensor([angle, 0.0], dtype=torch.float64).expand(2, 2)
        turned = center @ turn_towards(direction)[0]  # the body turns with the direction it is seen from
        place = torch.nn.functional.normalize(torch.tensor([angle, 0.0, 1.0], dtype=torch.float64), dim=0) * 5
        seen = turned + place
        xy = pixels(seen, focal, size)
        framing = frame_clip(xy, torch.ones(xy.shape[:3]), size, "box", focal=focal)
        labels.append(from_camera(seen, focal, framing))
    assert torch.allclose(labels[0], labels[1], atol=0.03)


@pytest.mark.parametrize("rule", ["box", "crop"])
def test_unseen_joints_do_not_move_the_box(rule):
    _, _, size, xy = people(5)
    score = torch.ones(xy.shape[:3], dtype=torch.float64)
    score[:, :, 3] = 0
    wild, gone = xy.clone(), xy.clone()
    wild[:, :, 3], gone[:, :, 3] = 1e6, torch.nan
    one, two = frame_clip(wild, score, size, rule), frame_clip(gone, score, size, rule)
    assert torch.equal(one.scale, two.scale)
    assert torch.equal(one.rotation, two.rotation)
    assert torch.equal(one.center, two.center)


@pytest.mark.parametrize("rule", RULES)
def test_nothing_seen_and_a_single_joint_give_a_finite_frame(rule):
    _, _, size, xy = people(6)
    nothing = torch.zeros(xy.shape[:3], dtype=torch.float64)
    one = nothing.clone()
    one[:, 0, 0] = 1
    for score in (nothing, one):
        framing = frame_clip(torch.full_like(xy, torch.nan) if score is nothing else xy, score, size, rule)
        assert torch.isfinite(framing.rotation).all()
        assert torch.isfinite(framing.center).all()
        assert (framing.scale > 0).all()


def test_default_focal_is_a_share_of_the_long_side():
    assert torch.allclose(
        default_focal(torch.tensor([[1920.0, 1080.0], [1080.0, 1920.0]])), torch.tensor(DEFAULT_FOCAL * 1920)
    )


def test_an_unknown_rule_is_refused():
    _, _, size, xy = people(7)
    with pytest.raises(ValueError, match="screen, box, crop"):
        frame_clip(xy, torch.ones(xy.shape[:3]), size, "square")
