"""One video from one view, file to files: detect, lift, save, draw. Nothing here knows about a second view."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twoview.biomechanics.events import travelled
from twoview.biomechanics.filtering import filter_poses
from twoview.biomechanics.ground import KnownCamera
from twoview.biomechanics.world import one_view_world
from twoview.config import DetectConfig, FilterConfig, InferConfig, WorldConfig, shaping
from twoview.detectors import AUTO
from twoview.errors import FormatError, MissingBackend, SessionError, StorageError
from twoview.formats import FORMATS, axes_note, check, notes, write
from twoview.poses import Poses2D, Poses3D
from twoview.progress import OnProgress
from twoview.skeleton import STATURE_M
from twoview.storage import records
from twoview.storage.locks import locked
from twoview.storage.regular import real_path, regular_file
from twoview.storage.session import Session, open_session
from twoview.workflow import remembered
from twoview.workflow.detection import ANEW, Athlete, View, detect_alone
from twoview.workflow.known_cameras import known_camera
from twoview.workflow.result_names import beside, owner

if TYPE_CHECKING:
    from twoview.lifting.model import Model

log = logging.getLogger(__name__)

PAGE = "html"  # the format that shows the video too, and is made with the pictures
PICTURES = {".mp4": "overlay", ".png": "contact sheet", f".{PAGE}": "page"}
ANGLE_FILES = (".angles.csv", ".angles.mot", ".angles.png")  # of `twoview angles`, beside a result
Load = Callable[[Path | str], "Model"]
NEW = 0.2  # share of a video answered by the unadapted lifter from which on a person is warned


@dataclass(frozen=True)
class Inferred:
    """What `infer_file` made: the poses (and another model's, if asked for), and the files that hold and show them.

    fresh     computed now, not loaded
    warnings  plain sentences for the person who will rely on the poses
    athlete   how the athlete was chosen; None where poses were given
    people    picture of the people seen, with their numbers; None where poses were given
    """

    poses: Poses3D
    before: Poses3D | None
    detections: Poses2D
    files: Mapping[str, Path]
    fresh: bool
    warnings: tuple[str, ...] = ()
    athlete: Athlete | None = None
    people: Path | None = None

    def summary(self) -> dict[str, Any]:
        """What the result is, and its files, for a JSON file."""
        poses = self.poses
        return {
            "frames": len(poses),
            "start_s": float(poses.time[0]) if len(poses) else None,
            "end_s": float(poses.time[-1]) if len(poses) else None,
            "unit": poses.unit,
            "filter": poses.filter,
            "up_sigma_deg": None if poses.world is None else poses.world.up_sigma_deg,
            "travelled_m": travelled(poses),
            "fresh": self.fresh,
            "athlete": asdict(self.athlete) if self.athlete else None,
            "files": {name: str(path) for name, path in self.files.items()},
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class _Lifting:
    """One model's 3D of a video: the file that keeps it, and the header that this file has while it is up to date."""

    model: Path | str
    path: Path
    head: records.Header

    def is_current(self) -> bool:
        """Whether the file holds what would be made now."""
        return records.is_current(self.path, self.head)

    def save(self, poses: Poses3D) -> None:
        """Keep the result."""
        records.save(self.path, poses, inputs=self.head["inputs"], settings=self.head["settings"])

    def load(self) -> Poses3D:
        """The result that is kept."""
        return records.load_as(self.path, Poses3D)


def infer_file(
    source: Path,
    model: Path | str,
    out: Path,
    *,
    load: Load | None = None,
    on_progress: OnProgress | None = None,
    **more: Any,
) -> Inferred:
    """3D from one view: a video (detected first) or saved Poses2D; writes poses, the formats asked for, pictures.

    load     loads a model by name or file, for results of several videos; default: `load_model`, anew
    more     what `to_infer` takes: settings, formats, session

    What is up to date is only loaded; models are loaded before the video is detected, and only where they are needed.
    """
    with to_infer(source, model, out, **more) as wanted:
        result = wanted.infer(load, on_progress)
    wanted.remember()
    return result


@dataclass(frozen=True)
class ToInfer:
    """What `infer_file` was asked for, with nothing left open: any worker makes the same of it.

    given  file of the athlete's detections in the video, which is then not detected
    height_m  what a person named, and the session is to remember; 0: nothing
    camera  what the session's takes know of the video's camera, and where that is kept
    """

    source: Path
    model: Path | str
    out: Path
    config: InferConfig
    detect_config: DetectConfig
    filter: FilterConfig
    world: WorldConfig
    formats: tuple[str, ...]
    picture: bool
    compare: Path | str | None
    session: Path | None
    given: Path | None
    trust: tuple[str, ...]
    height_m: float
    camera: tuple[KnownCamera, Path] | None

    def infer(self, load: Load | None = None, on_progress: OnProgress | None = None) -> Inferred:
        """The results, whose files somebody must have locked; see `infer_file`."""
        return _infer_alone(self, load or loader(self.config, self.trust), on_progress)

    def read(self, written: Written) -> Inferred:
        """The results that a worker wrote."""
        path, flat = beside(self.out, ".npz"), self.source.suffix == ".npz"
        before = None if self.compare is None else records.load_as(beside(self.out, ".before.npz"), Poses3D)
        detections = records.load_as(self.source if flat else beside(self.out, ".2d.npz"), Poses2D)
        return Inferred(records.load_as(path, Poses3D), before, detections, **vars(written))

    def remember(self) -> None:
        """Have the session remember the detector and the height, where it does not know them."""
        if self.session is None:
            return
        known, used = remembered.recall(self.session), self.detect_config.detector
        if not known.detector and isinstance(used, str) and self.source.suffix != ".npz" and self.given is None:
            remembered.keep(self.session, detector=used)
        if not known.height_m and self.height_m:
            remembered.keep(self.session, height_m=self.height_m)


@contextmanager
def to_infer(
    source: Path,
    model: Path | str,
    out: Path,
    *,
    config: InferConfig | None = None,
    detect_config: DetectConfig | None = None,
    filter: FilterConfig | None = None,
    world: WorldConfig | None = None,
    formats: Sequence[str] = (),
    picture: bool = True,
    compare: Path | str | None = None,
    session: Session | Path | str | None = None,
    detections: Path | None = None,
    athlete: str | None = None,
    force: bool = True,
    trust: Collection[str] = (),
) -> Iterator[ToInfer]:
    """What `infer_file` is to do, with what the session remembers; its results are locked during the block.

    out      path without suffix (.npz is taken off); files are `<out>.npz`, `<out>.<format>`, `<out>.mp4`, `<out>.png`
    filter   smoothing of the poses before they are written, off by default
    world    axes of the formats, and what is known of up
    compare  another model, drawn beside; its poses are in `<out>.before.npz`
    session  a session, or its folder, that remembers the detector and the athlete's height, where none is named; its
             takes have the detections of their own videos, and where they are triangulated the cameras
    detections  file of the athlete's Poses2D in the video, to be lifted instead of detecting the athlete again
    athlete  name of the one whose height the session's takes say, where `config` names none; default: whom the take
             shows whose view the video is
    force    replace files that lie there and are no results of this video
    trust    names of lifters that are no part of twoview and may run, see `load_model`
    """
    out = out.with_suffix("") if out.suffix == ".npz" else out
    config, detect_config = config or InferConfig(), detect_config or DetectConfig()
    store = session if isinstance(session, Session) or session is None else open_session(session, create=True)
    folder, given = None if store is None else store.folder, config.height_m
    if store is not None and not given:
        mark = records.fingerprint(source)
        own = remembered.height_in(store, mark) if athlete is None else remembered.height_of(store, athlete)
        config = replace(config, height_m=own) if own else remembered.with_height(store.folder, config)
    check(formats, unit="m" if config.height_m else "screen")
    found = detect_config if folder is None else remembered.with_detector(folder, detect_config)
    with locked(out.with_name(f".{out.name}.lock"), f"the results {out}"):
        if not force:
            drawn = PICTURES if picture and source.suffix != ".npz" else ()
            _keep_others(source, out, [".npz", *drawn, *(f".{name}" for name in formats)])
        if source.suffix != ".npz" and detections is None:
            earlier = beside(out, ".2d.npz")
            found = remembered.with_earlier(found, earlier)
            detections = _of_take(store, source, found, detect_again=detect_config.detector != AUTO)
            current = detections or _view(source, records.fingerprint(source), out, found).is_current(**ANEW)
            where = folder if folder is not None else earlier
            detect_config = found if current else remembered.decided(found, detect_config, where, trust=trust)
        yield ToInfer(
            source, model, out, config, detect_config, filter or FilterConfig(), world or WorldConfig(),
            tuple(formats), picture, compare, folder, detections, tuple(trust), given,
            _camera(store, records.fingerprint(source), world.camera if world else ""),
        )  # fmt: skip


def _of_take(session: Session | None, video: Path, config: DetectConfig, *, detect_again: bool) -> Path | None:
    """The detections of a video that is a view of a take, where they are what these settings make.

    detect_again  leave out what another tool detected
    """
    if session is None:
        return None
    fingerprint = records.fingerprint(video)
    for take, name in session.views_of(fingerprint):
        path = session.detection_path(take, name)
        view = View.of(take, name, video, path, fingerprint=fingerprint, config=config)
        if view.is_current(detect_again=detect_again):
            return path
    return None


def _keep_others(source: Path, out: Path, suffixes: Sequence[str]) -> None:
    """Raise FormatError if a file would be replaced that is no result of the source, and not the source itself."""
    if not source.is_file() or owner(out) == records.fingerprint(source):
        return
    places = [beside(out, suffix) for suffix in dict.fromkeys(suffixes)]
    there = [path.name for path in places if path.exists() and real_path(path) != real_path(source)]
    if there:
        raise FormatError(
            f"{out.parent} holds {', '.join(there)}, and not from {source}",
            hint="another name with --out, or replace what is there: --force",
        )


def _infer_alone(wanted: ToInfer, load: Load, on_progress: OnProgress | None) -> Inferred:
    source, model, out, config, world = wanted.source, wanted.model, wanted.out, wanted.config, wanted.world
    filter, formats, picture, compare = wanted.filter, wanted.formats, wanted.picture, wanted.compare
    camera, given, detect_config = wanted.camera, wanted.given, wanted.detect_config
    path, other = beside(out, ".npz"), beside(out, ".before.npz")
    written = [path, beside(out, ".mp4")] if picture else [path]
    if real_path(source) in map(real_path, written):
        raise FormatError(f"the results would be written over {source}", hint=f"another name: --out {out.name}_3d")
    for place in (path, other):
        if os.path.lexists(place):  # by a folder in its place nothing could be replaced once the rest is removed
            regular_file(place, StorageError)
    fingerprint = records.fingerprint(source)
    view = None if source.suffix == ".npz" else _view(source, fingerprint, out, detect_config)
    detections = source if view is None else view.path
    if view is not None and given is not None and not _same(given, view.path):
        with records.atomic(view.path) as temporary:
            shutil.copyfile(given, temporary)
    files = {path: model} if compare is None else {path: model, other: compare}
    settings = shaping(config) | ({"filter": shaping(filter)} if filter.is_on else {}) | {"world": shaping(world)}
    solved = {} if camera is None else {"camera": records.fingerprint(camera[1])}
    marks = {path: _mark(model) for path, model in files.items()}

    def lifted() -> list[_Lifting]:
        known = {"clip": fingerprint, "poses2d": records.fingerprint(detections), **solved}
        heads = (records.header("poses3d", inputs={**known, "model": marks[path]}, settings=settings) for path in files)
        return [_Lifting(*one) for one in zip(files.values(), files, heads, strict=True)]

    detected = view is None or given is not None or view.is_current(**ANEW)
    stale = [one for one in lifted() if not one.is_current()] if detected else None
    models = [load(one) for one in ([one.model for one in stale] if stale is not None else files.values())]
    if any(_mark(model) != marks[path] for path, model in files.items()):
        raise SessionError("a model was replaced while it was loaded", hint="run the same command again")
    if view is None:
        poses2d, athlete = records.load_as(source, Poses2D), None
    elif given is not None:
        poses2d, athlete = records.load_as(view.path, Poses2D), view.athlete()
    else:
        seen = detect_alone(view, config=detect_config, on_progress=on_progress)
        poses2d, athlete = seen.poses, seen.athlete
    stale = lifted() if stale is None else stale
    derived = _Derived.of(out, fingerprint)
    if stale:
        from twoview.lifting.inference import infer

        lifts = (infer(poses2d, loaded, config=config, on_progress=on_progress) for loaded in models)
        known = None if camera is None else camera[0]
        made = [filter_poses(_placed(one, poses2d, config, world, known), filter) for one in lifts]
        derived.remove()  # before what they were made from is replaced, so that a kill leaves nothing that does not fit
        for one, poses in zip(stale, made, strict=True):
            one.save(poses)
    poses, before = lifted()[0].load(), None if compare is None else lifted()[1].load()
    fresh = bool(stale)
    if compare is None and other.exists():  # the pictures show a comparison that nobody asks for any more
        records.remove(other)
        fresh = True
    asked = {"poses": path} | {format: beside(out, f".{format}") for format in formats if format != PAGE}
    drawn = {".mp4", ".png", f".{PAGE}"} if picture and view is not None else {f".{name}" for name in formats}
    asked |= {key: beside(out, suffix) for suffix, key in PICTURES.items() if suffix in drawn}
    axes: Any = world.axes
    said = (*warnings(poses), *axes_note(poses, formats, axes), *notes(poses, formats))
    people = None if view is None else (view.path if given is None else given).with_suffix(".people.png")
    found = Inferred(poses, before, poses2d, asked, fresh, said, athlete, people)
    derived.write_formats(found, formats, world)
    derived.draw(source, found, [detections, *files], on_progress)
    return found


def _camera(session: Session | None, fingerprint: str, named: str) -> tuple[KnownCamera, Path] | None:
    """What the session's takes tell about the camera of a file, and where it is kept."""
    if session is None or not session.takes:
        if named:
            raise SessionError(f"there is no session that knows view {named}", hint="--session FOLDER")
        return None
    return known_camera(session, fingerprint=fingerprint, named=named)


def _placed(
    poses: Poses3D, seen: Poses2D, config: InferConfig, world: WorldConfig, known: KnownCamera | None
) -> Poses3D:
    """The poses with their world; where no height is known, that of a body of common size."""
    from twoview.lifting.inference import in_meters

    metric = poses if poses.unit == "m" else in_meters(poses, STATURE_M)
    found = one_view_world(metric, seen, focal_px=config.focal, level=world.level, known=known)
    return replace(poses, world=found)


def warnings(poses: Poses3D) -> tuple[str, ...]:
    """Plain sentences for the person who will rely on poses from one view."""
    lifted = np.isfinite(poses.xyz).all(axis=(1, 2))
    if poses.adapted_share is None or not lifted.any():
        return ()
    new = 1 - float(poses.adapted_share[lifted].mean())
    if new < NEW:
        return ()
    return (
        f"{new:.0%} of this video shows movements that the takes do not: the unadapted lifter answers there, and "
        "adaptation changes nothing",
    )


def _view(video: Path, fingerprint: str, out: Path, config: DetectConfig) -> View:
    """The video as a view of no take, whose detections are kept beside the results."""
    return View.of("", video.stem, video, beside(out, ".2d.npz"), fingerprint=fingerprint, config=config)


def _mark(model: Path | str) -> str:
    """What a result's header says of its model: the name, or the fingerprint of the file."""
    return model if isinstance(model, str) and not os.path.exists(model) else records.fingerprint(model)


@dataclass(frozen=True)
class Written:
    """What a worker says of the results that it wrote; the fields are those of `Inferred`."""

    files: Mapping[str, Path]
    fresh: bool
    warnings: tuple[str, ...]
    athlete: Athlete | None
    people: Path | None


def infer_away(wanted: ToInfer, on_progress: OnProgress | None = None) -> Written:
    """Make the results in a worker, which keeps the model for its next task."""
    made = wanted.infer(_kept_loader(wanted.config, wanted.trust), on_progress)
    return Written(made.files, made.fresh, made.warnings, made.athlete, made.people)


@lru_cache(maxsize=1)
def _kept_loader(config: InferConfig, trust: tuple[str, ...]) -> Load:
    return loader(config, trust)


def loader(config: InferConfig, trust: Collection[str] = ()) -> Load:
    """What loads models for these settings, every one when it is asked for and once."""
    kept: dict[str, Model] = {}

    def load(model: Path | str) -> Model:
        from twoview.lifting.model import load_model

        mark = _mark(model)
        if mark not in kept:
            kept[mark] = load_model(model, device=config.device, trust=trust)
        return kept[mark]

    return load


def _same(one: Path, other: Path) -> bool:
    """Whether two files hold the same."""
    return other.exists() and records.fingerprint(one) == records.fingerprint(other)


@dataclass(eq=False)
class _Derived:
    """The files beside a result that show it to people and other programs, and which poses each was made from.

    path  of the record, `<out>.result.json`
    made  suffix -> fingerprints of what the file was made from; other files are not ours: one may be the video
    """

    out: Path
    path: Path
    content: dict[str, Any]
    made: dict[str, str]

    @classmethod
    def of(cls, out: Path, clip: str) -> _Derived:
        """The files beside a result of the clip with that fingerprint."""
        path, content = beside(out, ".result.json"), dict[str, Any]()
        with suppress(FormatError):
            content = records.read_json(path) if path.exists() else {}
        known = content.get("made")
        ours = (*(f".{format}" for format in FORMATS), *PICTURES, *ANGLE_FILES)
        made = {key: str(known[key]) for key in ours if key in known} if isinstance(known, dict) else {}
        whole = {**content, **records.header("result", inputs={"clip": clip})}
        return cls(out, path, whole, made)

    def remove(self) -> None:
        """Remove the files beside the result that were made here; `made` still knows which there were."""
        for suffix in self.made:
            records.remove(beside(self.out, suffix))
        for suffix in ANGLE_FILES:  # nothing here makes these again
            self._record(suffix, None)

    def write_formats(self, found: Inferred, formats: Sequence[str], world: WorldConfig) -> None:
        """Write the formats asked for, and again those that were there and were made from other poses."""
        fingerprint = records.fingerprint(found.files["poses"])
        for format in (name for name in FORMATS if name != PAGE):
            suffix = f".{format}"
            file = beside(self.out, suffix)
            made, _, known = self.made.get(suffix, "").partition(" ")
            if format in formats or made not in ("", fingerprint):
                axes: Any = world.axes if format in formats else known or world.axes
                source = f"{fingerprint} {axes}"
                try:
                    write(found.poses, file, format, axes=axes)
                except (FormatError, MissingBackend) as error:
                    records.remove(file)  # it would show poses that are gone
                    self._record(suffix, None)
                    if format in formats:
                        raise
                    log.warning("%s was removed: it held other poses, and %s", file, error.message)
                else:
                    self._record(suffix, source)

    def draw(self, video: Path, found: Inferred, sources: Sequence[Path], on_progress: OnProgress | None) -> None:
        """Draw those of the pictures in `found.files` that are missing or show other poses; remove others that do."""
        source = " ".join(map(records.fingerprint, sources))
        wanted = {suffix: found.files.get(key) for suffix, key in PICTURES.items()}
        for suffix, file in wanted.items():
            current = self.made.get(suffix) == source and beside(self.out, suffix).exists()
            if file is None and suffix in self.made and not current:
                records.remove(beside(self.out, suffix))
                self._record(suffix, None)
            elif file is not None and not current:
                from twoview.visualization.overlay import contact_sheet, render

                if suffix == ".mp4":
                    render(video, found.detections, found.poses, file, before=found.before, on_progress=on_progress)
                elif suffix == f".{PAGE}":
                    self._write_page(video, found, file, on_progress)
                else:
                    contact_sheet(video, found.detections, found.poses, file, before=found.before)
                self._record(suffix, source)

    def _write_page(self, video: Path, found: Inferred, file: Path, on_progress: OnProgress | None) -> None:
        from twoview.visualization.viewer import ShownVideo, write_page

        shown = [ShownVideo(video.name, video, poses=found.detections)] if video.suffix != ".npz" else []
        write_page(
            found.poses, file, before=found.before, videos=shown, title=self.out.name, notes=found.warnings,
            on_progress=on_progress,
        )  # fmt: skip

    def _record(self, suffix: str, source: str | None) -> None:
        if source is None and suffix not in self.made:
            return
        self.made = {key: value for key, value in self.made.items() if key != suffix}
        self.made |= {} if source is None else {suffix: source}
        records.write_json(self.path, {**self.content, "made": self.made})


def remember_beside(source: Path, suffixes: Sequence[str]) -> None:
    """Note files that were made from a result of `infer`, so that they are removed once it changes.

    source  the result's `.npz`; nothing is noted of poses that have another origin
    """
    inputs = records.read_header(source)["inputs"]
    if isinstance(inputs.get("clip"), str):
        out = source.with_suffix("")
        with locked(out.with_name(f".{out.name}.lock"), f"the results {out}"):
            derived, mark = _Derived.of(out, inputs["clip"]), records.fingerprint(source)
            for suffix in suffixes:
                derived._record(suffix, mark)
