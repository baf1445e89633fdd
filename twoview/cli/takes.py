"""`twoview remove` and `twoview rename`: takes of the session."""

from __future__ import annotations

from typing import Annotated

import typer

from twoview.cli import console
from twoview.cli.options import DEFAULT_SESSION, Json, SessionFolder

NEXT = "twoview show"


def remove(
    take: Annotated[str, typer.Argument(help="Name of the take.")],
    view: Annotated[str | None, typer.Option(help="Name of one view to remove, instead of the whole take.")] = None,
    session: SessionFolder = DEFAULT_SESSION,
    json: Json = False,
) -> None:
    """Remove a take from the session, or one view of it, with what was made of it. Videos are not touched."""
    from twoview.storage.session import open_session
    from twoview.workflow.takes import remove

    remove(open_session(session), take, view=view)
    if json:
        console.as_json({"take": take, "view": view, "next": NEXT})
        return
    console.result(f"removed {take}" if view is None else f"removed view {view} of {take}")
    console.next_step(NEXT)


def rename(
    old: Annotated[str, typer.Argument(help="Name of the take.")],
    new: Annotated[str, typer.Argument(help="Its new name.")],
    session: SessionFolder = DEFAULT_SESSION,
    json: Json = False,
) -> None:
    """Give a take of the session another name."""
    from twoview.storage.session import open_session
    from twoview.workflow.takes import rename

    rename(open_session(session), old, new)
    if json:
        console.as_json({"take": new, "before": old, "next": NEXT})
        return
    console.result(f"{old} is now {new}")
    console.next_step(NEXT)
