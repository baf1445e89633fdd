"""Evaluation of files and of a session's takes, as the command `evaluate` gives it."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from twoview.errors import FormatError
from twoview.evaluation.scoring import Matched, Report, compare_views, evaluate, has_meters, match, summarize
from twoview.lifting.inference import infer
from twoview.lifting.model import load_model
from twoview.poses import Poses3D
from twoview.storage import records
from twoview.storage.session import Session
from twoview.visualization.report import write_tables
from twoview.workflow.stages import load_takes


def evaluate_files(predicted: Path, truth: Path | None = None, *, scale: str | float | None = None) -> Report:
    """Judge a Poses3D file, or every one in a folder against the file of the same name in the folder `truth`.

    Files in sub-folders are of the activity that the sub-folder is named after. scale as in `scoring.evaluate`.
    Raises FormatError for a folder without files, or a file without its truth.
    """
    if not os.path.isdir(predicted):
        known = None if truth is None else records.load_as(truth, Poses3D)
        return evaluate(records.load_as(predicted, Poses3D), known, scale=scale)
    files = sorted(predicted.rglob("*.npz"))
    if truth is None or not os.path.isdir(truth) or not files:
        raise FormatError(
            f"{len(files)} files in {predicted} to judge, and no folder of truth for them",
            hint="`twoview evaluate PREDICTED_FOLDER TRUTH_FOLDER`, with the same names in both",
        )
    clips: list[Matched] = []
    meters = True
    for path in files:
        name = path.relative_to(predicted)
        if not (truth / name).exists():
            raise FormatError(f"no truth for {name}: {truth / name} does not exist")
        found = records.load_as(path, Poses3D)
        meters &= has_meters(found, scale)
        activity = name.parent.as_posix() if name.parent != Path() else ""
        clips.append(match(found, records.load_as(truth / name, Poses3D), scale=scale, activity=activity))
    return summarize(clips, meters=meters)


def evaluate_takes(
    session: Session,
    model: str,
    *,
    takes: Sequence[str] | None = None,
    views: Sequence[str] | None = None,
    trust: Collection[str] = (),
) -> Report:
    """How well a model's poses of all views of the takes agree: no truth is needed. Raises SessionError, SyncError."""
    lifter, rows = load_model(model, trust=trust), []
    for take in load_takes(session, views, takes=takes):
        found = compare_views({view: infer(poses, lifter) for view, poses in take.poses.items()}, take.sync)
        rows += [replace(m, part=f"{take.name} {m.part}") for m in found.rows]
    return Report(tuple(rows), notes=("agreement is not accuracy: two views can agree on a wrong pose",))


def write_evaluation(path: Path, report: Report, *, title: str) -> None:
    """The report as a self-contained html page."""
    tables = {"Over everything": report.rows, "By activity": report.activities, "By joint": report.joints}
    rows = {
        name: [[m.name, m.part, m.value, m.low, m.high, m.unit] for m in metrics] for name, metrics in tables.items()
    }
    write_tables(path, rows, ["", "of", "value", "95 % from", "to", "unit"], title=title, notes=report.notes)
