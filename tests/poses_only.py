"""Sessions of very many takes that hold poses and clocks alone, for what grows with the number of takes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from bodies import moving_body, two_views

from twoview.poses import Poses2D, Source
from twoview.skeleton import H36M17
from twoview.storage import records
from twoview.storage.session import Session, open_session
from twoview.timeline import ClockMap, Sync

RATE = 30.0
KINDS = ("golf", "jump", "karate", "run", "serve", "squat", "throw", "turn")


def write_session(
    folder: Path, count: int, *, athletes: int = 0, kinds: int = 8, seconds: float = 5.0, seed: int = 0
) -> Session:
    """A session of `count` takes of views a and b, in turn of the first movements of KINDS: golf_000, jump_001, ...

    athletes  of whom the takes are in turn, athlete1 and so on; 0: nobody is named

    Takes of one movement have the same poses, in files of their own; the videos are never there.
    """
    made = [_files(folder / ".kinds" / str(kind), seconds, seed + kind) for kind in range(kinds)]
    session = open_session(folder, create=True)
    digits = len(str(count))
    for number in range(count):
        videos, content = made[number % kinds]
        name = f"{KINDS[number % kinds]}_{number:0{digits}}"
        path = session.take_path(name)
        (path.parent / "detections").mkdir(parents=True)
        for inside, data in content.items():
            (path.parent / inside).write_bytes(data)
        rows = {
            view: {"absolute": f"/nowhere/{name} {view}.mp4", "size": [1920, 1080], "rate": "30/1", "fingerprint": mark}
            for view, mark in videos.items()
        }
        who = {"athlete": f"athlete{number // kinds % athletes + 1}"} if athletes else {}
        path.write_text(records.json_text({**records.header("take"), "views": rows, **who}, indent=2))
    return open_session(folder)


def _files(folder: Path, seconds: float, seed: int) -> tuple[dict[str, str], dict[str, bytes]]:
    """View -> fingerprint of a video, and the content of a take's files, by their names in its folder."""
    rng = np.random.default_rng(seed)
    tracks, _ = two_views(moving_body(round(seconds * RATE), rng), rng, noise=0.004)
    marks = {view: f"1000-{seed:023x}{view}" for view in "ab"}
    sync = Sync("a", {"a": ClockMap(), "b": ClockMap()})
    records.save(folder / "sync.json", sync, inputs=marks)
    for at, view in enumerate("ab"):
        poses = Poses2D(
            tracks.xy[at], tracks.score[at], tracks.time, H36M17, (1920, 1080), view, Source(f"{seed}{view}", "made")
        )
        records.save(folder / "detections" / f"{view}.npz", poses, inputs={"video": marks[view]})
    names = ["sync.json", *(f"detections/{view}.npz" for view in "ab")]
    content = {name: (folder / name).read_bytes() for name in names}
    for name in names:
        os.unlink(folder / name)
    return marks, content
