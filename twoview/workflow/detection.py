"""The athlete in the views of a session, file to files: detected or imported, agreed between views, kept, written."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from twoview.config import DetectConfig, shaping
from twoview.errors import FormatError, SessionError
from twoview.poses import Poses2D
from twoview.progress import OnProgress
from twoview.storage import records
from twoview.timeline import Sync


@dataclass(frozen=True)
class ViewPoses:
    """The athlete in one view of a take; fresh: detected, chosen or imported now, not loaded."""

    take: str
    view: str
    poses: Poses2D
    fresh: bool


@dataclass(frozen=True)
class View:
    """One video of a take, and the file of its detections, whose header names the inputs and settings."""

    take: str
    name: str
    video: Path
    path: Path
    head: records.Header

    @classmethod
    def of(cls, take: str, name: str, video: Path, path: Path, *, fingerprint: str, config: DetectConfig) -> View:
        """The view whose detections these settings make of the video with that fingerprint."""
        head = records.header("poses2d", inputs={"video": fingerprint}, settings=shaping(config))
        return cls(take, name, video, path, head)

    @property
    def people_path(self) -> Path:
        """The file with everyone's tracks: resumed from, and chosen from again for another person."""
        return self.path.with_suffix(".people.npz")

    @property
    def label(self) -> str:
        """Take and view, for people to read."""
        return f"{self.take}/{self.name}" if self.take else self.name

    def is_current(self, *, choose_again: bool = False, detect_again: bool = False) -> bool:
        """Whether the file holds what would be made now.

        A person chosen by hand and another tool's detections are kept, unless they are to be chosen or detected again.
        """
        if records.is_current(self.path, self.head):
            return True
        if imported_from(self.path) and not detect_again:
            return bool(records.read_header(self.path)["inputs"] == self.head["inputs"])
        if choose_again or self.head["settings"].get("person") is not None:
            return False
        settings = {**self.head["settings"], "person": _settings_in(self.path).get("person")}
        return records.is_current(self.path, {**self.head, "settings": settings})

    def save(self, poses: Poses2D) -> Poses2D:
        """Keep poses under the view's name, and make again or remove what was made of the poses before.

        Raises SessionError if the video is not the one any more that the poses are to be of.
        """
        if poses.source.video and poses.source.video != self.head["inputs"]["video"]:
            self.people_path.unlink(missing_ok=True)
            raise SessionError(
                f"{self.video} changed while it was detected",
                hint="run the same command when the file is written completely; for a take, run twoview sync before",
            )
        poses, tools = replace(poses, view=self.name), _tools_beside(self.path)
        source = Path(self.head["settings"].get("imported", ""))
        for target in (_target(self.path, tool) for tool in tools):
            if target.is_dir():
                shutil.rmtree(target)
            elif not (target.exists() and source.exists() and target.samefile(source)):
                target.unlink(missing_ok=True)
        if self.take:
            shutil.rmtree(self.path.parents[1] / "triangulated", ignore_errors=True)
        records.save(self.path, poses, inputs=self.head["inputs"], settings=self.head["settings"])
        write_formats(poses, self.path, tools)
        return poses


ANEW = {"choose_again": True, "detect_again": True}  # where the settings alone say who the athlete is


def imported_from(path: Path) -> str:
    """The file of another tool that the detections in a view's file were imported from; "" where there is none."""
    return str(_settings_in(path).get("imported", ""))


def _settings_in(path: Path) -> Mapping[str, Any]:
    """The settings in a file's header; {} where there is no such file, or it is damaged."""
    try:
        return cast(Mapping[str, Any], records.read_header(path)["settings"])
    except FormatError:
        return {}


def detect_missing(
    views: Sequence[View],
    *,
    config: DetectConfig,
    syncs: Mapping[str, Sync],
    jobs: int = 1,
    choose_again: bool = False,
    detect_again: bool = False,
    on_progress: OnProgress | None = None,
) -> Iterator[ViewPoses]:
    """The athlete in every view, take after take as they are done; what is up to date is only loaded.

    syncs         take -> how its clocks relate, where that is known: there the views choose the athlete together
    choose_again  also where a person was chosen by hand before
    detect_again  also where another tool's detections were imported before
    """
    from twoview.detection.pipeline import detect_many

    _check_person(views, config.person, detect_again=detect_again)
    takes: dict[str, list[View]] = {}
    for view in views:
        takes.setdefault(view.take, []).append(view)
    again = {"choose_again": choose_again, "detect_again": detect_again}
    todo = {view.label: view for view in views if not view.is_current(**again)}
    made: dict[str, Poses2D] = {}

    def finished(take: str) -> Iterator[ViewPoses]:
        """The views of a take, once none of them is waited for."""
        if any(view.label in todo and view.label not in made for view in takes[take]):
            return
        own = takes.pop(take)
        if any(view.label in made for view in own) and config.person is None and take in syncs:
            made.update(_choose_together(own, made, syncs[take], config))
        for view in own:
            fresh = view.label in made
            poses = made[view.label] if fresh else records.load_as(view.path, Poses2D)
            yield ViewPoses(take, view.name, poses, fresh)

    for take in list(takes):
        yield from finished(take)
    videos = {label: view.video for label, view in todo.items()}
    partials = {label: view.people_path for label, view in todo.items()}
    for label, poses in detect_many(videos, config=config, partials=partials, jobs=jobs, on_progress=on_progress):
        made[label] = todo[label].save(poses)
        yield from finished(todo[label].take)


def detect_alone(view: View, *, config: DetectConfig, on_progress: OnProgress | None = None) -> Poses2D:
    """The athlete in a video that belongs to no take, by the settings alone; loaded where that is up to date."""
    return next(detect_missing([view], config=config, syncs={}, on_progress=on_progress, **ANEW)).poses


def _check_person(views: Sequence[View], person: int | None, *, detect_again: bool) -> None:
    """Raises SessionError for a person's number that is not one of exactly one video's detected people."""
    if person is None or not views:
        return
    one = f"twoview detect --take {views[0].take} --views {views[0].name} --person {person}"
    if len(views) > 1:
        raise SessionError(
            f"person {person} is a track of one video, and {len(views)} were asked for: "
            + ", ".join(view.label for view in views),
            hint=f"name one: {one}\n"
            "and leave `person` out of a config file for several videos: a person chosen by hand is kept",
        )
    source = imported_from(views[0].path)
    if source and not detect_again:
        raise SessionError(
            f"{views[0].label} holds detections imported from {source}, and only that file knows person {person}",
            hint=f"{one} --from {source}\nor, to detect here: {one} --detector movenet",
        )


def _choose_together(
    views: Sequence[View], made: Mapping[str, Poses2D], sync: Sync, config: DetectConfig
) -> dict[str, Poses2D]:
    """Label -> poses, of the views of a take in which all views together choose another athlete than each alone."""
    from twoview.detection.pipeline import agreed_athletes, detect

    able = {view.name: view for view in views if view.people_path.exists() and view.name in sync.clocks}
    videos = {name: view.video for name, view in able.items()}
    athletes = agreed_athletes(videos, sync, {name: view.people_path for name, view in able.items()})
    chosen = {}
    for name, track in athletes.items():
        view = able[name]
        by_hand = view.path.exists() and not records.is_current(view.path, view.head)
        if view.label in made or not by_hand:
            poses = detect(view.video, config=replace(config, person=track), view=name, partial=view.people_path)
            chosen[view.label] = view.save(poses)
    return chosen


def import_views(source: str, views: Sequence[View], *, config: DetectConfig) -> Iterator[ViewPoses]:
    """Other tools' detections of the views, see `other_tools.import_poses`.

    source  a file or folder; {take} and {view} in it stand for their names, where there are several videos
    """
    from twoview.detection.other_tools import import_poses

    paths = {view.label: Path(source.replace("{take}", view.take).replace("{view}", view.name)) for view in views}
    if len(set(paths.values())) < len(paths):
        raise SessionError(
            f"{source} holds the detections of one video, and {len(paths)} were asked for: {', '.join(paths)}",
            hint=f"name one with --take {views[0].take} --views {views[0].name}, or the path as {{take}}_{{view}}.json",
        )
    for view in views:
        path = paths[view.label]
        poses = import_poses(path, view.video, config=config, view=view.name)
        settings = {**view.head["settings"], "detector": poses.source.made_by, "imported": str(path)}
        saved = replace(view, head={**view.head, "settings": settings}).save(poses)
        yield ViewPoses(view.take, view.name, saved, fresh=True)


def check_formats(tools: Sequence[str]) -> Sequence[str]:
    """The same formats, if all of them can be written. Raises FormatError otherwise, before anything is computed."""
    from twoview.detection.other_tools import check_tool

    for tool in tools:
        check_tool(tool)
    return tools


def write_formats(poses: Poses2D, path: Path, tools: Iterable[str]) -> list[Path]:
    """Write the poses of a view in other tools' formats, beside its own file `path`; the files or folders written."""
    from twoview.detection.other_tools import write_detections

    written, known = [], _tools_beside(path)
    for tool in tools:
        target = _target(path, tool)
        write_detections(poses, target, tool)
        written.append(target)
        if tool not in known:
            known.append(tool)
            records.write_json(_record(path), {**records.header("formats"), "made": known})
    return written


def _target(path: Path, tool: str) -> Path:
    """The file, or folder, of a view's poses in another tool's format."""
    from twoview.detection.other_tools import SUFFIXES

    return path.with_name(f"{path.stem}_{tool}{SUFFIXES.get(tool, '')}")


def _record(path: Path) -> Path:
    return path.with_suffix(".formats.json")


def _tools_beside(path: Path) -> list[str]:
    """The tools in whose formats a view's poses were written beside them; files of others are not ours."""
    from twoview.detection.other_tools import SUFFIXES

    with suppress(FormatError, TypeError):
        made = records.read_json(_record(path)).get("made", ()) if _record(path).exists() else ()
        return [tool for tool in SUFFIXES if tool in made]
    return []
