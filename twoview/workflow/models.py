"""The session's model: which run it is of, and which of two runs is the better one."""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from twoview.errors import FormatError, SessionError
from twoview.storage import records
from twoview.storage.locks import locked
from twoview.storage.session import Session

log = logging.getLogger(__name__)

SAME = 1e-3  # relative difference below which two numbers of one lifter on one set of clips are the same


@dataclass(frozen=True)
class RunResult:
    """A run's model and what judged it.

    name       of the run; "" for a model that is no run's
    model      fingerprint of the model's file
    adapted    whether the model is an adapted one
    method, weights  how it was adapted, and from which lifter
    judged_on  hash of the held-out clips; "" where an older version did not keep it
    before, after  criterion of the unadapted lifter and of the model on those clips
    """

    name: str
    model: str
    adapted: bool
    method: str
    weights: str
    judged_on: str
    before: float
    after: float

    def is_comparable(self, other: RunResult) -> bool:
        """Whether the criteria of two runs are of the same kind on the same clips.

        Either both say so; or one lifter, before adaptation, has one criterion in both. Where both say so and start
        from one lifter, it must have: else the clips' two-view 3D, which judges, is another.
        """
        if self.method != other.method or not (math.isfinite(self.after) and math.isfinite(other.after)):
            return False
        alike = math.isclose(self.before, other.before, rel_tol=SAME)
        if self.judged_on and other.judged_on:
            return self.judged_on == other.judged_on and (alike or self.weights != other.weights)
        return alike


def read_result(folder: Path) -> RunResult | None:
    """What a run says of its model; None for a run that has none yet. Raises FormatError for a damaged file."""
    model = folder / "model.pt"
    if not model.exists():
        return None
    path, fingerprint = folder / "result.json", records.fingerprint(model)
    if path.exists():
        content = records.read_json(path)
        if content.get("inputs") == {"model": fingerprint}:
            return _result(path, folder.name, fingerprint, content)
    return read_card(model, folder.name)


def read_card(model: Path, name: str = "") -> RunResult:
    """What a model's card says, for models of older versions and of no run."""
    from twoview.storage import torch_files

    content = torch_files.read(model)
    return _result(model, name, records.fingerprint(model), content.get("card", {}))


def _result(path: Path, name: str, fingerprint: str, card: Any) -> RunResult:
    try:
        numbers = [float(card.get(when, {}).get("criterion") or math.nan) for when in ("before", "after")]
        texts = [str(card.get(key, "")) for key in ("method", "weights", "judged_on")]
        return RunResult(name, fingerprint, bool(card.get("adapted", False)), *texts, *numbers)  # type: ignore[arg-type]
    except (AttributeError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is damaged: {error}", hint="train it again with the same command") from error


def run_names(session: Session) -> list[str]:
    """Names of the session's runs."""
    folder = session.folder / "runs"
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def run_in_use(session: Session) -> str:
    """The run that the session's model is of; "" where it is of none, or there is no model."""
    if not session.model_path.exists():
        return ""
    used = records.fingerprint(session.model_path)
    for name in run_names(session):
        model = session.folder / "runs" / name / "model.pt"
        if model.exists() and records.fingerprint(model) == used:
            return name
    return ""


def use_run(session: Session, run: str) -> Path:
    """Make the model of a finished run the session's. Raises SessionError for a run that has no model."""
    model = session.run_folder(run) / "model.pt"
    if not model.exists():
        known = ", ".join(run_names(session)) or "none"
        raise SessionError(
            f"run {run!r} of {session.folder} has no model; runs: {known}", hint="twoview finetune --views a,b"
        )
    with locked(session.folder / ".locks" / "model", f"the model of {session.folder}"):
        _copy(model, session.model_path)
    return model


def keep_better(session: Session, run: str) -> bool:
    """Make a run's model the session's if it is the better one by the criterion; whether it is the session's now.

    A run that was judged on other clips, or another way, cannot be compared: then the newer run's model is used, unless
    it was not adapted while the older one was. The log says which model stays or goes, and how to choose the other.
    """
    folder, path = session.run_folder(run), session.model_path
    with locked(session.folder / ".locks" / "model", f"the model of {session.folder}"):
        if not path.exists():
            _copy(folder / "model.pt", path)
            return True
        used = run_in_use(session)
        if used == run:
            return True
        new = read_result(folder)
        try:
            old = read_result(session.run_folder(used)) if used else read_card(path)
        except FormatError:  # nothing that could be kept
            old = None
        if new is not None and old is not None:
            keeps, why = _stays(old, new)
            whose = f"that of run {used!r}" if used else "one that is no run's"
            this = f"twoview finetune --run {quote(run)} --use --session {quote(str(session.folder))}"
            if keeps:
                log.warning("%s stays %s: %s. To use this run: %s", path, whose, why, this)
                return False
            if not new.is_comparable(old):
                back = f" To go back: {this.replace(quote(run), quote(used), 1)}" if used else ""
                log.warning("%s was %s and is now that of run %r: %s.%s", path, whose, run, why, back)
        _copy(folder / "model.pt", path)
        return True


def _stays(old: RunResult, new: RunResult) -> tuple[bool, str]:
    """Whether an older model stays beside a new run's, and why."""
    if new.is_comparable(old):
        if old.adapted and not new.adapted:
            return True, "this run could not adapt the lifter"
        verdict = "not better than" if new.after >= old.after else "better than"
        return (
            new.after >= old.after,
            f"on the same held-out clips the criterion of this run, {new.after:.4g}, is {verdict} {old.after:.4g}",
        )
    if old.adapted and not new.adapted:
        return True, "this run could not adapt the lifter"
    return False, "the two were judged on other clips or another way and cannot be compared, so the newer one is used"


def _copy(model: Path, path: Path) -> None:
    with records.atomic(path) as temporary:
        shutil.copyfile(model, temporary)
