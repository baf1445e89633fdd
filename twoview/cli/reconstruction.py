"""`twoview triangulate`: 3D of the takes from several uncalibrated views."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twoview.cli import console
from twoview.cli.options import (
    DEFAULT_SESSION,
    Json,
    SessionFolder,
    Takes,
    Trust,
    Views,
    Without,
    config_file,
    flag,
    names,
    set_option,
)  # fmt: skip
from twoview.command_settings import resolve
from twoview.storage.session import open_session


def triangulate(
    views: Views = None,
    take: Takes = None,
    without: Without = None,
    height: Annotated[float | None, flag("triangulate.height_m", "--height")] = None,
    filter: Annotated[str | None, flag("filter.kind", "--filter")] = None,
    model: Annotated[str, typer.Option(help="Lifter for the first estimate: a name or a file.")] = "twoview-small",
    session: SessionFolder = DEFAULT_SESSION,
    config: Annotated[Path | None, config_file("triangulate")] = None,
    sets: Annotated[list[str] | None, set_option("triangulate")] = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Compute 3D poses of the takes from all views together, without calibration."""
    from twoview.workflow.remembered import keep
    from twoview.workflow.stages import triangulate_session

    flags, trusted = {"height_m": height, "filter.kind": filter}, trust or ()
    settings = resolve("triangulate", file=config, flags=flags, sets=sets or (), trust=trusted)
    store = open_session(session)
    if height == 0:
        keep(store.folder, height_m=0.0)
    with console.progress() as on_progress:
        found = triangulate_session(
            store, views=names(views), takes=names(take), without=names(without) or (), model=model,
            config=settings.triangulate, filter=settings.filter, trust=trusted, on_progress=on_progress,
        )  # fmt: skip
    if json:
        console.as_json({"takes": [result.summary() for result, _ in found]})
        return
    rows = []
    for result, _ in found:
        second = result.views[1]
        angle, residual = result.angle_deg[second], max(result.residual.values())
        sigma = float(result.summary()["sigma_mm"])
        rows.append([result.take, f"{angle:.0f}", f"{result.reliable.mean():.0%}", f"{sigma:.0f}", f"{residual:.1%}"])
        console.warn(*(f"{result.take}: {sentence}" for sentence in result.warnings))
    console.table(["take", "angle (deg)", "reliable frames", "sigma (mm)", "residual (share of body)"], rows)
    console.saved(*(path for _, files in found for path in files))
