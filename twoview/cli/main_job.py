"""`twoview run`: every stage that is not up to date, in one process, and what to open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twoview.cli import console
from twoview.cli.options import (
    DEFAULT_SESSION,
    AxesOption,
    Detector,
    Jobs,
    Json,
    LevelOption,
    On,
    SessionFolder,
    Trust,
    config_file,
    flag,
    method_option,
    names,
    set_option,
    unread_cluster,
    workers,
)  # fmt: skip
from twoview.command_settings import resolve
from twoview.formats import FORMATS
from twoview.progress import OnProgress, Progress


def run(
    videos: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Videos of one event from two or more phones, or several folders with those of one event each. "
            "Without: the session's takes."
        ),
    ] = None,
    height: Annotated[float | None, flag("infer.height_m", "--height")] = None,
    focal: Annotated[str | None, flag("triangulate.focal", "--focal", metavar="LENGTH")] = None,
    format: Annotated[
        str | None, typer.Option(help=f"Formats to write besides the pages: {','.join(FORMATS)}.")
    ] = None,
    filter: Annotated[str | None, flag("filter.kind", "--filter")] = None,
    axes: AxesOption = None,
    level: LevelOption = None,
    picture: Annotated[bool, typer.Option(help="Draw the overlay videos and the contact sheets.")] = True,
    name: Annotated[
        str,
        typer.Option("--run", help="Name of the run (default: the one of these takes and settings, else a new one)."),
    ] = "",
    method: Annotated[str | None, method_option()] = None,
    epochs: Annotated[int | None, flag("finetune.epochs")] = None,
    seed: Annotated[int | None, flag("finetune.seed")] = None,
    weights: Annotated[str | None, flag("finetune.weights", "--weights")] = None,
    detector: Detector = None,
    device: Annotated[str | None, flag("finetune.device", "--device")] = None,
    jobs: Jobs = None,
    on: On = "",
    session: SessionFolder = DEFAULT_SESSION,
    config: Annotated[Path | None, config_file("run")] = None,
    sets: Annotated[list[str] | None, set_option("run")] = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Do everything that is not up to date: sync, detect, triangulate, finetune, infer of all views, and pages.

    Videos of one folder are one take. Folders with several videos are a take each; folders with one video are phones.
    The same command goes on where it stopped, and keeps what is done where a stage fails.
    """
    from twoview.workflow.main_job import steps
    from twoview.workflow.remembered import keep

    flags = {
        "method": method, "epochs": epochs, "seed": seed, "weights": weights, "detect.detector": detector,
        "triangulate.height_m": height, "infer.height_m": height, "filter.kind": filter, "triangulate.focal": focal,
        "world.axes": axes, "world.level": level,
        "finetune.device": device, "detect.device": device, "infer.device": device,
    }  # fmt: skip
    settings = resolve("run", file=config, flags=flags, sets=sets or (), unread=unread_cluster(on), trust=trust or ())
    if height == 0:
        keep(session, height_m=0.0)
    bars: list[OnProgress] = []

    def relay(event: Progress) -> None:
        bars[-1](event)

    made = steps(
        session, videos or (), settings=settings, name=name, formats=names(format) or (), picture=picture,
        trust=trust or (), workers=workers(on, jobs, settings, settings.detect.device), on_progress=relay,
    )  # fmt: skip
    done = []
    while True:
        with console.progress() as on_progress:  # its bars are gone when a line is printed
            bars.append(on_progress)
            step = next(made, None)
        if step is None:
            break
        done.append(step)
        if not json and step.error is None:
            state = "" if step.state == "new" else f"  ({step.state})"
            console.result(f"{step.stage:<11} {step.of:<11} {step.text}{state}")
        if step.error is not None:
            console.show_failures([(f"{step.stage} {step.of}".strip(), step.error)])
        console.warn(*step.warnings)
    failed = [step for step in done if step.error is not None]
    pages = [page for step in done for page in step.pages]
    made_some = len(failed) < len(done)  # else there may be no session to look at
    next_step = "twoview infer clip.mp4" if not failed else "twoview show" if made_some else ""
    if json:
        found = {"steps": [step.summary() for step in done], "open": [str(page) for page in pages], "next": next_step}
        console.as_json(found)
    else:
        if next_step:
            console.next_step(next_step)
        console.open_pages(*pages)
    if failed:
        raise typer.Exit(1)
