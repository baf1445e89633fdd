"""The athlete in the views of a session, file to files: detected or imported, settled between views, kept, exported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from twoview.config import DetectConfig
from twoview.errors import FormatError, SessionError
from twoview.poses import Poses2D
from twoview.progress import OnProgress
from twoview.storage import records
from twoview.timeline import Sync

Found = tuple[str, str, Poses2D, bool]  # take, view, poses, whether they were made now


@dataclass(frozen=True)
class View:
    """One video of a take, and the file that its detections go to, which says in its header what they were made of."""

    take: str
    name: str
    video: Path
    path: Path
    head: records.Header

    @property
    def everyone(self) -> Path:
        """The file with all tracks: resumed from, and chosen from again with another person."""
        return self.path.with_suffix(".people.npz")

    @property
    def label(self) -> str:
        """Take and view, for people to read."""
        return f"{self.take}/{self.name}"

    def is_kept(self, *, choose_again: bool = False, detect_again: bool = False) -> bool:
        """Whether the file holds what would be made now.

        A person that was picked by hand stays picked, and what another tool detected stays, unless that is undone.
        """
        if records.is_current(self.path, self.head):
            return True
        if brought_from(self.path) and not detect_again:
            return records.read_header(self.path)["inputs"] == self.head["inputs"]
        if choose_again or self.head["settings"].get("person") is not None or not self.path.exists():
            return False
        return records.is_current(self.path, self._with_person())

    def is_picked(self) -> bool:
        """Whether the person in the file was picked by hand."""
        return self.path.exists() and not records.is_current(self.path, self.head)

    def _with_person(self) -> records.Header:
        try:
            picked = records.read_header(self.path)["settings"].get("person")
        except FormatError:
            picked = None
        return {**self.head, "settings": {**self.head["settings"], "person": picked}}

    def save(self, poses: Poses2D) -> Poses2D:
        """Keep poses under the view's name."""
        poses = replace(poses, view=self.name)
        records.save(self.path, poses, inputs=self.head["inputs"], settings=self.head["settings"])
        return poses


def brought_from(path: Path) -> str:
    """Where another tool's detections in a view's file came from; empty where they were made here, or are not there."""
    try:
        return str(records.read_header(path)["settings"].get("imported", "")) if path.exists() else ""
    except FormatError:
        return ""


def find(
    views: Sequence[View],
    *,
    config: DetectConfig,
    syncs: Mapping[str, Sync],
    jobs: int = 1,
    choose_again: bool = False,
    detect_again: bool = False,
    on_progress: OnProgress | None = None,
) -> Iterator[Found]:
    """The athlete in every view, take after take as they are done; what is up to date is only loaded.

    syncs         take -> how its clocks relate, where that is known: there the views settle together who it is
    choose_again  also where a person was picked by hand before
    detect_again  also where another tool's detections were brought before
    """
    from twoview.detection.pipeline import detect_many

    if config.person is not None and len(views) > 1:
        raise SessionError(
            f"person {config.person} is a track of one video, and {len(views)} were asked for: "
            + ", ".join(view.label for view in views),
            hint=f"name one: twoview detect --take {views[0].take} --views {views[0].name} --person {config.person}\n"
            "and leave `person` out of a config file for several videos: a person that was picked stays picked",
        )
    brought = brought_from(views[0].path) if len(views) == 1 and config.person is not None else ""
    if brought and not detect_again:
        same = f"twoview detect --take {views[0].take} --views {views[0].name} --person {config.person}"
        raise SessionError(
            f"{views[0].label} holds detections from {brought}, whose person {config.person} only that file knows",
            hint=f"{same} --from {brought}\nor, to detect here: {same} --detector movenet",
        )
    takes: dict[str, list[View]] = {}
    for view in views:
        takes.setdefault(view.take, []).append(view)
    todo = {
        view.label: view for view in views if not view.is_kept(choose_again=choose_again, detect_again=detect_again)
    }
    made: dict[str, Poses2D] = {}

    def done(take: str) -> Iterator[Found]:
        waiting = any(view.label in todo and view.label not in made for view in takes[take])
        if not waiting:
            own = takes.pop(take)
            if any(view.label in made for view in own) and config.person is None and take in syncs:
                made.update(_settled(own, made, syncs[take], config))
            for view in own:
                fresh = view.label in made
                yield take, view.name, made[view.label] if fresh else records.load_as(view.path, Poses2D), fresh

    for take in list(takes):
        yield from done(take)
    videos = {label: view.video for label, view in todo.items()}
    kept = {label: view.everyone for label, view in todo.items()}
    for label, poses in detect_many(videos, config=config, partials=kept, jobs=jobs, on_progress=on_progress):
        made[label] = todo[label].save(poses)
        yield from done(todo[label].take)


def _settled(own: Sequence[View], made: Mapping[str, Poses2D], sync: Sync, config: DetectConfig) -> dict[str, Poses2D]:
    """Label -> poses, of the views of a take in which the views together see another athlete than each alone."""
    from twoview.detection.pipeline import detect, settle

    able = {view.name: view for view in own if view.everyone.exists() and view.name in sync.clocks}
    videos = {name: view.video for name, view in able.items()}
    together = settle(videos, sync, {name: view.everyone for name, view in able.items()})
    found = {}
    for name, track in together.items():
        view = able[name]
        if view.label in made or not view.is_picked():
            chosen = replace(config, person=track)
            found[view.label] = view.save(detect(view.video, config=chosen, view=name, partial=view.everyone))
    return found


def bring(source: str, views: Sequence[View], *, config: DetectConfig) -> Iterator[Found]:
    """Other tools' detections of the views, see `importing.import_poses`.

    source  a file or folder; {take} and {view} in it stand for their names, where there are several videos
    """
    from twoview.detection.imports import import_poses

    paths = {view.label: Path(source.replace("{take}", view.take).replace("{view}", view.name)) for view in views}
    if len(set(paths.values())) < len(paths):
        raise SessionError(
            f"{source} is the detections of one video, and {len(paths)} were asked for: {', '.join(paths)}",
            hint=f"name one with --take {views[0].take} --views {views[0].name}, or the path as {{take}}_{{view}}.json",
        )
    for view in views:
        path = paths[view.label]
        poses = import_poses(path, view.video, config=config, view=view.name)
        settings = {**view.head["settings"], "detector": poses.source.made_by, "imported": str(path)}
        yield view.take, view.name, replace(view, head={**view.head, "settings": settings}).save(poses), True


def check_formats(kinds: Sequence[str]) -> Sequence[str]:
    """The same formats, if all of them can be written; FormatError otherwise, before anything is computed."""
    from twoview.detection.imports import check_kind

    for kind in kinds:
        check_kind(kind)
    return kinds


def export(poses: Poses2D, path: Path, kinds: Iterable[str]) -> list[Path]:
    """The poses of a view in other tools' formats, beside its own file `path`; the files or folders written."""
    from twoview.detection.imports import SUFFIXES, write_detections

    written = []
    for kind in kinds:
        target = path.with_name(f"{path.stem}_{kind}{SUFFIXES.get(kind, '')}")
        write_detections(poses, target, kind)
        written.append(target)
    return written
