"""The folder of a take's two-view 3D: what is in it, whether that is up to date, and how it is written.

A take's folder `triangulated` holds the poses of every view with the formats and pictures of them, and `solved` with
the whole solution and the cameras. Everything in it is made here, and goes when detections or clocks change.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twoview.biomechanics.filtering import filter_poses
from twoview.biomechanics.world import two_view_worlds
from twoview.config import FilterConfig, TriangulateConfig, WorldConfig, shaping
from twoview.errors import FormatError, MissingBackend, SessionError, VideoError
from twoview.formats import FORMATS, write
from twoview.poses import Poses3D
from twoview.progress import OnProgress
from twoview.storage import records
from twoview.storage.session import Session
from twoview.workflow.inference import ANGLE_FILES, PAGE
from twoview.workflow.stages import present, remove_triangulated

if TYPE_CHECKING:
    from twoview.reconstruction.triangulation import Triangulation
    from twoview.takes import Take

log = logging.getLogger(__name__)

SOLVED = "solved"  # folder of the whole solution and the cameras
ALL = "all_joints"  # folder of the poses with all joints of the detector
THE_PAGE = f"page.{PAGE}"  # one for all views


@dataclass(eq=False)
class TakeFolder:
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
    def of(cls, session: Session, take: str, head: records.Header) -> TakeFolder:
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
