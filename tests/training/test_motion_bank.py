import numpy as np
import pytest
import torch
from people import standing_people

from twoview.config import NoiseModel
from twoview.datasets.motion import Motion
from twoview.errors import TrainingError
from twoview.geometry.framing import to_camera
from twoview.training.virtual_cameras import Chance, MotionBank, center_motion, render

QUIET = NoiseModel(level=(1e-7, 1e-7), outliers=0.0, missing=0.0, blind=0.0, swaps=0.0)


def chance(seed: int = 0) -> Chance:
    return Chance(torch.Generator().manual_seed(seed))


def ramp(frames: int, rate: float = 60.0, *, start: float = 0.0) -> Motion:
    """Every coordinate is the time in seconds."""
    time = start + np.arange(frames) / rate
    return Motion("ramp", np.tile(time[:, None, None], (1, 17, 3)).astype(np.float32), rate)


def test_windows_cover_clips_at_the_wanted_rate_and_never_mix_them():
    bank = MotionBank([ramp(121), ramp(20, start=100.0), ramp(241, 120.0, start=200.0)])
    windows, which = bank.windows(27, 30.0)
    assert which.tolist() == [0, 0, 1, 2, 2]
    time = windows[:, :, 0, 0]
    assert torch.allclose(time[:2].flatten().diff(), torch.tensor(1 / 30), atol=1e-5)
    assert time[2].min() >= 100
    assert time[2].max() == pytest.approx(100 + 19 / 60, abs=1e-4)
    assert torch.allclose(time[3:].flatten().diff(), torch.tensor(1 / 30), atol=1e-4)


def test_drawn_clips_stay_inside_their_motion_and_vary_in_speed():
    bank = MotionBank([ramp(600), ramp(600, start=100.0)])
    time = bank.draw(300, 27, 30.0, chance())[:, :, 0, 0]
    step = time.diff(dim=1)
    assert (time[:, -1] - time[:, 0] < 5).all()
    assert step.min() > 0.7 / 30 - 1e-4
    assert step.max() < 1.4 / 30 + 1e-4
    assert step[:, 0].std() > 0.1 / 30
    assert ((time < 10.01) | ((time >= 100) & (time < 110.01))).all()


def test_no_motion_is_refused():
    with pytest.raises(TrainingError, match="no motion"):
        MotionBank([])


def test_without_noise_the_input_is_the_label_and_the_label_leads_back_to_the_truth():
    rendered = render(center_motion(standing_people(30, 5)), chance(1), QUIET)
    clips = rendered.labeled()
    visible = clips.score > 0
    gap = (clips.screen - clips.label[..., :2]).norm(dim=-1)
    assert visible.float().mean() > 0.7
    assert gap[visible].max() < 1e-3, "half a pixel would be more"
    pose = to_camera(clips.label, clips.framing)
    root = rendered.points[:, :, :1]
    meters = root[..., 2:] / rendered.cameras.focal[:, None, None, None] * rendered.cameras.size[:, None, None, :1] / 2
    error = (pose * meters - (rendered.points - root)).norm(dim=-1)
    assert error.mean() < 0.03, "only the assumed focal length is wrong"


def test_center_moves_only_along_the_floor():
    motion = standing_people(4, 5) + torch.tensor([3.0, -2.0, 0.0])
    out = center_motion(motion)
    assert out[:, :, 0, :2].mean(dim=1).abs().max() < 1e-5
    assert torch.equal(out[..., 2], motion[..., 2])
