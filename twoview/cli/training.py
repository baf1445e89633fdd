"""The commands that train lifters: `twoview finetune`, `plan`, `pretrain` and `reproduce`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twoview.cli import console
from twoview.cli.options import (
    DEFAULT_SESSION,
    Detector,
    Jobs,
    Json,
    On,
    SessionFolder,
    Takes,
    Trust,
    Views,
    Without,
    config_file,
    flag,
    method_option,
    names,
    set_option,
    unread_cluster,
    workers,
)  # fmt: skip
from twoview.command_settings import resolve
from twoview.config import FinetuneConfig, Settings
from twoview.errors import DetectorError, FormatError, SessionError, SyncError, TrainingError, TwoViewError
from twoview.progress import OnProgress
from twoview.storage.names import natural

if TYPE_CHECKING:
    from twoview.storage.session import Session
    from twoview.training.finetuning import Run

FIRST = "run1"
Method = Annotated[str | None, method_option()]
Weights = Annotated[str | None, flag("finetune.weights", "--weights")]
Device = Annotated[str | None, flag("finetune.device", "--device")]


def finetune(
    views: Annotated[
        str | None, typer.Option(help="Names of the views, a,b, or video files to start from, a.mp4,b.mp4.")
    ] = None,
    method: Method = None,
    take: Takes = None,
    without: Without = None,
    athlete: Annotated[
        str | None, typer.Option(help="Name of an athlete: learn from the takes that show this athlete alone.")
    ] = None,
    by_athlete: Annotated[
        bool, typer.Option("--by-athlete", help="Make a run and a model for every athlete, called by the name.")
    ] = False,
    run: Annotated[
        str | None,
        typer.Option(help="Name of the run; the same name continues a run (default: the athlete's name, else run1)."),
    ] = None,
    use: Annotated[
        bool,
        typer.Option(
            "--use", help="Use this run's model even if another run's is better; without --views nothing is trained."
        ),
    ] = False,
    epochs: Annotated[int | None, flag("finetune.epochs")] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Training steps in all instead of --epochs; whole epochs of phones.steps_per_epoch.", min=1),
    ] = None,
    seed: Annotated[int | None, flag("finetune.seed")] = None,
    device: Device = None,
    weights: Weights = None,
    precision: Annotated[str | None, flag("finetune.precision")] = None,
    devices: Annotated[int | None, flag("finetune.devices")] = None,
    nodes: Annotated[int | None, flag("finetune.nodes")] = None,
    detector: Detector = None,
    session: SessionFolder = DEFAULT_SESSION,
    config: Annotated[Path | None, config_file("finetune")] = None,
    sets: Annotated[list[str] | None, set_option("finetune")] = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Adapt the lifter (the 2D-to-3D network) to your activity from two views, without 3D labels.

    Methods: phones, ours and the default, with the paper's consistency loss among its terms; or paper, as published.
    """
    from twoview.storage.session import open_session
    from twoview.workflow.models import run_in_use, use_run
    from twoview.workflow.stages import finetune_session

    if views is None:
        if not use:
            raise typer.BadParameter("name the views: --views a,b")
        store, named = open_session(session), run or athlete or FIRST
        console.written(store.model_path, use_run(store, named), json=json, next="twoview infer clip.mp4", run=named)
        return
    if by_athlete and (athlete or run or use):
        raise typer.BadParameter("--by-athlete makes a run for every athlete: leave out --athlete, --run and --use")
    flags = {
        "method": method, "epochs": epochs, "seed": seed, "device": device, "weights": weights,
        "precision": precision, "devices": devices, "nodes": nodes, "detect.detector": detector,
    }  # fmt: skip
    wanted = names(views) or []
    files = any(Path(name).suffix for name in wanted) and not _are_views(wanted, session)
    unread = {} if files else dict.fromkeys(("sync", "detect"), f"{views} are views of the session, not files")
    if files:
        flags["detect.device"] = device
    settings = resolve("finetune", file=config, flags=flags, sets=sets or (), unread=unread, trust=trust or ())
    if steps is not None:
        settings = replace(settings, finetune=_with_steps(settings.finetune, steps, epochs))
    with console.progress() as on_progress:
        if files:
            store, wanted = _prepare([Path(name) for name in wanted], session, settings, trust or (), on_progress)
        else:
            store = open_session(session)

        def adapt(one: str | None) -> Run:
            return finetune_session(
                store, views=wanted, takes=names(take), without=names(without) or (), athlete=one,
                config=settings.finetune, triangulation=settings.triangulate, run=run or one or FIRST, use=use,
                trust=trust or (), on_progress=on_progress,
            )  # fmt: skip

        made, failed = _of_every_athlete(store, adapt) if by_athlete else ([adapt(athlete)], [])
    used = run_in_use(store)
    if by_athlete:
        _show_runs(made, failed, used, json=json)
        return
    (result,) = made
    if not json:
        console.show_run(result, settings.finetune.method)
    model = store.model_path if used == result.folder.name else result.model
    following = _following(result, athlete)
    console.written(model, result.folder / "report.html", json=json, next=following, **_run_json(result, used))


def _of_every_athlete(
    store: Session, adapt: Callable[[str], Run]
) -> tuple[list[Run], list[tuple[Path | str, TwoViewError]]]:
    """A run of every athlete of the session, and why others have none."""
    made: list[Run] = []
    failed: list[tuple[Path | str, TwoViewError]] = []
    athletes = sorted(filter(None, store.athletes()), key=natural)
    if not athletes:
        raise SessionError(f"no take of {store.folder} names its athlete", hint="`twoview sync --from sheet.csv` does")
    for athlete in athletes:
        try:
            made.append(adapt(athlete))
        except (TrainingError, SessionError, SyncError, DetectorError, FormatError) as error:
            failed.append((athlete, error))
    return made, failed


def _show_runs(
    made: Sequence[Run], failed: Sequence[tuple[Path | str, TwoViewError]], used: str, *, json: bool
) -> None:
    following = _following(made[0], made[0].folder.name) if made else ""
    if json:
        runs = [_run_json(result, used) for result in made]
        console.as_json({"runs": runs, "failed": console.failures(failed), "next": following})
    elif made:
        rows = [
            [one.folder.name, one.before["criterion"], one.after["criterion"], "" if one.adapted else "kept unadapted"]
            for one in made
        ]
        console.table(["athlete", "criterion before", "after", ""], rows)
        for result in made:
            console.warn(*(f"{result.folder.name}: {sentence}" for sentence in result.warnings))
        said = console.saved if any(result.fresh for result in made) else console.still_saved
        said(*(result.model for result in made), next=following)
    if failed:
        if not json:
            console.show_failures(failed)
        raise typer.Exit(1)


def _with_steps(config: FinetuneConfig, steps: int, epochs: int | None) -> FinetuneConfig:
    if config.method != "phones" or epochs is not None:
        raise typer.BadParameter("--steps is for the method phones, and instead of --epochs")
    return replace(config, epochs=-(-steps // config.phones.steps_per_epoch))


def _following(result: Run, athlete: str | None) -> str:
    own = f" --athlete {quote(athlete)}" if athlete == result.folder.name else f" --model {quote(str(result.model))}"
    return f"twoview infer clip.mp4{own if athlete else ''}" if result.adapted else "twoview plan"


def _run_json(result: Run, used: str) -> dict[str, Any]:
    return {
        "run": result.folder.name, "adapted": result.adapted, "fresh": result.fresh, "in_use": used,
        "best_epoch": result.best_epoch, "before": result.before, "after": result.after, "shares": result.shares,
        "reach": result.reach, "warnings": list(result.warnings),
    }  # fmt: skip


def _are_views(wanted: list[str], session: Path) -> bool:
    """Whether these are views of the session: a view's name may hold a dot, as a file's does."""
    from twoview.storage.session import open_session

    return set(wanted) <= set(open_session(session, create=True).views)


def _prepare(
    videos: list[Path], session: Path, settings: Settings, trust: Sequence[str], on_progress: OnProgress
) -> tuple[Session, list[str]]:
    """Put the videos into the session as a take, synchronize it and detect the athlete; the session and the views."""
    from twoview.workflow.stages import adding, detect_views
    from twoview.workflow.synchronization import sync_take

    with adding(session, videos) as (store, take):
        sync_take(store, take, config=settings.sync, on_progress=on_progress)
    for _ in detect_views(store, takes=[take], config=settings.detect, trust=trust, on_progress=on_progress):
        pass
    return store, list(store.take(take))


def plan(
    views: Views = None,
    take: Takes = None,
    without: Without = None,
    method: Method = None,
    weights: Weights = None,
    device: Device = None,
    session: SessionFolder = DEFAULT_SESSION,
    config: Annotated[Path | None, config_file("plan")] = None,
    sets: Annotated[list[str] | None, set_option("plan")] = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Count usable clips, measure the view angle, estimate the minutes of training, and advise what to film more of."""
    from twoview.storage.session import open_session
    from twoview.workflow.stages import plan_session, related_views

    flags = {"method": method, "weights": weights, "device": device}
    settings = resolve("plan", file=config, flags=flags, sets=sets or (), trust=trust or ())
    store = open_session(session)
    with console.progress() as on_progress:
        found = plan_session(
            store, views=names(views), takes=names(take), without=names(without) or (), config=settings.finetune,
            triangulation=settings.triangulate,
            trust=trust or (), on_progress=on_progress,
        )  # fmt: skip
    following = f"twoview finetune --views {','.join(names(views) or related_views(store))}"
    if json:
        console.as_json({**asdict(found), "next": following})
        return
    columns = ["take", "seconds in all views", "usable clips", "angle (deg)", "reliable frames", "lifter off (mm)"]
    rows = [
        [t.take, t.seconds, t.clips, f"{t.angle_deg:.0f}", f"{t.reliable:.0%}", f"{t.lifter_mm:.0f}"]
        for t in found.takes
    ]
    console.table(columns, rows)
    if len(rows) < found.chosen_from:
        console.result(
            f"{len(rows)} of {found.chosen_from} takes were looked at, spread over athletes and movements by the seed "
            f"{settings.finetune.seed}; the numbers below are estimates for all. --take looks at the named ones"
        )
    console.result(
        f"{found.clips} clips, {found.minutes:.1f} min filmed; training takes about "
        f"{found.training_minutes:.1f} min on this machine"
    )
    console.result(*(f"- {sentence}" for sentence in found.advice))
    console.next_step(following)


def pretrain(
    config: Annotated[Path, typer.Argument(help="File with settings as TOML: data, validation, steps, ...")],
    out: Annotated[Path, typer.Option(help="Folder of the run; the same folder continues it.")] = Path("pretrained"),
    sets: Annotated[list[str] | None, set_option("pretrain")] = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Train a lifter from motion capture rendered in virtual cameras."""
    from twoview.datasets.motion import read_motions
    from twoview.training.pretraining import pretrain

    settings = resolve("pretrain", file=config, sets=sets or (), trust=trust or ()).pretrain
    validation = {Path(path).stem: read_motions(path) for path in settings.validation}
    with console.progress() as on_progress:
        motions = [motion for path in settings.data for motion in read_motions(path)]
        model = pretrain(settings, motions, out=out, validation=validation, on_progress=on_progress)
    if not json:
        facts = [[k, str(v)] for k, v in model.card.items() if not isinstance(v, dict | list)]
        console.table(["what", "value"], facts)
    following = f"twoview finetune --views a,b --weights {quote(console.short(out / 'model.pt'))}"
    console.written(out / "model.pt", json=json, next=following, card=dict(model.card))


def reproduce(
    dataset: Annotated[str, typer.Argument(help="Data set: sportspose, human36m, aspset or mpi_inf_3dhp.")],
    path: Annotated[Path, typer.Argument(help="Folder of the data set, or the one file of Human3.6M.")],
    rows: Annotated[
        str | None, typer.Option(help="Rows of the table, for example unadapted,L_2Dcon,phones (default: all).")
    ] = None,
    views: Views = None,
    weights: Weights = None,
    detector: Annotated[
        str, typer.Option(help="2D detector for the videos; `truth` projects the true 3D instead.")
    ] = "truth",
    out: Annotated[Path, typer.Option(help="Folder of the runs; the same folder continues.")] = Path("reproduced"),
    jobs: Jobs = None,
    on: On = "",
    sets: Annotated[list[str] | None, set_option("reproduce")] = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Reproduce the paper's tables on a public data set: train every row and measure it on the test part."""
    from twoview.workflow.reproduction import reproduce

    of_jobs = [text for text in sets or () if text.startswith("cluster.")]
    hands = workers(on, jobs, resolve("reproduce", sets=of_jobs, unread=unread_cluster(on)))
    with console.progress() as on_progress:
        found = reproduce(
            dataset, path, out=out, rows=names(rows), views=names(views), weights=weights, detector=detector,
            settings=[text for text in sets or () if text not in of_jobs], trust=trust or (), workers=hands,
            on_progress=on_progress,
        )  # fmt: skip
    file = out / f"{dataset}.json"
    if json:
        rows_found = {row: report.to_json() for row, report in found.items()}
        console.as_json({"rows": rows_found, "files": [str(file)], "next": ""})
        return
    activities = list(dict.fromkeys(m.part for report in found.values() for m in report.activities))
    both = ("MPJPE", "PA-MPJPE")
    lines = []
    for row, report in found.items():
        cells = [" / ".join(f"{report.value(name, part):.1f}" for name in both) for part in ["", *activities]]
        lines.append([row, *cells])
    console.table(["MPJPE / PA-MPJPE, mm", "all", *activities], lines)
    console.saved(file)
