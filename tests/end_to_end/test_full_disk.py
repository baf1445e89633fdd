"""Every file this package draws or exports, on a disk that fills up half way: one clear error, no half file."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import small_scene, swinging_person
from videos import click, picture

from twoview.errors import StorageError
from twoview.formats import FORMATS, write
from twoview.media.writer import VideoWriter
from twoview.timeline import Sync
from twoview.training.method_phones import ClipStore, PseudoLabels
from twoview.visualization.overlay import contact_sheet, render
from twoview.visualization.report import write_report
from twoview.visualization.side_by_side import render_sync


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: the system refuses to write, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return small_scene(tmp_path_factory.mktemp("scene"), seconds=1.0)


def nothing_left(folder: Path) -> bool:
    return list(folder.iterdir()) == []


def noise(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 255, picture(0).shape, np.uint8)


@pytest.mark.parametrize("size", [0, 40, 3000, 60000])
def test_a_video(tmp_path, size):
    def run() -> None:
        with VideoWriter(tmp_path / "a.mp4", (64, 48), 25, audio=click(0.4)) as writer:
            for index in range(40):
                writer.write(noise(index))

    with room_for(size), pytest.raises(StorageError, match="cannot write"):
        run()
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_an_export(tmp_path, name):
    with room_for(3000), pytest.raises(StorageError):
        write(swinging_person(60), tmp_path / f"out.{name}")
    assert nothing_left(tmp_path)


def test_an_older_file_is_kept(tmp_path):
    old = write(swinging_person(30), tmp_path / "out.trc").read_text()
    with room_for(3000), pytest.raises(StorageError):
        write(swinging_person(60), tmp_path / "out.trc")
    assert (tmp_path / "out.trc").read_text() == old
    assert len(list(tmp_path.iterdir())) == 1


def test_pictures(tmp_path, scene):
    view = scene.views["a"]
    with room_for(5000), pytest.raises(StorageError):
        render(view.video, view.poses2d, view.poses3d, tmp_path / "out.mp4", height=120)
    with room_for(5000), pytest.raises(StorageError):
        contact_sheet(view.video, view.poses2d, view.poses3d, tmp_path / "out.png", count=2)
    sync = Sync("a", {name: one.clock for name, one in scene.views.items()})
    with room_for(5000), pytest.raises(StorageError):
        render_sync({n: one.video for n, one in scene.views.items()}, sync, tmp_path / "sync.mp4", height=120)
    assert nothing_left(tmp_path)


def test_a_report(tmp_path):
    with room_for(500), pytest.raises(StorageError):
        write_report(tmp_path / "report.html", [{"epoch": 1, "loss_a": 1.0}], title="run1")
    assert nothing_left(tmp_path)


def test_stopping_by_hand_leaves_nothing_either(tmp_path, scene):
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    view = scene.views["a"]
    for draw in (render, contact_sheet):
        suffix = "mp4" if draw is render else "png"
        with pytest.raises(KeyboardInterrupt):
            draw(view.video, view.poses2d, view.poses3d, tmp_path / f"out.{suffix}", on_progress=stop)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("size", [0, 3000, 200_000])
def test_pseudo_labels(tmp_path, size):
    store = ClipStore(tmp_path / "pseudo-labels")
    shapes = {f.name: torch.zeros(50, 27, 17, 3) for f in fields(PseudoLabels)}
    with room_for(size), pytest.raises(StorageError, match="cannot write"):
        store.add(PseudoLabels(**shapes))
