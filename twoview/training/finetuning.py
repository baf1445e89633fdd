"""Adapt a lifter to takes filmed by two or more phones, without 3D labels.

`finetune` reads from top to bottom: load, cut, hold out, objective, loop, log, save. What is minimized is an
`Objective`: the paper's losses (`method_paper.Paper`), or pseudo-labels and rehearsal (`method_phones.Phones`).
Lightning Fabric does device, precision and several processes; a stopped run continues from `last.pt` as if nothing had
happened.
"""

from __future__ import annotations

import copy
import math
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from twoview.config import FinetuneConfig, TriangulateConfig, refuse_ignored, to_plain
from twoview.errors import TrainingError
from twoview.lifting.model import Model, load_model, save_model
from twoview.machine import keep_memory
from twoview.progress import OnProgress, Progress, report
from twoview.takes import ResampledTake, Take, check_views, resample
from twoview.training import distributed, method_paper, method_phones, runs
from twoview.training.clips import Clip, cut, hold_out, of_every_athlete
from twoview.training.gate import Reach, gated, reach, widened
from twoview.training.method_paper import Objective, Paper
from twoview.training.movements import compare
from twoview.training.pictures import Pictures, Videos, held_out_pictures
from twoview.training.runs import RunFolder, RunState, Snapshot
from twoview.visualization.report import loss_shares, write_report

EVERYDAY = 4  # of so many clips of everyday movement one measures how far a model reaches
WIDER, JUDGES = (1.5, 2.25, 3.4), 4  # factors on the reach of a gate, and takes that have to judge them
CLEARLY = 0.95  # times a criterion: clearly better
FEW_TAUGHT = 0.8  # share of the adapted lifter on held-out clips below which they show something else
HARM_MM = 10.0  # change of the answers to everyday movement that deserves a warning


@dataclass(frozen=True)
class Run:
    """What `finetune` did.

    model     file of the best model, or of the unadapted one where adaptation did not help by the criterion
    before, after   held-out numbers of the unadapted and of the best epoch's lifter
    adapted   whether the model is an adapted one
    warnings  plain sentences for the person who will rely on the model
    shares    part of the loss over all epochs by source, such as "pseudo-labels" and "the paper's consistency"
    reach     how far the model reaches, the numbers of `gate.Reach`; empty where nothing was adapted
    fresh     trained now, or continued, and not only loaded
    """

    folder: Path
    model: Path
    before: Mapping[str, float]
    after: Mapping[str, float]
    best_epoch: int
    adapted: bool
    warnings: tuple[str, ...]
    shares: Mapping[str, float]
    reach: Mapping[str, float] = field(default_factory=dict)
    fresh: bool = field(default=True, compare=False)


def finetune(
    takes: Sequence[Take],
    config: FinetuneConfig | None = None,
    *,
    out: Path | str,
    views: Sequence[str] | None = None,
    triangulation: TriangulateConfig | None = None,
    chosen_from: int = 0,
    videos: Videos | None = None,
    trust: Collection[str] = (),
    on_progress: OnProgress | None = None,
) -> Run:
    """Adapt the lifter named in `config` to the takes; everything about the run is written into the folder `out`.

    The clips have the framing, frame rate and length that `config` names, or else those that the lifter reads, and the
    model that is written says so: it infers as it was trained. The method `phones` learns from clips of `phones.frames`
    frames, which are no longer than that; its consistency loss and its monitors take clips of that length.

    views          views to use; default: all of each take
    triangulation  how the method `phones` triangulates the takes; no other method reads these settings
    chosen_from    how many takes there are, if these are a part of them
    videos         take -> view -> video, for the pictures of held-out takes in the report; else skeletons alone
    trust          names of lifters that are no part of twoview and may run, see `load_model`

    The same folder and settings continue a run that was stopped, and only load one that was finished.
    Raises TrainingError for takes that cannot teach, for a folder that holds another run, and for a loss that is not a
    number any more (the best model so far is kept); ConfigError for settings that the method does not read, and
    SessionError where another process works in the folder.
    """
    config, triangulation, out = config or FinetuneConfig(), triangulation or TriangulateConfig(), Path(out)
    with runs.run_alone(out):
        return _finetune_alone(
            takes, config, out=out, views=views, triangulation=triangulation, chosen_from=chosen_from,
            videos=videos or {}, trust=trust, on_progress=on_progress,
        )  # fmt: skip


def _finetune_alone(
    takes: Sequence[Take],
    config: FinetuneConfig,
    *,
    out: Path,
    views: Sequence[str] | None,
    triangulation: TriangulateConfig,
    chosen_from: int,
    videos: Videos,
    trust: Collection[str],
    on_progress: OnProgress | None,
) -> Run:
    if triangulation != TriangulateConfig():
        refuse_ignored(config.method, ("[triangulate]",))
    check_views(takes)
    keep_memory()
    model = load_model(config.weights, trust=trust).adjusted(
        framing=config.framing, rate_hz=config.rate_hz, clip_length=config.clip_length
    )
    start = model.adapted_part()
    fabric = distributed.launch(config, start.name)
    on_progress = on_progress if fabric.is_global_zero else None
    folder = RunFolder(out, config, triangulation, takes, writes=fabric.is_global_zero)
    state = folder.resume()
    if state is not None and state.finished:
        folder.write_log(state)
        return replace(_run(out, state), fresh=False)
    if state is not None:
        folder.check_fits(state, start.lifter)

    grids = [resample(take, model.rate_hz, views) for take in takes]
    clips = _clips(grids, model, config)
    movements = compare(clips, model)
    athlete = {take.name: take.athlete for take in takes}
    if len(set(athlete.values())) > 1:
        chosen = of_every_athlete({clip.take: athlete[clip.take] for clip in clips}, config.held_out)
    else:
        chosen = movements.to_hold_out(config.held_out)
    train, held_out = hold_out(clips, config.held_out, chosen)
    temporary = out / f"pseudo-labels{fabric.global_rank}"
    objective: Objective
    if config.method == "paper":
        judge = method_phones.judge(grids, held_out, model, config)
        objective = Paper(train, held_out, model, config, judge=judge)
    else:
        objective = method_phones.prepare(
            grids, train, held_out, model, config,
            triangulation=triangulation, folder=temporary, on_progress=on_progress,
        )  # fmt: skip
    loop = _Loop(start, objective, config, fabric, out=out, on_progress=on_progress)
    state = loop.restore(state, model.lifter)
    folder.start(new=state.epoch == 0)

    for epoch in range(state.epoch, config.epochs):
        if 0 < config.patience <= epoch - state.best.epoch:
            break
        started = time.monotonic()
        losses = loop.train(epoch)
        figures = objective.validate(loop.lifter)
        row = {"epoch": epoch + 1, **losses, **figures, "seconds": time.monotonic() - started}
        state = replace(loop.state(epoch + 1, figures, state), log=(*state.log, row))
        folder.board(row)
        folder.save(state)

    judges = len({clip.take for clip in held_out})
    state, made, factor = _chosen(state, objective, model, train, config, judges=judges)
    warnings = list[str]()
    if state.best.epoch > 0:
        found = reach(model, made, held_out or train, method_phones.rehearsal_clips()[::EVERYDAY])
        alone = objective.validate(made.adapted_part().lifter)["criterion"]
        state = replace(state, reach=asdict(found))
        warnings = list(_reach_warnings(found, config, alone, state.best.held_out["criterion"]))
        if config.gate and held_out and alone < state.before["criterion"]:  # known to be better there, too
            made = widened(_made(state.best, model, [*train, *held_out], config), factor)
    warnings += [*movements.warnings(), movements.judged_on(held_out, train, athlete), *objective.warnings]
    if chosen_from > len(takes):
        warnings.append(
            f"{len(takes)} of {chosen_from} takes were read, which have as many clips as the steps draw; more --epochs "
            "read more"
        )
    warnings += method_paper.warnings(state.before, state.best.held_out, clips=len(train))
    if state.best.epoch == 0:
        warnings.append(
            "no epoch made the held-out clips better than the unadapted lifter, which is therefore kept as the model"
        )
    state = replace(state, warnings=tuple(warnings), finished=True)
    if fabric.is_global_zero:
        views_seen = dict.fromkeys(view for take in takes for view in take.views)
        about: dict[str, Any] = {
            "takes": len(takes),
            "views": ",".join(views_seen),
            "clips": len(train),
            "weights": config.weights,
        }
        about["judged_on"] = folder.judged_on(held_out)
        if any(athlete.values()):
            about["athletes"] = ",".join(sorted({who for who in athlete.values() if who}))
        pictures = held_out_pictures(takes, held_out, model, made, videos)
        _write_model(out, state, made, config, {**about, "held_out_clips": len(held_out)}, pictures=pictures)
    folder.save(state)
    fabric.barrier()
    shutil.rmtree(temporary, ignore_errors=True)
    return _run(out, state)


def _clips(grids: Sequence[ResampledTake], model: Model, config: FinetuneConfig) -> list[Clip]:
    clips = [clip for grid in grids for clip in cut(grid, length=model.clip_length, stride=config.stride)]
    if not clips:
        raise TrainingError(
            f"no clip of up to {model.clip_length} frames shows the athlete in all views, in {len(grids)} takes",
            hint="look at the detections with `twoview show`, and at sync.png",
        )
    return clips


class _Loop:
    """What the training loop works on: the lifter, `wrapped` by Fabric, and `shared` with all processes."""

    def __init__(
        self,
        model: Model,
        objective: Objective,
        config: FinetuneConfig,
        fabric: Fabric,
        *,
        out: Path,
        on_progress: OnProgress | None,
    ) -> None:
        self.objective, self.config, self.fabric = objective, config, fabric
        self.out, self.on_progress = out, on_progress
        self.lifter = _checkpointing(copy.deepcopy(model.lifter), model.name, config)
        optimizer = torch.optim.AdamW(self.lifter.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.wrapped, self.optimizer = fabric.setup(self.lifter, optimizer)
        self.shared = distributed.Shared(self.wrapped, fabric)
        self.held_out: dict[str, float] = {}  # the error after the last epoch, and the best one so far

    def restore(self, state: RunState | None, unadapted: nn.Module) -> RunState:
        """Continue from a state, or make that of a new run, which is compared with the unadapted lifter."""
        if state is None:
            before = self.objective.validate(unadapted)
            best = Snapshot(0, before, runs.cpu_weights(self.lifter))
            return RunState(0, before, best, best.lifter, self.optimizer.state_dict())
        self.lifter.load_state_dict(state.lifter)
        try:
            self.optimizer.load_state_dict(dict(state.optimizer))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise runs.damaged(self.out / "last.pt", "--run NAME") from error
        return state

    def train(self, epoch: int) -> dict[str, float]:
        """Train for one epoch; returns the mean of each loss term."""
        steps, sums = self.objective.steps, dict[str, float]()
        self.shared.train()
        for step in range(steps):
            rate = learning_rate(self.config, epoch, (epoch * steps + step) / (self.config.epochs * steps))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            terms = self.objective.terms(self.shared, epoch, step)
            self._check(terms, epoch, step)
            self.fabric.backward(sum(terms.values(), torch.zeros((), device=self.fabric.device)))
            if self.config.clip_norm > 0:
                self.fabric.clip_gradients(
                    self.wrapped, self.optimizer, max_norm=self.config.clip_norm, error_if_nonfinite=False
                )
            self.optimizer.step()
            self.optimizer.zero_grad()
            values = {name: float(value.detach()) for name, value in terms.items()}
            sums |= {name: sums.get(name, 0.0) + value for name, value in values.items()}
            done, total = epoch * steps + step + 1, self.config.epochs * steps
            shown = {"epoch": epoch + 1, "loss": sum(values.values()), **self.held_out}
            report(self.on_progress, Progress("finetune", done, total, "steps", shown))
        return {f"loss_{name}": value / steps for name, value in sums.items()}

    def state(self, epoch: int, figures: Mapping[str, float], last: RunState) -> RunState:
        """The state after an epoch with these held-out figures."""
        lifter, best = runs.cpu_weights(self.lifter), last.best
        least = min(figures["criterion"], best.held_out["criterion"])
        self.held_out = {"held-out error": figures["criterion"], "best": least}
        if self.config.keep == "last" or figures["criterion"] < best.held_out["criterion"]:
            best = Snapshot(epoch, figures, lifter)
        return RunState(epoch, last.before, best, lifter, self.optimizer.state_dict())

    def _check(self, terms: Mapping[str, Tensor], epoch: int, step: int) -> None:
        for name, value in terms.items():
            if not torch.isfinite(value):
                raise TrainingError(
                    f"the loss term {name!r} became {value.item()} in step {step + 1} of epoch {epoch + 1}",
                    hint="lower the learning rate (--set lr=5e-5) under another --run; "
                    f"{self.out} keeps the last good state",
                )


def _checkpointing(lifter: nn.Module, name: str, config: FinetuneConfig) -> nn.Module:
    """The lifter, set to the activation checkpointing that was asked for."""
    if config.checkpointing != "all":
        if not hasattr(lifter, "checkpointing"):
            batch = "finetune.phones.batch" if config.method == "phones" else "finetune.batch"
            raise TrainingError(
                f"finetune.checkpointing={config.checkpointing}: the lifter {name!r} has no activation checkpointing",
                hint=f"a smaller {batch} needs less memory",
            )
        lifter.checkpointing = config.checkpointing  # type: ignore[assignment]
    return lifter


def learning_rate(config: FinetuneConfig, epoch: int, done: float) -> float:
    """Learning rate in an epoch, with a share `done` of all steps: constant, falling to 0, or by a factor per epoch."""
    automatic = "linear" if config.method == "phones" else "constant"
    share = {"constant": 1.0, "linear": 1.0 - done, "exponential": config.lr_decay**epoch}
    return config.lr * share[automatic if config.schedule == "auto" else config.schedule]


def _chosen(
    state: RunState, objective: Objective, model: Model, clips: Sequence[Clip], config: FinetuneConfig, *, judges: int
) -> tuple[RunState, Model, float]:
    """The epoch that becomes the model, with the held-out numbers of the model that it makes; this model; its gate.

    A gate keeps a lifter from movements that were not taught, which may be all that the held-out clips show: the last
    epoch gets its chance beside the best one, both as gated models. With so many held-out takes, `judges`, that it is
    no accident, the gate is widened as long as they get clearly better; the third value is by how much.
    """
    epochs = [state.best] if state.best.epoch > 0 else []
    if config.gate and config.keep == "best" and state.best.epoch < state.epoch:
        epochs.append(Snapshot(state.epoch, {}, state.lifter))
    best, chosen = Snapshot(0, state.before, state.best.lifter), model
    least = math.inf if config.keep == "last" else state.before["criterion"]
    for epoch in epochs:
        made = _made(epoch, model, clips, config)
        figures = objective.validate(made.lifter)
        if figures["criterion"] < least:
            best, chosen, least = replace(epoch, held_out=figures), made, figures["criterion"]
    narrow, wide = chosen, 1.0
    for factor in WIDER if config.gate and best.epoch > 0 and judges >= JUDGES else ():
        made = widened(narrow, factor)
        figures = objective.validate(made.lifter)
        if figures["criterion"] > CLEARLY * best.held_out["criterion"]:
            break
        best, chosen, wide = replace(best, held_out=figures), made, factor
    return replace(state, best=best), chosen, wide


def _made(epoch: Snapshot, model: Model, clips: Sequence[Clip], config: FinetuneConfig) -> Model:
    """The lifter of an epoch as a model, with a gate if `config` asks for one."""
    start = model.adapted_part()
    adapted = copy.deepcopy(start.lifter)
    adapted.load_state_dict(epoch.lifter)
    return gated(model, adapted.eval(), clips) if config.gate else replace(start, lifter=adapted.eval())


def _reach_warnings(found: Reach, config: FinetuneConfig, alone: float, whole: float) -> Iterator[str]:
    """Sentences on the reach of a model; its criterion, and that of its adapted lifter alone, on the held-out clips."""
    if config.gate and found.taught < FEW_TAUGHT:
        instead = (
            f"; without the gate the criterion is {alone:.4g} instead of {whole:.4g}, but nothing keeps the model from "
            "harm on other movements: --set gate=false"
        )
        yield (
            f"the held-out clips show movements that the other clips do not: the unadapted lifter answers "
            f"{1 - found.taught:.0%} of them; film every movement more than once"
            + (instead if alone < CLEARLY * whole else "")
        )
    if not config.gate and found.ungated_mm > HARM_MM:
        yield (
            f"on everyday movement, which the takes do not show, the answers moved by {found.ungated_mm:.0f} mm: "
            "expect harm on movements that were not filmed; finetune.gate=true prevents it"
        )


def _write_model(
    out: Path, state: RunState, model: Model, config: FinetuneConfig, about: Mapping[str, Any], *, pictures: Pictures
) -> None:
    """Write the model with a card, and the report page."""
    best = state.best
    card = {
        **model.card,
        "adapted": best.epoch > 0,
        "method": config.method,
        **about,
        "seed": config.seed,
        "epoch": best.epoch,
        "before": dict(state.before),
        "after": dict(best.held_out),
        "reach": dict(state.reach),
    }
    save_model(out / "model.pt", replace(model, card=card))
    runs.write_result(out, card)
    write_report(
        out / "report.html", state.log, title=f"Run {out.name}", before=state.before, after=best.held_out,
        best_epoch=best.epoch, warnings=state.warnings, about={**card, **to_plain(config)["finetune"]},
        reach=state.reach, pictures=pictures,
    )  # fmt: skip


def _run(out: Path, state: RunState) -> Run:
    best = state.best
    return Run(
        out, out / "model.pt", state.before, best.held_out, best.epoch, best.epoch > 0, state.warnings,
        loss_shares(state.log), state.reach,
    )  # fmt: skip
