"""Commands beside the main job: two-view 3D of the takes, pretraining, weights, conversion."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from twoview.cli import console
from twoview.cli.options import ConfigFile, Device, Height, Json, SessionFolder, Sets, Views, names
from twoview.config import resolve
from twoview.storage.session import DEFAULT_FOLDER, open_session

DEFAULT_SESSION = Path(DEFAULT_FOLDER)

weights_app = typer.Typer(
    help="Named weights: list them, fetch them, or add a file fetched by hand.", no_args_is_help=True
)


def triangulate(
    views: Views = None,
    height: Height = None,
    model: Annotated[str, typer.Option(help="Lifter for the first guess: a name or a file.")] = "twoview-small",
    session: SessionFolder = DEFAULT_SESSION,
    config: ConfigFile = None,
    sets: Sets = None,
    json: Json = False,
) -> None:
    """3D of the filmed takes themselves, from both views together, uncalibrated."""
    from twoview.workflow import session as workflow_session

    settings = resolve("triangulate", file=config, flags={"height_m": height}, sets=sets or ()).triangulate
    store = open_session(session)
    with console.progress() as on_progress:
        found = workflow_session.triangulate_session(
            store, views=names(views), model=model, config=settings, on_progress=on_progress
        )
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
    console.table(["take", "angle (deg)", "reliable frames", "doubt (mm)", "residual (share of body)"], rows)
    console.saved(*(path for _, files in found for path in files))


def plan(
    views: Views = None,
    weights: Annotated[str | None, typer.Option(help="Lifter to start from: a name or a file.")] = None,
    device: Device = None,
    session: SessionFolder = DEFAULT_SESSION,
    config: ConfigFile = None,
    sets: Sets = None,
    json: Json = False,
) -> None:
    """Before adapting: usable clips, view angle, expected minutes, and what to film more of."""
    from twoview.workflow import session as workflow_session

    settings = resolve("plan", file=config, flags={"weights": weights, "device": device}, sets=sets or ())
    store = open_session(session)
    with console.progress() as on_progress:
        found = workflow_session.plan_session(
            store,
            views=names(views),
            config=settings.finetune,
            triangulation=settings.triangulate,
            on_progress=on_progress,
        )
    if json:
        console.as_json(asdict(found))
        return
    columns = ["take", "seconds in all views", "usable clips", "angle (deg)", "reliable frames"]
    rows = [[t.take, t.seconds, t.clips, f"{t.angle_deg:.0f}", f"{t.reliable:.0%}"] for t in found.takes]
    console.table(columns, rows)
    console.result(
        f"{found.clips} clips, {found.minutes:.1f} min filmed; training takes about "
        f"{found.training_minutes:.1f} min on this machine"
    )
    console.result(*(f"- {sentence}" for sentence in found.advice))
    console.next_step(f"twoview finetune --views {','.join(names(views) or store.views)}")


def reproduce(
    dataset: Annotated[str, typer.Argument(help="sportspose, human36m, aspset or mpi_inf_3dhp.")],
    path: Annotated[Path, typer.Argument(help="Where the data set is: its folder, or Human3.6M's one file.")],
    rows: Annotated[str | None, typer.Option(help="Rows of the table: unadapted,L_2Dcon,phones. Default: all.")] = None,
    views: Views = None,
    weights: Annotated[str | None, typer.Option(help="Lifter to start from: a name or a file.")] = None,
    detector: Annotated[str, typer.Option(help="Finds the 2D in the videos; truth: projected from the 3D.")] = "truth",
    out: Annotated[Path, typer.Option(help="Folder of the runs; the same folder continues.")] = Path("reproduced"),
    sets: Sets = None,
    json: Json = False,
) -> None:
    """The paper's tables on a public data set: train every row, measure it on the test part."""
    from twoview.workflow.reproduction import reproduce

    with console.progress() as on_progress:
        found = reproduce(
            dataset, path, out=out, rows=names(rows), views=names(views), weights=weights, detector=detector,
            settings=sets or (), on_progress=on_progress,
        )  # fmt: skip
    if json:
        console.as_json({"rows": {row: report.to_json() for row, report in found.items()}})
        return
    activities = list(dict.fromkeys(m.part for report in found.values() for m in report.activities))
    both = ("MPJPE", "PA-MPJPE")
    lines = []
    for row, report in found.items():
        cells = [" / ".join(f"{report.value(name, part):.1f}" for name in both) for part in ["", *activities]]
        lines.append([row, *cells])
    console.table(["MPJPE / PA-MPJPE, mm", "all", *activities], lines)
    console.saved(out / f"{dataset}.json")


def pretrain(
    config: Annotated[Path, typer.Argument(help="Settings as TOML: data, validation, steps, ...")],
    out: Annotated[Path, typer.Option(help="Folder of the run; the same folder continues it.")] = Path("pretrained"),
    sets: Sets = None,
) -> None:
    """Train a lifter from motion capture seen by virtual phones."""
    from twoview.datasets.motion import read_motion_files, read_motions
    from twoview.training.pretraining import pretrain

    settings = resolve("pretrain", file=config, sets=sets or ()).pretrain
    validation = {Path(path).stem: read_motions(path) for path in settings.validation}
    with console.progress() as on_progress:
        model = pretrain(
            settings, read_motion_files(settings.data), out=out, validation=validation, on_progress=on_progress
        )
    console.table(["what", "value"], [[k, str(v)] for k, v in model.card.items() if not isinstance(v, dict | list)])
    console.saved(out / "model.pt", next=f"twoview finetune --views a,b --weights {console.short(out / 'model.pt')}")


def convert(
    model: Annotated[str, typer.Argument(help="A model or checkpoint: a file or a name.")],
    layout: Annotated[str, typer.Argument(help="motionbert, mmpose or twoview.")],
    out: Annotated[Path, typer.Argument(help="File to write.")],
) -> None:
    """Write a model in MotionBERT's, mmpose's or our layout; the weights stay the same bit by bit."""
    from twoview.lifting.model import convert

    convert(model, layout, out)
    console.saved(out)


@weights_app.command("list")
def weights_list(json: Json = False) -> None:
    """All named weights, their licence and size, and whether they are here."""
    from twoview.storage import weights

    rows = weights.listing()
    if json:
        console.as_json({"weights": rows})
    else:
        console.table(list(rows[0]), [list(row.values()) for row in rows])


@weights_app.command("get")
def weights_get(name: Annotated[str, typer.Argument(help="A name of `twoview weights list`.")]) -> None:
    """Fetch named weights into the cache and check them."""
    from twoview.storage import weights

    with console.progress() as on_progress:
        path = weights.locate(name, on_progress=on_progress)
    console.saved(path)


@weights_app.command("add")
def weights_add(
    name: Annotated[str, typer.Argument(help="A name of `twoview weights list`, or a lifter's checkpoint alone.")],
    file: Annotated[Path | None, typer.Argument(help="The file as downloaded, zip or not.")] = None,
) -> None:
    """Put weights fetched by hand into the cache; a lifter's checkpoint alone is recognized, tried and described."""
    from twoview.lifting import model as lifting_model
    from twoview.storage import weights
    from twoview.workflow import summary

    if file is not None and not name.startswith("motionbert"):
        console.saved(weights.add(name, file))
        return
    model, known = lifting_model.add_checkpoint(file or name, name if file else "")
    console.table(["what", "value"], [list(row) for row in summary.describe_model(model).items()])
    path = weights.cached_path(known) if known else Path(name)
    console.saved(path, next=f"twoview finetune --views a,b --weights {known or console.short(path)}")
