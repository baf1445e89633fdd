"""The folder of a run: its settings, its log, the state that a stopped run continues from, and the best model so far.

config.json             settings; `--config` reads it back
log.jsonl, log.csv      one line an epoch: losses, held-out numbers, seconds
events.out.tfevents.*   the same for TensorBoard, where it was asked for
last.pt, best.pt        state of the last epoch, and the best lifter so far
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from twoview.config import RENAMED, FinetuneConfig, TriangulateConfig, shaping
from twoview.errors import FormatError, MissingBackend, TrainingError
from twoview.storage import checkpoints, records
from twoview.takes import Take

Row = Mapping[str, Any]


def plain(lifter: nn.Module) -> dict[str, Tensor]:
    """A copy of a lifter's weights on the CPU."""
    return {key: value.detach().cpu().clone() for key, value in lifter.state_dict().items()}


def inputs(takes: Sequence[Take]) -> dict[str, str]:
    """What the run learns from: every view's poses and clock."""
    found = {}
    for take in takes:
        for view, poses in take.poses.items():
            digest = hashlib.sha256(poses.xy.tobytes() + poses.score.tobytes() + poses.time.tobytes())
            digest.update(repr(take.sync.clocks.get(view)).encode())
            found[f"{take.name}/{view}"] = digest.hexdigest()[:24]
    return found


def _settings(config: FinetuneConfig, triangulation: TriangulateConfig) -> dict[str, Any]:
    """The settings that shape a run's result, as they come back from a file."""
    return {**shaping(config), "triangulate": shaping(triangulation)}


def save(
    out: Path,
    state: Mapping[str, Any],
    config: FinetuneConfig,
    triangulation: TriangulateConfig,
    known: Mapping[str, str],
    *,
    finished: bool,
) -> None:
    """Write the state and the best model so far; `known` are the run's inputs."""
    head = records.header("run state", inputs=known, settings=_settings(config, triangulation))
    checkpoints.write(out / "last.pt", {**head, **state, "finished": finished})
    checkpoints.write(out / "best.pt", {**head, **state["best"]})


def _completed(defaults: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run with the defaults of those that came later."""
    nested = {k: _completed(v, known.get(k, {})) for k, v in defaults.items() if isinstance(v, dict) and v}
    return {**defaults, **known, **nested}


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run as a version up to 0.2 wrote them, under today's names."""
    own = dict(settings)
    if "remember" not in own:
        return own
    phones, loss = dict(own["phones"]), dict(own["loss"])
    own["triangulate"] = phones.pop("triangulate")
    own["triangulate"]["sync_sigma_s"] = own["triangulate"].pop("late_s")
    phones["sigma_m"] = phones.pop("doubt_m")
    phones["steps_per_epoch"] = -(-phones.pop("steps") // own["epochs"])
    loss["only_unlabeled_2d"] = loss.pop("only_unlabelled_2d")
    own["precision"] = RENAMED.get(own["precision"], own["precision"])
    return {**own, "checkpointing": own.pop("remember"), "phones": phones, "loss": loss}


def resume(
    out: Path, config: FinetuneConfig, triangulation: TriangulateConfig, known: Mapping[str, str]
) -> dict[str, Any] | None:
    """The state that a run in this folder stopped with, None for a new one.

    Raises TrainingError where the folder holds a run with other settings or inputs, FormatError for a damaged state.
    """
    path = out / "last.pt"
    if not path.exists():
        return None
    try:
        state = checkpoints.read(path)
        theirs, their_inputs = state["settings"], state["inputs"]
    except (FormatError, KeyError) as error:
        raise FormatError(f"{path} is damaged and cannot be continued from", hint=f"delete {out}") from error
    settings = _settings(config, triangulation)
    theirs = _completed(_settings(FinetuneConfig(), TriangulateConfig()), _renamed(theirs))
    if theirs != settings or their_inputs != known:
        changed = [key for key in settings if settings[key] != theirs.get(key)]
        what = f"other settings ({', '.join(changed)})" if changed else "other takes or detections"
        raise TrainingError(f"{out} holds a run with {what}", hint=f"--run NAME starts another, or delete {out}")
    return state


def rows(out: Path) -> list[dict[str, Any]]:
    """The log so far, one mapping an epoch."""
    text = (out / "log.jsonl").read_text(encoding="utf-8") if (out / "log.jsonl").exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def log(out: Path, lines: Sequence[Row]) -> None:
    """Write the log anew, as JSON lines and as a table."""
    with records.atomic(out / "log.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    names = list(dict.fromkeys(name for row in lines for name in row))
    with records.atomic(out / "log.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(lines)


class Board:
    """TensorBoard's curves of a run; does nothing unless `wanted`. Raises MissingBackend where it is not installed."""

    def __init__(self, out: Path, *, wanted: bool) -> None:
        self._writer: Any = None
        if not wanted:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingBackend("TensorBoard is not installed", hint='pip install "twoview[tensorboard]"') from error
        self._writer = SummaryWriter(str(out))

    def add(self, row: Row) -> None:
        """One line of the log."""
        if self._writer is not None:
            for name, value in row.items():
                if name != "epoch":
                    self._writer.add_scalar(name.replace("loss_", "loss/"), float(value), int(row["epoch"]))
            self._writer.flush()
