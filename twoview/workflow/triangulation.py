"""Two-view 3D of a session's takes: solved where it is not up to date, written, drawn, and its cameras kept."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twoview.biomechanics.events import travelled
from twoview.config import FilterConfig, TriangulateConfig, WorldConfig, shaping
from twoview.errors import ConfigError, SessionError, TwoViewError, joined
from twoview.formats import axes_note, check, notes
from twoview.poses import Poses3D
from twoview.progress import OnProgress
from twoview.storage import records
from twoview.storage.session import Session
from twoview.texts import json_text
from twoview.workers.places import Workers, open_place
from twoview.workers.tasks import Place, Task, run_tasks
from twoview.workflow import remembered
from twoview.workflow.inference import PAGE
from twoview.workflow.stages import LOCKED, load_takes
from twoview.workflow.take_folder import THE_PAGE, TakeFolder

if TYPE_CHECKING:
    from twoview.lifting.model import Model
    from twoview.reconstruction.triangulation import Triangulation
    from twoview.takes import Take

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Triangulated:
    """Two-view 3D of a take, and the files that hold and show it.

    poses     view -> the poses as they were written: root-relative, unreliable frames NaN, filtered if asked for
    files     name below `folder` -> file
    fresh     solved now, not loaded
    warnings  plain sentences for the person who will rely on the poses
    """

    result: Triangulation
    poses: Mapping[str, Poses3D]
    folder: Path
    files: Mapping[str, Path]
    fresh: bool
    warnings: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """The numbers and the files for a JSON file."""
        more: dict[str, Any] = {
            "unit": self.result.unit,
            "fresh": self.fresh,
            "files": {n: str(p) for n, p in self.files.items()},
        }
        worlds = {view: own.world for view, own in self.poses.items() if own.world is not None}
        more["world"] = {
            view: {"up": world.up.tolist(), "up_sigma_deg": world.up_sigma_deg, "floor_m": world.floor.tolist(),
                   "floor_sigma_m": world.floor_sigma_m, "travelled_m": travelled(self.poses[view])}
            for view, world in worlds.items()
        }  # fmt: skip
        return {**self.result.summary(), **more, "warnings": list(self.warnings)}


def triangulate_session(
    session: Session,
    *,
    views: Sequence[str] | None = None,
    takes: Sequence[str] | None = None,
    without: Sequence[str] = (),
    model: str = "twoview-small",
    config: TriangulateConfig | None = None,
    filter: FilterConfig | None = None,
    world: WorldConfig | None = None,
    formats: Sequence[str] = (),
    picture: bool = True,
    trust: Collection[str] = (),
    failed: list[tuple[str, TwoViewError]] | None = None,
    workers: Workers | None = None,
    on_progress: OnProgress | None = None,
) -> list[Triangulated]:
    """3D of every take from all views; what is up to date is only loaded.

    model    lifter for the first estimate, a name or a file; it is loaded only where something is solved
    filter   smoothing of the poses that are written, off by default; sigmas are those of the poses before it
    world    axes of these formats, and whether the phones are level
    formats  names in FORMATS, written for every view
    picture  draw the reprojected 3D over every video, and contact sheets
    trust    lifters that are no part of twoview and may run, see `load_model`
    failed   gets the takes that have no result, each with the reason; default: it is raised after the others
    workers  who solves and draws the takes, a task for each; default: this process

    A take's own height, else the one that the session remembers, is for where `config` names none. With `same_athlete`,
    takes of one athlete are solved together and here, so that one that is not up to date has all of them solved again.
    Raises FormatError for a format that is unknown or needs the height, before any work.
    """
    if world is not None and world.camera:
        raise ConfigError("world.camera is for a video from one view, and triangulate finds every camera")
    config, world = config or TriangulateConfig(), world or WorldConfig()
    if formats:
        check(formats, unit=remembered.unit(session.folder, config))
    _check_focal(config, session.check_views(views))
    loaded = load_takes(session, views, takes=takes, without=without)
    loaded = [_with_height(session, take) for take in loaded]
    check(formats, unit="m" if all(config.height_m or take.height_m for take in loaded) else "screen")
    settings = _Settings(model, config, filter or FilterConfig(), world, tuple(formats), picture, tuple(trust))
    made: dict[str, Triangulated] = {}
    bad: list[tuple[str, TwoViewError]] = [] if failed is None else failed
    for part in _parts(loaded, together=config.same_athlete):
        with ExitStack() as held:
            for take in part:
                held.enter_context(session.lock(take.name))
            place = held.enter_context(open_place(workers, folder=session.folder))
            made |= _triangulate_part(session, part, settings, place=place, failed=bad, on_progress=on_progress)
    if config.height_m and made:
        remembered.keep(session.folder, height_m=config.height_m)
    if bad and failed is None:
        raise joined([error for _, error in bad])
    return [made[take.name] for take in loaded if take.name in made]


def _parts(takes: Sequence[Take], *, together: bool) -> list[list[Take]]:
    """The takes in parts that are locked at once, where those of one athlete stay `together`."""
    parts: list[list[Take]] = []
    for group in _by_athlete(takes).values() if together else ([take] for take in takes):
        if not parts or len(parts[-1]) + len(group) > LOCKED:
            parts.append([])
        parts[-1] += group
    return parts


def _by_athlete(takes: Sequence[Take]) -> dict[str, list[Take]]:
    """Name of the athlete -> the takes; "" for those that name nobody."""
    groups: dict[str, list[Take]] = {}
    for take in takes:
        groups.setdefault(take.athlete, []).append(take)
    return groups


def _triangulate_part(
    session: Session,
    takes: Sequence[Take],
    settings: _Settings,
    *,
    place: Place | None,
    failed: list[tuple[str, TwoViewError]],
    on_progress: OnProgress | None,
) -> dict[str, Triangulated]:
    """Solve, write and draw what is not up to date of locked takes, first the athletes whose takes share their bones.

    failed  gets the takes and athletes that have no result, each with the reason
    """
    heads = _heads(session, takes, settings.model, settings.config)
    folders = {take.name: TakeFolder.of(session, take.name, heads[take.name]) for take in takes}
    results = {name: found for name, folder in folders.items() if (found := folder.load()) is not None}
    fresh = {take.name for take in takes if take.name not in results}
    lost = set[str]()
    if settings.config.same_athlete:
        stale = {whose: group for whose, group in _by_athlete(takes).items() if {take.name for take in group} & fresh}
        fresh = {take.name for group in stale.values() for take in group}
        tasks = (
            Task(
                whose,
                _solve if place is None else _solve_away,
                {"folders": [folders[take.name] for take in group], "settings": settings}
                | ({"takes": group} if place is None else {"views": [take.views for take in group]}),
                needs=(session.folder,),
            )
            for whose, group in stale.items()
        )
        for whose, one in run_tasks(
            tasks, place, stage="triangulate", total=len(stale), unit="athletes", on_progress=on_progress
        ):
            if isinstance(one, TwoViewError):
                failed.append((whose or "triangulate", one))
                lost |= {take.name for take in stale[whose]}
            elif place is None:
                results |= one
    left = [take for take in takes if take.name not in lost]
    tasks = (
        Task(
            take.name,
            _finish if place is None else _finish_away,
            {"folder": folders[take.name], "settings": settings}
            | ({"take": take, "result": results.get(take.name)} if place is None else {"views": take.views}),
            needs=(session.folder, *(file.path for file in session.take(take.name).values() if file.path.exists())),
        )
        for take in left
    )
    made = dict[str, Triangulated]()
    for name, one in run_tasks(tasks, place, stage="triangulate", total=len(left), on_progress=on_progress):
        if isinstance(one, TwoViewError):
            failed.append((name, one))
            continue
        whole = one if isinstance(one, Triangulated) else _read(folders[name], one, settings)
        made[name] = replace(whole, fresh=name in fresh)
    return made


@dataclass(frozen=True)
class _Settings:
    """What `triangulate_session` was asked for, as every take's task needs it."""

    model: str
    config: TriangulateConfig
    filter: FilterConfig
    world: WorldConfig
    formats: tuple[str, ...]
    picture: bool
    trust: tuple[str, ...]


def _solve_away(
    folders: Sequence[TakeFolder],
    settings: _Settings,
    views: Sequence[Sequence[str]],
    on_progress: OnProgress | None,
) -> None:
    """The same in a worker, with all of it in files."""
    takes = []
    for folder, own in zip(folders, views, strict=True):
        takes += [_with_height(folder.session, take) for take in load_takes(folder.session, own)]
    _solve(folders, settings, takes, on_progress)


def _solve(
    folders: Sequence[TakeFolder], settings: _Settings, takes: Sequence[Take], on_progress: OnProgress | None
) -> dict[str, Triangulation]:
    """Solve takes together, and keep their solutions."""
    from twoview.reconstruction.triangulation import triangulate_takes

    config, session = settings.config, Session(folders[0].session.folder)
    lifter = _lifter(settings.model, settings.trust)
    heads = _heads(session, takes, settings.model, config)
    if any(folder.head != heads[folder.take] for folder in folders):
        raise SessionError("the model was replaced while it was loaded", hint="run the same command again")
    solved = triangulate_takes(takes, lifter, config=config, on_progress=on_progress)
    for take, folder, result in zip(takes, folders, solved, strict=True):
        folder.save(result, config.height_m or take.height_m)
    return {folder.take: result for folder, result in zip(folders, solved, strict=True)}


def _finish_away(
    folder: TakeFolder, settings: _Settings, views: Sequence[str], on_progress: OnProgress | None
) -> tuple[str, ...]:
    """The same in a worker, with all of it in files; the warnings."""
    (take,) = load_takes(folder.session, views)
    take = _with_height(folder.session, take)
    return _finish(folder, settings, take, folder.load(), on_progress).warnings


def _finish(
    folder: TakeFolder,
    settings: _Settings,
    take: Take,
    result: Triangulation | None,
    on_progress: OnProgress | None,
) -> Triangulated:
    """Write and draw what is not up to date of a take, which is solved where it has no result yet."""
    from twoview.reconstruction.triangulation import triangulate_takes

    config, filter, world, formats = settings.config, settings.filter, settings.world, settings.formats
    if result is None:
        lifter = _lifter(settings.model, settings.trust)
        if folder.head != _heads(folder.session, [take], settings.model, config)[take.name]:
            raise SessionError("the model was replaced while it was loaded", hint="run the same command again")
        (result,) = triangulate_takes([take], lifter, config=config, on_progress=on_progress)
        folder.save(result, config.height_m or take.height_m)
    poses = folder.write_poses(result, filter, world)
    more = folder.write_all_joints(take, result, poses, filter=filter, config=config, world=world)
    folder.write_cameras(result, config.height_m or take.height_m)
    folder.write_formats({**poses, **more}, formats, world)
    missing = folder.draw(result, poses, on_progress) if settings.picture else []
    if settings.picture or PAGE in formats or THE_PAGE in folder.made:
        folder.write_page(result, poses, filter, on_progress)
    said = (*result.warnings, *_notes(poses, formats, world), *missing)
    return Triangulated(result, poses, folder.path, folder.files(result, formats), fresh=True, warnings=said)


def _read(folder: TakeFolder, warnings: tuple[str, ...], settings: _Settings) -> Triangulated:
    """What a worker made in a folder. Raises SessionError where it is not here."""
    result = folder.load()
    if result is None:
        raise SessionError(f"{folder.solution}, which a worker wrote, is not here", hint="run the same command again")
    poses = {view: records.load_as(folder.path / f"{view}.npz", Poses3D) for view in result.views}
    files = folder.files(result, settings.formats)
    return Triangulated(result, poses, folder.path, files, fresh=True, warnings=warnings)


def _with_height(session: Session, take: Take) -> Take:
    """The take with the height of its athlete, else with the one that the session remembers."""
    height = session.athlete(take.name).height_m or remembered.recall(session.folder).height_m
    return replace(take, height_m=height)


def _lifter(model: str, trust: tuple[str, ...]) -> Model:
    return _loaded_lifter(model, records.fingerprint(model) if os.path.exists(model) else model, trust)


@lru_cache(maxsize=1)
def _loaded_lifter(model: str, mark: str, trust: tuple[str, ...]) -> Model:
    """The lifter; `mark` says whether the file is still the same."""
    from twoview.lifting.model import load_model

    return load_model(model, trust=trust)


def _check_focal(config: TriangulateConfig, views: Sequence[str]) -> None:
    """Raises ConfigError for focal lengths that are none, or are of no view."""
    if config.focal:
        from twoview.reconstruction.focal_lengths import given

        given(config.focal, views)


def _notes(poses: Mapping[str, Poses3D], formats: Sequence[str], world: WorldConfig) -> tuple[str, ...]:
    """What files in these formats hold other than the poses, once for all views."""
    axes: Any = world.axes
    every = ((*axes_note(own, formats, axes), *notes(own, formats)) for own in poses.values())
    return tuple(dict.fromkeys(sentence for sentences in every for sentence in sentences))


def _heads(session: Session, takes: Sequence[Take], model: str, config: TriangulateConfig) -> dict[str, records.Header]:
    """Take -> the header that its solution has while it is up to date."""
    from twoview.reconstruction.triangulation_file import FORMAT

    own = {}
    for take in takes:
        views = {view: records.fingerprint(session.detection_path(take.name, view)) for view in take.views}
        own[take.name] = {"views": views, "sync": records.fingerprint(session.sync_path(take.name))}
        own[take.name] |= {"focal_mm": dict(take.focal_mm)} if take.focal_mm else {}
    used = {"model": records.fingerprint(model) if os.path.exists(model) else model}
    heads = dict[str, dict[str, Any]]()
    for group in _by_athlete(takes).values():
        together = {take.name: own[take.name] for take in group}
        shared = {}
        if config.same_athlete and len(together) > 1:  # all of them shaped each solution
            shared["takes"] = hashlib.sha256(json_text(together).encode()).hexdigest()[:24]
        heads |= {name: {**inputs, **used, **shared} for name, inputs in together.items()}
    settings = {take.name: shaping(replace(config, height_m=config.height_m or take.height_m)) for take in takes}
    return {name: records.header(FORMAT, inputs=inputs, settings=settings[name]) for name, inputs in heads.items()}
