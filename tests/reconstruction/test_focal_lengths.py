"""What is known of focal lengths: the user's word, the file's, and how firmly the solution keeps to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bodies import moving_body, two_views

from twoview.config import TriangulateConfig
from twoview.errors import ConfigError
from twoview.poses import Poses2D, Poses3D
from twoview.reconstruction.focal_lengths import MM_SIGMA, PX_SIGMA, KnownFocal, given, start_of
from twoview.reconstruction.triangulation import solve_takes
from twoview.skeleton import H36M17
from twoview.takes import Take, resample
from twoview.timeline import ClockMap, Sync

TRUE_PX = 2400.0
TRUE_MM = 45.0  # of a picture 1920 px long


def zoomed(frames: int = 60):
    """A take whose phones have a longer lens than usual, and a stand-in for the lifter."""
    rng = np.random.default_rng(0)
    tracks, _ = two_views(moving_body(frames, rng), rng, noise=0.006, focal=TRUE_PX)
    poses, lifted = {}, {}
    for v, view in enumerate("ab"):
        poses[view] = Poses2D(tracks.xy[v], tracks.score[v], tracks.time, H36M17, (1920, 1080), view=view)
        lifted[view] = Poses3D(tracks.start[v] - tracks.start[v][:, :1], tracks.time, view=view)
    return Take("swing", poses, Sync("a", {"a": ClockMap(), "b": ClockMap()})), lambda p: lifted[p.view]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (0.0, {}), ("", {}), (1200.0, {"a": (1200, "px"), "b": (1200, "px")}),
        ("26mm", {"a": (26, "mm"), "b": (26, "mm")}),
        (" a=1200 , b = 26 mm", {"a": (1200, "px"), "b": (26, "mm")}), ("b=1200.5px", {"b": (1200.5, "px")}),
        ("a=0", {}),
    ],
)  # fmt: skip
def test_lengths_are_given_for_all_views_or_for_each(text, expected):
    assert given(text, ["a", "b"]) == {view: KnownFocal(*one) for view, one in expected.items()}


@pytest.mark.parametrize("text", ["long", "26cm", "a=26mm,a=27mm", "26mm,a=1200", "a=", "nan", "-5", "c=1200", "1,2"])
def test_what_is_no_length_of_a_view_is_refused(text):
    with pytest.raises(ConfigError, match=r"triangulate\.focal"):
        given(text, ["a", "b"])


def test_the_user_knows_better_than_the_file_and_the_file_better_than_nobody():
    take, _ = zoomed(frames=12)
    grid = resample(replace(take, focal_mm={"a": TRUE_MM, "b": 27.0}), 30.0)
    focal, sigma = start_of(grid, TriangulateConfig(focal="b=1000"), 0.15)
    assert focal == pytest.approx([TRUE_PX, 1000])
    assert sigma == pytest.approx([MM_SIGMA, PX_SIGMA])
    focal, sigma = start_of(resample(take, 30.0), TriangulateConfig(), 0.15)
    assert focal == pytest.approx([1536, 1536])
    assert sigma == pytest.approx([0.15, 0.15])


def test_a_known_lens_is_kept_to_and_warns_of_nothing():
    take, lift = zoomed()
    said = {"mm": 1.06 * TRUE_MM, "px": 1.06 * TRUE_PX}
    (guessed,) = solve_takes([resample(take, 30.0)], lift)
    (of_file,) = solve_takes([resample(replace(take, focal_mm=dict.fromkeys("ab", said["mm"])), 30.0)], lift)
    (of_user,) = solve_takes([resample(take, 30.0)], lift, config=TriangulateConfig(focal=said["px"]))
    off = [abs(np.log(found.focal_px["a"] / said["px"])) for found in (of_user, of_file, guessed)]
    assert off == sorted(off)  # the user in pixels most, the file less, nobody least
    assert off[2] - off[0] > 0.02
    assert not any("focal length" in warning for found in (of_file, of_user) for warning in found.warnings)


def test_a_length_of_another_lens_is_warned_about():
    take, lift = zoomed()
    (found,) = solve_takes([resample(take, 30.0)], lift, config=TriangulateConfig(focal="a=45mm,b=12mm"))
    assert any("view b" in warning and "12 mm are 640 px" in warning for warning in found.warnings)


def test_takes_by_different_lenses_share_no_focal_length():
    take, lift = zoomed(frames=30)
    takes = [replace(take, focal_mm={"a": mm, "b": mm}) for mm in (TRUE_MM, 30.0)]
    one, other = solve_takes([resample(take, 30.0) for take in takes], lift)
    assert one.focal_px != other.focal_px
