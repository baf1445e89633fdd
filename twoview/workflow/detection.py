"""The athlete in the views of a session, file to files: detected or imported, agreed between views, kept, written."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twoview.config import DetectConfig, shaping
from twoview.errors import DetectorError, FormatError, SessionError, TwoViewError, VideoError, WorkerError, joined
from twoview.poses import Poses2D
from twoview.progress import OnProgress
from twoview.storage import records
from twoview.timeline import Sync
from twoview.workers.tasks import Place, Task, run_tasks

if TYPE_CHECKING:
    from twoview.detection.athlete import Choice
    from twoview.detection.other_tools import Layout
    from twoview.detection.pipeline import Everyone


OF_ONE_VIEW = (DetectorError, VideoError, WorkerError)
SURE = 0.95  # sureness of the choice of an athlete below which a person is warned


@dataclass(frozen=True)
class ViewPoses:
    """The athlete in one view of a take; fresh: detected, chosen or imported now, not loaded.

    athlete  how the athlete was chosen; None in files of older versions
    remarks  what was found out about another tool's file
    """

    take: str
    view: str
    poses: Poses2D
    fresh: bool
    athlete: Athlete | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Athlete:
    """How the athlete of a view was chosen, as its file keeps it.

    track     number of the person in people.png
    people    how many people were seen
    sureness  probability 0..1 that this is the athlete; 1 where chosen by hand
    together  whether other views had a say
    by_hand   whether a person chose
    """

    track: int
    people: int
    sureness: float
    together: bool = False
    by_hand: bool = False

    def __str__(self) -> str:
        how = "chosen by hand" if self.by_hand else f"{self.sureness:.0%} sure"
        views = " by all views together" if self.together else ""
        return f"{self.people} people seen; person {self.track} taken for the athlete{views}, {how}"

    def warnings(self) -> tuple[str, ...]:
        """What the person who will rely on the poses should know."""
        if self.sureness >= SURE:
            return ()
        return (f"person {self.track} may not be the athlete ({self.sureness:.0%} sure): look at the picture",)


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

    def command_for(self, person: int | str = "N") -> str:
        """The command that takes a person of this view for the athlete."""
        alone = f"infer {shlex.quote(str(self.video))}"
        where = f"detect --take {self.take} --views {self.name}" if self.take else alone
        return f"twoview {where} --person {person}"

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

    def save(self, poses: Poses2D, athlete: Athlete | None = None) -> Poses2D:
        """Keep poses under the view's name, and make again or remove what was made of the poses before.

        athlete  how the athlete was chosen

        Raises SessionError if the video is not the one any more that the poses are to be of.
        """
        if poses.source.video and poses.source.video != self.head["inputs"]["video"]:
            records.remove(self.people_path)
            raise SessionError(
                f"{self.video} changed while it was detected",
                hint="run the same command when the file is written completely; for a take, `twoview sync` before",
            )
        from twoview.detection.writers import can_hold

        poses, tools = replace(poses, view=self.name), _tools_beside(self.path)
        source = Path(self.head["settings"].get("imported", ""))
        for target in (_target(self.path, tool) for tool in tools):
            if target.is_dir():
                shutil.rmtree(target)
            elif not (target.exists() and os.path.exists(source) and target.samefile(source)):
                records.remove(target)
        if self.take:
            shutil.rmtree(self.path.parents[1] / "triangulated", ignore_errors=True)
        more = None if athlete is None else asdict(athlete)
        records.save(self.path, poses, inputs=self.head["inputs"], settings=self.head["settings"], athlete=more)
        write_formats(poses, self.path, tools if can_hold(poses) else ())
        return poses

    def athlete(self) -> Athlete | None:
        """How the athlete in the view's file was chosen; None where the file does not say."""
        try:
            found = records.read_header(self.path).get("athlete")
            return None if found is None else Athlete(**found)
        except (FormatError, TypeError):
            return None

    def kept_by_hand(self) -> int | None:
        """The person whom the view's file holds because somebody chose it."""
        person = _settings_in(self.path).get("person")
        return person if isinstance(person, int) else None


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
    beside: Sequence[View] = (),
    choose_again: bool = False,
    detect_again: bool = False,
    place: Place | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[ViewPoses]:
    """The athlete in every view, take after take as they are done; what is up to date is only loaded.

    syncs         take -> how its clocks relate, where that is known: there the views choose the athlete together
    beside        other views of these takes: where they are detected they have a say, and they stay as they are
    choose_again  also where a person was chosen by hand before
    detect_again  also where another tool's detections were imported before
    place         where people are searched for, a task for each video; the athlete is chosen here

    Raises a DetectorError, VideoError or WorkerError for the views that have no result, after all others: where nobody
    is found, where it is not clear enough who of several people is the athlete, where a video cannot be read, and where
    workers die.
    """
    from twoview.detection.pipeline import Everyone

    _check_person(views, config.person, detect_again=detect_again)
    again = {"choose_again": choose_again, "detect_again": detect_again}
    takes: dict[str, list[View]] = {}
    for view in views:
        takes.setdefault(view.take, []).append(view)
    todo = {view.label: view for view in views if not view.is_current(**again)}
    found: dict[str, Everyone | TwoViewError] = {}
    failed: list[TwoViewError] = []

    def finished(take: str) -> Iterator[ViewPoses]:
        """The views of a take, once none of them is waited for."""
        if any(view.label in todo and view.label not in found for view in takes[take]):
            return
        own = takes.pop(take)
        new = {view.name: found.pop(view.label) for view in own if view.label in todo}
        failed.extend(one for one in new.values() if isinstance(one, TwoViewError))
        everyone = {name: one for name, one in new.items() if isinstance(one, Everyone)}
        others = [view for view in beside if view.take == take]
        made = _choose(own, everyone, failed, config=config, sync=syncs.get(take), beside=others) if everyone else {}
        for view in own:
            if view.name in made:
                yield made[view.name]
            elif view.name not in new:
                yield ViewPoses(take, view.name, records.load_as(view.path, Poses2D), False, view.athlete())

    for take in list(takes):
        yield from finished(take)
    search = _everyone if place is None else _keep_everyone
    tasks = (
        Task(label, search, {"view": view, "config": config}, needs=(view.video, view.people_path.parent.parent))
        for label, view in todo.items()
    )
    for label, one in run_tasks(tasks, place, stage="detect", total=len(todo), unit="videos", on_progress=on_progress):
        if isinstance(one, TwoViewError) and not isinstance(one, OF_ONE_VIEW):
            raise one
        found[label] = _everyone(todo[label], config) if one is None else one
        yield from finished(todo[label].take)
    if failed:
        raise joined(failed)


def _everyone(view: View, config: DetectConfig, on_progress: OnProgress | None = None) -> Everyone:
    """Everyone in a view's video, by its file of people where that is complete."""
    from twoview.detection.pipeline import find_everyone

    return find_everyone(view.video, config=config, view=view.label, partial=view.people_path, on_progress=on_progress)


def _keep_everyone(view: View, config: DetectConfig, on_progress: OnProgress | None = None) -> None:
    """Everyone in a view's video, into its file of people alone."""
    _everyone(view, config, on_progress)


def _choose(
    views: Sequence[View],
    new: Mapping[str, Everyone],
    failed: list[TwoViewError],
    *,
    config: DetectConfig,
    sync: Sync | None,
    beside: Sequence[View],
) -> dict[str, ViewPoses]:
    """View -> its athlete, of the views of a take that are new, and of those in which all views choose another now.

    new     view name -> everyone in it
    failed  gets the errors of views that have no result
    """
    from twoview.detection.athlete import check_sure, choose_together
    from twoview.detection.pipeline import choose_in, known_crowd

    choices, everyone = {}, dict(new)
    by_hand: dict[str, int] = {}
    for name, one in new.items():
        try:
            choices[name] = choose_in(one, config)
        except DetectorError as error:
            failed.append(error)
    if sync is not None and config.person is None:
        for view in (*views, *beside):
            if view.name not in sync.clocks or view.name in new or imported_from(view.path):
                continue
            known, person = known_crowd(view.video, view.people_path), view.kept_by_hand()
            everyone |= {} if known is None else {view.name: known}
            by_hand |= {} if person is None else {view.name: person}
        able = {
            name: one.crowd
            for name, one in everyone.items()
            if name in sync.clocks and (name in choices or name not in new)
        }
        if len(able) > 1:
            choices |= choose_together(able, sync, by_hand={n: p for n, p in by_hand.items() if n in able})
    chosen = {}
    for view in views:
        choice, kept = choices.get(view.name), view.name not in new
        before = view.athlete() if kept else None
        if choice is None or (kept and (view.name in by_hand or (before and before.track == choice.track))):
            continue
        one = everyone[view.name]
        one.draw(choice, view.people_path.with_suffix(".png"), least=config.sureness)
        try:
            check_sure(choice, config.sureness)
        except DetectorError as error:
            failed.extend([] if kept else [_question(view, error)])
            continue
        athlete = _how(choice)
        poses = view.save(one.poses(choice.track, config, view.name), athlete)
        chosen[view.name] = ViewPoses(view.take, view.name, poses, True, athlete)
    return chosen


def _how(choice: Choice) -> Athlete:
    return Athlete(choice.track, choice.people, choice.sureness, choice.together, choice.by_hand)


def _question(view: View, error: DetectorError, more: str = "") -> DetectorError:
    """The same error with the picture and the command that answers it, with `more` words."""
    picture = view.people_path.with_suffix(".png")
    hint = f"look for the athlete's number in {picture}, then: {view.command_for()}{more}"
    return DetectorError(f"{view.label}: {error.message}", hint=hint)


def detect_alone(view: View, *, config: DetectConfig, on_progress: OnProgress | None = None) -> ViewPoses:
    """The athlete in a video that belongs to no take, by the settings alone; loaded where that is up to date."""
    (found,) = detect_missing(
        [view], config=config, syncs={}, beside=(), choose_again=True, detect_again=True, on_progress=on_progress
    )
    return found


def _check_person(views: Sequence[View], person: int | None, *, detect_again: bool) -> None:
    """Raises SessionError for a person's number that is not one of exactly one video's detected people."""
    if person is None or not views:
        return
    one = views[0].command_for(person)
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


def import_views(
    source: str, views: Sequence[View], *, config: DetectConfig, layout: Layout | None = None
) -> Iterator[ViewPoses]:
    """Other tools' detections of the views, see `other_tools.import_athlete`.

    source  a file or folder; {take} and {view} in it stand for their names, where there are several videos
    layout  what the files do not say
    """
    from twoview.detection.other_tools import import_athlete

    paths = {view.label: Path(source.replace("{take}", view.take).replace("{view}", view.name)) for view in views}
    if len(set(paths.values())) < len(paths):
        raise SessionError(
            f"{source} holds the detections of one video, and {len(paths)} were asked for: {', '.join(paths)}",
            hint=f"name one with --take {views[0].take} --views {views[0].name}, or the path as {{take}}_{{view}}.json",
        )
    for view in views:
        path = paths[view.label]
        picture = view.people_path.with_suffix(".png")
        try:
            found = import_athlete(path, view.video, config=config, view=view.name, layout=layout, picture=picture)
        except DetectorError as error:
            raise _question(view, error, f" --from {shlex.quote(str(path))}") from error
        settings = {**view.head["settings"], "detector": found.poses.source.made_by, "imported": str(path)}
        saved = replace(view, head={**view.head, "settings": settings}).save(found.poses, athlete := _how(found.choice))
        yield ViewPoses(view.take, view.name, saved, fresh=True, athlete=athlete, remarks=found.remarks)


def check_formats(tools: Sequence[str]) -> Sequence[str]:
    """The same formats, if all of them can be written. Raises FormatError otherwise, before anything is computed."""
    from twoview.detection.writers import check_tool

    for tool in tools:
        check_tool(tool)
    return tools


def write_formats(poses: Poses2D, path: Path, tools: Iterable[str]) -> list[Path]:
    """Write the poses of a view in other tools' formats, beside its own file `path`; the files or folders written."""
    from twoview.detection.writers import write_detections

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
    from twoview.detection.writers import SUFFIXES

    return path.with_name(f"{path.stem}_{tool}{SUFFIXES.get(tool, '')}")


def _record(path: Path) -> Path:
    return path.with_suffix(".formats.json")


def _tools_beside(path: Path) -> list[str]:
    """The tools in whose formats a view's poses were written beside them; files of others are not ours."""
    from twoview.detection.writers import SUFFIXES

    with suppress(FormatError, TypeError):
        made = records.read_json(_record(path)).get("made", ()) if _record(path).exists() else ()
        return [tool for tool in SUFFIXES if tool in made]
    return []
