"""The rows that the benchmarks of adaptation compare: presets of `twoview finetune`, and the method phones in parts.

A row is trained as published (loss, weights, learning rate and its schedule, no limit on the gradient), but for a short
form that is the same for all: so many steps of as many frames, instead of 30 epochs of 6 clips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
from adapting import RATE, adapt, cut_all

from twoview.command_settings import resolve
from twoview.config import FinetuneConfig, TriangulateConfig
from twoview.lifting.model import Model
from twoview.reconstruction.triangulation import Triangulation, triangulate_takes
from twoview.takes import Take, resample
from twoview.training.gate import gated
from twoview.training.method_paper import Paper
from twoview.training.method_phones import Phones, prepare

FRAMES = 64 * 27  # per view and step


@dataclass(frozen=True)
class Row:
    """A preset with settings on top.

    labels  share of the clips with 3D labels, by whole people; the others are left out, or teach by their 2D if `mixed`
    """

    preset: str
    sets: tuple[str, ...] = ()
    labels: float = 0.0
    mixed: bool = False

    def config(self, sets: Sequence[str] = ()) -> FinetuneConfig:
        """The settings, with more on top."""
        return resolve("finetune", file=self.preset, sets=[*self.sets, *sets]).finetune


FALLING = ("schedule=linear", "clip_norm=1")  # as phones is trained
OURS = ("loss.alignment.direction=symmetric", "loss.alignment.confidence=true")
PAPER = {
    "L_2D": Row("l2d"),
    "Iqbal et al.": Row("iqbal"),
    "one similarity per frame": Row("per_frame"),
    "L_2Dcon (paper)": Row("paper_sportspose"),
    "L_2Dcon (both ways by scores)": Row("paper_sportspose", OURS),
    "L_2Dcon (rate falling to 0)": Row("paper_sportspose", FALLING),
    "L_3D": Row("l3d", labels=1.0),
    "L_3Dcon": Row("l3dcon", labels=1.0),
    "L_3D (trained as phones)": Row("l3d", (*FALLING, "loss.velocity=0.74"), labels=1.0),
}
PHONES = {
    "phones": Row("phones"),
    "phones without the gate": Row("phones", ("gate=false",)),
    "phones without the paper's loss": Row("phones", ("phones.consistency=0",)),
    "phones without rehearsal": Row("phones", ("phones.rehearsal=0",)),
    "phones without turned views": Row("phones", ("phones.turned=0",)),
    "phones without swapped errors": Row("phones", ("phones.swap=0",)),
}
ROWS = ("unadapted", *PAPER, *PHONES)
SHARES = (0.1, 0.25, 0.5)
FEW = {f"3D of {share:.0%} of the clips": Row("l3d", labels=share) for share in SHARES}
MIXED = {f"3D of {share:.0%}, 2D of all": Row("paper_h36m", labels=share, mixed=True) for share in SHARES}
EVERY = {**PAPER, **PHONES, **FEW, **MIXED}
ALONE = TriangulateConfig(same_athlete=False)  # every clip has its own people and lenses


def train(
    name: str,
    model: Model,
    takes: Sequence[Take],
    found: Sequence[Triangulation],
    *,
    steps: int,
    seed: int,
    sets: Sequence[str] = (),
) -> Model:
    """The lifter of one row, with its clip length; `found` is the takes' own two-view 3D, for the rows of `phones`."""
    if name == "unadapted":
        return model
    row = EVERY[name]
    config = replace(row.config(sets), seed=seed, held_out=0.0)
    length = config.clip_length or model.clip_length
    model = replace(model, clip_length=length)
    if config.method == "phones":
        adapted = adapt(model, phones(takes, [], model, config, found), config, steps=steps)
        return gated(model, adapted.lifter, cut_all(bare(takes), frames=length)) if config.gate else adapted
    config = replace(config, batch=FRAMES // length)
    clips = cut_all(labeled(takes, row), frames=length)
    return adapt(model, Paper(clips, clips[:1], model, config), config, steps=steps)


def labeled(takes: Sequence[Take], row: Row) -> list[Take]:
    """The takes with the labels that a row may see: of whole people, whose clips are the share or a little less."""
    if not 0 < row.labels < 1:
        return list(takes) if row.labels else bare(takes)
    known = people_within(takes, row.labels)
    return [take if person(take) in known else bare([take])[0] for take in takes if row.mixed or person(take) in known]


def people_within(takes: Sequence[Take], share: float) -> set[str]:
    """People in an order that chance decides, but for those whose clips would be more than the share; at least one."""
    clips = Counter(person(take) for take in takes)
    known: set[str] = set()
    for who in np.random.default_rng(0).permutation(sorted(clips)).tolist():
        if sum(clips[other] for other in (*known, who)) <= share * len(takes):
            known.add(who)
    return known or {min(clips, key=clips.__getitem__)}


def person(take: Take) -> str:
    """Who is filmed: the first part of the clip's name."""
    return take.name.split("_")[0]


def phones(
    takes: Sequence[Take],
    held_out: Sequence[Take],
    model: Model,
    config: FinetuneConfig,
    found: Sequence[Triangulation],
) -> Phones:
    """The objective of the method phones on takes whose two-view 3D was `found`."""
    grids = [resample(take, RATE) for take in bare([*takes, *held_out])]
    length = config.clip_length or model.clip_length
    train, held = (cut_all(bare(part), frames=length) for part in (takes, held_out))
    known = {result.take: result for result in found}
    with mock.patch(
        "twoview.training.method_phones.triangulate_takes", lambda some, *_, **__: [known[t.name] for t in some]
    ):
        return prepare(grids, train, held, model, config)


def bare(takes: Sequence[Take]) -> list[Take]:
    """The takes as a user has them: without truth."""
    return [replace(take, truth=None, focal=None) for take in takes]


def solved(takes: Sequence[Take], model: Model) -> list[Triangulation]:
    """The takes' own two-view 3D, every take by itself."""
    return triangulate_takes(bare(takes), model, config=ALONE)
