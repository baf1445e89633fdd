"""From 2D poses of one view to 3D: windows, their seams, gaps, frame rates, the mirrored pass, units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from places import ASSETS
from torch import nn

from twoview.config import DetectConfig, InferConfig
from twoview.datasets.rendered import read_scene
from twoview.errors import FormatError, LifterError
from twoview.evaluation.metrics import acceleration
from twoview.geometry.framing import RULES
from twoview.geometry.similarity import mirror
from twoview.lifters.gate import GatedLifter
from twoview.lifting.inference import in_meters, infer, interleave, lift, windows
from twoview.lifting.model import Model, load_model
from twoview.poses import Poses2D
from twoview.skeleton import COCO17, H36M17, stature
from twoview.storage import records
from twoview.workflow.inference import infer_file, warnings

LENGTH = 9


class Depth(nn.Module):
    """Answers x, y as they are and a depth of `pull` times y; keeps the lengths of the clips that it saw."""

    clip_length = LENGTH

    def __init__(self, pull: float = 0.5, wobble: float = 0.0) -> None:
        super().__init__()
        self.pull, self.wobble = nn.Parameter(torch.tensor(pull)), wobble
        self.lengths: list[int] = []

    def forward(self, x):
        self.lengths += [x.shape[1]] * x.shape[0]
        tilt = torch.linspace(-1, 1, x.shape[1])[:, None, None] * self.wobble  # worse towards a window's ends
        return torch.cat([x[..., :2], x[..., 1:2] * self.pull + tilt * torch.arange(17.0)[:, None] / 17], dim=-1)


def model(lifter: nn.Module | None = None, rate: float = 30.0) -> Model:
    return Model(lifter or Depth(), "depth", {}, "screen", rate, LENGTH)


def walker(frames: int, rate: float = 30.0, *, skeleton=H36M17) -> Poses2D:
    """Somebody who crosses the picture, with arms and legs that swing."""
    time = 5.0 + np.arange(frames) / rate
    rest = np.random.default_rng(0).normal(size=(17, 2)) * [60, 150]
    swing = 20 * np.sin(4 * (time - 5.0))[:, None, None] * np.linspace(0, 1, 17)[:, None]
    xy = rest + swing + [960, 540] + 40 * (time - 5.0)[:, None, None] * [1.0, 0.0]
    return Poses2D(xy.astype(np.float32), np.full((frames, 17), 0.9, np.float32), time, skeleton, (1920, 1080), "a")


def hidden(poses: Poses2D, frames, joints=slice(None)) -> Poses2D:
    xy, score = poses.xy.copy(), poses.score.copy()
    xy[frames, joints], score[frames, joints] = np.nan, 0
    return replace(poses, xy=xy, score=score)


@pytest.mark.parametrize("frames", [1, 2, LENGTH - 1, LENGTH, LENGTH + 1, 40])
def test_every_frame_of_every_clip_is_answered_at_its_own_time(frames):
    poses = walker(frames)
    found = lift(model(), poses)
    assert np.array_equal(found.time, poses.time)
    assert np.isfinite(found.xyz).all()
    assert np.abs(found.xyz[:, H36M17.root]).max() < 1e-6
    assert (found.unit, found.origin) == ("screen", "root")


@pytest.mark.parametrize("times", [2, 3, 4])
def test_windows_cover_every_frame_overlap_and_end_with_the_clip(times):
    for count in (1, 5, LENGTH, LENGTH + 1, 31):
        cuts = list(windows(count, 1, LENGTH, times))
        assert set(np.concatenate(cuts)) == set(range(count))
        assert all(len(cut) == min(LENGTH, count) for cut in cuts)
        assert cuts[-1][-1] == count - 1
        inside = [sum(frame in cut for cut in cuts) for frame in range(LENGTH // 2, count - LENGTH // 2)]
        assert not inside or min(inside) >= 2 or count <= LENGTH


def test_the_setting_says_how_many_windows_hold_a_frame():
    counts = []
    for times in (2, 3, 4):
        lift(model(), walker(40), InferConfig(windows=times), on_progress=lambda step: counts.append(step.total))
    assert counts == sorted(set(counts))


def test_a_lifter_that_errs_towards_its_windows_ends_leaves_no_jump_there():
    """A hard change from one window's end to the next one's start would be ten times as bad, and more."""
    poses = walker(60)
    found = lift(model(Depth(wobble=0.1)), poses, InferConfig(flip=False))
    pure = lift(model(Depth()), poses, InferConfig(flip=False))
    wrong, time = torch.from_numpy(found.xyz - pure.xyz), torch.from_numpy(poses.time.copy())
    hard = 2 * 0.1 * 30**2 / 2  # of the mean joint
    assert acceleration(wrong, time).norm(dim=-1).mean(dim=1).max() < 0.1 * hard


def test_a_frame_does_not_change_with_what_comes_long_after_it():
    poses = walker(80)
    early = lift(model(Depth(wobble=0.1)), poses.between(0, poses.time[39])).xyz
    assert np.allclose(lift(model(Depth(wobble=0.1)), poses).xyz[:20], early[:20], atol=1e-6)


@pytest.mark.parametrize("rate", [24.0, 25.0, 29.97, 50.0, 60.0, 120.0, 240.0])
def test_any_frame_rate_gives_the_same_poses_at_the_same_moments(rate):
    poses = walker(int(2 * rate), rate)
    found, usual = lift(model(), poses), lift(model(), walker(60))
    assert len(found) == len(poses)
    middle = usual.between(5.1, 6.8)
    assert np.allclose(found.at(middle.time, max_gap=0.1).xyz, middle.xyz, atol=2e-3)


def test_the_lifter_is_fed_at_the_rate_that_it_was_trained_on():
    assert interleave(1 / 30, 30) == 1
    assert interleave(1 / 60, 30) == 2
    assert interleave(1 / 25, 30) == 1
    assert interleave(1 / 240, 30) == 8
    network = Depth()
    lift(model(network), walker(120, 120.0), InferConfig(flip=False))
    assert max(network.lengths) == LENGTH
    assert sum(network.lengths) < 4 * 120  # four clips of 30 Hz between each other's frames, each frame thrice


def test_a_variable_frame_rate_keeps_its_own_times():
    poses = walker(60)
    kept = np.sort(np.random.default_rng(1).permutation(60)[:45])
    kept = np.union1d(kept, [0, 59])
    some = Poses2D(poses.xy[kept], poses.score[kept], poses.time[kept], H36M17, poses.size, "a")
    found = lift(model(), some)
    assert np.array_equal(found.time, some.time)
    assert np.allclose(found.xyz, lift(model(), poses).xyz[kept], atol=5e-3)


def test_short_gaps_are_bridged_and_long_ones_stay_empty():
    poses = hidden(hidden(walker(90), slice(20, 21)), slice(40, 60))
    found = lift(model(), poses, InferConfig(max_gap_s=0.1))
    seen = np.isfinite(found.xyz).all((1, 2))
    assert seen[:40].all()
    assert not seen[41:59].any()
    assert seen[60:].all()


def test_a_lifter_of_few_frames_per_second_bridges_gaps_of_one_of_its_frames_only():
    poses = hidden(hidden(walker(90), slice(20, 23)), slice(50, 56))  # 4 and 7 frames apart at 30 per second
    seen = np.isfinite(lift(model(rate=10.0), poses).xyz).all((1, 2))
    assert seen[:50].all()
    assert not seen[51:55].any()
    assert seen[57:].all()


def test_one_missing_joint_does_not_take_the_frame_with_it():
    found = lift(model(), hidden(walker(30), slice(None), 16))
    assert np.isfinite(found.xyz).all()


def test_frames_with_fewer_than_five_joints_are_not_invented():
    for joints, lifted in ((4, False), (5, True)):
        found = lift(model(), hidden(walker(30), slice(10, 20), slice(joints, None)), InferConfig(max_gap_s=0.01))
        assert (np.isfinite(found.xyz[12:18]) == lifted).all()
        assert np.isfinite(found.xyz[:9]).all()


def test_nothing_seen_at_all():
    nobody = hidden(walker(30), slice(None))
    assert np.isnan(lift(model(), nobody).xyz).all()
    with pytest.raises(LifterError, match="seen in 0 of 30 frames"):
        infer(nobody, model())


def test_no_frames_at_all():
    empty = walker(30).between(90.0, 91.0)
    assert len(lift(model(), empty)) == 0


def test_a_mirrored_video_gives_the_mirrored_pose():
    """With the mirrored pass exactly so, whatever the lifter thinks of left and right."""
    poses = walker(40)
    flipped = poses.xy[:, list(H36M17.flip_order)] * [-1, 1] + [poses.size[0], 0]
    other = replace(poses, xy=flipped.astype(np.float32), score=poses.score[:, list(H36M17.flip_order)])
    lifter = Depth(wobble=0.05)
    found = [torch.from_numpy(lift(model(lifter), p, InferConfig(flip=True)).xyz.copy()) for p in (poses, other)]
    assert torch.allclose(mirror(found[0]), found[1], atol=1e-4)
    alone = [torch.from_numpy(lift(model(lifter), p, InferConfig(flip=False)).xyz.copy()) for p in (poses, other)]
    assert not torch.allclose(mirror(alone[0]), alone[1], atol=5e-3)


def test_unseen_joints_reach_the_lifter_as_zeros():
    class Look(Depth):
        def forward(self, x):
            assert torch.isfinite(x).all()
            assert (x[..., :2][x[..., 2] == 0] == 0).all()
            assert (x[..., 2] == 0).any()
            return super().forward(x)

    lift(model(Look()), hidden(walker(30), slice(3, 25), slice(11, 14)), InferConfig(max_gap_s=0.01))


def test_detectors_skeletons_are_converted():
    assert np.isfinite(lift(model(), walker(20, skeleton=COCO17)).xyz).all()


def test_meters_follow_the_height():
    tall, small = (infer(walker(30), model(), config=InferConfig(height_m=h)) for h in (1.8, 0.9))
    assert tall.unit == "m"
    assert np.allclose(tall.xyz, 2 * small.xyz, atol=1e-5)
    bones = np.stack([tall.xyz[:, child] - tall.xyz[:, parent] for parent, child in H36M17.bones], axis=1)
    assert stature(np.linalg.norm(bones, axis=-1)).mean() == pytest.approx(1.8, rel=0.01)


def test_a_sigma_follows_the_score_the_windows_and_the_height():
    def sigma(poses=None, lifter=None, **config):
        return infer(poses or walker(40), model(lifter), config=InferConfig(**config)).sigma[:, 1:]

    vague = replace(walker(40), score=np.full((40, 17), 0.3))
    assert (sigma(vague) > sigma()).all()
    assert np.median(sigma(lifter=Depth(wobble=0.5))[5:-5]) > 1.05 * np.median(sigma()[5:-5])
    assert sigma(height_m=1.8) == pytest.approx(2 * sigma(height_m=0.9), rel=1e-5)
    assert 0.02 < np.median(sigma(height_m=1.75)) < 0.2
    assert np.isfinite(sigma(flip=False)).all()


def test_unknown_frames_have_no_sigma():
    found = lift(model(), hidden(walker(60), slice(20, 40)))
    assert np.array_equal(np.isnan(found.sigma).all(axis=1), np.isnan(found.xyz).all(axis=(1, 2)))
    assert np.isnan(found.sigma).any()


@pytest.mark.parametrize("swing", ["take1", "test2"])
def test_the_right_height_gives_the_true_meters(swing):
    """Exact poses of unknown scale of a rendered person, 1.81 m tall, whose joints are those of COCO detections."""
    scene = read_scene(ASSETS / "demo" / "golf" / swing)
    truth = scene.views["a"].poses3d
    root_relative = truth.xyz - truth.xyz[:, :1]
    found = in_meters(replace(truth, xyz=0.37 * root_relative, origin="root", unit="screen"), scene.height_m)
    scale = np.linalg.norm(found.xyz, axis=-1).sum() / np.linalg.norm(root_relative, axis=-1).sum()
    assert scale == pytest.approx(1.0, abs=0.03)


def test_half_precision_and_the_focal_length_change_little_but_something():
    poses, shipped = walker(30), load_model("twoview-small")
    exact = lift(shipped, poses).xyz
    for other in (InferConfig(precision="bf16"), InferConfig(focal=1300.0)):
        assert 0 < np.abs(lift(shipped, poses, other).xyz - exact).max() < 0.1


@pytest.mark.parametrize("rule", RULES)
def test_clips_are_framed_as_asked(rule):
    poses, shipped = walker(20), load_model("twoview-small")
    asked = lift(shipped, poses, InferConfig(framing=rule)).xyz
    assert np.array_equal(asked, lift(replace(shipped, framing=rule), poses).xyz)
    assert np.array_equal(asked, lift(shipped, poses).xyz) == (rule == shipped.framing)


def test_results_go_where_they_are_asked_to_and_never_over_the_clip(tmp_path):
    clip = tmp_path / "clip.npz"
    records.save(clip, walker(5))
    for out in ("clip", "clip.npz"):
        with pytest.raises(FormatError, match="written over") as caught:
            infer_file(clip, "twoview-small", tmp_path / out)
        assert caught.value.hint.endswith("--out clip_3d")
    assert infer_file(clip, "twoview-small", tmp_path / "solid.npz").files == {"poses": tmp_path / "solid.npz"}


def test_a_video_is_detected_with_the_settings_that_are_given(monkeypatch, tmp_path):
    asked = []

    def detect(path, *, config, view, on_progress):
        asked.append((path.name, config, view))
        return walker(20)

    monkeypatch.setattr("twoview.detection.pipeline.detect", detect)
    given = DetectConfig(detector="movenet", person=2)
    for settings in (given, None):
        infer(tmp_path / "clip.mp4", model(), detect_config=settings)
    assert asked == [("clip.mp4", given, "clip"), ("clip.mp4", DetectConfig(), "clip")]


class Gate(GatedLifter):
    """A gate between two depths whose share in each frame is the score of the first joint."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.adapted, self.unadapted, self.clip_length = Depth(2.0), Depth(0.0), LENGTH

    def parts(self, x):
        share = x[:, :, 0, 2]
        old = self.unadapted(x)
        return old + share[..., None, None] * (self.adapted(x) - old), share


@pytest.mark.parametrize("rate", [30.0, 60.0, 25.0])
def test_poses_say_the_adapted_lifters_share_of_every_frame(rate):
    poses = walker(60, rate)
    score = poses.score.copy()
    score[:, 0] = np.linspace(0.2, 0.8, 60)
    found = lift(model(Gate()), replace(poses, score=score))
    assert found.adapted_share == pytest.approx(score[:, 0], abs=0.06)
    assert found.between(5.2, 5.6).adapted_share == pytest.approx(
        found.adapted_share[(found.time >= 5.2) & (found.time <= 5.6)]
    )
    middle = 0.5 * (found.time[20] + found.time[21])
    assert found.at([middle]).adapted_share == pytest.approx(found.adapted_share[20:22].mean(), abs=1e-6)
    assert lift(model(), poses).adapted_share is None


def test_poses_keep_the_share_in_their_file(tmp_path):
    found = lift(model(Gate()), walker(20))
    records.save(tmp_path / "x.npz", found)
    assert records.load(tmp_path / "x.npz").adapted_share == pytest.approx(found.adapted_share)
    records.save(tmp_path / "y.npz", lift(model(), walker(20)))
    assert records.load(tmp_path / "y.npz").adapted_share is None


def test_new_movements_are_warned_of():
    found = lift(model(Gate()), walker(30))
    assert warnings(replace(found, adapted_share=np.full(30, 0.95))) == ()
    half = np.where(np.arange(30) < 15, 1.0, 0.0)
    (sentence,) = warnings(replace(found, adapted_share=half))
    assert sentence.startswith("50% of this video")
    xyz = found.xyz.copy()
    xyz[15:] = np.nan  # frames without a pose do not count
    assert warnings(replace(found, xyz=xyz, adapted_share=half)) == ()
    assert warnings(lift(model(), walker(30))) == ()


def test_short_windows_begin_at_every_frame():
    assert [cut[0] for cut in windows(7, 1, 3)] == [0, 1, 2, 3, 4]
    assert [cut[0] for cut in windows(11, 1, 9)] == [0, 2]
