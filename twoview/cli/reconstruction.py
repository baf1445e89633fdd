"""`twoview triangulate`: 3D of the takes from several uncalibrated views."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twoview.cli import console
from twoview.cli.biomechanics import up_and_way
from twoview.cli.options import (
    DEFAULT_SESSION,
    AxesOption,
    Jobs,
    Json,
    LevelOption,
    On,
    SessionFolder,
    Takes,
    Trust,
    Views,
    Without,
    config_file,
    flag,
    names,
    set_option,
    unread_cluster,
    workers,
)  # fmt: skip
from twoview.command_settings import resolve
from twoview.errors import TwoViewError
from twoview.formats import FORMATS

if TYPE_CHECKING:
    from twoview.workflow.triangulation import Triangulated

_LISTED = 3  # takes whose files are listed


def triangulate(
    views: Views = None,
    take: Takes = None,
    without: Without = None,
    height: Annotated[float | None, flag("triangulate.height_m", "--height")] = None,
    focal: Annotated[str | None, flag("triangulate.focal", "--focal", metavar="LENGTH")] = None,
    format: Annotated[str | None, typer.Option(help=f"Additional formats to write: {','.join(FORMATS)}.")] = None,
    axes: AxesOption = None,
    level: LevelOption = None,
    filter: Annotated[str | None, flag("filter.kind", "--filter")] = None,
    picture: Annotated[bool, typer.Option(help="Draw the 3D over every video, contact sheets and the page.")] = True,
    model: Annotated[str, typer.Option(help="Lifter for the first estimate: a name or a file.")] = "twoview-small",
    jobs: Jobs = None,
    on: On = "",
    session: SessionFolder = DEFAULT_SESSION,
    config: Annotated[Path | None, config_file("triangulate")] = None,
    sets: Annotated[list[str] | None, set_option("triangulate")] = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Compute 3D poses of the takes from all views together, without calibration."""
    from twoview.storage.session import open_session
    from twoview.workflow.remembered import keep
    from twoview.workflow.triangulation import triangulate_session

    flags = {"height_m": height, "focal": focal, "filter.kind": filter, "world.axes": axes, "world.level": level}
    trusted = trust or ()
    settings = resolve(
        "triangulate", file=config, flags=flags, sets=sets or (), unread=unread_cluster(on), trust=trusted
    )
    hands, failed = workers(on, jobs, settings), list[tuple[str, TwoViewError]]()
    store = open_session(session)
    if height == 0:
        keep(store.folder, height_m=0.0)
    with console.progress() as on_progress:
        made = triangulate_session(
            store, views=names(views), takes=names(take), without=names(without) or (), model=model,
            config=settings.triangulate, filter=settings.filter, world=settings.world,
            formats=names(format) or (), picture=picture, trust=trusted, failed=failed, workers=hands,
            on_progress=on_progress,
        )  # fmt: skip
    if len(failed) == 1 and not made:
        raise failed[0][1]
    following = ""
    if made:
        first = made[0]
        following = f"twoview angles {shlex.quote(console.short(first.files[f'{first.result.views[0]}.npz']))}"
    if json:
        takes = [one.summary() for one in made]
        console.as_json({"takes": takes, "failed": console.failures(failed), "next": following})
    elif made:
        _show(made, following)
    if failed:
        console.show_failures(failed)
        raise typer.Exit(1)


def _show(made: Sequence[Triangulated], following: str) -> None:
    """A row for every take, the first ones' files, and warnings."""
    rows = []
    for one in made:
        result = one.result
        second = result.views[1]
        angle, residual = result.angle_deg[second], max(result.residual.values())
        sigma = float(result.summary()["sigma_mm"])
        state = "" if one.fresh else "up to date"
        rows.append(
            [result.take, f"{angle:.0f}", f"{result.reliable.mean():.0%}", f"{sigma:.0f}", f"{residual:.1%}",
             *up_and_way(one.poses[result.views[0]]), state]
        )  # fmt: skip
        console.warn(*(f"{result.take}: {sentence}" for sentence in one.warnings))
    titles = ["take", "angle (deg)", "reliable frames", "sigma (mm)", "residual (share of body)"]
    titles += ["up known to (deg)", "travelled (m)", ""]
    console.table(titles, rows)
    for one in made[:_LISTED]:
        console.result(f"{console.short(one.folder)}: {', '.join(one.files)}")
    said = console.saved if any(one.fresh for one in made) else console.still_saved
    said(*(one.folder for one in made), next=following)
