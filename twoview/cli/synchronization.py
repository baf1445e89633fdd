"""The command `twoview sync`, which relates clocks by sound, by motion or by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twoview.cli import console
from twoview.cli.options import (
    DEFAULT_SESSION,
    Json,
    SessionFolder,
    TakeName,
    Views,
    config_file,
    names,
    numbers,
    set_option,
)  # fmt: skip
from twoview.command_settings import resolve


def sync(
    videos: Annotated[list[Path], typer.Argument(help="Videos of the same event, filmed by two or more phones.")],
    views: Views = None,
    take: TakeName = None,
    reference: Annotated[
        str | None, typer.Option(help="View whose clock becomes the session clock; default: the first.")
    ] = None,
    motion: Annotated[
        bool, typer.Option("--motion", help="Use the athlete's motion instead of sound. Run `twoview detect` first.")
    ] = False,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine", help="Use sound, corrected by motion where that knows more. Run `twoview detect` first."
        ),
    ] = False,
    offset: Annotated[
        list[str] | None,
        typer.Option(
            help="Set by hand: seconds by which a view began after the reference, 0.61 or b=0.61 (negative: before)."
        ),
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option(help="Set by hand: time of one event in every view, --at a=12.30 --at b=4.10.")
    ] = None,
    timestamps: Annotated[
        str | None, typer.Option(help="Use the capture times of all frames, written by a recorder app: a.csv,b.csv.")
    ] = None,
    capture_fps: Annotated[
        list[str] | None,
        typer.Option(help="True frames per second of a slow-motion video: b=240 (default: read from the file)."),
    ] = None,
    distance: Annotated[
        list[str] | None,
        typer.Option(help="Meters from the source of the sound to each phone, which delay the sound: a=3,b=8."),
    ] = None,
    session: SessionFolder = DEFAULT_SESSION,
    config: Annotated[Path | None, config_file("sync")] = None,
    sets: Annotated[list[str] | None, set_option("sync")] = None,
    json: Json = False,
) -> None:
    """Find how the clocks of the videos relate: from their sound, from the athlete's motion, or by hand."""
    from twoview.storage.records import sync_to_json
    from twoview.workflow.stages import adding, new_views
    from twoview.workflow.synchronization import SyncOptions, sync_take

    settings = resolve("sync", file=config, sets=sets or ()).sync
    with adding(session, videos, views=names(views), take=take) as (store, take_name):
        held = list(store.take(take_name))
        options = SyncOptions(
            motion, refine, numbers(offset, "--offset", alone=[v for v in held if v != (reference or held[0])]),
            numbers(at, "--at"), tuple(Path(path) for path in names(timestamps) or ()),
            numbers(capture_fps, "--capture-fps"), numbers(distance, "--distance"),
        )  # fmt: skip
        with console.progress() as on_progress:
            result, fresh = sync_take(
                store, take_name, config=settings, reference=reference, options=options, on_progress=on_progress
            )
    if json:
        console.as_json({"take": take_name, **sync_to_json(result)})
        return
    new = new_views(store, take_name)
    if new:
        console.warn(
            f"views {', '.join(new)} are in no other take; if these are the same phones, name them with --views"
        )
    console.show_sync(result, take_name)
    path = store.sync_path(take_name)
    files = [file for file in (path, path.with_suffix(".png")) if file.exists()]
    (console.saved if fresh else console.still_saved)(*files, next="twoview detect")
