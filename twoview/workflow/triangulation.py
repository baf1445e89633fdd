"""Two-view 3D of a session's takes: solved where it is not up to date, written, drawn, and its cameras kept.

A take's folder `triangulated` holds the poses of every view with the formats and pictures of them, and `solved` with
the whole solution and the cameras. Everything in it is made here, and goes when detections or clocks change.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twoview.biomechanics.events import travelled
from twoview.biomechanics.filtering import filter_poses
from twoview.biomechanics.world import two_view_worlds
from twoview.config import FilterConfig, TriangulateConfig, WorldConfig, shaping
from twoview.errors import ConfigError, FormatError, MissingBackend, SessionError, TwoViewError, VideoError, joined
from twoview.formats import FORMATS, axes_note, check, notes, write
from twoview.poses import Poses3D
from twoview.progress import OnProgress
from twoview.storage import records
from twoview.storage.session import Session
from twoview.texts import json_text
from twoview.workers.places import Workers, open_place
from twoview.workers.tasks import Task, run_tasks
from twoview.workflow import remembered
from twoview.workflow.inference import ANGLE_FILES, PAGE
from twoview.workflow.stages import load_takes, present, remove_triangulated

if TYPE_CHECKING:
    from twoview.lifting.model import Model
    from twoview.reconstruction.triangulation import Triangulation
    from twoview.takes import Take

log = logging.getLogger(__name__)

SOLVED = "solved"  # folder of the whole solution and the cameras
ALL = "all_joints"  # folder of the poses with all joints of the detector
THE_PAGE = f"page.{PAGE}"  # one for all views


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
    made: dict[str, Triangulated] = {}
    bad: list[tuple[str, TwoViewError]] = [] if failed is None else failed
    with ExitStack() as held:
        for take in loaded:
            held.enter_context(session.lock(take.name))
        heads = _heads(session, loaded, model, config)
        folders = {take.name: _Folder.of(session, take.name, heads[take.name]) for take in loaded}
        results = {name: found for name, folder in folders.items() if (found := folder.load()) is not None}
        stale = [take for take in loaded if take.name not in results]
        if config.same_athlete:
            whose = {take.athlete for take in stale}
            stale = [take for take in loaded if take.athlete in whose]
        fresh = {take.name for take in stale}
        if stale and config.same_athlete:
            from twoview.reconstruction.triangulation import triangulate_takes

            lifter = _lifter(model, tuple(trust))
            if heads != _heads(session, loaded, model, config):
                raise SessionError("the model was replaced while it was loaded", hint="run the same command again")
            solved = triangulate_takes(stale, lifter, config=config, on_progress=on_progress)
            for take, result in zip(stale, solved, strict=True):
                folders[take.name].save(result, config.height_m or take.height_m)
                results[take.name] = result
        place = held.enter_context(open_place(workers, folder=session.folder))
        settings = _Settings(model, config, filter or FilterConfig(), world, tuple(formats), picture, tuple(trust))
        tasks = (
            Task(
                take.name,
                _finish if place is None else _finish_away,
                {"folder": folders[take.name], "settings": settings}
                | ({"take": take, "result": results.get(take.name)} if place is None else {"views": take.views}),
                needs=(session.folder, *(file.path for file in session.take(take.name).values() if file.path.exists())),
            )
            for take in loaded
        )
        for name, one in run_tasks(tasks, place, stage="triangulate", total=len(loaded), on_progress=on_progress):
            if isinstance(one, TwoViewError):
                bad.append((name, one))
                continue
            whole = one if isinstance(one, Triangulated) else folders[name].read(one, settings)
            made[name] = replace(whole, fresh=name in fresh)
    if config.height_m and made:
        remembered.keep(session.folder, height_m=config.height_m)
    if bad and failed is None:
        raise joined([error for _, error in bad])
    return [made[take.name] for take in loaded if take.name in made]


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


def _finish_away(
    folder: _Folder, settings: _Settings, views: Sequence[str], on_progress: OnProgress | None
) -> tuple[str, ...]:
    """The same in a worker, with all of it in files; the warnings."""
    (take,) = load_takes(folder.session, views)
    take = _with_height(folder.session, take)
    return _finish(folder, settings, take, folder.load(), on_progress).warnings


def _finish(
    folder: _Folder,
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
    of_athlete: dict[str, dict[str, dict[str, Any]]] = {}
    for take in takes:
        of_athlete.setdefault(take.athlete, {})[take.name] = own[take.name]
    heads = dict[str, dict[str, Any]]()
    for together in of_athlete.values():
        shared = {}
        if config.same_athlete and len(together) > 1:  # all of them shaped each solution
            shared["takes"] = hashlib.sha256(json_text(together).encode()).hexdigest()[:24]
        heads |= {name: {**inputs, **used, **shared} for name, inputs in together.items()}
    settings = {take.name: shaping(replace(config, height_m=config.height_m or take.height_m)) for take in takes}
    return {name: records.header(FORMAT, inputs=inputs, settings=settings[name]) for name, inputs in heads.items()}


@dataclass(eq=False)
class _Folder:
    """The folder of a take's two-view 3D.

    head  that of its solution while it is up to date; the other files have its inputs and settings
    made  name of a file without a header -> fingerprints of what it was made from, as `solved/made.json` says
    """

    session: Session
    take: str
    path: Path
    head: records.Header
    made: dict[str, str]

    @classmethod
    def of(cls, session: Session, take: str, head: records.Header) -> _Folder:
        """The folder of a take, as it is now."""
        path, made = session.take_folder(take) / "triangulated", dict[str, str]()
        with suppress(FormatError, AttributeError):
            record = path / SOLVED / "made.json"
            known = records.read_json(record)["made"] if record.exists() else {}
            made = {str(name): str(source) for name, source in known.items()}
        return cls(session.alone(take), take, path, head, made)

    @property
    def solution(self) -> Path:
        """The file of the whole solution."""
        return self.path / SOLVED / "triangulation.npz"

    def load(self) -> Triangulation | None:
        """The solution, if it is up to date and whole."""
        from twoview.reconstruction.triangulation_file import load_triangulation

        if not records.is_current(self.solution, self.head):
            return None
        with suppress(FormatError):
            return replace(load_triangulation(self.solution), take=self.take)  # it may have been renamed
        return None

    def read(self, warnings: tuple[str, ...], settings: _Settings) -> Triangulated:
        """What a worker made in this folder. Raises SessionError where it is not here."""
        result = self.load()
        if result is None:
            raise SessionError(f"{self.solution}, which a worker wrote, is not here", hint="run the same command again")
        poses = {view: records.load_as(self.path / f"{view}.npz", Poses3D) for view in result.views}
        files = self.files(result, settings.formats)
        return Triangulated(result, poses, self.path, files, fresh=True, warnings=warnings)

    def save(self, result: Triangulation, height_m: float) -> None:
        """Keep a solution; what was made of the one before goes all at once, since the files belong together."""
        from twoview.reconstruction.triangulation_file import save_triangulation

        remove_triangulated(self.session, self.take)
        save_triangulation(self.solution, result, self.head, height_m=height_m)

    def write_poses(self, result: Triangulation, filter: FilterConfig, world: WorldConfig) -> dict[str, Poses3D]:
        """Write those of the views' poses that are not up to date; all of them, filtered, with their world."""
        settings = {**self._settings(filter), "world": shaping(world)}
        wanted = records.header("poses3d", inputs=self.head["inputs"], settings=settings)
        worlds = two_view_worlds(result, level=world.level)
        poses = {
            view: replace(filter_poses(result.poses(view), filter), world=worlds.get(view)) for view in result.views
        }
        for view, own in poses.items():
            path = self.path / f"{view}.npz"
            if not _is_current(path, wanted):
                self._remove_formats(view)  # they would show other poses
                for ending in ("mp4", "png"):
                    if f"{view}.{ending}" in self.made:
                        records.remove(self.path / f"{view}.{ending}")
                for suffix in ANGLE_FILES:
                    records.remove(self.path / f"{view}{suffix}")
                records.remove(self.path / THE_PAGE)
                arrays = {
                    "reliable": result.reliable,
                    "swapped": result.swapped[view],
                }
                records.save(path, own, inputs=wanted["inputs"], settings=settings, arrays=arrays)
        return poses

    def write_all_joints(
        self,
        take: Take,
        result: Triangulation,
        poses: Mapping[str, Poses3D],
        *,
        filter: FilterConfig,
        config: TriangulateConfig,
        world: WorldConfig,
    ) -> dict[str, Poses3D]:
        """Write the poses with all joints of the detector where they are not up to date, if it gives more.

        poses  those of the lifter's joints, whose world is that of all

        Returns name in this folder, without a suffix -> poses.
        """
        from twoview.reconstruction.all_joints import all_joints, has_more

        if not has_more(take):
            return {}
        settings = {**self._settings(filter), "world": shaping(world)}
        wanted = records.header("poses3d", inputs=self.head["inputs"], settings=settings)
        paths = {view: self.path / ALL / f"{view}.npz" for view in result.views}
        stale = [view for view, path in paths.items() if not _is_current(path, wanted)]
        more = all_joints(take, result, config=config) if stale else None
        for view in stale if more is not None else ():
            assert more is not None
            own = replace(filter_poses(more.poses(view), filter), world=poses[view].world)
            self._remove_formats(f"{ALL}/{view}")
            arrays = {"reliable": result.reliable}
            records.save(paths[view], own, inputs=wanted["inputs"], settings=settings, arrays=arrays)
        return {f"{ALL}/{view}": records.load_as(path, Poses3D) for view, path in paths.items() if path.exists()}

    def _remove_formats(self, name: str) -> None:
        """Remove the files that were made from a name's poses, which are replaced; `write_formats` makes them again."""
        for known in [f"{name}.{ending}" for ending in FORMATS if f"{name}.{ending}" in self.made]:
            records.remove(self.path / known)
            self.made[known] = f"removed {self.made[known].partition(' ')[2]}"

    def _settings(self, filter: FilterConfig) -> dict[str, Any]:
        return {**self.head["settings"], **({"filter": shaping(filter)} if filter.is_on else {})}

    def write_cameras(self, result: Triangulation, height_m: float) -> None:
        """Write the cameras where they are not up to date; other tools' files only of cameras that stand still."""
        from twoview.reconstruction.solved_cameras import FORMAT, TOMLS, cameras_json

        path = self.path / SOLVED / "cameras.json"
        head = records.header(FORMAT, inputs=self.head["inputs"], settings=self.head["settings"])
        if not records.is_current(path, head):
            records.write_json(path, {**head, **cameras_json(result.cameras, height_m=height_m)})
        if any(camera.moves for camera in result.cameras.values()):
            return
        for tool, as_toml in TOMLS.items():
            path, content = self.path / SOLVED / f"{tool}.toml", as_toml(result.cameras).encode()
            if not path.exists() or path.read_bytes() != content:
                with records.atomic(path) as temporary:
                    temporary.write_bytes(content)

    def write_formats(self, poses: Mapping[str, Poses3D], formats: Sequence[str], world: WorldConfig) -> None:
        """Write the formats asked for, and again those that were there and were made from other poses.

        poses  name in this folder, without a suffix -> poses
        """
        for view, own in poses.items():
            fingerprint = records.fingerprint(self.path / f"{view}.npz")
            for format in (name for name in FORMATS if name != PAGE):
                name, file = f"{view}.{format}", self.path / f"{view}.{format}"
                made, _, known = self.made.get(name, "").partition(" ")
                if format not in formats and made in ("", fingerprint):
                    continue
                axes: Any = world.axes if format in formats else known or world.axes
                source = f"{fingerprint} {axes}"
                try:
                    write(own, file, format, axes=axes)
                except (FormatError, MissingBackend) as error:
                    records.remove(file)
                    self._record(name, None)
                    if format in formats:
                        raise
                    log.warning("%s was removed: it held other poses, and %s", file, error.message)
                else:
                    self._record(name, source)

    def draw(self, result: Triangulation, poses: Mapping[str, Poses3D], on_progress: OnProgress | None) -> list[str]:
        """Draw those of the pictures that are not up to date; sentences about those that cannot be drawn."""
        from twoview.visualization.overlay import contact_sheet, render

        missing = []
        for view, own in poses.items():
            file = self.session.take(self.take)[view]
            parts = [records.fingerprint(self.path / f"{view}.npz"), records.fingerprint(self.solution)]
            source = " ".join([*parts, file.fingerprint])
            for suffix in (".mp4", ".png"):
                name = f"{view}{suffix}"
                if self._is_current(name, source):
                    continue
                try:
                    video = present(file, view, self.take)
                    if suffix == ".mp4":
                        render(video, result.reprojected(view), own, self.path / name, on_progress=on_progress)
                    else:
                        contact_sheet(video, result.reprojected(view), own, self.path / name)
                except (SessionError, VideoError) as error:  # the 3D is as good without
                    missing.append(f"view {view} is not drawn: {error.message}")
                    break
                self._record(name, source)
        return missing

    def write_page(
        self, result: Triangulation, poses: Mapping[str, Poses3D], filter: FilterConfig, on_progress: OnProgress | None
    ) -> None:
        """Write the page of all views where it is not up to date; a video that is gone is not on it."""
        from twoview.visualization.viewer import ShownVideo, write_page

        files = self.session.take(self.take)
        parts = [records.fingerprint(self.path / f"{view}.npz") for view in poses]
        source = " ".join([*parts, records.fingerprint(self.solution), *(files[view].fingerprint for view in poses)])
        if self._is_current(THE_PAGE, source):
            return
        shown = []
        for view in result.views:
            with suppress(SessionError, VideoError):
                video, camera = present(files[view], view, self.take), result.cameras[view]
                shown.append(ShownVideo(view, video, camera.clock, result.reprojected(view), camera))
        placed = replace(filter_poses(result.placed(), filter), world=poses[result.views[0]].world)
        write_page(
            placed, self.path / THE_PAGE, videos=shown, sigma=result.sigma,
            title=f"{self.take}: 3D from {len(result.views)} views", notes=result.warnings, on_progress=on_progress,
        )  # fmt: skip
        self._record(THE_PAGE, source)

    def files(self, result: Triangulation, formats: Sequence[str]) -> dict[str, Path]:
        """Name -> file, of those that are there: poses, asked for formats, pictures, cameras."""
        from twoview.reconstruction.solved_cameras import TOMLS

        names = [THE_PAGE, *(f"{view}.npz" for view in result.views)]
        names += [f"{view}.{format}" for view in result.views for format in formats]
        names += [f"{view}{suffix}" for view in result.views for suffix in (".mp4", ".png")]
        names += [f"{ALL}/{view}.{ending}" for view in result.views for ending in ("npz", *formats)]
        names += [f"{SOLVED}/{name}" for name in ("cameras.json", *(f"{tool}.toml" for tool in TOMLS))]
        return {name: self.path / name for name in names if (self.path / name).exists()}

    def _is_current(self, name: str, source: str) -> bool:
        return self.made.get(name) == source and (self.path / name).exists()

    def _record(self, name: str, source: str | None) -> None:
        self.made = {key: value for key, value in self.made.items() if key != name}
        self.made |= {} if source is None else {name: source}
        head = records.header("made", inputs=self.head["inputs"])
        records.write_json(self.path / SOLVED / "made.json", {**head, "made": dict(sorted(self.made.items()))})


def _is_current(path: Path, wanted: records.Header) -> bool:
    """Whether a file of poses is up to date and whole."""
    if records.is_current(path, wanted):
        with suppress(FormatError):
            records.load(path)
            return True
    return False
