"""The commands around a lifter: `twoview infer`, `export`, `convert` and `weights`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twoview.cli import console
from twoview.cli.biomechanics import on_floor, up_and_way
from twoview.cli.detection import athlete_flags, show_athlete
from twoview.cli.options import (
    DEFAULT_SESSION,
    AxesOption,
    Detector,
    Jobs,
    Json,
    LevelOption,
    Model,
    On,
    Person,
    SessionFolder,
    Trust,
    config_file,
    flag,
    names,
    set_option,
    unread_cluster,
    workers,
)  # fmt: skip
from twoview.command_settings import resolve
from twoview.errors import SessionError, TwoViewError
from twoview.formats import FORMATS

if TYPE_CHECKING:
    from twoview.workflow.inference import Inferred

weights_app = typer.Typer(
    help="List the named weights, download them, or add a file that you downloaded.", no_args_is_help=True
)


def infer(
    videos: Annotated[
        list[Path],
        typer.Argument(
            help="Videos from one phone, or files of 2D poses (.npz); a folder stands for its videos, 'day2/*.mov' for "
            "what it matches."
        ),
    ],
    model: Model = None,
    athlete: Annotated[
        str | None,
        typer.Option(help="Name of an athlete of the session, for the model of `finetune --athlete` and the height."),
    ] = None,
    height: Annotated[float | None, flag("infer.height_m", "--height")] = None,
    format: Annotated[str | None, typer.Option(help=f"Additional formats to write: {','.join(FORMATS)}.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Path of the results without suffix, or the folder of several videos' results (default: in the "
            "session's results)."
        ),
    ] = None,
    axes: AxesOption = None,
    level: LevelOption = None,
    camera: Annotated[str | None, flag("world.camera", "--camera")] = None,
    filter: Annotated[str | None, flag("filter.kind", "--filter")] = None,
    picture: Annotated[bool, typer.Option(help="Draw the overlay video, the contact sheet and the page.")] = True,
    compare: Annotated[
        str | None, typer.Option(help="Second model to draw beside this one, for example twoview-small.")
    ] = None,
    detector: Detector = None,
    person: Person = None,
    device: Annotated[str | None, flag("infer.device")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files at --out that are no results of these videos.")
    ] = False,
    jobs: Jobs = None,
    on: On = "",
    session: SessionFolder = DEFAULT_SESSION,
    config: Annotated[Path | None, config_file("infer")] = None,
    sets: Annotated[list[str] | None, set_option("infer")] = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Compute 3D poses from one view with the adapted model, of one video or of many."""
    from twoview.storage.session import Session
    from twoview.workers.places import open_place
    from twoview.workflow.inference import to_infer
    from twoview.workflow.inference_batch import infer_files, infer_many
    from twoview.workflow.remembered import keep
    from twoview.workflow.result_names import result_in, result_of

    flags = {"height_m": height, "device": device, "detect.detector": detector, **athlete_flags(person, "detect.")}
    flags |= {"filter.kind": filter, "world.axes": axes, "world.level": level, "world.camera": camera}
    flat = all(video.suffix == ".npz" for video in videos)
    unread = {"detect": f"{', '.join(map(str, videos))} holds 2D poses"} if flat else {}
    if not unread:
        flags["detect.device"] = device
    unread |= unread_cluster(on)
    settings = resolve("infer", file=config, flags=flags, sets=sets or (), unread=unread, trust=trust or ())
    chosen = model or session_model(session, athlete)
    if height == 0:
        keep(session, height_m=0.0)
    wanted: dict[str, Any] = {
        "session": session, "config": settings.infer, "detect_config": settings.detect, "filter": settings.filter,
        "world": settings.world,
        "formats": names(format) or (), "picture": picture, "compare": compare, "trust": trust or (),
        "force": force or out is None, "athlete": athlete,
    }  # fmt: skip
    made: list[tuple[Path, Inferred]] = []
    failed: list[tuple[Path, TwoViewError]] = []
    with console.progress() as on_progress:
        if len(videos) > 1 or not _is_one(videos[0]):
            hands = workers(on, jobs, settings, settings.infer.device)
            for video, result in infer_files(videos, chosen, out=out, **wanted, workers=hands, on_progress=on_progress):
                if isinstance(result, TwoViewError):
                    failed.append((video, result))
                else:
                    made.append((video, result))
        else:
            video, inside = videos[0], out is not None and os.path.isdir(out)
            named = result_of(Session(session), video) if out is None else nullcontext(out)
            alone = workers(on, None, settings, settings.infer.device)
            with (
                result_in(out, video) if out and inside else named as where,
                open_place(alone, folder=session if os.path.isdir(session) else ".") as place,
            ):
                every = {str(video): to_infer(video, chosen, where, **wanted)}
                ((_, one),) = infer_many(every, place, on_progress=on_progress)
                if isinstance(one, TwoViewError):
                    raise one
                made.append((video, one))
    following = f"twoview angles {shlex.quote(console.short(made[0][1].files['poses']))}" if made else ""
    if json:
        results = [{"video": str(video), "model": chosen, **result.summary()} for video, result in made]
        console.as_json({"results": results, "failed": console.failures(failed), "next": following})
    elif len(made) == 1 and not failed:
        _show_result(*made[0], chosen)
        console.saved(*made[0][1].files.values(), next=following)
    else:
        _show_results(made, chosen, of=len(made) + len(failed))
        if made:
            folder = made[0][1].files["poses"].parent
            said = console.saved if any(result.fresh for _, result in made) else console.still_saved
            said(folder, next=following)
    if failed:
        console.show_failures(failed)
        raise typer.Exit(1)


def _is_one(video: Path) -> bool:
    """Whether this names one file, and no folder or pattern."""
    return not os.path.isdir(video) and (os.path.exists(video) or not any(sign in str(video) for sign in "*?["))


def _show_result(video: Path, result: Inferred, model: str) -> None:
    """What the result of one video is, who the athlete is, and warnings."""
    poses = result.poses
    span = f"{poses.time[0]:.2f} to {poses.time[-1]:.2f} s" if len(poses) else "no frames"
    unit = "meters" if poses.unit == "m" else "screen units (give --height for meters)"
    filtered = f", filter: {poses.filter}" if poses.filter else ""
    console.result(
        f"{len(poses)} frames, {span}, {unit}, model {model}{filtered}" + ("" if result.fresh else "  (up to date)")
    )
    console.result(on_floor(poses))
    _show_people("", video, result)
    console.warn(*result.warnings)


def _show_results(made: Sequence[tuple[Path, Inferred]], model: str, *, of: int) -> None:
    """A row for every video that has a result, and what their results say."""
    rows = []
    for video, result in made:
        poses, state = result.poses, "new" if result.fresh else "up to date"
        span = f"{poses.time[0]:.2f} to {poses.time[-1]:.2f}" if len(poses) else "none"
        known, way = up_and_way(poses)
        rows.append([console.short(video), len(poses), span, poses.unit, known, way, result.files["poses"].stem, state])
    if rows:
        titles = ["video", "frames", "seconds", "unit", "up known to (deg)", "travelled (m)", "result", ""]
        console.table(titles, rows)
    for video, result in made:
        _show_people(f"{console.short(video)}: ", video, result)
        console.warn(*(f"{console.short(video)}: {sentence}" for sentence in result.warnings))
    screen = any(result.poses.unit != "m" for _, result in made)
    console.result(f"{len(made)} of {of} videos, model {model}" + (", give --height for meters" if screen else ""))


def _show_people(label: str, video: Path, result: Inferred) -> None:
    if result.athlete and result.people and result.athlete.people > 1:
        other = f"twoview infer {shlex.quote(console.short(video))} --person N"
        show_athlete(label, result.athlete, result.people, other)


def session_model(session: Path, athlete: str | None = None) -> str:
    """The file of the session's model, or of an athlete's own. Raises SessionError where there is none yet."""
    from twoview.storage.session import open_session

    store = open_session(session)
    if athlete is not None:
        path = store.run_folder(athlete) / "model.pt"
        if not os.path.exists(path):
            raise SessionError(
                f"{store.folder} has no model of {athlete!r}",
                hint=f"`twoview finetune --views a,b --athlete {shlex.quote(athlete)}`, or name one: --model",
            )
        return str(path)
    path = store.model_path
    if not os.path.exists(path):
        raise SessionError(
            f"{path} does not exist yet", hint="`twoview finetune --views a,b`, or name one: --model twoview-small"
        )
    return str(path)


def export(
    path: Annotated[Path, typer.Argument(help="File to write: model.onnx or model.pt.")],
    model: Model = None,
    session: SessionFolder = DEFAULT_SESSION,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Write the model as one file that holds its own settings, for use in other programs (.pt or .onnx)."""
    from twoview.lifting.model import load_model
    from twoview.lifting.model_export import export

    export(load_model(model or session_model(session), trust=trust or ()), path, kind=path.suffix.lstrip("."))
    console.written(path, json=json, next=_show(path) if path.suffix == ".pt" else "")


def convert(
    model: Annotated[str, typer.Argument(help="Model or checkpoint: a file or a name.")],
    layout: Annotated[str, typer.Argument(help="Layout to write: motionbert, mmpose or twoview.")],
    out: Annotated[Path, typer.Argument(help="File to write.")],
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Write a model as a checkpoint that MotionBERT, MMPose or twoview loads; the weights stay the same bit by bit."""
    from twoview.lifting.model import convert

    convert(model, layout, out, trust=trust or ())
    console.written(out, json=json, next=_show(out))


@weights_app.command("list")
def weights_list(json: Json = False) -> None:
    """List the named weights with license, size and whether they are on this machine."""
    from twoview.storage import weights

    rows = weights.listing()
    missing = next((row["name"] for row in rows if row["where"] == "to download"), "")
    following = f"twoview weights get {missing}" if missing else "twoview detect"
    if json:
        console.as_json({"weights": rows, "next": following})
    else:
        console.table(list(rows[0]), [list(row.values()) for row in rows])
        console.next_step(following)


@weights_app.command("get")
def weights_get(
    name: Annotated[str, typer.Argument(help="Name shown by `twoview weights list`.")], json: Json = False
) -> None:
    """Download named weights into the cache and check them."""
    from twoview.storage import weights

    with console.progress() as on_progress:
        path = weights.locate(name, on_progress=on_progress)
    console.written(path, json=json, next=_use(name))


@weights_app.command("add")
def weights_add(
    name: Annotated[
        str,
        typer.Argument(
            help="Name shown by `twoview weights list`; or a file alone: a lifter's checkpoint or RTMPose's zip."
        ),
    ],
    file: Annotated[Path | None, typer.Argument(help="The file as downloaded, zipped or not.")] = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Put downloaded weights into the cache: give a name and a file, or a lifter's checkpoint alone."""
    from twoview.lifting.model import add_checkpoint
    from twoview.storage import weights
    from twoview.workflow.summary import describe_model

    if file is None and (known := weights.recognized(name)) and not known.startswith("motionbert"):
        name, file = known, Path(name)
    if file is not None and not name.startswith("motionbert"):
        console.written(weights.add(name, file), json=json, next=_use(name))
        return
    model, known = add_checkpoint(file or name, name if file else "", trust=trust or ())
    if not json:
        console.table(["what", "value"], [list(row) for row in describe_model(model).items()])
    path = weights.cached_path(known) if known else Path(name)
    console.written(path, json=json, next=_use(known or shlex.quote(console.short(path))))


def _show(path: Path) -> str:
    return f"twoview show {shlex.quote(console.short(path))}"


def _use(name: str) -> str:
    """The command that uses weights: a lifter, a person finder, or a detector."""
    if name.startswith(("rtmdet", "yolox")):
        return f"twoview detect --set finder={name}"
    detector = "movenet" if name.startswith("movenet") else name
    is_detector = name.startswith(("movenet", "rtmpose"))
    return f"twoview detect --detector {detector}" if is_detector else f"twoview finetune --views a,b --weights {name}"
