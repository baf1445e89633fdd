"""run: the main job in one process: every stage of a session that is not up to date, and the pages to open.

A stage that fails for one take keeps the others going, and what is done is kept: the same command goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from twoview.config import Settings, TriangulateConfig
from twoview.errors import (
    DetectorError,
    FormatError,
    LifterError,
    SessionError,
    SyncError,
    TrainingError,
    TwoViewError,
    VideoError,
    WorkerError,
)
from twoview.formats import check
from twoview.media.video import probe
from twoview.media.video_files import video_files
from twoview.progress import OnProgress
from twoview.storage import records
from twoview.storage.names import name_from
from twoview.storage.regular import real_path
from twoview.storage.session import Session, ViewFile, open_session
from twoview.timeline import Sync
from twoview.workers.places import Workers, open_place
from twoview.workflow import remembered
from twoview.workflow.inference import PAGE, Inferred, ToInfer, loader, to_infer
from twoview.workflow.inference_batch import infer_many
from twoview.workflow.models import run_in_use
from twoview.workflow.result_names import result_of
from twoview.workflow.stages import adding, detect_views, finetune_session, new_views, teaching_takes
from twoview.workflow.synchronization import NotDetectedError, given_by_hand, sync_takes
from twoview.workflow.triangulation import triangulate_session

if TYPE_CHECKING:
    from twoview.takes import Take
    from twoview.training.finetuning import Run

log = logging.getLogger(__name__)

OF_ONE_PART = (VideoError, SyncError, DetectorError, FormatError, SessionError, LifterError, TrainingError, WorkerError)
State = Literal["new", "up to date", "left out", "failed"]


@dataclass(frozen=True)
class Step:
    """One stage of the main job on one take, view or run, as it ended.

    stage    take, sync, detect, triangulate, finetune or infer
    of       name of the take, take and view, or run
    text     what came out, in a line for a person
    pages    pages to open
    """

    stage: str
    of: str
    state: State
    text: str = ""
    files: tuple[Path, ...] = ()
    pages: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    error: TwoViewError | None = None

    def summary(self) -> dict[str, Any]:
        """The step for a JSON file."""
        shown: dict[str, Any] = {"stage": self.stage, "of": self.of, "state": self.state, "text": self.text}
        shown |= {"files": [str(path) for path in self.files], "warnings": list(self.warnings)}
        if self.error:
            shown |= {"error": type(self.error).__name__, "message": self.error.message, "hint": self.error.hint}
        return shown


def run(
    videos: Sequence[Path | str] = (),
    *,
    session: Path | str = "session",
    settings: Settings | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_progress: OnProgress | None = None,
    **more: Any,
) -> list[Step]:
    """Everything from two videos to 3D: sync, detect, triangulate, finetune, infer and pages, see `steps`."""
    done = []
    for step in steps(session, videos, settings=settings, on_progress=on_progress, **more):
        done.append(step)
        if on_step is not None:
            on_step(step)
    return done


def steps(
    folder: Path | str,
    videos: Sequence[Path | str] = (),
    *,
    settings: Settings | None = None,
    name: str = "",
    formats: Sequence[str] = (),
    picture: bool = True,
    trust: Collection[str] = (),
    workers: Workers | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Step]:
    """The stages of the main job on all takes of a session, one step after the other; what is up to date is loaded.

    videos    of new takes, see `events`; none: the session's takes alone
    settings  of all stages; the athlete's height is that of `settings.infer`, else of `settings.triangulate`
    name      of the run; default: the run that these takes and settings made or would continue, else a new one
    formats   names in FORMATS to write besides the pages, for two-view 3D and for every view
    workers   who does the tasks of takes and videos, all but the training; default: this process

    Raises what is wrong with everything: settings, a format, the disk, weights that cannot be had.
    """
    settings, folder = settings or Settings(), Path(folder)
    formats = tuple(dict.fromkeys((PAGE, *formats)))
    check(formats, unit=remembered.unit(folder, settings.infer))
    failed: list[TwoViewError] = []

    def failure(stage: str, of: str, error: TwoViewError) -> Step:
        failed.append(error)
        return Step(stage, of, "failed", error.message, error=error)

    for called, files in events(videos).items():
        try:
            with adding(folder, files, called=called):
                pass
        except OF_ONE_PART as error:
            yield failure("take", called or ", ".join(file.name for file in files), error)
    if failed and not open_session(folder, create=True).takes:
        return  # why no take came into it has been said
    session = _opened(folder)
    for step in _synchronized_and_detected(session, settings, trust, workers, on_progress):
        failed += [step.error] if step.error else []
        yield step
    try:
        takes, _ = teaching_takes(session, settings.finetune)
    except OF_ONE_PART as error:
        if not failed:
            yield failure("triangulate", "", error)
    else:
        try:
            yield from _triangulated(
                session, settings, formats, picture=picture, trust=trust, workers=workers, on_progress=on_progress
            )
        except OF_ONE_PART as error:
            yield failure("triangulate", ", ".join(take.name for take in takes), error)
        name = name or _run_name(session, takes, settings)
        try:
            made = finetune_session(
                session, config=settings.finetune, triangulation=_teaching(settings), run=name, trust=trust,
                on_progress=on_progress,
            )  # fmt: skip
        except OF_ONE_PART as error:
            yield failure("finetune", name, error)
        else:
            yield _trained(session, made, settings.finetune.method)
    yield from _lifted(
        session, settings, formats, picture=picture, trust=trust, workers=workers, on_progress=on_progress
    )


def events(named: Sequence[Path | str]) -> dict[str, list[Path]]:
    """What a take is to be called ("": by a number) -> the videos of its views, of files, folders and patterns.

    Videos of one folder are one take. Of several folders each is a take, with the folder's name; but folders with one
    video each are phones, as are folders whose videos were filmed by one phone each and have the same names.
    Raises SessionError for a folder that has but one video, where others have more.
    """
    folders: dict[Path, list[Path]] = {}
    for file in video_files(named):
        folders.setdefault(real_path(file).parent, []).append(file)
    if len(folders) == 1 or all(len(files) == 1 for files in folders.values()):
        return {"": [file for files in folders.values() for file in files]} if folders else {}
    if _are_phones(folders):
        by_name: dict[str, list[Path]] = {}
        for files in folders.values():
            for file in files:
                by_name.setdefault(file.stem, []).append(file)
        return {name_from(stem): files for stem, files in by_name.items()}
    alone = [files[0] for files in folders.values() if len(files) == 1]
    if alone:
        raise SessionError(
            f"{alone[0]} is the only video of its folder, and other folders have several: which take is it of?",
            hint="a folder for each take's videos, or one take after the other: `twoview run a.mp4 b.mp4`",
        )
    names = [name_from(folder.name) for folder in folders]
    names = [name if names.count(name) == 1 else "" for name in names]
    if "" in names:  # folders of one name: their parents tell them apart
        names = [name_from(f"{folder.parent.name}_{folder.name}") for folder in folders]
    return dict(zip(names, folders.values(), strict=True))


def _are_phones(folders: Mapping[Path, Sequence[Path]]) -> bool:
    """Whether each folder holds one phone's videos of the same events, under the same names."""
    if len({frozenset(file.stem for file in files) for files in folders.values()}) > 1:
        return False
    models = []
    for files in folders.values():
        try:
            own = {probe(file).phone for file in files}
        except VideoError:
            return False
        models.append(own.pop() if len(own) == 1 else "")
    return all(models) and len(set(models)) == len(models)


def _opened(folder: Path) -> Session:
    """The session. Raises SessionError where there is none with a take, and nobody named a video."""
    try:
        session = open_session(folder)
    except SessionError as error:
        raise SessionError(error.message, hint="name the videos of an event: `twoview run a.mp4 b.mp4`") from error
    if not session.takes:
        raise SessionError(f"{folder} has no take", hint="name the videos of an event: `twoview run a.mp4 b.mp4`")
    return session


def _synchronized_and_detected(
    session: Session,
    settings: Settings,
    trust: Collection[str],
    workers: Workers | None,
    on_progress: OnProgress | None,
) -> Iterator[Step]:
    """Clocks by sound, the athlete in all views, and the clocks once more: with the motion beside, or by it alone."""
    known: dict[str, Sync] = {}
    for take, found in _synchronized(session, settings, workers, on_progress):
        if isinstance(found, NotDetectedError):
            log.info("%s: clocks by motion after detection: %s", take, found.message)
        elif isinstance(found, TwoViewError):
            yield Step("sync", take, "failed", found.message, error=found)
        else:
            known[take], fresh = found
            yield _clocks(session, take, known[take], fresh=fresh)
    try:
        for one in detect_views(session, config=settings.detect, trust=trust, workers=workers, on_progress=on_progress):
            poses, path = one.poses, session.detection_path(one.take, one.view)
            seen = (poses.score > 0).any(axis=1).mean() if len(poses) else 0.0
            label = f"{one.take}/{one.view}"
            people = one.athlete if one.athlete and one.athlete.people > 1 else None
            yield Step(
                "detect", label, "new" if one.fresh else "up to date",
                f"{len(poses)} frames, athlete found in {seen:.1%}" + (f", {people}" if people else ""), (path,),
                warnings=tuple(f"{label}: {sentence}" for sentence in (people.warnings() if people else ())),
            )  # fmt: skip
    except OF_ONE_PART as error:
        yield Step("detect", "", "failed", error.message, error=error)
    for take, found in _synchronized(session, settings, workers, on_progress):
        if isinstance(found, TwoViewError):
            if take not in known:
                yield Step("sync", take, "failed", found.message, error=found)
            continue
        (sync, fresh), before = found, known.get(take)
        if before is None or (before.clocks, before.warnings) != (sync.clocks, sync.warnings):
            yield _clocks(session, take, sync, fresh=fresh)


def _synchronized(
    session: Session, settings: Settings, workers: Workers | None, on_progress: OnProgress | None
) -> Iterator[tuple[str, tuple[Sync, bool] | TwoViewError]]:
    """The clocks of every take, and whether they are new, or what is wrong; those that a person gave are kept."""
    others = []
    for take in session.takes:
        if (sync := given_by_hand(session, take)) is not None:
            yield take, (sync, False)
        else:
            others.append(take)
    for take, found in sync_takes(session, others, config=settings.sync, workers=workers, on_progress=on_progress):
        if isinstance(found, TwoViewError) and not isinstance(found, OF_ONE_PART):
            raise found
        yield take, found


def _clocks(session: Session, take: str, sync: Sync, *, fresh: bool) -> Step:
    delays = []
    for view in sync.views[1:]:
        offset = sync.clocks[view].offset_s
        delays.append(f"{view} began {abs(offset):.3f} s {'later' if offset >= 0 else 'earlier'}")
    path, new = session.sync_path(take), new_views(session, take)
    others = f"{take}: views {', '.join(new)} are in no other take; are these the same phones?" if new else ""
    sentences = [f"{take}: {sentence}" for sentence in sync.warnings] + ([others] if others else [])
    files = tuple(file for file in (path, path.with_suffix(".png")) if file.exists())
    state: State = "new" if fresh else "up to date"
    return Step("sync", take, state, f"{', '.join(delays)}, by {sync.method}", files, warnings=tuple(sentences))


def _triangulated(
    session: Session,
    settings: Settings,
    formats: Sequence[str],
    *,
    picture: bool,
    trust: Collection[str],
    workers: Workers | None,
    on_progress: OnProgress | None,
) -> Iterator[Step]:
    failed: list[tuple[str, TwoViewError]] = []
    for one in triangulate_session(
        session, config=settings.triangulate, filter=settings.filter, world=settings.world, formats=formats,
        picture=picture, trust=trust, failed=failed, workers=workers, on_progress=on_progress,
    ):  # fmt: skip
        result = one.result
        angle = max(result.angle_deg[view] for view in result.views[1:])
        text = (
            f"{angle:.0f} degrees between the views, {result.reliable.mean():.0%} of the frames reliable, sigma "
            f"{result.summary()['sigma_mm']:.0f} mm"
        )
        pages = tuple(path for path in one.files.values() if path.suffix == f".{PAGE}")
        state: State = "new" if one.fresh else "up to date"
        yield Step(
            "triangulate", result.take, state, text, tuple(one.files.values()), pages[:1],
            tuple(f"{result.take}: {sentence}" for sentence in one.warnings),
        )  # fmt: skip
    for take, error in failed:
        yield Step("triangulate", take, "failed", error.message, error=error)


def _teaching(settings: Settings) -> TriangulateConfig:
    """How `finetune` triangulates: as for the results, but for a height, which no lifter learns."""
    return settings.triangulate if settings.finetune.method == "phones" else TriangulateConfig()


def _run_name(session: Session, takes: Sequence[Take], settings: Settings) -> str:
    """The run that these takes and settings made or would continue, else the first free one: run1, run2, ..."""
    from twoview.training.runs import RunFolder

    names = [run_in_use(session)] if run_in_use(session) else []
    for name in chain(names, (f"run{number}" for number in count(1))):
        folder = session.run_folder(name)
        try:
            RunFolder(folder, settings.finetune, _teaching(settings), takes, writes=False).resume()
        except (TrainingError, FormatError):
            continue
        return name
    raise AssertionError


def _trained(session: Session, run: Run, method: str) -> Step:
    from twoview.visualization.report import held_out_numbers

    used = run_in_use(session)
    before, after = run.before["criterion"], run.after["criterion"]
    change = f" ({after / before - 1:+.0%})" if before and run.adapted else ""
    name, first, second = held_out_numbers(run.before, run.after, method)[0]
    text = f"{name}: {first} -> {second}{change}"
    text += "" if run.adapted else ": no epoch was better, the unadapted lifter is kept"
    text += "" if used == run.folder.name else f"; the session uses run {used}" if used else ""
    report = run.folder / "report.html"
    return Step(
        "finetune", run.folder.name, "new" if run.fresh else "up to date", text, (run.model, report), (report,),
        run.warnings,
    )  # fmt: skip


def _lifted(
    session: Session,
    settings: Settings,
    formats: Sequence[str],
    *,
    picture: bool,
    trust: Collection[str],
    workers: Workers | None,
    on_progress: OnProgress | None,
) -> Iterator[Step]:
    """3D of every view alone by the session's model, from the take's own detections."""
    adapted = session.model_path.exists()
    model = session.model_path if adapted else settings.finetune.weights
    every: dict[str, AbstractContextManager[ToInfer]] = {}
    for take in session.takes:
        try:
            files = session.take(take)
        except FormatError as error:
            yield Step("infer", take, "failed", error.message, error=error)
            continue
        for view, file in files.items():
            label = f"{take}/{view}"
            if not _is_detected(session, take, view, file):
                continue  # which its own step says
            if not file.path.exists():
                yield Step("infer", label, "left out", f"its video is gone: {file.path}")
                continue
            every[label] = _to_lift(
                session, file, session.detection_path(take, view), model, settings=settings, formats=formats,
                picture=picture, trust=trust,
            )  # fmt: skip
    load = loader(settings.infer, trust)
    with open_place(workers, folder=session.folder) as place:
        for label, made in infer_many(every, place, load=load, on_progress=on_progress):
            if isinstance(made, Inferred):
                yield _lifted_view(label, made, model)
            elif isinstance(made, OF_ONE_PART):
                yield Step("infer", label, "failed", made.message, error=made)
            else:
                raise made


def _is_detected(session: Session, take: str, view: str, file: ViewFile) -> bool:
    path = session.detection_path(take, view)
    try:
        return path.exists() and bool(records.read_header(path)["inputs"] == {"video": file.fingerprint})
    except FormatError:
        return False


@contextmanager
def _to_lift(
    session: Session,
    file: ViewFile,
    detections: Path,
    model: Path | str,
    *,
    settings: Settings,
    formats: Sequence[str],
    picture: bool,
    trust: Collection[str],
) -> Iterator[ToInfer]:
    with (
        result_of(session, file.path) as out,
        to_infer(
            file.path, model, out, config=settings.infer, detect_config=settings.detect, filter=settings.filter,
            world=settings.world, formats=formats, picture=picture, session=session, detections=detections,
            trust=trust,
        ) as wanted,
    ):  # fmt: skip
        yield wanted


def _lifted_view(label: str, made: Inferred, model: Path | str) -> Step:
    poses, unit = made.poses, "meters" if made.poses.unit == "m" else "screen units"
    by = "" if isinstance(model, Path) else f", by {model}, which is not adapted"
    page = made.files.get(PAGE)
    warnings = tuple(f"{label}: {sentence}" for sentence in made.warnings)
    return Step(
        "infer", label, "new" if made.fresh else "up to date", f"{len(poses)} frames, {unit}{by}",
        tuple(made.files.values()), (page,) if page else (), warnings,
    )  # fmt: skip
