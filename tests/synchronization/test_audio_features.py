"""One view's sound: the same however it is cut into blocks and wherever it is stored."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from sounds import sound_of

from twoview.errors import StorageError
from twoview.synchronization import audio_features
from twoview.synchronization.audio_features import prepare

RATE = 16000


def noise(seconds: float, channels: int = 1) -> np.ndarray:
    chance = np.random.default_rng(0)
    return 0.1 * chance.standard_normal((round(seconds * RATE), channels), dtype=np.float32)


def cut(samples: np.ndarray, length: int) -> list[np.ndarray]:
    return [samples[i : i + length] for i in range(0, len(samples), length)]


@pytest.mark.parametrize("length", [100, 7777, 10**6])
def test_the_cut_into_blocks_changes_nothing(length):
    samples = noise(3)
    whole, parts = sound_of(samples, RATE), prepare(cut(samples, length), RATE)
    assert parts.length == whole.length == len(samples)
    assert parts.plain(0, len(samples)) == pytest.approx(whole.plain(0, len(samples)), abs=2e-3)


def test_rumble_is_cut_away_without_delay_and_the_rest_is_of_unit_size():
    samples, time = noise(4), np.arange(4 * RATE) / RATE
    low = (0.5 * np.sin(2 * np.pi * 40 * time)).astype(np.float32)[:, None]
    clean, windy = sound_of(samples, RATE).plain(0, 4 * RATE), sound_of(samples + low, RATE).plain(0, 4 * RATE)
    assert np.sqrt(np.mean(windy**2)) == pytest.approx(1, abs=1e-2)
    assert windy[800:-800] == pytest.approx(clean[800:-800], abs=0.06)
    assert int(np.argmax(np.correlate(windy[:4000], samples[100:3900, 0]))) == 100


def test_a_sound_on_the_disk_is_the_same(monkeypatch):
    samples = noise(3, channels=2)
    kept = sound_of(samples, RATE)
    monkeypatch.setattr(audio_features, "_IN_MEMORY", 1000)
    spilled = sound_of(samples, RATE)
    assert (spilled.plain(-50, 4 * RATE) == kept.plain(-50, 4 * RATE)).all()
    assert (spilled.cepstra == kept.cepstra).all()


def test_a_full_disk_is_an_error_that_names_the_folder(monkeypatch):
    class Full:
        def __init__(self, size: int) -> None: ...

        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None: ...

    monkeypatch.setattr(audio_features.tempfile, "SpooledTemporaryFile", Full)
    with pytest.raises(StorageError, match=r"no room in .*No space left on device") as caught:
        sound_of(noise(1), RATE)
    assert "TMPDIR" in caught.value.hint


def test_onsets_do_not_depend_on_which_part_is_asked_for():
    sound = sound_of(noise(23), RATE)
    whole = sound.onsets(9 * RATE, 14 * RATE + 500)
    assert (whole[14 * RATE :] == 0).all()
    assert (sound.onsets(12 * RATE, RATE) == whole[3 * RATE : 4 * RATE]).all()


@pytest.mark.parametrize("loud", [0, 1])
def test_a_dead_channel_is_not_used(loud):
    samples = noise(2, channels=2)
    samples[:, 1 - loud] *= 0.01
    one = sound_of(samples[:, loud], RATE)
    assert sound_of(samples, RATE).plain(0, 2 * RATE) == pytest.approx(one.plain(0, 2 * RATE), abs=1e-2)


def test_a_channel_in_the_wind_is_not_used():
    samples = noise(2, channels=2)
    samples[:, 0] += np.sin(2 * np.pi * 30 * np.arange(2 * RATE) / RATE)
    one = sound_of(samples[:, 1], RATE)
    assert sound_of(samples, RATE).plain(0, 2 * RATE) == pytest.approx(one.plain(0, 2 * RATE), abs=1e-2)


def test_silence_is_known():
    assert sound_of(np.full((RATE, 2), 1e-6, np.float32), RATE).silent
    assert sound_of(np.zeros((0, 1), np.float32), RATE).length == 0
