"""What a session remembers between commands, in its `settings.json`: the 2D detector, and the athlete's height.

A value that a person gives counts and is kept; what is not given is looked up here, and only then chosen. A session may
come from a stranger: a detector that it names runs only if it is part of twoview, a file of weights, or trusted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from twoview.config import DetectConfig, InferConfig, TriangulateConfig
from twoview.detectors import AUTO, DETECTORS, choose
from twoview.errors import FormatError, SessionError, StorageError
from twoview.plugins import check_trust, is_code
from twoview.storage import records
from twoview.storage.locks import locked
from twoview.storage.session import Session, is_height, open_session

T = TypeVar("T", InferConfig, TriangulateConfig)
FORMAT = "session settings"


@dataclass(frozen=True)
class Remembered:
    """detector: name, "" where none is known; height_m: of the athlete, 0 where it is not known."""

    detector: str = ""
    height_m: float = 0.0


def recall(folder: Path | str) -> Remembered:
    """What a session folder remembers; nothing where there is no session. Raises FormatError for a damaged file."""
    path = Path(folder) / "settings.json"
    if not os.path.lexists(path):
        return Remembered()
    try:
        content = records.read_json(path)
        detector, height = content.get("detector", ""), content.get("height_m", 0.0)
        whole = content["format"] == FORMAT and isinstance(detector, str)
        whole = whole and is_height(height)
    except (FormatError, RecursionError, OverflowError):
        whole = False
    if not whole:
        raise FormatError(
            f"{path}, what the session remembers, is damaged",
            hint="move it away; then name the detector and the height again: --detector, --height",
        )
    return Remembered(detector, float(height))


def keep(folder: Path | str, **values: Any) -> None:
    """Remember these fields of `Remembered`; others stay. What cannot be written is not remembered."""
    folder = Path(folder)
    if not os.path.isdir(folder) or replace(recall(folder), **values) == recall(folder):
        return
    try:
        with locked(folder / ".locks" / "settings", "the session's settings"):
            known = replace(recall(folder), **values)
            records.write_json(folder / "settings.json", {**records.header(FORMAT), **vars(known)})
    except (StorageError, SessionError):  # a folder that can only be read; the next command asks again
        return


def with_detector(folder: Path | str, config: DetectConfig) -> DetectConfig:
    """The settings with the session's detector, where they leave it open ("auto") and the session has one.

    That is the one remembered, else that of most of its detections. It is a name to compare with: before it is used,
    `decided` checks it.
    """
    if config.detector != AUTO:
        return config
    return replace(config, detector=recall(folder).detector or _most_used(Path(folder)) or AUTO)


def decided(
    found: DetectConfig, given: DetectConfig, where: Path | str, *, trust: Collection[str] = ()
) -> DetectConfig:
    """The settings with a detector that may be used: the one `found` for those that a person gave, or a chosen one.

    where  the file or session that named the detector which was found
    Raises SessionError where that is a program and not trusted.
    """
    if given.detector != AUTO:
        return given
    if found.detector == AUTO:
        return replace(found, detector=choose(found.device))
    return replace(found, detector=_trusted(found.detector, where, trust))


def with_earlier(config: DetectConfig, path: Path) -> DetectConfig:
    """The settings with the detector of earlier detections in a file, where they leave it open."""
    return config if config.detector != AUTO else replace(config, detector=_detector_in(path) or AUTO)


def with_height(folder: Path | str, config: T) -> T:
    """The settings with the session's height, where they name none."""
    height = recall(folder).height_m if not config.height_m else 0.0
    return replace(config, height_m=height) if height else config


def unit(folder: Path | str, config: InferConfig | TriangulateConfig) -> Literal["m", "screen"]:
    """Unit of results at best: meters where a height is named or remembered, or a take says that of its athlete."""
    if config.height_m or recall(folder).height_m:
        return "m"
    session = open_session(folder, create=True)
    for take in session.takes:
        with suppress(FormatError):
            if session.athlete(take).height_m:
                return "m"
    return "screen"


def height_in(session: Session, fingerprint: str) -> float:
    """Height in m of the athlete in a video, as the take says whose view it is; 0 where none does."""
    return max((session.athlete(take).height_m for take, _ in session.views_of(fingerprint)), default=0.0)


def height_of(session: Session, athlete: str) -> float:
    """Height in m of an athlete; 0 where no take says it. Raises SessionError for one of whom there is no take."""
    return max(session.athlete(take).height_m for take in session.choose_takes(athlete=athlete))


def _trusted(name: str, where: Path | str, trust: Collection[str]) -> str:
    if not is_code(name) and Path(name).suffix:  # a file of weights, which runs nothing
        return name
    return check_trust(name, "detector", known=DETECTORS, where=where, trust=trust, error=SessionError)


def _most_used(folder: Path) -> str:
    """The detector of most detections in a session of an older version; "" where there are none."""
    names = Counter(_detector_in(path) for path in sorted((folder / "takes").glob("*/detections/*.npz")))
    del names[""]
    return max(names, key=lambda name: names[name]) if names else ""


def _detector_in(path: Path) -> str:
    """The detector by which a file of detections was made here; "" where there is none, or another tool made it."""
    if path.name.endswith(".people.npz") or not path.is_file():
        return ""
    try:
        head = records.read_header(path)
    except FormatError:
        return ""
    settings = head.get("settings")
    if not isinstance(settings, dict) or head["format"] != "poses2d" or settings.get("imported"):
        return ""
    name = settings.get("detector")
    return name if isinstance(name, str) and name != AUTO else ""
