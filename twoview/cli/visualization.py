"""`twoview render`: the skeleton over a video, or the views of a take side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twoview.cli import console
from twoview.cli.options import DEFAULT_SESSION, Json, SessionFolder, TakeName


def render(
    video: Annotated[Path | None, typer.Argument(help="Video.")] = None,
    poses2d: Annotated[Path | None, typer.Argument(help="File of its 2D poses (.npz).")] = None,
    poses3d: Annotated[Path | None, typer.Argument(help="File of its 3D poses (.npz).")] = None,
    out: Annotated[Path | None, typer.Argument(help="Video to write (.mp4).")] = None,
    sync: Annotated[
        bool,
        typer.Option(
            "--sync",
            help="Draw the views of a take side by side on one clock instead, with sharp sounds (claps, hits) marked.",
        ),
    ] = False,
    take: TakeName = None,
    session: SessionFolder = DEFAULT_SESSION,
    json: Json = False,
) -> None:
    """Draw the skeleton over a video, beside the 3D figure: give VIDEO POSES2D POSES3D OUT.

    With --sync, draw all views of a take side by side.
    """
    from twoview.poses import Poses2D, Poses3D
    from twoview.storage.records import load_as
    from twoview.storage.session import open_session
    from twoview.visualization.overlay import render
    from twoview.workflow.synchronization import render_take

    files = [video, poses2d, poses3d, out]
    if sync and any(files):
        raise typer.BadParameter("--sync draws a take of the session and takes no files")
    if not sync and take is not None:
        raise typer.BadParameter("--take is for --sync")
    with console.progress() as on_progress:
        if sync:
            out = render_take(open_session(session), take, on_progress=on_progress)
        elif video is None or poses2d is None or poses3d is None or out is None:
            raise typer.BadParameter("expected VIDEO POSES2D POSES3D OUT, or --sync")
        else:
            render(video, load_as(poses2d, Poses2D), load_as(poses3d, Poses3D), out, on_progress=on_progress)
    console.written(out, json=json, next="twoview detect" if sync else "twoview show")
