"""The folder of a run, and the state that a stopped training run continues from.

config.json             settings; `--config` reads the file
log.jsonl, log.csv      one line per epoch: losses, held-out numbers, seconds
events.out.tfevents.*   the same for TensorBoard, where it was asked for
result.json             what the model's card says: method, held-out numbers, and the clips that judged
last.pt, best.pt        state after the last epoch, and the best lifter so far

`state_header` and `read_state` serve pretraining as well.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from twoview.config import IGNORED, RENAMED, FinetuneConfig, TriangulateConfig, shaping, to_plain
from twoview.errors import FormatError, MissingBackend, TrainingError
from twoview.progress import is_first
from twoview.storage import records, torch_files
from twoview.storage.locks import locked
from twoview.storage.regular import regular_file
from twoview.takes import Take
from twoview.texts import json_text
from twoview.training.clips import Clip

STATE_VERSION = 2
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """A lifter after an epoch (0: the unadapted one): its held-out numbers and its weights on the CPU."""

    epoch: int
    held_out: Mapping[str, float]
    lifter: Mapping[str, Tensor]


@dataclass(frozen=True)
class RunState:
    """What a stopped run continues from.

    epoch     epochs done
    before    held-out numbers of the unadapted lifter
    best      the epoch that becomes the model
    lifter, optimizer  state after the last epoch
    warnings  plain sentences about the run; known once it is finished, as is
    reach     how far the model reaches: the numbers of `gate.Reach`; empty where nothing was adapted
    log       one row per epoch: losses, held-out numbers, seconds
    """

    epoch: int
    before: Mapping[str, float]
    best: Snapshot
    lifter: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    reach: Mapping[str, float] = field(default_factory=dict)
    finished: bool = False
    log: tuple[Row, ...] = ()


class RunFolder:
    """The files of one run. Only the first of several processes `writes`."""

    def __init__(
        self,
        path: Path,
        config: FinetuneConfig,
        triangulation: TriangulateConfig,
        takes: Sequence[Take],
        *,
        writes: bool,
    ) -> None:
        self.path, self.writes, self._config, self._triangulation = path, writes, config, triangulation
        self._head = state_header("run state", _shaping(config, triangulation), _inputs(takes))
        self._board: Any = None

    def resume(self) -> RunState | None:
        """The state that a run in this folder stopped with, None for a new run. Raises as `read_state` does."""
        defaults = {**shaping(FinetuneConfig()), "triangulate": shaping(TriangulateConfig())}
        content = read_state(
            self.path / "last.pt", self._head, defaults=defaults, upgrade=_upgraded, another="--run NAME"
        )
        if content is None:
            return None
        path = self.path / "last.pt"
        try:
            state = {name: content[name] for name in RunState.__dataclass_fields__ if name in content}
            log = state["log"] if "log" in state else rows(self.path)  # states of older versions have no log
            best = Snapshot(**state["best"])
            found = RunState(**{**state, "best": best, "warnings": tuple(state["warnings"]), "log": tuple(log)})
            _check_types(found)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(path, "--run NAME") from error
        return found

    def check_fits(self, state: RunState, lifter: nn.Module) -> None:
        """Raise FormatError unless the weights in a state are those of this lifter."""
        shapes = {key: value.shape for key, value in lifter.state_dict().items()}
        for weights in (state.lifter, state.best.lifter):
            if {key: value.shape for key, value in weights.items()} != shapes:
                raise damaged(self.path / "last.pt", "--run NAME")

    def start(self, *, new: bool) -> None:
        """Write the settings and an empty log for a new run, and open TensorBoard's file where it was asked for.

        Raises MissingBackend where TensorBoard is asked for and not installed.
        """
        if self.writes and new:
            settings = {**to_plain(self._config), **to_plain(self._triangulation)}
            records.write_json(self.path / "config.json", {**records.header("run"), **settings})
            _write_log(self.path, [])
        if self.writes and self._config.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingBackend(
                    "TensorBoard is not installed", hint='pip install "twoview[tensorboard]"'
                ) from error
            self._board = SummaryWriter(str(self.path))

    def judged_on(self, held_out: Sequence[Clip]) -> str:
        """A hash of the clips that judge the run: their takes' poses and clocks, and the seconds that they show."""
        digest = hashlib.sha256()
        for clip in sorted(held_out, key=lambda clip: (clip.take, float(clip.time[0]))):
            poses = [self._head["inputs"][f"{clip.take}/{view}"] for view in clip.views]
            digest.update(f"{clip.take} {clip.views} {poses} {clip.time[0]:.2f} {clip.time[-1]:.2f};".encode())
        return digest.hexdigest()[:24]

    def save(self, state: RunState) -> None:
        """Write the state, the best lifter so far, and the log, which is the state's."""
        if self.writes:
            best = vars(state.best)
            torch_files.write(self.path / "best.pt", {**self._head, **best})
            torch_files.write(self.path / "last.pt", {**self._head, **vars(state), "best": best})
            self.write_log(state)

    def write_log(self, state: RunState) -> None:
        """Write the log of a state, where a kill or a damage left another one."""
        if self.writes and _log_text(state.log) != _text(self.path / "log.jsonl"):
            _write_log(self.path, state.log)

    def board(self, row: Row) -> None:
        """Show the row of an epoch in TensorBoard, where it was asked for."""
        if self._board is not None:
            for name, value in row.items():
                if name != "epoch":
                    self._board.add_scalar(name.replace("loss_", "loss/"), float(value), int(row["epoch"]))
            self._board.flush()


def write_result(folder: Path, card: Mapping[str, Any]) -> None:
    """Write what the card of a run's model says, to be read without the model."""
    inputs = {"model": records.fingerprint(folder / "model.pt")}
    records.write_json(folder / "result.json", {**card, **records.header("run result", inputs=inputs)})


def run_alone(folder: Path) -> AbstractContextManager[None]:
    """Keep every other command out of a run's folder; of several processes of one run the first does."""
    if not is_first():
        return nullcontext()
    return locked(folder / ".lock", f"the run in {folder}", wait=False)


def damaged(path: Path, another: str) -> FormatError:
    """The error for a state that a run cannot continue from. another: option that starts another run."""
    return FormatError(
        f"{path} is damaged, and the run cannot continue from it",
        hint=f"{another} starts another, or move {path.parent} away",
    )


def _check_types(state: RunState) -> None:
    """Raise TypeError or ValueError for values that no run has."""
    numbers = (state.before, state.best.held_out, state.reach)
    if not all(isinstance(epoch, int) and epoch >= 0 for epoch in (state.epoch, state.best.epoch)):
        raise ValueError("epochs are whole numbers")
    if not all(isinstance(v, int | float) and isinstance(k, str) for group in numbers for k, v in dict(group).items()):
        raise TypeError("held-out numbers are numbers")
    if "criterion" not in state.before or (state.best.epoch <= state.epoch and "criterion" not in state.best.held_out):
        raise ValueError("the criterion is missing")
    if not all(isinstance(value, Tensor) for group in (state.lifter, state.best.lifter) for value in group.values()):
        raise TypeError("weights are tensors")
    if not all(isinstance(line, str) for line in state.warnings) or not isinstance(state.optimizer, Mapping):
        raise TypeError("warnings are texts, and the optimizer has a state")
    if not all(isinstance(v, int | float) and isinstance(k, str) for row in state.log for k, v in dict(row).items()):
        raise TypeError("the log has a row of numbers for each epoch")


def cpu_weights(lifter: nn.Module) -> dict[str, Tensor]:
    """A copy of a lifter's weights on the CPU."""
    return {key: value.detach().cpu().clone() for key, value in lifter.state_dict().items()}


def rows(folder: Path) -> list[dict[str, Any]]:
    """The log of a run, one mapping per epoch; null, which stands for a number that is not finite, becomes NaN."""
    path = folder / "log.jsonl"
    try:
        found = [records.parse_json(line) for line in _text(path).splitlines()]
        return [{k: math.nan if v is None else v for k, v in row.items()} for row in found]
    except (ValueError, AttributeError) as error:
        raise FormatError(f"{path} is damaged: {error}", hint="the next training writes it again") from error


def _text(path: Path) -> str:
    """What a text file says; "" where there is none, or none that can be read."""
    try:
        return regular_file(path).read_text(encoding="utf-8", errors="replace")
    except (FormatError, OSError):
        return ""


def _log_text(log: Sequence[Row]) -> str:
    return "".join(json_text(row) + "\n" for row in log)


def state_header(format: str, settings: Mapping[str, Any], inputs: Mapping[str, str] | None = None) -> records.Header:
    """The header of a state file: what shaped the run."""
    return {**records.header(format, inputs=inputs, settings=settings), "version": STATE_VERSION}


def read_state(
    path: Path,
    head: records.Header,
    *,
    defaults: Mapping[str, Any],
    upgrade: Callable[[dict[str, Any]], dict[str, Any]],
    another: str,
) -> dict[str, Any] | None:
    """The content of a state file that was written under the same header; None where there is no file.

    defaults  settings that stand for those that the file's version did not have
    upgrade   makes today's content of an older version's
    another   options that start another run, for the error's hint

    Raises TrainingError for a file of other settings or inputs, FormatError for a damaged one or a newer version.
    """
    if not path.exists():
        return None
    try:
        content = torch_files.read(path)
        version = content.get("version", 1)
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise ValueError(f"version {version!r}")
        content = upgrade(content) if version < STATE_VERSION else content
        settings, inputs = _completed(defaults, json.loads(json.dumps(content["settings"]))), content["inputs"]
        format = str(content["format"])
    except (FormatError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise damaged(path, another) from error
    if format != head["format"] or version > STATE_VERSION:
        raise FormatError(
            f"{path} holds {format[:50]} version {version}; expected {head['format']} up to {STATE_VERSION}",
            hint="upgrade twoview, or choose another folder",
        )
    changed = [key for key, value in head["settings"].items() if value != settings.get(key)]
    if changed or inputs != head["inputs"]:
        what = f"other settings ({', '.join(changed)})" if changed else "other takes or detections"
        raise TrainingError(
            f"{path.parent} holds a run with {what}", hint=f"{another} starts another, or delete {path.parent}"
        )
    return content


def _completed(defaults: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run with the defaults of those that were added later."""
    nested = {k: _completed(v, known.get(k, {})) for k, v in defaults.items() if isinstance(v, dict) and v}
    return {**defaults, **known, **nested}


def _inputs(takes: Sequence[Take]) -> dict[str, str]:
    """What the run learns from: a hash of each view's poses and clock."""
    found = {}
    for take in takes:
        for view, poses in take.poses.items():
            digest = hashlib.sha256(poses.xy.tobytes() + poses.score.tobytes() + poses.time.tobytes())
            digest.update(repr(take.sync.clocks.get(view)).encode())
            found[f"{take.name}/{view}"] = digest.hexdigest()[:24]
    return found


def _shaping(config: FinetuneConfig, triangulation: TriangulateConfig) -> dict[str, Any]:
    """The settings that shape this run: those that its method reads."""
    own = {name: value for name, value in shaping(config).items() if f"finetune.{name}" not in IGNORED[config.method]}
    return {**own, "triangulate": shaping(triangulation)} if config.method == "phones" else own


def _upgraded(old: dict[str, Any]) -> dict[str, Any]:
    """A run's state of version 1 in the layout and with the names of today's settings."""
    settings, best = dict(old["settings"]), old["best"]
    phones, loss = dict(settings["phones"]), dict(settings["loss"])
    triangulate = dict(phones.pop("triangulate", settings.get("triangulate", {})))
    renamed = (
        (settings, "remember", "checkpointing"),
        (phones, "doubt_m", "sigma_m"),
        (triangulate, "late_s", "sync_sigma_s"),
        (loss, "only_unlabelled_2d", "only_unlabeled_2d"),
    )
    for group, before, after in renamed:
        if before in group:
            group[after] = group.pop(before)
    phones.setdefault("consistency", 0.0)  # that setting came later, and has another default since
    if "steps" in phones:
        phones["steps_per_epoch"] = -(-phones.pop("steps") // settings["epochs"])
    settings["precision"] = RENAMED.get(settings["precision"], settings["precision"])
    return {
        **old,
        "settings": {**settings, "phones": phones, "loss": loss, "triangulate": triangulate},
        "best": {"epoch": best["epoch"], "held_out": best["watched"], "lifter": best["lifter"]},
        "optimizer": old.get("optimizer", old.get("optimiser")),
        "warnings": old.get("warnings", ()),
    }


def _write_log(folder: Path, lines: Sequence[Row]) -> None:
    """Write the whole log, as a table and then as JSON lines, by which `write_log` sees that both are there."""
    names = list(dict.fromkeys(name for row in lines for name in row))
    with records.atomic(folder / "log.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(lines)
    with records.atomic(folder / "log.jsonl") as temporary:
        temporary.write_text(_log_text(lines), encoding="utf-8")
