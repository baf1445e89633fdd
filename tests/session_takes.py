"""A session of small takes, synchronized and detected, without videos that could be played."""

from __future__ import annotations

from pathlib import Path

from small_takes import take

from twoview.storage import records
from twoview.storage.session import Session, ViewFile, open_session
from twoview.workflow.stages import save_sync


def put_take(folder: Path, name: str, *, seconds: float = 3.0, seed: int = 0) -> Session:
    """The session with one more take of views a and b."""
    made = take(name, seconds, seed)
    files = {}
    for view in made.views:
        path = folder.parent / f"{name} {view}.mp4"
        path.write_bytes(f"{name} {view}".encode())
        files[view] = ViewFile(path, (1280, 720), "30/1", records.fingerprint(path))
    session = open_session(folder, create=True).add_take(name, files)
    save_sync(session, name, made.sync, settings={})
    for view, poses in made.poses.items():
        records.save(session.detection_path(name, view), poses, inputs={"video": files[view].fingerprint})
    return open_session(folder)
