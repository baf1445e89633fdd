"""What the takes of a session tell about the phone that filmed a video: up and its focal length."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from twoview.biomechanics.ground import KnownCamera
from twoview.errors import FormatError, SessionError
from twoview.poses import Poses3D
from twoview.storage import records
from twoview.storage.session import Session


def known_camera(session: Session, *, fingerprint: str = "", named: str = "") -> tuple[KnownCamera, Path] | None:
    """The camera of a triangulated take, and the file of its poses; None where there is none.

    fingerprint  of a video that is a view of a take: its own camera
    named        a view, or TAKE/VIEW, whose phone has not moved since: of several takes, the one that knows up best

    Raises SessionError where no take has the named one solved.
    """
    take, _, view = named.rpartition("/")
    places = ((name, view) for name in session.takes if take in ("", name)) if named else session.views_of(fingerprint)
    found = []
    for name, own in places:
        camera = _solved(session, name, own)
        if camera is not None:
            found.append((camera, session.take_folder(name) / "triangulated" / f"{own}.npz"))
    if named and not found:
        raise SessionError(
            f"no take of {session.folder} knows how the phone of view {named} stood",
            hint="`twoview triangulate` finds it; name a view, or take/view, of a triangulated take",
        )
    return min(found, key=lambda one: one[0].up_sigma_deg) if found else None


def _solved(session: Session, take: str, view: str) -> KnownCamera | None:
    from twoview.reconstruction.solved_cameras import read_cameras

    folder = session.take_folder(take) / "triangulated"
    with suppress(FormatError, KeyError):
        poses = records.load_as(folder / f"{view}.npz", Poses3D)
        camera = read_cameras(folder / "solved" / "cameras.json")[view]
        if poses.world is not None:
            return KnownCamera(poses.world.up, poses.world.up_sigma_deg, camera.focal_px)
    return None
