"""What `twoview finetune` prints of a run: plain words and units, what chooses the epoch first."""

from __future__ import annotations

from pathlib import Path

import pytest

from twoview.cli import console
from twoview.training.finetuning import Run

BEFORE = {"disagreement": 0.1987, "angle_deg": 82.72, "criterion": 80.98}
AFTER = {"disagreement": 0.04446, "angle_deg": 83.54, "criterion": 24.34}


@pytest.mark.parametrize(
    ("method", "first"),
    [("phones", "error on held-out takes: 81.0 mm -> 24.3 mm"), ("paper", "disagreement on held-out takes: 8098.0 %")],
)
def test_a_run_is_shown_in_words_and_units(capsys, method, first):
    run = Run(Path("r"), Path("r/model.pt"), BEFORE, AFTER, 28, True, (), {"pseudo-labels": 1.0})
    console.show_run(run, method)
    shown = capsys.readouterr().out
    assert first in shown
    assert "(-70%)" in shown
    assert "criterion" not in shown
    lines = [line.split("  ")[0] for line in shown.splitlines()]
    assert lines[1:4] == [first.split(":")[0], "disagreement", "angle"]
    assert "19.9 %" in shown
    assert "82.7 degrees" in shown
