"""`twoview evaluate`: how good 3D poses are."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from twoview.cli import console
from twoview.cli.lifting import session_model
from twoview.cli.options import DEFAULT_SESSION, Json, Model, SessionFolder, Takes, Trust, names


def evaluate(
    predicted: Annotated[Path | None, typer.Argument(help="File of 3D poses (.npz), or a folder of them.")] = None,
    truth: Annotated[Path | None, typer.Argument(help="True 3D poses of the same video, or a folder.")] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="Meters per screen unit: fit (least error), bones (from the true bones), or a number such as 1.7."
        ),
    ] = None,
    take: Takes = None,
    model: Model = None,
    joints: Annotated[bool, typer.Option("--joints", help="Show also the error of every joint.")] = False,
    html: Annotated[Path | None, typer.Option(help="Additional page to write (.html).")] = None,
    session: SessionFolder = DEFAULT_SESSION,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Judge 3D poses: with truth, by their error in mm; without, by bone lengths, jitter and agreement of the views.

    Give PREDICTED (and TRUTH), or --take for a take of the session.
    """
    from twoview.storage.session import open_session
    from twoview.workflow.evaluation import evaluate_files, evaluate_takes, write_evaluation

    if (predicted is None) == (take is None):
        raise typer.BadParameter("name a file of poses, or --take TAKE of the session")
    if predicted is None:
        if scale is not None:
            raise typer.BadParameter("--scale is for a file of poses, not for --take")
        report = evaluate_takes(
            open_session(session), model or session_model(session), takes=names(take), trust=trust or ()
        )
    else:
        if model is not None:
            raise typer.BadParameter("--model is for --take, not for a file of poses")
        report = evaluate_files(predicted, truth, scale=_scale(scale))
    if html:
        write_evaluation(html, report, title=f"Evaluation of {predicted or take}")
    alone = predicted is not None and os.path.isfile(predicted)
    following = f"twoview angles {shlex.quote(console.short(predicted))}" if predicted and alone else "twoview plan"
    if json:
        console.as_json({**report.to_json(), "files": [str(html)] if html else [], "next": following})
        return
    console.show_report(report, joints=joints)
    if html:
        console.saved(html, next=following)
    else:
        console.next_step(following)


def _scale(text: str | None) -> str | float | None:
    from twoview.evaluation.scoring import SCALES

    if text is None or text in SCALES:
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected {', '.join(SCALES)} or a number, got {text!r}") from None
