"""A lifter that knows the answer to every frame it can see: what a whole protocol makes of an exact answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy import ndarray as Array
from torch import nn

from twoview.geometry.framing import Rule
from twoview.geometry.similarity import mirror
from twoview.lifting.model import Model, save_model

FAR = 10.0  # screen units
SAME = 1e-4  # screen units that an input may differ from the one in the table


class KnownAnswers(nn.Module):
    """Answers a frame with the row of the table whose x, y are those of the frame; wrong where there is none."""

    clip_length = 27

    def __init__(self, table: str) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))  # tells where the lifter is
        with np.load(table) as file:
            seen, answers = torch.from_numpy(file["seen"]).float(), torch.from_numpy(file["answers"]).float()
        self.seen, self.answers = torch.cat([seen, mirror(seen)]), torch.cat([answers, mirror(answers)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        off = (x[:, :, None, :, :2] - self.seen).abs().amax(dim=(-1, -2))
        near = off.min(dim=-1)
        known = near.values[..., None, None] < SAME
        wrong = torch.nan if self.training else FAR  # training stops, and a score shows it
        return torch.where(known, self.answers[near.indices], wrong) + 0 * self.unused  # can be trained, to no effect


def save_lifter(folder: Path, seen: Array, answers: Array, *, rule: Rule, rate: float) -> Path:
    """A model file of the lifter that answers frames seen (N, 17, 2) with answers (N, 17, 3), both in screen units."""
    table = folder / "answers.npz"
    np.savez(table, seen=seen, answers=answers)
    config = {"table": str(table)}
    model = Model(KnownAnswers(**config), "known_lifter:KnownAnswers", config, rule, rate, 27)
    save_model(folder / "known.pt", model)
    return folder / "known.pt"
