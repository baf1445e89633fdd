"""From video to one athlete: following, resuming, choosing, and what goes wrong, on drawn videos."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from blobs import CONFIG, RATE, SIZE, Blobs, Crops, film, middle, runner
from places import TESTS

from twoview.detection.estimation import read_ahead
from twoview.detection.pipeline import detect
from twoview.errors import DetectorError, StorageError, VideoError
from twoview.media.writer import VideoWriter
from twoview.skeleton import COCO17
from twoview.storage import records


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return film(tmp_path_factory.mktemp("clip") / "run.mp4", runner)


def test_the_runner_is_followed_in_every_frame_at_its_time(run):
    poses = detect(run, config=CONFIG, view="a")
    assert len(poses) == 90
    assert poses.view == "a"
    assert poses.source.video == records.fingerprint(run)
    np.testing.assert_allclose(poses.time, np.arange(90) / RATE, atol=1e-3)
    truth = np.array([runner(frame)[:2] for frame in range(90)])
    assert np.abs(middle(poses) - truth).max() < 3


def test_people_are_searched_only_every_few_frames(run):
    Blobs.searches = 0
    detect(run, config=replace(CONFIG, people_every=15))
    assert Blobs.searches == 6


def test_a_detector_that_looks_at_crops_finds_the_same(run):
    whole, crops = (detect(run, config=replace(CONFIG, detector=kind())) for kind in (Blobs, Crops))
    assert np.abs(middle(crops) - middle(whole)).max() < 2
    assert np.abs(crops.xy - whole.xy).max() < 4


def test_what_still_runs_at_the_end_is_waited_for(tmp_path):
    class Slow(Crops):
        def pose_crops(self, crops):
            time.sleep(0.1)
            return super().pose_crops(crops)

    clip = film(tmp_path / "short.mp4", runner, frames=21)
    assert (detect(clip, config=replace(CONFIG, detector=Slow())).score > 0).any(axis=1).all()


def test_two_who_cross_are_told_apart_and_the_larger_is_the_athlete(tmp_path):
    clip = film(tmp_path / "cross.mp4", runner, lambda f: (300 - 3.0 * f, 205, 48.0))
    poses = detect(clip, config=CONFIG, partial=tmp_path / "cross.people.npz")
    truth = np.array([runner(frame)[:2] for frame in range(90)])
    assert np.quantile(np.abs(middle(poses) - truth).max(axis=1), 0.75) < 3  # the figures touch while they pass
    assert (tmp_path / "cross.people.png").exists()
    other = detect(clip, config=replace(CONFIG, person=1), partial=tmp_path / "cross.people.npz")
    assert np.nanmedian(middle(other)[:, 1]) > 190


def test_choosing_another_person_needs_no_new_detection_and_no_network(tmp_path):
    clip = film(tmp_path / "two.mp4", lambda f: (80, 120, 100.0), lambda f: (240, 120, 80.0), frames=40)
    with pytest.raises(DetectorError, match=r"two.mp4: 2 people, and who is the athlete is not clear"):
        detect(clip, config=CONFIG, partial=tmp_path / "two.npz")
    assert (tmp_path / "two.png").exists()
    searches, built = Blobs.searches, Blobs.built
    first = detect(clip, config=replace(CONFIG, sureness=0.0), partial=tmp_path / "two.npz")
    poses = detect(clip, config=replace(CONFIG, person=1), partial=tmp_path / "two.npz")
    assert (Blobs.searches, Blobs.built) == (searches, built)
    assert (poses.source, poses.skeleton) == (first.source, first.skeleton)
    np.testing.assert_allclose(np.median(middle(poses)[:, 0]), 240, atol=2)
    again = detect(clip, config=replace(CONFIG, score=0.2, sureness=0.0), partial=tmp_path / "two.npz")
    assert Blobs.built == built
    assert again.xy.tobytes() == first.xy.tobytes()


def test_people_kept_by_an_older_version_are_chosen_from_without_a_new_detection(tmp_path):
    clip, kept = film(tmp_path / "one.mp4", runner, frames=40), tmp_path / "one.npz"
    first = detect(clip, config=CONFIG, partial=kept)
    head, arrays = records.read_npz(kept)
    records.write_npz(kept, {k: v for k, v in head.items() if k not in ("asked_for", "skeleton")}, arrays)
    searches, built = Blobs.searches, Blobs.built
    again = detect(clip, config=CONFIG, partial=kept)
    assert (Blobs.searches, Blobs.built) == (searches, built + 1)
    assert again.xy.tobytes() == first.xy.tobytes()


def test_people_kept_by_another_detector_are_not_taken(tmp_path):
    clip, kept = film(tmp_path / "one.mp4", runner, frames=40), tmp_path / "one.npz"
    detect(clip, config=CONFIG, partial=kept)
    searches = Blobs.searches
    assert detect(clip, config=replace(CONFIG, detector="blobs:Crops"), partial=kept).source.made_by == "crops"
    assert Blobs.searches > searches


def test_an_athlete_out_of_view_for_two_seconds_comes_back_as_the_same(tmp_path):
    clip = film(tmp_path / "away.mp4", lambda f: (100 + 0.5 * f, 120, 100.0), frames=150, hidden=range(45, 105))
    poses = detect(clip, config=CONFIG)
    seen = (poses.score > 0).any(axis=1)
    assert seen[:44].all()
    assert seen[106:].all()
    assert not seen[46:104].any()


def test_nobody_in_view(tmp_path):
    clip = film(tmp_path / "empty.mp4", frames=20)
    with pytest.raises(DetectorError, match="no person found in any of 20 frames") as error:
        detect(clip, config=CONFIG)
    assert "does `--detector movenet` find somebody? then the network of" in error.value.hint
    with pytest.raises(DetectorError, match="no person found") as error:
        detect(clip, config=replace(CONFIG, detector="movenet"))
    assert error.value.hint.startswith("is the athlete at least 60 px tall")


def test_not_a_video(tmp_path):
    (tmp_path / "a.mp4").write_text("hello")
    with pytest.raises(VideoError):
        detect(tmp_path / "a.mp4", config=CONFIG, partial=tmp_path / "a.people.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_one_person_a_frame_from_a_detector_in_one_step(run):
    class Whole:
        name, skeleton = "whole", COCO17
        lock = threading.Lock()

        def __deepcopy__(self, _):
            raise TypeError("a detector holds what cannot be copied")

        def __call__(self, rgb):
            return Blobs()(rgb)

    poses = detect(run, config=replace(CONFIG, detector=Whole()))  # type: ignore[arg-type]
    truth = np.array([runner(frame)[:2] for frame in range(90)])
    assert np.abs(middle(poses) - truth).max() < 3


# --- what was found is kept ----------------------------------------------------------------------------------------


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("kind", [Blobs, Crops])
@pytest.mark.parametrize(("at", "fold"), [(15, 1000), (38, 12), (77, 1)])
def test_an_interrupted_run_ends_in_the_same_arrays(run, tmp_path, monkeypatch, at, fold, kind):
    monkeypatch.setattr("twoview.detection.tracking.MOST_ROWS", fold)
    config = replace(CONFIG, detector=kind())
    whole = detect(run, config=config, partial=tmp_path / "whole.npz")

    def stop(event):
        if event.done >= at:
            raise StoppedError

    with pytest.raises(StoppedError):
        detect(run, config=config, partial=tmp_path / "part.npz", on_progress=stop)
    kept = len(np.load(tmp_path / "part.npz")["time"])
    assert 0 < kept <= at + 10
    times = []
    again = detect(run, config=config, partial=tmp_path / "part.npz", on_progress=lambda e: times.append(e.done))
    assert times[0] > kept  # nothing was done twice
    for name in ("xy", "score", "time"):
        assert getattr(whole, name).tobytes() == getattr(again, name).tobytes()
    with np.load(tmp_path / "whole.npz") as a, np.load(tmp_path / "part.npz") as b:
        assert all(a[name].tobytes() == b[name].tobytes() for name in a.files)


def test_a_run_killed_three_times_ends_in_the_same_arrays(tmp_path):
    clip = film(tmp_path / "long.mp4", lambda f: (160 + 90 * np.sin(f / 40), 120, 90.0), frames=600)
    part, script = tmp_path / "part.npz", tmp_path / "detect_it.py"
    script.write_text(
        f"import sys, time; sys.path.insert(0, {str(TESTS)!r})\n"
        "from blobs import Blobs, CONFIG\nfrom dataclasses import replace\nfrom twoview import detect\n"
        "class Slow(Blobs):\n"
        "    def find(self, rgb):\n        time.sleep(0.02)\n        return super().find(rgb)\n"
        "def steadily(event):\n    print(int(event.done), flush=True)\n"
        f"detect({str(clip)!r}, config=replace(CONFIG, detector=Slow(), save_every_s=0.0),\n"
        f"       partial=__import__('pathlib').Path({str(part)!r}), on_progress=steadily)\n"
    )
    for stop_at in (60, 190, 330):
        with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            for line in running.stdout:
                if int(line) >= stop_at:
                    os.kill(running.pid, signal.SIGKILL)
                    break
        assert 0 < len(np.load(part)["time"]) < 600
    again = detect(clip, config=CONFIG, partial=part)
    whole = detect(clip, config=CONFIG)
    assert all(getattr(whole, name).tobytes() == getattr(again, name).tobytes() for name in ("xy", "score", "time"))


def test_what_was_kept_of_another_video_or_setting_is_not_used(run, tmp_path):
    part = tmp_path / "part.npz"
    detect(run, config=CONFIG, partial=part)
    Blobs.searches = 0
    detect(run, config=replace(CONFIG, people_every=5), partial=part)
    assert Blobs.searches == 18
    other = film(tmp_path / "other.mp4", lambda f: (200, 120, 90.0), frames=30)
    assert len(detect(other, config=CONFIG, partial=part)) == 30


def test_a_damaged_partial_file_is_made_again(run, tmp_path):
    part = tmp_path / "part.npz"
    part.write_bytes(b"PK\x03\x04 half a file")
    assert len(detect(run, config=CONFIG, partial=part)) == 90


def test_a_full_disk_is_told_and_leaves_no_half_file(run, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(StorageError, match="No space left"):
        detect(run, config=CONFIG, partial=tmp_path / "part.npz")
    assert list(tmp_path.iterdir()) == []


def test_the_reader_stays_a_bounded_number_of_frames_ahead():
    made = []

    def endless():
        for i in range(10_000):
            made.append(i)
            yield i

    room = threading.Semaphore(4)
    items = read_ahead(endless(), room)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    time.sleep(0.2)
    assert len(made) == 4
    room.release()
    assert [next(items) for _ in range(2)] == [3, 4]
    items.close()
    before = len(made)
    time.sleep(0.1)
    assert len(made) == before


# --- sizes and several videos --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(160, 120), (3840, 2160)])
def test_small_and_very_large_pictures_give_pixels_of_their_own(tmp_path, size):
    clip, unit = tmp_path / "sized.mp4", size[1] / 240
    with VideoWriter(clip, size, RATE) as writer:
        for frame in range(13):
            rgb = np.full((size[1], size[0], 3), 60, np.uint8)
            x, y, height = runner(frame)
            corner, other = (x - height / 6, y - height / 2), (x + height / 6, y + height / 2)
            ends = [tuple(int(unit * value) for value in point) for point in (corner, other)]
            cv2.rectangle(rgb, *ends, (230, 230, 230), -1)
            writer.write(rgb)
    poses = detect(clip, config=CONFIG)
    assert poses.size == size
    truth = unit * np.array([runner(frame)[:2] for frame in range(13)])
    assert np.abs(middle(poses) - truth).max() < 3 * max(unit, 1)


def test_a_phone_held_upright_gives_upright_pixels(tmp_path):
    clip = tmp_path / "turned.mp4"
    with VideoWriter(clip, SIZE, RATE, rotation=90) as writer:
        for frame in range(24):
            rgb = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
            cv2.rectangle(rgb, (100 + 2 * frame, 100), (200 + 2 * frame, 140), (230, 230, 230), -1)
            writer.write(rgb)
    poses = detect(clip, config=CONFIG)
    assert poses.size == SIZE[::-1]
    height = np.nanmax(poses.xy[..., 1], axis=1) - np.nanmin(poses.xy[..., 1], axis=1)
    width = np.nanmax(poses.xy[..., 0], axis=1) - np.nanmin(poses.xy[..., 0], axis=1)
    assert (height > 1.5 * width).all()


def test_frames_that_cannot_be_decoded_are_left_out_and_the_rest_is_followed(run, tmp_path):
    clip, content = tmp_path / "damaged.mp4", bytearray(run.read_bytes())
    with av.open(str(run)) as container:
        entries = list(container.streams.video[0].index_entries)
    for number in (20, 21):
        entry = entries[number]
        content[entry.pos + 5 : entry.pos + entry.size] = bytes(entry.size - 5)
    clip.write_bytes(bytes(content))
    poses = detect(clip, config=replace(CONFIG, person=0))  # what is left of the damage looks like somebody too
    assert len(poses) == 88
    assert (poses.score > 0).any(axis=1).all()
