from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import swinging_person

from twoview.visualization.viewer import MAX_FRAMES, write_page

pytest.importorskip("plotly", reason="plotly is not installed")


def page(path, poses, **options) -> str:
    write_page(poses, path / "a.html", **options)
    return (path / "a.html").read_text()


def test_the_page_needs_no_network_and_names_its_unit(tmp_path):
    text = page(tmp_path, swinging_person(40))
    assert 'src="http' not in text
    assert '"Play"' in text
    assert "right (m)" in text
    assert '"name":"before"' not in text


def test_a_second_result_is_drawn_at_every_frame(tmp_path):
    poses = swinging_person(5)
    text = page(tmp_path, poses, before=replace(poses, xyz=np.full_like(poses.xyz, np.nan)))
    assert text.count('"name":"before"') == 1 + 5


def test_a_long_video_is_thinned_to_what_a_page_can_play(tmp_path):
    assert page(tmp_path, swinging_person(2 * MAX_FRAMES + 1, rate=30.0)).count('"method":"animate"') <= MAX_FRAMES + 2
