"""Clocks from sound, on files and arrays whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from twoview.soundfeatures import Sound
from twoview.soundmatch import match

RATE = 16000


def claps(seconds: float, *, seed: int = 0, rate: float = 0.8) -> np.ndarray:
    """Bursts of noise at random moments over a quiet background."""
    chance = np.random.default_rng(seed)
    sound = 0.002 * chance.standard_normal(round(seconds * RATE))
    for start in np.cumsum(chance.exponential(1 / rate, round(2 * seconds * rate) + 4)):
        at = round(start * RATE)
        if at + 800 < len(sound):
            sound[at : at + 800] += chance.standard_normal(800) * np.exp(-np.arange(800) / 120) * chance.uniform(0.2, 1)
    return sound.astype(np.float32)


def heard(world: np.ndarray, start: float, seconds: float, *, ppm: float = 0.0) -> np.ndarray:
    """What a phone hears that starts at `start` and whose clock runs `ppm` fast: linear interpolation of the world."""
    at = (start + np.arange(round(seconds * RATE)) / RATE / (1 + ppm * 1e-6)) * RATE
    return np.interp(at, np.arange(len(world)), world).astype(np.float32)


@pytest.mark.parametrize("start", [0.0, 2.71828, 7.3])
def test_offset_and_drift_are_recovered(start):
    world = claps(40)
    a, b = heard(world, start, 25), heard(world, 4.2, 28, ppm=60)
    found = match(Sound.of(a, RATE), Sound.of(-0.1 * b, RATE))
    assert not found.refusal
    middle = 10.0
    truth = 4.2 - start + middle / (1 + 60e-6)
    assert float(found.clock.to_session(middle)) == pytest.approx(truth, abs=5e-5)
    assert found.clock.drift_ppm == pytest.approx(-60, abs=5)
    assert found.confidence > 0.99


def test_unrelated_sound_is_refused():
    found = match(Sound.of(claps(20, seed=1), RATE), Sound.of(claps(20, seed=2), RATE))
    assert "no shared sound" in found.refusal
    assert found.confidence < 0.5


def test_silence_is_refused():
    found = match(Sound.of(claps(10), RATE), Sound.of(np.zeros(10 * RATE, np.float32), RATE))
    assert "second recording is silent" in found.refusal
