"""sync.png shows the clocks beside it: it is made again where it is missing, and never outlives them."""

from __future__ import annotations

import pytest
from scenes import small_scene

from twoview.errors import SessionError
from twoview.storage import records
from twoview.timeline import Sync
from twoview.workflow import synchronization
from twoview.workflow.stages import adding
from twoview.workflow.synchronization import SyncOptions, sync_take


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    small_scene(folder, seconds=2.5)
    return [folder / "a.mp4", folder / "b.mp4"]


@pytest.fixture
def session(films, tmp_path):
    with adding(tmp_path / "s", films) as (session, take):
        sync_take(session, take)
    return session


def test_a_lost_picture_is_made_again_and_the_clocks_stay(session):
    path = session.sync_path("take1")
    picture, before = path.with_suffix(".png"), path.read_bytes()
    shown = picture.read_bytes()
    assert not sync_take(session, "take1")[1]
    picture.unlink()
    sync_take(session, "take1")
    assert picture.read_bytes() == shown
    assert path.read_bytes() == before


def test_pictures_and_two_view_3d_do_not_outlive_the_clocks_that_they_show(session, monkeypatch):
    path = session.sync_path("take1")
    solid = session.take_folder("take1") / "triangulated" / "a.npz"
    solid.parent.mkdir()
    for file in (path.with_suffix(".mp4"), solid):
        file.write_bytes(b"of the old clocks")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(synchronization, "save_sync", killed)
        with pytest.raises(KeyboardInterrupt):
            sync_take(session, "take1", options=SyncOptions(offset={"b": 0.5}))
    assert sorted(file.name for file in path.parent.iterdir()) == ["sync.json", "take.json"]
    sync_take(session, "take1", options=SyncOptions(offset={"b": 0.5}))
    assert not sync_take(session, "take1", options=SyncOptions(offset={"b": 0.5}))[1]  # by hand there is no picture
    assert records.load_as(path, Sync).clocks["b"].offset_s == 0.5


def test_a_video_that_changes_while_it_is_synchronized_is_noticed(session, films, tmp_path, monkeypatch):
    changed = tmp_path / "b.mp4"
    changed.write_bytes(films[1].read_bytes())
    heard = synchronization.heard_views

    def changing(paths, **more):
        sounds = heard(paths, **more)
        changed.write_bytes(changed.read_bytes() + b"more")
        return sounds

    monkeypatch.setattr(synchronization, "heard_views", changing)
    with pytest.raises(SessionError, match="has changed"), adding(tmp_path / "t", [films[0], changed]) as (other, take):
        sync_take(other, take)
    assert not list((tmp_path / "t").rglob("*.json"))
