"""The picture of a sync, with names in any script."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest

from twoview.synchronization.several_views import Relation
from twoview.timeline import ClockMap, ClockQuality, Sync
from twoview.visualization.drawing import PAPER, text_width, write_text
from twoview.visualization.sync_plot import draw_sync


@pytest.mark.parametrize("name", ["名前", "कैमरा", "cost $x$ and $\\frac", "caméra é", "a_b^{c"])
def test_every_name_is_drawn(tmp_path, name):
    time = np.arange(100) / 10
    trace = (time, np.abs(np.sin(time)))
    sync = Sync(name, {name: ClockMap(), "b": ClockMap(0.4)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a letter that its font lacks
        draw_sync(
            sync,
            [Relation(name, "b", ClockMap(0.4), ClockQuality(1.0))],
            {name: trace, "b": trace},
            tmp_path / "sync.png",
        )
    assert cv2.imread(str(tmp_path / "sync.png")) is not None


def test_a_picture_spells_every_script():
    pages = []
    for text in ("Ming Qian", "名前 前", "????"):
        page = np.full((40, 300, 3), PAPER, np.uint8)
        write_text(page, text, (5, 25))
        pages.append(page)
    assert (pages[1] != pages[2]).any()
    assert text_width("名前") == text_width("MingQian")
