"""Arrays as sounds that can be compared."""

from __future__ import annotations

from twoview.synchronization.audio_features import Sound, prepare


def sound_of(samples, rate: int) -> Sound:
    """A view's sound from samples (N,) or (N, channels)."""
    samples = samples if samples.ndim == 2 else samples[:, None]
    return prepare((samples[i : i + (1 << 18)] for i in range(0, len(samples), 1 << 18)), rate)
