"""A plan before adapting: what the takes hold, how long training takes on this machine, and what to film more of."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy import ndarray as Array

from twoview.config import FinetuneConfig, TriangulateConfig
from twoview.errors import TwoViewError
from twoview.lifting.model import Model
from twoview.machine import precision_of
from twoview.progress import OnProgress
from twoview.reconstruction.triangulation import SHARP_DEG, WIDE_DEG, triangulate_takes
from twoview.takes import Take, check_views, resample
from twoview.training import method_paper
from twoview.training.clips import Clip, cut
from twoview.training.movements import compare, other_athletes, proportions

LOOKED_AT = 5  # of more takes, unless they are named, so many are looked at
TYPICAL_HZ = 30.0  # that a lifter reads
GOOD_CLIPS = 30
GOOD_TAKES = 5
BEST_DEG = (60.0, 120.0)
# How far the unadapted lifter is from two-view 3D, mm, where the paper's loss alone harmed and where it helped in every
# activity that was tried: docs/results/claims.md.
PAPER_HARMS_MM, PAPER_HELPS_MM = 85.0, 95.0
_TRIAL_STEPS = 2


@dataclass(frozen=True)
class TakePlan:
    """One take: seconds that all views share, usable clips, degrees between the views, share of reliable frames.

    lifter_mm  mean distance of the unadapted lifter's one-view answers from the two-view 3D, on a body of common size
    problem  why the take cannot be used, or the warnings of its triangulation; empty: none
    """

    take: str
    seconds: float
    clips: int
    angle_deg: float
    reliable: float
    lifter_mm: float
    problem: str = ""


@dataclass(frozen=True)
class Plan:
    """What to expect of `finetune`.

    takes    those that were looked at, of `chosen_from` takes; all other numbers are estimates for all of them
    minutes  that all views share; training_minutes: expected on this machine, with the triangulation of the takes
    advice   plain sentences: what to film more of, or differently
    """

    takes: tuple[TakePlan, ...]
    minutes: float
    clips: int
    training_minutes: float
    advice: tuple[str, ...]
    chosen_from: int = 0


def plan(
    takes: Sequence[Take],
    model: Model,
    config: FinetuneConfig | None = None,
    *,
    chosen_from: int = 0,
    triangulation: TriangulateConfig | None = None,
    on_progress: OnProgress | None = None,
) -> Plan:
    """What to expect of adapting `model` to the takes, or to so many takes that these were chosen from.

    Raises TrainingError for takes that have only one view.
    """
    config, count = config or FinetuneConfig(), max(chosen_from, len(takes))
    model = model.adjusted(framing=config.framing, rate_hz=config.rate_hz, clip_length=config.clip_length)
    check_views(takes)
    rows, clips, bodies = [], list[Clip](), dict[str, dict[str, Array]]()
    started = time.perf_counter()
    for take in takes:
        try:
            grid = resample(take, model.rate_hz)
            cuts = cut(grid, length=model.clip_length, stride=config.stride)
            found = triangulate_takes([take], model, grids=[grid], config=triangulation, on_progress=on_progress)[0]
        except TwoViewError as error:
            rows.append(TakePlan(take.name, 0.0, 0, float("nan"), 0.0, float("nan"), error.message))
            continue
        clips += cuts
        bodies.setdefault(take.athlete, {})[take.name] = proportions(found)
        best = min((found.angle_deg[view] for view in found.views[1:]), key=lambda angle: abs(angle - 90.0))
        apart = float(np.mean(list(found.lifter_mm.values())))
        shared, problem = float(found.time[-1] - found.time[0]), "; ".join(found.warnings)
        rows.append(TakePlan(take.name, shared, len(cuts), best, float(found.reliable.mean()), apart, problem))
    solving = (time.perf_counter() - started) / max(len(takes), 1)
    share = count / max(len(takes), 1)
    minutes, all_clips = share * sum(row.seconds for row in rows) / 60, round(share * len(clips))
    steps = config.phones.steps_per_epoch if config.method == "phones" else -(-all_clips // config.batch)
    steps *= config.epochs
    if config.method == "phones":
        batch = config.phones.batch + 2 * config.phones.virtual
        batch += config.phones.batch // 4 if config.phones.consistency > 0 else 0
        frames = min(config.phones.frames, model.clip_length)
    else:
        batch = 2 * config.batch  # each clip with two views
        frames = round(np.mean([len(clip.time) for clip in clips] or [model.clip_length]))
    half = precision_of(config.precision, config.device, model.name) != "fp32"
    seconds = steps * seconds_per_step(model, batch, frames, half=half)
    if config.method == "phones":
        each = [labeled_clips(row.seconds, len(take.views), config) for row, take in zip(rows, takes, strict=True)]
        seconds += solving * min(count, drawn_clips(config) / max(float(np.mean(each or [1.0])), 1.0))
    unfit = [*compare(clips, model).warnings()]
    unfit += [sentence for own in bodies.values() for sentence in other_athletes(own)]
    advice = tuple(_advice(rows, all_clips, count, config.method, unfit))
    return Plan(tuple(rows), minutes, all_clips, seconds / 60, advice, count)


def drawn_clips(config: FinetuneConfig) -> float:
    """Clips that all steps of the method `phones` draw, with those that are held out beside; more teach nothing."""
    return config.epochs * config.phones.steps_per_epoch * config.phones.batch / (1 - config.held_out)


def labeled_clips(seconds: float, views: int, config: FinetuneConfig) -> float:
    """About how many clips with pseudo-labels a take has, of so many seconds that all its views share."""
    frames, half = seconds * (config.rate_hz or TYPICAL_HZ), max(config.phones.frames // 2, 1)
    return views * max(frames / half - 1, 1.0)


def seconds_per_step(model: Model, batch: int, frames: int, *, half: bool = False) -> float:
    """Measured time of a training step of `batch` single-view clips on this machine; in 16 bits if `half`."""
    lifter = copy.deepcopy(model.lifter).train()
    x = torch.zeros(batch, frames, len(model.joints), 3, device=model.device)
    taken = []
    for _ in range(_TRIAL_STEPS):
        started = time.perf_counter()
        with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
            answer = lifter(x)
        answer.float().square().mean().backward()
        taken.append(time.perf_counter() - started)
    return min(taken)


def _advice(rows: Sequence[TakePlan], clips: int, count: int, method: str, unfit: Sequence[str]) -> list[str]:
    advice = [*(f"take {row.take}: {row.problem}" for row in rows if row.problem), *unfit]
    angles = [row.angle_deg for row in rows if np.isfinite(row.angle_deg)]
    if clips < method_paper.FEW_CLIPS:
        advice.append(
            f"{clips} clips are too few to learn from; film at least {method_paper.FEW_CLIPS}, better {GOOD_CLIPS}"
        )
    elif clips < GOOD_CLIPS:
        advice.append(f"{clips} clips are enough; with {GOOD_CLIPS} and more the result becomes steadier")
    if count < GOOD_TAKES:
        advice.append(
            f"{count} takes: film {GOOD_TAKES} or more, so that one can be held out and the others teach enough"
        )
    apart = [row.lifter_mm for row in rows if np.isfinite(row.lifter_mm)]
    if method == "paper" and apart and float(np.mean(apart)) < PAPER_HELPS_MM:
        found = float(np.mean(apart))
        often = "usually makes" if found < PAPER_HARMS_MM else "sometimes makes"
        advice.append(
            f"the unadapted lifter is {found:.0f} mm from the two-view 3D of the takes, where the paper's loss alone "
            f"{often} a lifter worse; use the default, --method phones"
        )
    if angles:
        middle = float(np.median(angles))
        if middle < SHARP_DEG or middle > WIDE_DEG:
            advice.append(
                f"the phones stood {middle:.0f} degrees apart around the athlete; move one to about 90 degrees"
            )
        elif not BEST_DEG[0] <= middle <= BEST_DEG[1]:
            advice.append(f"the phones stood {middle:.0f} degrees apart; closer to 90 would be better")
    return advice or ["the takes are good: run `twoview finetune --views a,b`"]
