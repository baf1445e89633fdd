"""The rows that the benchmarks of adaptation compare: the paper's losses and baselines, and `phones` with ablations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from unittest import mock

from adapting import RATE, adapt, cut_all

from twoview.config import ConsistencyConfig, FinetuneConfig, LossConfig, PhonesConfig, TriangulateConfig
from twoview.lifting.model import Model
from twoview.reconstruction.triangulation import Triangulation, triangulate_takes
from twoview.takes import Take, resample
from twoview.training.method_paper import Paper
from twoview.training.method_phones import Phones, prepare

LABELS = {"reprojection": 0.0, "consistency": 0.0, "position": 1.0, "scale": 0.5, "velocity": 20 / 27}
PER_FRAME = ConsistencyConfig(align="frame", scale="frame", rigid=True)
PAPER = {
    "L_2D": LossConfig(consistency=0.0),
    "Iqbal et al. (clips of 1 frame, per-frame rigid)": LossConfig(alignment=PER_FRAME),
    "L_2D + per-frame rigid, whole clips": LossConfig(alignment=PER_FRAME),
    "L_2Dcon (paper)": LossConfig(),
    "L_3D": LossConfig(**LABELS),
    "L_3Dcon": LossConfig(**{**LABELS, "consistency": 0.2}),
}
OURS = PhonesConfig()
ALONE = TriangulateConfig(same_athlete=False)  # every clip has its own people and lenses
PHONES = {
    "phones": OURS,
    "phones + L_con 0.3": replace(OURS, consistency=0.3),
    "phones without rehearsal": replace(OURS, rehearsal=0.0),
    "phones without turned views": replace(OURS, turned=0.0),
    "phones without swapped errors": replace(OURS, swap=0.0),
}
ROWS = ("unadapted", *PAPER, *PHONES)
SHARES = (0.1, 0.25, 0.5)
FEW = {f"3D of {share:.0%} of the clips": share for share in SHARES}  # L_3D on these clips alone
MIXED = {f"{name}, 2D of all": share for name, share in FEW.items()}  # and the paper's losses without labels on all
BOTH = LossConfig(**{**LABELS, "reprojection": 1.0, "consistency": 0.2})


def train(
    name: str, model: Model, takes: Sequence[Take], found: Sequence[Triangulation], *, steps: int, seed: int
) -> Model:
    """The lifter of one row; `found` is the takes' own two-view 3D, which only the rows of `phones` use."""
    if name == "unadapted":
        return model
    if name in PHONES:
        config = FinetuneConfig(seed=seed, phones=PHONES[name])
        return adapt(model, phones(takes, [], model, config, found), steps=steps)
    share = FEW.get(name) or MIXED.get(name)
    if share:
        few = takes[:: round(1 / share)]
        named = {take.name for take in few}
        takes = [*few, *(bare([t for t in takes if t.name not in named]) if name in MIXED else [])]
    loss = PAPER["L_3D"] if name in FEW else BOTH if name in MIXED else PAPER[name]
    used = takes if loss.position > 0 else bare(takes)
    frames = 1 if name.startswith("Iqbal") else 27
    clips = cut_all(used, frames=frames)
    config = FinetuneConfig(method="paper", loss=loss, batch=64 * (27 // frames), seed=seed, held_out=0.0)
    return adapt(model, Paper(clips, clips[:1], model, config), steps=steps)


def phones(
    takes: Sequence[Take],
    held_out: Sequence[Take],
    model: Model,
    config: FinetuneConfig,
    found: Sequence[Triangulation],
) -> Phones:
    """The objective of the method phones on takes whose two-view 3D was `found`."""
    grids = [resample(take, RATE) for take in bare([*takes, *held_out])]
    train, held = (cut_all(bare(part)) for part in (takes, held_out))
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
