"""The app: every command in the order of its help, and the commands that show what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twoview.cli import console
from twoview.cli.biomechanics import angles
from twoview.cli.checkup import doctor
from twoview.cli.detection import detect
from twoview.cli.evaluation import evaluate
from twoview.cli.lifting import convert, export, infer, weights_app
from twoview.cli.main_job import run
from twoview.cli.options import DEFAULT_SESSION, Json, SessionFolder, Takes, Trust, names
from twoview.cli.reconstruction import triangulate
from twoview.cli.synchronization import sync
from twoview.cli.takes import remove, rename
from twoview.cli.training import finetune, plan, pretrain, reproduce
from twoview.cli.visualization import render
from twoview.errors import FormatError

app = typer.Typer(
    help="Adapt a monocular 3D human-pose model to a new activity from two ordinary phone videos.\n\n"
    "`twoview run a.mp4 b.mp4` does everything; its stages are commands too: sync, detect, triangulate, finetune, "
    "infer. See them work with `twoview demo`.",
    epilog="Exit codes: 0 done; 1 an error, with what to do; 2 a wrong command line; 130 interrupted (Ctrl-C, or the "
    "system's request to end), with partial work saved; 141 nobody reads the output any more; 70 a bug of twoview.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(wanted: bool) -> None:
    if wanted:
        from twoview import __version__

        console.result(f"twoview {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def show(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="Video, file of twoview or of a format it writes, or folder of a session, take or run (default: the "
            "session)."
        ),
    ] = None,
    take: Takes = None,
    session: SessionFolder = DEFAULT_SESSION,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Show what a file, a folder or the session holds; of very many takes how many are in each state."""
    from twoview.storage.session import open_session
    from twoview.workflow.summary import MANY, describe, describe_all, describe_takes, in_short, is_damaged

    if take is not None:
        if path is not None:
            raise typer.BadParameter("--take is a take of the session, not of a file or folder")
        tables, following = describe_takes(open_session(session), names(take) or ())
    elif path is not None:
        tables, following = describe(path, trust=trust or ())
    else:
        tables, following = describe_all(open_session(session))
    damaged = [str(next(iter(row.values()))) for rows in tables.values() for row in rows if is_damaged(row)]
    error = FormatError(
        f"{len(damaged)} files of {path or session} cannot be read: {', '.join(damaged[:5])}",
        hint="make them again by their command, or `twoview remove TAKE`",
    )
    failed = [(path or session, error)] if damaged and ("runs" in tables or take is not None) else []
    if json:
        more = {"failed": console.failures(failed)} if failed else {}
        console.as_json({**tables, **more, "next": following})
        raise typer.Exit(1 if failed else 0)
    first, *others = tables.items()
    rows = first[1]
    if "runs" in tables and len(rows) > MANY:
        console.result(f"{len(rows)} takes; --take NAME shows one, --json all")
        rows = in_short(rows)
    console.table(list(rows[0]) if rows else ["nothing"], [list(row.values()) for row in rows])
    for title, more_rows in others:
        if more_rows:
            console.result("")
            console.table(list(more_rows[0]), [list(row.values()) for row in more_rows[-MANY:]], title=title)
            if len(more_rows) > MANY:
                console.result(f"and {len(more_rows) - MANY} more {title} before these: --json shows all")
    console.next_step(following)
    for _, wrong in failed:
        raise wrong


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the demo's session.")] = Path("demo"),
    real: Annotated[
        bool, typer.Option("--real", help="Use two videos of a real person instead of the golf session.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Use the smallest settings, to see that everything runs.")
    ] = False,
    json: Json = False,
) -> None:
    """Run the four commands on the included videos, and name the page to open."""
    from twoview.workflow.demo import demo

    with console.progress() as on_progress:
        result = demo(folder, real=real, quick=quick, on_progress=on_progress)
    following = "twoview run a.mp4 b.mp4"
    if json:
        tables = [{"title": t.title, "columns": list(t.columns), "rows": [list(row) for row in t.rows]}
                  for t in result.tables]  # fmt: skip
        files = {"open": [str(path) for path in result.pages], "files": [str(path) for path in result.pictures]}
        console.as_json({"tables": tables, "warnings": list(result.warnings), **files, "next": following})
        return
    for drawn in result.tables:
        console.table(drawn.columns, drawn.rows, title=drawn.title)
        console.result(*filter(None, [drawn.note]))
    console.warn(*result.warnings)
    console.saved(*result.pictures, next=following)
    console.open_pages(*result.pages)


for command in (
    run, sync, detect, finetune, infer, angles, evaluate, show, demo, plan, triangulate, render,
    export, convert, remove, rename, pretrain, reproduce, doctor,
):  # fmt: skip
    app.command()(command)
app.add_typer(weights_app, name="weights")
