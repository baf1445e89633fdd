"""Adapt a lifter to takes filmed by two or more phones, without 3D labels.

`finetune` reads from top to bottom: clips, objective, loop, log, save. What is minimized is an `Objective`: the paper's
losses (`objectives.Paper`), or the lessons of the method `phones` (`adaptation.Phones`). Lightning Fabric brings
device, precision and several processes; a stopped run continues from `last.pt` as if nothing had happened.
"""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from twoview.config import FinetuneConfig, TriangulateConfig, to_plain
from twoview.errors import ConfigError, TrainingError
from twoview.lifting.model import Model, load_model, save_model
from twoview.machine import keep_memory
from twoview.progress import OnProgress, Progress, report
from twoview.storage import records
from twoview.takes import Take, check_views
from twoview.training import distributed, paper, runs
from twoview.training.clips import Clip, cut, hold_out
from twoview.training.paper import Objective, Paper
from twoview.visualization.report import write_report


@dataclass(frozen=True)
class Run:
    """What `finetune` did.

    model     file of the best model, or of the unadapted one where adaptation did not help by the criterion
    before, after   held-out numbers of the unadapted and of the best epoch's lifter
    adapted   whether the model is an adapted one
    warnings  plain sentences for the person who will rely on it
    """

    folder: Path
    model: Path
    before: Mapping[str, float]
    after: Mapping[str, float]
    best_epoch: int
    adapted: bool
    warnings: tuple[str, ...]


def finetune(
    takes: Sequence[Take],
    config: FinetuneConfig | None = None,
    *,
    out: Path | str,
    views: Sequence[str] | None = None,
    triangulation: TriangulateConfig | None = None,
    on_progress: OnProgress | None = None,
) -> Run:
    """Adapt the lifter named in `config` to the takes; everything about the run is written into the folder `out`.

    views          views to use; default: those of each take
    triangulation  how the method `phones` triangulates the takes; the method `paper` does not

    The same folder and settings continue a run that was stopped, and only load one that was finished.
    Raises TrainingError for takes that cannot teach, for a folder that holds another run, and for a loss that is not a
    number any more (the best model so far is kept).
    """
    config, out = config or FinetuneConfig(), Path(out)
    triangulation = triangulation or TriangulateConfig()
    if config.method == "paper" and triangulation != TriangulateConfig():
        raise ConfigError("[triangulate] has no effect with method paper", hint="--set finetune.method=phones")
    check_views(takes)
    keep_memory()
    model, known = load_model(config.weights), runs.inputs(takes)
    fabric = distributed.launch(config, model.name)
    first = fabric.is_global_zero
    on_progress = on_progress if first else None
    state = runs.resume(out, config, triangulation, known)
    if state is not None and state["finished"]:
        return _run(out, state)

    clips = [clip for take in takes for clip in _cut(take, model, config, views)]
    if not clips:
        raise TrainingError(
            f"no clip of {model.clip_length} frames shows the athlete in all views, in {len(takes)} takes",
            hint="look at the detections with `twoview show`, and at sync.png",
        )
    train, held = hold_out(clips, config.held_out)
    objective = _objective(
        takes, train, held, model, config, triangulation, on_progress, out / f"lessons{fabric.global_rank}"
    )

    lifter = _checkpointing(copy.deepcopy(model.lifter), model.name, config)
    optimizer = torch.optim.AdamW(lifter.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    prepared, optimizer = fabric.setup(lifter, optimizer)
    shared = distributed.Shared(prepared, fabric)
    if state is None:
        before = dict(objective.judge(lifter))
        best = {"epoch": 0, "watched": before, "lifter": runs.plain(lifter)}
        state = {"epoch": 0, "before": before, "best": best, "about": list(objective.warnings)}
        if first:
            records.write_json(
                out / "config.json", {**records.header("run"), **to_plain(config), **to_plain(triangulation)}
            )
            runs.log(out, [])
    else:
        lifter.load_state_dict(state["lifter"])
        optimizer.load_state_dict(state["optimizer"])
    board = runs.Board(out, wanted=config.tensorboard and first)

    for epoch in range(state["epoch"], config.epochs):
        if 0 < config.patience <= state["epoch"] - state["best"]["epoch"]:
            break
        started = time.monotonic()
        sums: dict[str, float] = {}
        shared.train()
        for step in range(objective.steps):
            _set_rate(optimizer, config, epoch, step, objective.steps)
            terms = objective.terms(shared, epoch, step)
            _check(terms, epoch, step, out)
            fabric.backward(sum(terms.values(), torch.zeros((), device=fabric.device)))
            if config.clip_norm > 0:
                fabric.clip_gradients(prepared, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad()
            sums |= {name: sums.get(name, 0.0) + float(value.detach()) for name, value in terms.items()}
            done = epoch * objective.steps + step + 1
            shown = {"loss": sum(float(v.detach()) for v in terms.values())}
            report(on_progress, Progress("finetune", done, config.epochs * objective.steps, "steps", shown))
        watched = dict(objective.judge(lifter))
        if config.keep == "last" or watched["criterion"] < state["best"]["watched"]["criterion"]:
            state["best"] = {"epoch": epoch + 1, "watched": watched, "lifter": runs.plain(lifter)}
        losses = {f"loss_{name}": value / objective.steps for name, value in sums.items()}
        row = {"epoch": epoch + 1, **losses, **watched, "seconds": time.monotonic() - started}
        state |= {"epoch": epoch + 1, "lifter": runs.plain(lifter), "optimizer": optimizer.state_dict()}
        if first:
            runs.log(out, [*runs.rows(out), row])
            board.add(row)
            runs.save(out, state, config, triangulation, known, finished=False)
    state["warnings"] = _said(state, len(train))
    if first:
        _finish(out, state, model, config, takes, train, held)
        runs.save(out, state, config, triangulation, known, finished=True)
    fabric.barrier()
    shutil.rmtree(out / f"lessons{fabric.global_rank}", ignore_errors=True)
    return _run(out, state)


def _cut(take: Take, model: Model, config: FinetuneConfig, views: Sequence[str] | None) -> list[Clip]:
    wanted = [view for view in (views or take.views) if view in take.poses]
    length = config.clip_length or model.clip_length
    return cut(take, views=wanted, length=length, rate=model.rate_hz, stride=config.stride)


def _objective(
    takes: Sequence[Take],
    train: Sequence[Clip],
    held: Sequence[Clip],
    model: Model,
    config: FinetuneConfig,
    triangulation: TriangulateConfig,
    on_progress: OnProgress | None,
    folder: Path,
) -> Objective:
    if config.method == "paper":
        return Paper(train, held, model, config)
    from twoview.training.phones import Phones

    return Phones(takes, train, held, model, config, on_progress, triangulation=triangulation, folder=folder)


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


def _set_rate(optimizer: Any, config: FinetuneConfig, epoch: int, step: int, steps: int) -> None:
    """Learning rate of this step: constant, falling linearly to 0 at the last, or by a factor every epoch."""
    automatic = "linear" if config.method == "phones" else "constant"
    share = {
        "constant": 1.0,
        "linear": 1.0 - (epoch * steps + step) / (config.epochs * steps),
        "exponential": config.lr_decay**epoch,
    }[automatic if config.schedule == "auto" else config.schedule]
    for group in optimizer.param_groups:
        group["lr"] = config.lr * share


def _check(terms: Mapping[str, Tensor], epoch: int, step: int, out: Path) -> None:
    for name, value in terms.items():
        if not torch.isfinite(value):
            raise TrainingError(
                f"the loss term {name!r} became {value.item()} in step {step + 1} of epoch {epoch + 1}",
                hint=f"lower the learning rate (--set lr=5e-5) under another --run; {out} keeps the last good state",
            )


def _said(state: Mapping[str, Any], clips: int) -> list[str]:
    best = state["best"]
    said = [*state["about"], *paper.warnings(state["before"], best["watched"], clips=clips)]
    if best["epoch"] == 0:
        said.append(
            "no epoch made the held-out clips better than the unadapted lifter, which is therefore kept as the model"
        )
    return said


def _finish(
    out: Path,
    state: Mapping[str, Any],
    model: Model,
    config: FinetuneConfig,
    takes: Sequence[Take],
    train: Sequence[Clip],
    held: Sequence[Clip],
) -> None:
    """Write the model and the page."""
    best = state["best"]
    lifter = copy.deepcopy(model.lifter)
    lifter.load_state_dict(best["lifter"])
    card = {
        **model.card,
        "adapted": best["epoch"] > 0,
        "method": config.method,
        "takes": len(takes),
        "views": ",".join(dict.fromkeys(view for take in takes for view in take.views)),
        "clips": len(train),
        "held_out_clips": len(held),
        "seed": config.seed,
        "epoch": best["epoch"],
        "before": state["before"],
        "after": best["watched"],
    }
    save_model(out / "model.pt", replace(model, lifter=lifter.eval(), card=card))
    write_report(
        out / "report.html", runs.rows(out), title=f"Run {out.name}", before=state["before"], after=best["watched"],
        best_epoch=best["epoch"], warnings=state["warnings"], about={**card, **to_plain(config)["finetune"]},
    )  # fmt: skip


def _run(out: Path, state: Mapping[str, Any]) -> Run:
    best = state["best"]
    said = tuple(state["warnings"])
    return Run(out, out / "model.pt", state["before"], best["watched"], best["epoch"], best["epoch"] > 0, said)
