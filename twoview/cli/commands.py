"""One function a command: read options, call the public function, show the result, name the next step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twoview.cli import console, detection, more, syncing
from twoview.cli.options import ConfigFile, Detector, Device, Height, Json, SessionFolder, Sets, TakeName, names
from twoview.config import Settings, resolve
from twoview.storage.session import DEFAULT_FOLDER, open_session

DEFAULT_SESSION = Path(DEFAULT_FOLDER)

app = typer.Typer(
    help="Adapt a monocular 3D human-pose model to a new activity from two ordinary phone videos.\n\n"
    "The main job is four commands: sync, detect, finetune, infer. See them work with `twoview demo`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


for extra in (syncing.sync, detection.detect, more.plan, more.triangulate, more.reproduce, more.pretrain, more.convert):
    app.command()(extra)
app.add_typer(more.weights_app, name="weights")


def _version(wanted: bool) -> None:
    if wanted:
        from twoview import __version__

        console.result(f"twoview {__version__}")
        raise typer.Exit


@app.callback()
def _main(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    pass


@app.command()
def finetune(
    views: Annotated[str, typer.Option(help="View names, or files to start from: a,b or a.mp4,b.mp4.")],
    run: Annotated[str, typer.Option(help="Name of this run; the same name continues it.")] = "run1",
    epochs: Annotated[int | None, typer.Option(help="Epochs of training.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    device: Device = None,
    weights: Annotated[str | None, typer.Option(help="Lifter to start from: a name or a file.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Precision of matrix products: auto, fp32, bf16 or fp16.")
    ] = None,
    devices: Annotated[int | None, typer.Option(help="Processes or GPUs on each machine.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Machines.")] = None,
    detector: Detector = None,
    session: SessionFolder = DEFAULT_SESSION,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Adapt the lifter to your activity from two views, without 3D labels."""
    from twoview.workflow import session as workflow_session

    flags = {
        "epochs": epochs, "seed": seed, "device": device, "weights": weights,
        "precision": precision, "devices": devices, "nodes": nodes, "detect.detector": detector,
    }  # fmt: skip
    wanted = names(views) or []
    files = any(Path(name).suffix for name in wanted)
    unread = {} if files else dict.fromkeys(("sync", "detect"), f"{views} are views of the session, not files")
    settings = resolve("finetune", file=config, flags=flags, sets=sets or (), unread=unread)
    if files:
        wanted = _prepare([Path(name) for name in wanted], session, settings)
    store = open_session(session)
    with console.progress() as on_progress:
        result = workflow_session.finetune_session(
            store,
            views=wanted,
            config=settings.finetune,
            triangulation=settings.triangulate,
            run=run,
            on_progress=on_progress,
        )
    console.show_run(result)
    console.saved(store.model_path, result.folder / "report.html", next="twoview infer clip.mp4")


def _prepare(videos: list[Path], session: Path, settings: Settings) -> list[str]:
    """Synchronize and detect the files given instead of view names; returns the view names."""
    from twoview.workflow import session as workflow_session
    from twoview.workflow import synchronization

    store, take = workflow_session.add_videos(session, videos)
    with console.progress() as on_progress:
        synchronization.sync_take(store, take, config=settings.sync, on_progress=on_progress)
        for _ in workflow_session.detect_views(store, takes=[take], config=settings.detect, on_progress=on_progress):
            pass
    return list(store.take(take))


@app.command()
def infer(
    clip: Annotated[Path, typer.Argument(help="A video from one phone, or saved 2D poses (.npz).")],
    model: Annotated[str | None, typer.Option(help="A model file or name; default: the session's model.pt.")] = None,
    height: Height = None,
    format: Annotated[str | None, typer.Option(help="More files to write: csv,trc,json.")] = None,
    out: Annotated[Path | None, typer.Option(help="Path of the results without suffix.")] = None,
    picture: Annotated[bool, typer.Option(help="Draw the overlay video and the contact sheet.")] = True,
    compare: Annotated[str | None, typer.Option(help="Draw another model's 3D beside it: twoview-small.")] = None,
    detector: Detector = None,
    device: Device = None,
    session: SessionFolder = DEFAULT_SESSION,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """3D poses from one view, with the adapted model."""
    from twoview.workflow import inference

    flags = {"height_m": height, "device": device, "detect.detector": detector}
    unread = {"detect": f"{clip} holds 2D poses"} if clip.suffix == ".npz" else {}
    if not unread:
        flags["detect.device"] = device
    settings = resolve("infer", file=config, flags=flags, sets=sets or (), unread=unread)
    chosen = model or _session_model(session)
    with console.progress() as on_progress:
        result = inference.infer_clip(
            clip, chosen, out or inference.result_path(session, clip), config=settings.infer,
            detect_config=settings.detect,
            formats=names(format) or (), picture=picture, compare=compare, on_progress=on_progress,
        )  # fmt: skip
    poses = result.poses
    span = f"{poses.time[0]:.2f} to {poses.time[-1]:.2f} s" if len(poses) else "no frames"
    unit = "meters" if poses.unit == "m" else "screen units (give --height for meters)"
    console.result(f"{len(poses)} frames, {span}, {unit}, model {chosen}" + ("" if result.fresh else "  (up to date)"))
    console.saved(*result.files.values(), next=f"twoview show {console.short(result.files['poses'])}")


def _session_model(session: Path) -> str:
    from twoview.errors import SessionError

    path = open_session(session).model_path
    if not path.exists():
        raise SessionError(
            f"{path} does not exist yet", hint="twoview finetune --views a,b   or name one: --model twoview-small"
        )
    return str(path)


@app.command()
def evaluate(
    predicted: Annotated[Path | None, typer.Argument(help="Poses3D to judge (.npz), or a folder of them.")] = None,
    truth: Annotated[Path | None, typer.Argument(help="True Poses3D of the same clip, or a folder.")] = None,
    scale: Annotated[
        str | None, typer.Option(help="Meters from screen units: fit, bones, or a number of meters a unit.")
    ] = None,
    take: TakeName = None,
    model: Annotated[str | None, typer.Option(help="With --take: a model file or name.")] = None,
    joints: Annotated[bool, typer.Option("--joints", help="Also the error of every joint.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write everything as a page.")] = None,
    session: SessionFolder = DEFAULT_SESSION,
    json: Json = False,
) -> None:
    """Error in mm against truth; bones, jitter and agreement of views where there is none."""
    from twoview.workflow import evaluation

    if (predicted is None) == (take is None):
        raise typer.BadParameter("name poses to judge, or --take TAKE of the session")
    if predicted is None:
        chosen = model or _session_model(session)
        report = evaluation.evaluate_takes(open_session(session), chosen, takes=names(take))
    else:
        report = evaluation.evaluate_files(predicted, truth, scale=_scale(scale))
    if html:
        evaluation.write_evaluation(html, report, title=f"Evaluation of {predicted or take}")
    if json:
        console.as_json(report.to_json())
        return
    console.show_report(report, joints=joints)
    if html:
        console.saved(html)


def _scale(text: str | None) -> str | float | None:
    from twoview.evaluation.scoring import SCALES

    if text is None or text in SCALES:
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected {', '.join(SCALES)} or a number, got {text!r}") from None


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="File to write: model.onnx, model.pt, ...")],
    model: Annotated[str | None, typer.Option(help="A model file or name; default: the session's model.pt.")] = None,
    session: SessionFolder = DEFAULT_SESSION,
) -> None:
    """Write the model as one self-describing file for use elsewhere (.pt or .onnx)."""
    from twoview.lifting import exporters
    from twoview.lifting.model import load_model

    exporters.export(load_model(model or _session_model(session)), path, kind=path.suffix.lstrip("."))
    console.saved(path)


@app.command()
def render(
    video: Annotated[Path | None, typer.Argument(help="The video.")] = None,
    poses2d: Annotated[Path | None, typer.Argument(help="Its 2D poses (.npz).")] = None,
    poses3d: Annotated[Path | None, typer.Argument(help="Its 3D poses (.npz).")] = None,
    out: Annotated[Path | None, typer.Argument(help="Video to write (.mp4).")] = None,
    sync: Annotated[
        bool, typer.Option("--sync", help="Instead: a take's views side by side on one clock, claps marked.")
    ] = False,
    take: TakeName = None,
    session: SessionFolder = DEFAULT_SESSION,
) -> None:
    """Draw the skeleton over a video, beside the 3D figure; or, with --sync, all views of a take side by side."""
    from twoview.poses import Poses2D, Poses3D
    from twoview.storage import records
    from twoview.visualization import overlay
    from twoview.workflow import synchronization

    if sync:
        with console.progress() as on_progress:
            written = synchronization.render_take(open_session(session), take, on_progress=on_progress)
        console.saved(written)
        return
    if video is None or poses2d is None or poses3d is None or out is None:
        raise typer.BadParameter("expected VIDEO POSES2D POSES3D OUT, or --sync")
    flat, solid = records.load_as(poses2d, Poses2D), records.load_as(poses3d, Poses3D)
    with console.progress() as on_progress:
        overlay.render(video, flat, solid, out, on_progress=on_progress)
    console.saved(out)


@app.command()
def show(
    path: Annotated[Path | None, typer.Argument(help="A video or a twoview file; default: the session.")] = None,
    session: SessionFolder = DEFAULT_SESSION,
    json: Json = False,
) -> None:
    """Say what a file or the session holds."""
    from twoview.workflow import summary

    rows = summary.describe_session(open_session(session)) if path is None else summary.describe_file(path)
    if json:
        console.as_json({"rows": rows})
    else:
        console.table(list(rows[0]) if rows else ["nothing"], [list(row.values()) for row in rows])


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the demo's session.")] = Path("demo"),
    real: Annotated[
        bool, typer.Option("--real", help="Two cameras of a real man instead of the golf session.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="The smallest settings: shows that everything runs.")] = False,
) -> None:
    """Run the main job on the videos that ship, and say where the pictures are."""
    from twoview.workflow import demo as workflow_demo

    with console.progress() as on_progress:
        result = workflow_demo.demo(folder, real=real, quick=quick, on_progress=on_progress)
    for drawn in result.tables:
        console.table(drawn.columns, drawn.rows, title=drawn.title)
    console.warn(*result.warnings)
    console.saved(*result.pictures)
