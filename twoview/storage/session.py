"""The session folder: its takes, the views of each take, the file of every stage, and what is still missing.

A take is one event filmed by all phones; a view name means the same phone in every take.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twoview.errors import SessionError
from twoview.storage import records

DEFAULT_FOLDER = "session"


@dataclass(frozen=True)
class ViewFile:
    """One phone's video of one take.

    path  of the video; stored relative to the session folder
    size  (width, height) of the upright picture in pixels; rate is the nominal frames per second, as "30000/1001"
    """

    path: Path
    size: tuple[int, int]
    rate: str
    fingerprint: str


@dataclass(frozen=True)
class TakeStatus:
    """How far a take is: its views, those whose video is gone, whether their clocks are known, and views detected."""

    views: tuple[str, ...]
    missing: tuple[str, ...]
    synchronized: bool
    detected: tuple[str, ...]


@dataclass(frozen=True)
class Session:
    """A session folder as it stands. `add_take` returns a new Session and writes session.json."""

    folder: Path
    takes: Mapping[str, Mapping[str, ViewFile]] = field(default_factory=dict)

    # --- what is in it -------------------------------------------------------------------------------------------

    @property
    def views(self) -> tuple[str, ...]:
        """Every view name that occurs in any take, in order of first appearance."""
        return tuple(dict.fromkeys(view for take in self.takes.values() for view in take))

    def take(self, name: str) -> Mapping[str, ViewFile]:
        """View name -> video of one take. Raises SessionError with the known takes."""
        if name not in self.takes:
            known = ", ".join(self.takes) or "none"
            raise SessionError(f"no take {name!r} in {self.folder}; it has {known}", hint="twoview show")
        return self.takes[name]

    def check_views(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """The view names asked for, or all. Raises SessionError for a name that no take has."""
        if wanted is None:
            return self.views
        unknown = [view for view in wanted if view not in self.views]
        if unknown:
            known = ", ".join(self.views) or "none"
            raise SessionError(
                f"no view {unknown[0]!r} in {self.folder}; it has {known}",
                hint=f"twoview sync VIDEO VIDEO --views {','.join(wanted)}",
            )
        return tuple(wanted)

    # --- where things are ----------------------------------------------------------------------------------------

    def sync_path(self, take: str) -> Path:
        """Sync of a take's views."""
        return self.folder / "takes" / take / "sync.json"

    def detection_path(self, take: str, view: str) -> Path:
        """Poses2D of one view, in the detector's skeleton."""
        return self.folder / "takes" / take / "detections" / f"{view}.npz"

    def run_folder(self, name: str) -> Path:
        """One fine-tuning run: config, log, state, report."""
        return self.folder / "runs" / name

    @property
    def model_path(self) -> Path:
        """Best model of the newest run: what `infer` uses by default."""
        return self.folder / "model.pt"

    @property
    def results(self) -> Path:
        """Poses3D and pictures of inferred clips."""
        return self.folder / "results"

    # --- changing it ---------------------------------------------------------------------------------------------

    def add_take(self, name: str, videos: Mapping[str, ViewFile]) -> Session:
        """The session with one more take (or the same take with these videos), written to disk."""
        merged = Session(self.folder, {**self.takes, name: {**self.takes.get(name, {}), **videos}})
        if merged.takes != self.takes:
            records.write_json(self.folder / "session.json", merged._to_json())
        return merged

    def _to_json(self) -> dict[str, Any]:
        def row(video: ViewFile) -> dict[str, Any]:
            path = os.path.relpath(video.path.resolve(), self.folder.resolve())
            return {"path": Path(path).as_posix(), "size": list(video.size), "rate": video.rate,
                    "fingerprint": video.fingerprint}  # fmt: skip

        takes = {take: {view: row(video) for view, video in videos.items()} for take, videos in self.takes.items()}
        return {**records.header("session"), "takes": takes}

    def status(self, take: str) -> TakeStatus:
        """Which files of a take there are."""
        videos = self.take(take)
        return TakeStatus(
            tuple(videos),
            missing=tuple(view for view, video in videos.items() if not video.path.exists()),
            synchronized=self.sync_path(take).exists(),
            detected=tuple(view for view in videos if self.detection_path(take, view).exists()),
        )


def open_session(folder: Path | str = DEFAULT_FOLDER, *, create: bool = False) -> Session:
    """The session in a folder. Raises SessionError if there is none, unless `create`."""
    folder = Path(folder)
    path = folder / "session.json"
    if not path.exists():
        if not create:
            raise SessionError(f"no session in {folder}", hint="start one with `twoview sync a.mp4 b.mp4`")
        return Session(folder)
    content = records.read_json(path)
    if content["format"] != "session":
        raise SessionError(f"{path} is a {content['format']!r} file, not a session")
    takes: dict[str, dict[str, ViewFile]] = {}
    for take, videos in content["takes"].items():
        takes[take] = {
            view: ViewFile(
                (folder / row["path"]).resolve(), (row["size"][0], row["size"][1]), row["rate"], row["fingerprint"]
            )
            for view, row in videos.items()
        }
    return Session(folder, takes)
