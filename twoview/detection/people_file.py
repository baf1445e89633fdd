"""The file of everyone's tracks in a video: kept during detection, so that a kill loses nothing, and after it.

A complete file lets another person be chosen without a new detection and without a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from twoview.config import DetectConfig
from twoview.detection.tracking import People
from twoview.detectors import Detector
from twoview.errors import FormatError
from twoview.skeleton import SKELETONS, Skeleton
from twoview.storage import records


@dataclass(frozen=True, eq=False)
class Tracks:
    """Everyone in a video, before tracks are joined; made_by is the detector's name and version."""

    people: People
    skeleton: Skeleton
    made_by: str


class PeopleFile:
    """The file of everyone's tracks in a video, during detection and after. Without a path nothing is kept."""

    def __init__(self, path: Path | None, video: Path, config: DetectConfig) -> None:
        self.path, self.video, self.config = path, video, config

    def finished(self) -> Tracks | None:
        """The complete tracks of this video and these settings, read without building the detector; None elsewhere.

        Files of older versions lack the name by which the detector was asked for: None, though `load` accepts them.
        """
        name = self.config.detector
        if self.path is None or not self.path.exists() or not isinstance(name, str):
            return None
        try:
            head, people = read_people(self.path)
        except FormatError:
            return None
        wanted = self._header(head.get("settings", {}).get("detector", ""))
        same = records.is_current(self.path, wanted)
        if not (same and head.get("complete") and head.get("asked_for") == name and head.get("skeleton") in SKELETONS):
            return None
        return Tracks(people, SKELETONS[head["skeleton"]], head["settings"]["detector"])

    def load(self, detector: Detector) -> tuple[People, bool]:
        """The tracks kept for this video, these settings and this detector, and whether they are complete."""
        if self.path is not None and records.is_current(self.path, self._header(detector.name)):
            try:
                head, people = read_people(self.path)
                return people, bool(head.get("complete"))
            except FormatError:
                pass
        return People.none(len(detector.skeleton)), False

    def save(self, people: People, detector: Detector, *, complete: bool) -> None:
        """Write the tracks, whole or not at all."""
        if self.path is not None:
            name = self.config.detector
            more = {"asked_for": name} if isinstance(name, str) else {}
            head = {**self._header(detector.name), **more, "skeleton": detector.skeleton.name, "complete": complete}
            arrays = {_KEYS.get(key, key): value for key, value in vars(people).items()}
            records.write_npz(self.path, head, arrays)

    def _header(self, detector: str) -> records.Header:
        """The file's inputs and settings; `detector` is the name that the built detector has."""
        shaping = {key: getattr(self.config, key) for key in ("people_every", "finder", "flip")}
        inputs = {"video": records.fingerprint(self.video)}
        return records.header("people", inputs=inputs, settings={"detector": detector, **shaping})


_KEYS = {"colors": "looks"}  # fields of People whose arrays have another name in the file


def read_people(path: Path) -> tuple[records.Header, People]:
    """Header and tracks of a people file. Raises FormatError for any other file."""
    head, arrays = records.read_npz(path)
    try:
        people = People(**{name: arrays[_KEYS.get(name, name)] for name in People.__dataclass_fields__})
        people.check()
    except (KeyError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise FormatError(f"{path} holds no people: {what}", hint="twoview detect") from error
    return head, people
