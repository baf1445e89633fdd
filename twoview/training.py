"""Adapt a lifter to takes filmed by two or more phones, without 3D labels.

`finetune` reads from top to bottom: clips, objective, loop, log, save. What is minimised is an `Objective`: here the
paper's losses (`Paper`), in `adaptation` the lessons of the method `phones`. Lightning Fabric brings device, precision
and several processes; a run that was stopped continues from `last.pt` as if nothing had happened.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from twoview import monitors, records
from twoview.checkpoint import Model, load_model, save_model
from twoview.clips import Clip, Take, check_views, collate, cut, hold_out, order
from twoview.config import FinetuneConfig, to_plain
from twoview.errors import TrainingError
from twoview.losses import total
from twoview.progress import OnProgress, Progress, report
from twoview.reports import write_report

logging.getLogger("lightning.fabric").setLevel(logging.ERROR)  # the library is silent
logging.getLogger("lightning_fabric").setLevel(logging.ERROR)

NOT_SHAPING = ("device", "devices", "nodes")  # settings that a stopped run may change when it continues


class Objective(Protocol):
    """What a run minimises.

    steps   training steps an epoch
    terms   the weighted loss terms of one step, whose sum is minimised; a pure function of epoch and step, so that a
            resumed run draws the same
    judge   numbers on held-out clips; "criterion" among them (lower is better, no 3D truth) chooses the epoch
    warnings  plain sentences about the takes, for the person who filmed them
    """

    steps: int
    warnings: tuple[str, ...]

    def terms(self, lifter: nn.Module, epoch: int, step: int) -> Mapping[str, Tensor]:
        """Weighted terms of one step."""

    def judge(self, lifter: nn.Module) -> Mapping[str, float]:
        """Held-out numbers."""


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


class Paper:
    """The losses of `LossConfig` on batches of paired clips (paper equations 6 and 8)."""

    def __init__(self, train: Sequence[Clip], held: Sequence[Clip], model: Model, config: FinetuneConfig) -> None:
        self.train, self.config, self.rule = train, config, model.framing
        self.held = [collate(part, model.framing) for part in by_views(held or train)]
        self.steps = -(-len(train) // config.batch)
        self.warnings: tuple[str, ...] = ()
        self.rank, self.world = 0, 1

    def terms(self, lifter: nn.Module, epoch: int, step: int) -> Mapping[str, Tensor]:
        """One batch; each process of several takes its share of the same global batch."""
        ids, flips = order(len(self.train), self.config.seed, epoch)
        chosen = slice(step * self.config.batch, (step + 1) * self.config.batch)
        mine = ids[chosen][self.rank :: self.world]
        device = next(lifter.parameters()).device
        parts: dict[str, Tensor] = {}
        groups = by_views([self.train[i] for i in mine])
        for clips in groups:
            batch = collate(clips, self.rule)
            if self.config.flip:
                position = {id(self.train[i]): i for i in mine}
                batch = batch.flipped(torch.tensor([bool(flips[position[id(clip)]]) for clip in clips]))
            batch = batch.to(device)
            terms = total(batch, batch.lifted(lifter(batch.x)), self.config.loss)
            for name, value in terms.items():  # each term averaged over the clips of the batch
                parts[name] = parts.get(name, torch.zeros((), device=device)) + value * (len(clips) / len(mine))
        return parts

    @torch.no_grad()
    def judge(self, lifter: nn.Module) -> Mapping[str, float]:
        """Monitors on the held-out clips, averaged over their number."""
        return judge(lifter, self.held)


def by_views(clips: Sequence[Clip]) -> list[list[Clip]]:
    """Clips grouped by their views: those in one batch need the same number, and labels or none."""
    groups: dict[Any, list[Clip]] = {}
    for clip in clips:
        groups.setdefault((clip.views, clip.truth is not None), []).append(clip)
    return list(groups.values())


@torch.no_grad()
def judge(lifter: nn.Module, batches: Sequence[Any], *, limit: int = 64) -> dict[str, float]:
    """Monitors of a lifter on batches of paired clips, with the criterion; clips go through it `limit` at a time."""
    lifter.eval()
    device = next(lifter.parameters()).device
    rows, sizes = [], []
    for batch in batches:
        answers = [lifter(part.to(device)) for part in batch.x.split(limit)]
        rows.append(monitors.watch(batch, batch.lifted(torch.cat(answers).cpu().float())))
        sizes.append(len(batch.score))
    watched = {k: sum(r[k] * n for r, n in zip(rows, sizes, strict=True)) / sum(sizes) for k in rows[0]}
    return {**watched, "criterion": monitors.criterion(watched)}


def finetune(
    takes: Sequence[Take],
    config: FinetuneConfig | None = None,
    *,
    out: Path | str,
    views: Sequence[str] | None = None,
    on_progress: OnProgress | None = None,
) -> Run:
    """Adapt the lifter named in `config` to the takes; everything about the run is written into the folder `out`.

    The same folder and settings continue a run that was stopped, and only load one that was finished.
    Raises TrainingError for takes that cannot teach, for a folder that holds another run, and for a loss that is not a
    number any more (the best model so far is kept).
    """
    config, out = config or FinetuneConfig(), Path(out)
    check_views(takes)
    fabric = _fabric(config)
    model = load_model(config.weights)
    state = _resume(out, config, _inputs(takes))
    if state is not None and state["finished"]:
        return _run(out, state)

    clips = [clip for take in takes for clip in _cut(take, model, config, views)]
    if not clips:
        raise TrainingError(
            f"no clip of {model.clip_length} frames shows the athlete in all views, in {len(takes)} takes",
            hint="look at the detections with `twoview show`, and at sync.png",
        )
    train, held = hold_out(clips, config.held_out)
    objective = _objective(takes, train, held, model, config, on_progress)

    lifter = copy.deepcopy(model.lifter)
    optimiser = torch.optim.AdamW(lifter.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    prepared, optimiser = fabric.setup(lifter, optimiser)
    if state is None:
        before = dict(objective.judge(lifter))
        best = {"epoch": 0, "watched": before, "lifter": _plain(lifter)}
        state = {"epoch": 0, "before": before, "best": best, "about": list(objective.warnings)}
        records.write_json(out / "config.json", {**records.header("run"), **to_plain(config)})
        _log(out, [])
    else:
        lifter.load_state_dict(state["lifter"])
        optimiser.load_state_dict(state["optimiser"])

    for epoch in range(state["epoch"], config.epochs):
        started = time.monotonic()
        sums: dict[str, float] = {}
        prepared.train()
        for step in range(objective.steps):
            _set_rate(optimiser, config, epoch, step, objective.steps)
            terms = objective.terms(prepared, epoch, step)
            _check(terms, epoch, step, out)
            fabric.backward(sum(terms.values(), torch.zeros((), device=fabric.device)))
            if config.clip_norm > 0:
                fabric.clip_gradients(prepared, optimiser, max_norm=config.clip_norm, error_if_nonfinite=False)
            optimiser.step()
            optimiser.zero_grad()
            sums = {name: sums.get(name, 0.0) + float(value.detach()) for name, value in terms.items()}
            done = epoch * objective.steps + step + 1
            shown = {"loss": sum(float(v.detach()) for v in terms.values())}
            report(on_progress, Progress("finetune", done, config.epochs * objective.steps, "steps", shown))
        watched = dict(objective.judge(lifter))
        if watched["criterion"] < state["best"]["watched"]["criterion"]:
            state["best"] = {"epoch": epoch + 1, "watched": watched, "lifter": _plain(lifter)}
        row = {f"loss_{name}": value / objective.steps for name, value in sums.items()}
        _log(out, [*_rows(out), {"epoch": epoch + 1, **row, **watched, "seconds": time.monotonic() - started}])
        state |= {"epoch": epoch + 1, "lifter": _plain(lifter), "optimiser": optimiser.state_dict()}
        _save(out, state, config, takes, finished=False)
    return _finish(out, state, model, config, takes, train, held)


def _fabric(config: FinetuneConfig) -> Fabric:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device cuda was asked for, and there is none", hint="--device cpu")
    precision = cast(Any, config.precision)
    fabric = Fabric(accelerator=config.device, devices=config.devices, num_nodes=config.nodes, precision=precision)
    fabric.launch()
    return fabric


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
    on_progress: OnProgress | None,
) -> Objective:
    if config.method == "paper":
        return Paper(train, held, model, config)
    from twoview.adaptation import Phones

    return Phones(takes, train, held, model, config, on_progress)


def _set_rate(optimiser: Any, config: FinetuneConfig, epoch: int, step: int, steps: int) -> None:
    """Learning rate of this step: constant, falling linearly to 0 at the last, or by a factor every epoch."""
    automatic = "linear" if config.method == "phones" else "constant"
    share = {
        "constant": 1.0,
        "linear": 1.0 - (epoch * steps + step) / (config.epochs * steps),
        "exponential": config.lr_decay**epoch,
    }[automatic if config.schedule == "auto" else config.schedule]
    for group in optimiser.param_groups:
        group["lr"] = config.lr * share


def _check(terms: Mapping[str, Tensor], epoch: int, step: int, out: Path) -> None:
    for name, value in terms.items():
        if not torch.isfinite(value):
            raise TrainingError(
                f"the loss term {name!r} became {value.item()} in step {step + 1} of epoch {epoch + 1}",
                hint=f"lower the learning rate (--set lr=5e-5) under another --run; {out} keeps the last good state",
            )


# --- the folder of a run -------------------------------------------------------------------------------------------


def _plain(lifter: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in lifter.state_dict().items()}


def _inputs(takes: Sequence[Take]) -> dict[str, str]:
    """What the run learns from: every view's poses and clock."""
    found = {}
    for take in takes:
        for view, poses in take.poses.items():
            digest = hashlib.sha256(poses.xy.tobytes() + poses.score.tobytes() + poses.time.tobytes())
            digest.update(repr(take.sync.clocks.get(view)).encode())
            found[f"{take.name}/{view}"] = digest.hexdigest()[:24]
    return found


def _shaping(config: FinetuneConfig) -> dict[str, Any]:
    return {key: value for key, value in asdict(config).items() if key not in NOT_SHAPING}


def _save(
    out: Path, state: Mapping[str, Any], config: FinetuneConfig, takes: Sequence[Take], *, finished: bool
) -> None:
    head = records.header("run state", inputs=_inputs(takes), settings=_shaping(config))
    with records.atomic(out / "last.pt") as temporary:
        torch.save({**head, **state, "finished": finished}, temporary)
    with records.atomic(out / "best.pt") as temporary:
        torch.save({**head, **state["best"]}, temporary)


def _resume(out: Path, config: FinetuneConfig, inputs: Mapping[str, str]) -> dict[str, Any] | None:
    path = out / "last.pt"
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    settings = json.loads(json.dumps(_shaping(config)))
    if state["settings"] != settings or state["inputs"] != inputs:
        changed = [key for key in settings if settings[key] != state["settings"].get(key)]
        what = f"other settings ({', '.join(changed)})" if changed else "other takes or detections"
        raise TrainingError(f"{out} holds a run with {what}", hint=f"--run NAME starts another, or delete {out}")
    return state


def _rows(out: Path) -> list[dict[str, Any]]:
    text = (out / "log.jsonl").read_text(encoding="utf-8") if (out / "log.jsonl").exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def _log(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with records.atomic(out / "log.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _finish(
    out: Path,
    state: dict[str, Any],
    model: Model,
    config: FinetuneConfig,
    takes: Sequence[Take],
    train: Sequence[Clip],
    held: Sequence[Clip],
) -> Run:
    before, after = state["before"], state["best"]["watched"]
    said = [*state["about"], *monitors.warnings(before, after, clips=len(train))]
    adapted = state["best"]["epoch"] > 0
    if not adapted:
        said.append(
            "no epoch made the held-out clips better than the unadapted lifter, which is therefore kept as the model"
        )
    lifter = copy.deepcopy(model.lifter)
    lifter.load_state_dict(state["best"]["lifter"])
    card = {
        **model.card,
        "adapted": adapted,
        "method": config.method,
        "takes": len(takes),
        "views": ",".join(dict.fromkeys(view for take in takes for view in take.views)),
        "clips": len(train),
        "held_out_clips": len(held),
        "seed": config.seed,
        "epoch": state["best"]["epoch"],
        "before": before,
        "after": after,
    }
    save_model(out / "model.pt", replace(model, lifter=lifter.eval(), card=card))
    write_report(
        out / "report.html", _rows(out), title=f"Run {out.name}", before=before, after=after,
        best_epoch=state["best"]["epoch"], warnings=said, about={**card, **to_plain(config)["finetune"]},
    )  # fmt: skip
    state["warnings"] = said
    _save(out, state, config, takes, finished=True)
    return _run(out, state)


def _run(out: Path, state: Mapping[str, Any]) -> Run:
    best = state["best"]
    said = tuple(state["warnings"])
    return Run(out, out / "model.pt", state["before"], best["watched"], best["epoch"], best["epoch"] > 0, said)
