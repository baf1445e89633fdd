"""The stages on a session folder, behind the commands: each loads its inputs, runs unless up to date, and saves.

The command line, the demo and a notebook call the same functions.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from twoview.config import DetectConfig, FinetuneConfig, TriangulateConfig
from twoview.errors import DetectorError, FormatError, SessionError, SyncError, TwoViewError, joined
from twoview.poses import Poses2D
from twoview.progress import OnProgress, is_first
from twoview.storage import records
from twoview.storage.names import name_from
from twoview.storage.regular import real_path
from twoview.storage.session import Session, ViewFile, open_session
from twoview.timeline import Sync
from twoview.workers.places import Workers, open_place
from twoview.workflow.models import keep_better, use_run
from twoview.workflow.sampling import Enough, enough_for, first, spread

if TYPE_CHECKING:
    from twoview.detection.other_tools import Layout
    from twoview.takes import Take
    from twoview.training.finetuning import Run
    from twoview.training.planning import Plan
    from twoview.workflow.detection import ViewPoses

SHORTEST_S = 1.0  # seconds that the views of a take must see the athlete together: less teaches nothing
_LOOKED_AT = 20  # takes whose phones are known
_NAMED = 5  # takes named in a message
LOCKED = 200  # takes that are locked at once: each lock is an open file

log = logging.getLogger(__name__)


@contextmanager
def adding(
    folder: Path | str,
    videos: Sequence[Path],
    *,
    views: Sequence[str] | None = None,
    take: str | None = None,
    called: str = "",
) -> Iterator[tuple[Session, str]]:
    """A session with the videos of one take in it, and the take's name; written to disk if the block succeeds.

    Nobody else works on the take meanwhile. Without names, views are called as in the other takes where the phones'
    models tell them apart, else by the file stems, or by the folders of files of one name. Without a name for the take:
    the take that already holds these files, or a new one, with the name that it is `called` by if that is free.
    Raises SessionError for two views of one name and for a take of one view, VideoError for a file that is no video.
    """
    session = open_session(folder, create=True)
    files = _probed(session, videos, views)
    with ExitStack() as held:
        if take is None:
            held.enter_context(session.lock_videos(files))
            session = open_session(folder, create=True)
            take = _holding(session, files) or _new_take(session, held, called)
        held.enter_context(session.lock(take))
        session = open_session(folder, create=True).with_take(take, files)
        if len(session.take(take)) < 2:
            raise SessionError(
                f"one video, {', '.join(map(str, videos))}: a take is one event filmed by two phones or more",
                hint="`twoview sync a.mp4 b.mp4`; for 3D from one video: `twoview infer a.mp4`",
            )
        yield session, take
        session.keep_take(take)


def add_videos(
    folder: Path | str, videos: Sequence[Path], *, views: Sequence[str] | None = None, take: str | None = None
) -> tuple[Session, str]:
    """Put the videos of one take into the session folder (made if need be), see `adding`."""
    with adding(folder, videos, views=views, take=take) as (session, name):
        pass
    return session, name


def _probed(session: Session, videos: Sequence[Path], views: Sequence[str] | None) -> dict[str, ViewFile]:
    from twoview.media.video import probe

    found = [(real_path(video), probe(video)) for video in videos]
    names = list(views) if views is not None else _view_names(session, videos, [info.phone for _, info in found])
    if len(names) != len(videos):
        raise SessionError(f"{len(names)} view names for {len(videos)} videos: {', '.join(names)}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise SessionError(f"two views would both be called {twice[0]!r}", hint="name them with --views left,right")
    return {
        name: ViewFile(path, info.size, str(info.rate), records.fingerprint(path), info.phone, info.focal_mm)
        for name, (path, info) in zip(names, found, strict=True)
    }


def _view_names(session: Session, videos: Sequence[Path], phones: Sequence[str]) -> list[str]:
    """Names of the views of a take's videos, whose phones have these models, where nobody names them."""
    names = [name_from(Path(video).stem) for video in videos]
    if len(set(names)) == 1:
        folders = [name_from(real_path(video).parent.name) for video in videos]
        names = folders if len(set(folders)) == len(folders) else names
    known: dict[str, set[str]] = {}
    for take in list(session.takes)[:_LOOKED_AT]:
        with suppress(FormatError):
            for view, file in session.takes[take].items():
                known.setdefault(file.phone, set()).add(view)
    sure = {phone: view for phone, (view, *others) in known.items() if phone and not others}
    same = [sure[phone] for phone in phones if phone in sure]
    held = {view for views in known.values() for view in views}
    if set(names) <= held or len(same) != len(videos) or len(set(same)) != len(same):
        return names
    pairs = ", ".join(f"{Path(video).name} is view {view}" for video, view in zip(videos, same, strict=True))
    log.warning("by the phones' models, %s; --views names them otherwise", pairs)
    return same


def _holding(session: Session, files: Mapping[str, ViewFile]) -> str | None:
    """The take that holds these videos, wherever they lie."""
    for name in session.takes:
        with suppress(FormatError):
            held = session.takes[name]
            if all(
                view in held and replace(held[view], path=file.path, phone=file.phone, focal_mm=file.focal_mm) == file
                for view, file in files.items()
            ):
                return name
    return None


def _new_take(session: Session, held: ExitStack, called: str = "") -> str:
    """The name, or the first free one, take1, take2, ..., which no command that starts now gets: it is locked."""
    numbered = (f"take{number}" for number in count(len(session.takes) + 1))
    for name in chain([called] if called else [], numbered):
        if name in session.takes:
            continue
        try:
            held.enter_context(session.lock(name, wait=False))
        except SessionError:
            continue
        if not session.take_path(name).exists():  # as it may by now
            return name
    raise AssertionError


def new_views(session: Session, take: str) -> list[str]:
    """Views of this take that no other take has; perhaps the same phone under another name."""
    others = session.views_of_others(take)
    return [view for view in session.take(take) if others and view not in others]


def save_sync(session: Session, take: str, sync: Sync, *, settings: Mapping[str, Any]) -> None:
    """Write a take's sync with the fingerprints of its videos."""
    inputs = sync_header(session.take(take), settings)["inputs"]
    records.save(session.sync_path(take), sync, inputs=inputs, settings=settings)


def remove_triangulated(session: Session, take: str, *, unless: Sync | None = None) -> None:
    """Remove a take's two-view 3D, which new clocks make stale, `unless` they are the ones that the take has."""
    if unless is not None:
        with suppress(FormatError):
            if records.load_as(session.sync_path(take), Sync).clocks == unless.clocks:
                return
    shutil.rmtree(session.take_folder(take) / "triangulated", ignore_errors=True)


def load_sync(session: Session, take: str) -> Sync:
    """The saved sync of a take. Raises SessionError if there is none, or a video has changed since."""
    path, files = session.sync_path(take), session.take(take)
    videos = " ".join(quote(str(file.path)) for file in files.values())
    hint = f"twoview sync {videos} --take {quote(take)} --views {quote(','.join(files))}"
    if not path.exists():
        raise SessionError(f"take {take!r} is not synchronized yet", hint=hint)
    if records.read_header(path)["inputs"] != sync_header(files, {})["inputs"]:
        raise SessionError(f"a video of take {take!r} has changed since it was synchronized", hint=hint)
    return records.load_as(path, Sync)


def unrelated(session: Session, take: str) -> list[str]:
    """Views of a take that its sync does not relate to the others; none where it has no sync of these videos."""
    files, path = session.take(take), session.sync_path(take)
    with suppress(FormatError, KeyError, TypeError):
        if len(files) > 2:  # a sync relates two at least
            head = records.read_header(path)
            if head["inputs"] == sync_header(files, {})["inputs"]:
                return [view for view in files if view not in head["views"]]
    return []


def related_views(session: Session) -> list[str]:
    """Views of the session, without those that no take relates to others though it is synchronized."""
    related = set[str]()
    for take in session.takes:
        with suppress(FormatError):
            related |= set(session.takes[take]) - set(unrelated(session, take))
    return [view for view in session.views if view in related]


def detect_views(
    session: Session,
    *,
    views: Sequence[str] | None = None,
    takes: Sequence[str] | None = None,
    without: Sequence[str] = (),
    config: DetectConfig | None = None,
    source: str | None = None,
    layout: Layout | None = None,
    choose_again: bool = False,
    detect_again: bool = False,
    trust: Collection[str] = (),
    workers: Workers | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[ViewPoses]:
    """Find the athlete in every video, one view at a time; what is up to date is only loaded.

    takes         names of takes; default: all but those `without`, and those whose video is gone or has changed, which
                  the log names once
    source        file of another tool whose detections are imported instead, see `detection.import_views`
    layout        what that file does not say
    choose_again  also where a person was chosen by hand before
    detect_again  also where another tool's detections were imported before
    trust         name of a detector that is no part of twoview, and that the session may name
    workers       who searches the videos, a task for each; default: this process

    The session remembers the detector, for where `config` leaves it open.
    """
    from twoview.detectors import AUTO
    from twoview.workflow import detection, remembered

    config, failed, wanted = config or DetectConfig(), list[TwoViewError](), session.check_views(views)
    settings = remembered.with_detector(session.folder, config)
    again = {"choose_again": choose_again, "detect_again": detect_again}

    def row_of(session: Session, take: str, view: str, file: ViewFile) -> detection.View:
        path = session.detection_path(take, view)
        return detection.View.of(take, view, file.path, path, fingerprint=file.fingerprint, config=settings)

    def found(session: Session, names: Sequence[str]) -> tuple[dict[str, list[detection.View]], list[TwoViewError]]:
        """Take -> its views that can be detected or loaded, and what is wrong with the others."""
        rows, problems = dict[str, list[detection.View]](), list[TwoViewError]()
        for take in names:
            try:
                for view, file in session.take(take).items():
                    if view not in wanted:
                        continue
                    one = row_of(session, take, view, file)
                    if file.path.exists() or source is not None or not one.is_current(**again):
                        present(file, view, take)
                    rows.setdefault(take, []).append(one)
            except TwoViewError as error:
                problems.append(error)
                rows.pop(take, None)
        return rows, problems

    def detected(session: Session, names: Sequence[str], *, alone: bool) -> Iterator[ViewPoses]:
        """The views of takes that are locked together; `alone`: there are no others."""
        nonlocal settings
        todo = [row for rows in found(session, names)[0].values() for row in rows if not row.is_current(**again)]
        if todo and source is None:
            settings = remembered.decided(settings, config, session.folder, trust=trust)
        with ExitStack() as held:
            locks = {}
            for take, rows in found(session, names)[0].items():
                if source is not None or not all(row.is_current(**again) for row in rows):
                    locks[take] = held.enter_context(ExitStack())
                    locks[take].enter_context(session.lock(take))
            if locks:  # another command may have changed the takes that were waited for
                session = open_session(session.folder)
            own, problems = found(session, names)
            syncs = {}
            for take in own:
                with suppress(TwoViewError):  # views that are not synchronized each choose for themselves
                    syncs[take] = load_sync(session, take)
            _leave_out(problems, unless=takes is not None or (alone and not own))
            every = [row for rows in own.values() for row in rows]
            left = {take: len(rows) for take, rows in own.items()}
            if source is not None:
                made = detection.import_views(source, every, config=settings, layout=layout)
            else:
                known = {(row.take, row.name) for row in every}
                others = [(t, v, f) for t in own for v, f in session.take(t).items() if (t, v) not in known]
                beside = [row_of(session, *other) for other in others]
                searched = not all(row.is_current(**again) for row in every)
                place = held.enter_context(open_place(workers if searched else None, folder=session.folder))
                made = detection.detect_missing(
                    every, config=settings, syncs=syncs, beside=beside, place=place, on_progress=on_progress, **again
                )
            for one in made:
                left[one.take] -= 1
                if not left[one.take] and one.take in locks:
                    locks[one.take].close()
                yield one
            if source is None and isinstance(settings.detector, str) and settings.detector != AUTO:
                remembered.keep(session.folder, detector=settings.detector)

    names = session.choose_takes(takes, without)
    parts = [names] if source is not None else [names[i : i + LOCKED] for i in range(0, len(names), LOCKED)]
    for part in parts:
        try:
            yield from detected(session, part, alone=len(parts) == 1)
        except detection.OF_ONE_VIEW as error:
            failed.append(error)
    if failed:
        raise joined(failed)


def load_takes(
    session: Session,
    views: Sequence[str] | None = None,
    *,
    takes: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> list[Take]:
    """The takes that can be learned from, with their sync, and their detections as they are asked for.

    views    names of views; of each take those that it has, at least two; default: all
    takes    names of takes; default: all but those `without`, and those that are not synchronized, not detected, or
             show the athlete for less than SHORTEST_S, which the log names once

    Raises for a take that was named, and where none is left, the error that says which stage is missing.
    """
    return _load(session, views, session.choose_takes(takes, without), named=takes is not None)


def _load(
    session: Session,
    views: Sequence[str] | None,
    names: Sequence[str],
    *,
    named: bool,
    order: Iterable[str] | None = None,
    enough: Enough | None = None,
) -> list[Take]:
    """The takes of these names that can be learned from; those that cannot raise where they were `named`.

    order   in which they are read; default: as they stand
    enough  whether a take is the last one that is needed
    """
    wanted, loaded, problems = session.check_views(views), dict[str, "Take"](), dict[str, TwoViewError]()
    for name in names if order is None else order:
        try:
            take, seconds = _loaded(session, name, wanted, named=views is not None)
        except TwoViewError as error:
            problems[name] = error
            continue
        loaded[name] = take
        if enough is not None and enough(take, seconds):
            break
    _leave_out([problems[name] for name in names if name in problems], unless=named or not loaded)
    return [loaded[name] for name in names if name in loaded]


def _loaded(session: Session, name: str, wanted: Sequence[str], *, named: bool) -> tuple[Take, float]:
    """A take that can be learned from, and the seconds in which all its views see the athlete.

    Raises what is wrong with any other one, with its name.

    named  whether somebody asked for these views; else those that have no clock are left out, which the log says
    """
    from twoview.takes import LoadedLater, Take, check_views

    files = session.take(name)
    own = [view for view in wanted if view in files]
    lost = unrelated(session, name)
    if lost and not named:
        own = [view for view in own if view not in lost]
        hand = f"`twoview sync --take {quote(name)} --offset {lost[0]}=0.61`"
        log.warning("take %s: %s is left out, since its clock is not known: %s", name, ", ".join(lost), hand)
    if len(own) < 2:
        raise SessionError(
            f"take {name!r} has {len(own)} of the views {', '.join(wanted)}",
            hint="`twoview sync a.mp4 b.mp4`, then `twoview detect`",
        )
    paths = {view: session.detection_path(name, view) for view in own}
    for view, path in paths.items():
        if not path.exists():
            raise SessionError(f"view {view!r} of take {name!r} is not detected yet", hint="twoview detect")
        if records.read_header(path)["inputs"] != {"video": files[view].fingerprint}:
            raise SessionError(f"the video of view {view!r}, take {name!r}, has changed", hint="twoview detect")
    sync = load_sync(session, name)
    poses = {view: records.load_as(path, Poses2D) for view, path in paths.items()}
    check_views([Take(name, poses, sync)])
    spans = []
    for view, found in poses.items():
        seen = found.time[(found.score > 0).any(axis=1)]
        if not len(seen):
            raise DetectorError(f"nobody is seen in view {view!r} of take {name!r}", hint=f"--without {quote(name)}")
        spans.append(sync.to_session(view, seen[[0, -1]]))
    shared = min(span[1] for span in spans) - max(span[0] for span in spans)
    if shared < SHORTEST_S:
        raise SyncError(
            f"the views of take {name!r} see the athlete together for {max(shared, 0.0):.2f} s, and {SHORTEST_S:g} s "
            "are needed",
            hint=f"check its clocks in sync.png, or leave it out: --without {quote(name)}",
        )
    later = LoadedLater(own, lambda view: records.load_as(paths[view], Poses2D))
    focal_mm = {view: files[view].focal_mm for view in own if files[view].focal_mm}
    return Take(name, later, sync, focal_mm=focal_mm, athlete=session.athlete(name).name), shared


def _leave_out(problems: Sequence[TwoViewError], *, unless: bool) -> None:
    """Say once which takes are left out, and why; raise the first reason instead `unless` they can be."""
    if not problems:
        return
    if unless:
        first = problems[0]
        others = "".join(f"\nand: {message}" for message in dict.fromkeys(e.message for e in problems[1:_NAMED]))
        more = f"\nand {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise type(first)(first.message + others + more, hint=first.hint)
    named = "; ".join(error.message for error in problems[:_NAMED])
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    log.warning("left out: %s%s (`twoview show` lists what is missing)", named, more)


def finetune_session(
    session: Session,
    *,
    views: Sequence[str] | None = None,
    takes: Sequence[str] | None = None,
    without: Sequence[str] = (),
    athlete: str | None = None,
    config: FinetuneConfig | None = None,
    triangulation: TriangulateConfig | None = None,
    run: str = "run1",
    use: bool = False,
    trust: Collection[str] = (),
    on_progress: OnProgress | None = None,
) -> Run:
    """Adapt the lifter to a session's takes (see `load_takes`), or to those of one athlete.

    Of very many takes, the method `phones` reads as many as have the clips that its steps draw, see `sampling.spread`.
    The run's model becomes the session's `model.pt` if it is the better one, see `models.keep_better`, or to be used;
    that of an athlete only to be used: `infer` finds it by his name.
    """
    from twoview.training.finetuning import finetune

    config = config or FinetuneConfig()
    found, count = teaching_takes(session, config, views, takes=takes, without=without, athlete=athlete)
    result = finetune(
        found, config, out=session.run_folder(run), views=views, triangulation=triangulation,
        chosen_from=count, videos=_videos(session, found), trust=trust, on_progress=on_progress,
    )  # fmt: skip
    if is_first():
        if use:
            use_run(session, run)
        elif athlete is None:
            keep_better(session, run)
    return result


def teaching_takes(
    session: Session,
    config: FinetuneConfig,
    views: Sequence[str] | None = None,
    *,
    takes: Sequence[str] | None = None,
    without: Sequence[str] = (),
    athlete: str | None = None,
) -> tuple[list[Take], int]:
    """The takes that `finetune_session` learns from, and how many there are to choose from."""
    names = session.choose_takes(takes, without, athlete)
    order = spread(session, names, config.seed)
    found = _load(session, views, names, named=takes is not None, order=order, enough=enough_for(config))
    return found, len(names)


def _videos(session: Session, takes: Sequence[Take]) -> dict[str, dict[str, Path]]:
    """Take -> view -> video, of those that are where the session knows them."""
    found: dict[str, dict[str, Path]] = {}
    for take in takes:
        for view in take.views:
            with suppress(SessionError):
                found.setdefault(take.name, {})[view] = present(session.take(take.name)[view], view, take.name)
    return found


def plan_session(
    session: Session,
    *,
    views: Sequence[str] | None = None,
    takes: Sequence[str] | None = None,
    without: Sequence[str] = (),
    config: FinetuneConfig | None = None,
    triangulation: TriangulateConfig | None = None,
    trust: Collection[str] = (),
    on_progress: OnProgress | None = None,
) -> Plan:
    """What adapting to a session's takes will take and may give, before training.

    Of more than `planning.LOOKED_AT` takes, unless they are named, so many are looked at, see `sampling.spread`.
    """
    from twoview.lifting.model import load_model
    from twoview.training.planning import LOOKED_AT, plan

    config = config or FinetuneConfig()
    names = session.choose_takes(takes, without)
    order, enough = spread(session, names, config.seed), first(LOOKED_AT) if takes is None else None
    found = _load(session, views, names, named=takes is not None, order=order, enough=enough)
    model = load_model(config.weights, trust=trust)
    return plan(found, model, config, chosen_from=len(names), triangulation=triangulation, on_progress=on_progress)


def load(path: Path | str, *, trust: Collection[str] = ()) -> Any:
    """Any file of this project: Poses2D, Poses3D, a Sync, a Triangulation, its cameras by view, or a model (`.pt`).

    trust: lifters, see `load_model`
    """
    if Path(path).suffix == ".pt":
        from twoview.lifting.model import load_model

        return load_model(path, trust=trust)
    kind = records.read_header(path)["format"]
    if kind == "triangulation":
        from twoview.reconstruction.triangulation_file import load_triangulation

        return load_triangulation(path)
    if kind == "cameras":
        from twoview.reconstruction.solved_cameras import read_cameras

        return read_cameras(path)
    return records.load(path)


def present(file: ViewFile, view: str, take: str = "") -> Path:
    """The path of a view's video. Raises SessionError if the file is gone, or is not the one that the session knows."""
    of = f", take {take!r}," if take else ""
    if not file.path.exists():
        raise SessionError(
            f"the video of view {view!r}{of} is gone: {file.path}",
            hint="put it back, or run `twoview sync` with its new place and the same --take and --views",
        )
    if records.fingerprint(file.path) != file.fingerprint:
        raise SessionError(
            f"the video of view {view!r}{of} has changed: {file.path}",
            hint="put the old one back, or run `twoview sync` with the same --take and --views again",
        )
    return file.path


def sync_header(files: Mapping[str, ViewFile], settings: Mapping[str, Any]) -> records.Header:
    """The header of a take's sync, with its inputs and settings."""
    return records.header("sync", inputs={view: file.fingerprint for view, file in files.items()}, settings=settings)
