"""The plot of angles has a panel per angle and the athlete's colors."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scenes import swinging_person

from twoview.biomechanics.angles import Angles, angles
from twoview.biomechanics.events import Contact
from twoview.errors import FormatError
from twoview.visualization.angle_plot import draw_angles


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def near(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((np.abs(picture - color).sum(axis=-1) < 60).sum())


def test_left_is_blue_right_is_orange_and_a_gap_is_a_gap(tmp_path):
    time = np.arange(60) / 30
    blue, orange = (42, 111, 219), (232, 135, 30)
    both = {"right_knee_flexion": np.full(60, 10.0), "left_knee_flexion": np.full(60, 50.0)}
    one = {"right_knee_flexion": np.full(60, 10.0)}
    half = {"right_knee_flexion": np.where(time < 1, 10.0, np.nan)}
    seen = {name: pixels(draw_angles(Angles(time, found), tmp_path / f"{name}.png"))
            for name, found in (("both", both), ("one", one), ("half", half))}  # fmt: skip
    assert near(seen["both"], blue) > 100
    assert near(seen["one"], blue) == 0
    assert near(seen["one"], orange) > 100
    assert near(seen["both"], orange) == pytest.approx(near(seen["one"], orange), rel=0.1)


def test_a_real_body_has_a_panel_for_every_angle(tmp_path):
    found = angles(swinging_person(60), up=(0, -1, 0))
    tall = pixels(draw_angles(found, tmp_path / "a.png", events={"top of swing": 1.0})).shape[0]
    few = Angles(found.time, {name: found.degrees[name] for name in list(found.degrees)[:2]})
    assert tall == 5 * pixels(draw_angles(few, tmp_path / "b.png")).shape[0]


def test_contacts_are_bars_of_their_foots_color_at_their_time(tmp_path):
    found = Angles(np.arange(60) / 30, {"x_factor": np.full(60, 10.0)})
    blue, orange = (42, 111, 219), (232, 135, 30)
    contacts = [Contact("left", 0.0, 0.5), Contact("right", 1.0, 2.0)]
    plain, drawn = (pixels(draw_angles(found, tmp_path / "a.png", contacts=some)) for some in ((), contacts))
    assert near(plain, blue) + near(plain, orange) == 0
    where = {color: np.argwhere(np.abs(drawn - color).sum(axis=-1) < 60) for color in (blue, orange)}
    assert where[blue][:, 1].max() < where[orange][:, 1].min()
    assert np.ptp(where[orange][:, 1]) == pytest.approx(2 * np.ptp(where[blue][:, 1]), rel=0.05)
    assert where[blue][:, 0].mean() < where[orange][:, 0].mean()  # the right foot's bar is below the left foot's


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(FormatError, match="no frame"):
        draw_angles(Angles(np.arange(3.0), {"x_factor": np.full(3, np.nan)}), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
