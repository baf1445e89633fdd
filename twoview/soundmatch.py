"""How two recordings of one event line up, from two arrays of sound: coarse to fine, with the evidence.

Everywhere here `time in a = offset_s + rate * time in b`, both in seconds from the first sample of each array.

Coarse: cepstra of both, correlated over all delays; right within some 10 ms even in halls and noise, never finer.
Fine: waveforms in short windows near the coarse delay only, see `soundwindows`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import fft

from twoview import soundwindows
from twoview.config import SyncConfig
from twoview.sound import Sound
from twoview.soundwindows import Line, peak_shift
from twoview.timeline import ClockMap

Array = np.ndarray

_CHUNK_S = 120.0  # cepstra are compared in stretches of this length: over longer ones, drift smears the peak
_CANDIDATES, _APART_S, _WORTH = 4, 0.06, 0.6  # coarse peaks kept; how far apart; least height, of the highest
_SURE_OVERLAP_S = 4.0  # added to the overlap when sums are compared: few seconds agree by chance more easily
_CLOSE_S = 0.005  # fits nearer than this are the same answer
_LEAST_TOTAL, _MOST_LIKENESS = 12.5, 0.93  # what is relied on; unrelated sounds reach 9.5
_SAME = 0.98  # correlation of samples that two microphones never reach
_SHORT_S = 4.0  # an overlap that explains why nothing certain was found


@dataclass(frozen=True, eq=False)
class Fit(Line):
    """One candidate, refined. coarse: height of its coarse peak, in standard deviations of chance."""

    coarse: float = 0.0

    @property
    def total(self) -> float:
        """What candidates are ranked by."""
        return self.score + 0.5 * self.coarse


@dataclass(frozen=True, eq=False)
class Match:
    """The likeliest answer with its evidence. Rely on it only where `refusal` is empty.

    confidence  probability that the delay is right within half a frame (1/60 s)
    fits        candidates, best first
    lags, heights  (L,) the coarse correlation: delay in s, height in standard deviations
    copies      whether both are one recording, copied or encoded anew: two microphones never hear quite the same
    """

    clock: ClockMap
    confidence: float
    refusal: str
    overlap: tuple[float, float] = (0.0, 0.0)
    fits: tuple[Fit, ...] = ()
    lags: Array = field(default_factory=lambda: np.zeros(0))
    heights: Array = field(default_factory=lambda: np.zeros(0))
    numbers: dict[str, float] = field(default_factory=dict)
    copies: bool = False

    @property
    def overlap_s(self) -> float:
        """Seconds that both heard."""
        return self.overlap[1] - self.overlap[0]


@dataclass(frozen=True)
class _Candidate:
    clock: ClockMap
    height: float


def match(a: Sound, b: Sound, config: SyncConfig | None = None) -> Match:
    """Relate two sounds. Never raises for what it hears: `Match.refusal` says why an answer cannot be relied on."""
    config = config or SyncConfig()
    for sound, name in ((a, "first"), (b, "second")):
        if not sound.length:
            return Match(ClockMap(), 0.0, f"the {name} recording is empty")
        if sound.silent:
            return Match(ClockMap(), 0.0, f"the {name} recording is silent")
    shortest = min(a.seconds, b.seconds)
    if shortest < config.min_overlap_s:
        return Match(ClockMap(), 0.0, f"too little sound: {shortest:.1f} s, and {config.min_overlap_s:g} s are needed")
    candidates, lags, heights = _coarse(a, b, config)
    fits = _refined(a, b, candidates, config)
    if not fits:
        return Match(ClockMap(), 0.0, "no sound in what could be common", lags=lags, heights=heights)
    return _judged(a, b, fits, lags, heights)


def _refined(a: Sound, b: Sound, candidates: list[_Candidate], config: SyncConfig) -> tuple[Fit, ...]:
    """The candidates with their lines, best first."""
    fits = []
    shared: dict[float, soundwindows.Spectra] = {}
    for candidate in candidates:
        span = overlap(candidate.clock, a.seconds, b.seconds)
        seconds = soundwindows.window_s(span[1] - span[0])
        spectra = shared.setdefault(seconds, soundwindows.Spectra(b, seconds))
        line = soundwindows.follow(a, spectra, candidate.clock, span, config.max_drift_ppm)
        if line is not None:
            fits.append(Fit(**vars(line), coarse=candidate.height))
    return tuple(sorted(fits, key=lambda fit: -fit.total))


def _judged(a: Sound, b: Sound, fits: tuple[Fit, ...], lags: Array, heights: Array) -> Match:
    """The best fit with its confidence, or with the reason why it should not be relied on."""
    best = fits[0]
    span = overlap(best.clock, a.seconds, b.seconds)
    middle = 0.5 * (span[0] + span[1])
    delays = [float(fit.clock.to_session(middle)) - middle for fit in fits]
    others = [f for f, delay in zip(fits, delays, strict=True) if abs(delay - delays[0]) > _CLOSE_S]
    second = max(others, key=lambda fit: fit.total, default=None)
    likeness = second.total / best.total if second else 0.0
    numbers = {"score": best.score, "rival": best.rival, "coarse": best.coarse, "likeness": likeness}
    confidence = _probability(best.total, likeness, best.rival / max(best.score, 1e-9))
    refusal = ""
    if best.total < _LEAST_TOTAL:
        refusal = (
            f"no shared sound: the best of all delays stands {best.total:.1f} above chance, {_LEAST_TOTAL:g} is needed"
        )
        if span[1] - span[0] < _SHORT_S:
            refusal = f"too little overlap: at the likeliest delay both heard {span[1] - span[0]:.1f} s; {refusal}"
    elif second is not None and likeness > _MOST_LIKENESS:
        apart = abs(delays[fits.index(second)] - delays[0])
        refusal = f"the sound repeats itself: two delays {apart:.3f} s apart fit alike ({likeness:.0%})"
    elif best.rival > best.score:
        refusal = (
            f"the sounds contradict each other: the loudest stand {best.rival:.1f} above chance at a delay whose drift "
            f"the others do not have, and {best.score:.1f} at one with their drift"
        )
    return Match(best.clock, confidence, refusal, span, fits, lags, heights, numbers, _same(a, b, best))


def _same(a: Sound, b: Sound, best: Fit) -> bool:
    """Whether the samples themselves are alike, which two microphones' never are."""
    alike, length = [], a.rate // 2
    for middle in best.time:
        start = round(middle * b.rate) - length // 2
        ours = b.plain(start, length)
        theirs = a.plain(round(float(best.clock.to_session(start / b.rate)) * a.rate), length)
        alike.append(float(ours @ theirs) / (float(np.linalg.norm(ours) * np.linalg.norm(theirs)) + 1e-9))
    return bool(np.median(alike) > _SAME)


def _probability(total: float, likeness: float, rivalry: float) -> float:
    """Chance that the delay is right within half a frame, fitted on seeds 1101 and 3303 of `tests/benchmarks/sync.py`.

    rivalry  height of the highest line over 1 ms away, of the best's: above 1 if its drift is not that of the rest

    There the totals of unrelated sounds ended at 7.7 and those of right answers began at 9.4. Never above 0.999: with
    the few hundred pairs that were tried, no more can be claimed.
    """
    found = 1 / (1 + np.exp(-1.5 * (total - 9.8)))
    unique = 1 / (1 + np.exp(60 * (likeness - 0.96)))
    clear = 1 / (1 + np.exp(60 * (rivalry - 1.0)))
    return float(min(found * unique * clear, 0.999))


def overlap(clock: ClockMap, a_s: float, b_s: float) -> tuple[float, float]:
    """Start and end, in seconds of b, of what both heard."""
    return max(0.0, float(clock.to_view(0.0))), min(b_s, float(clock.to_view(a_s)))


# --- coarse ----------------------------------------------------------------------------------------------------------


def _coarse(a: Sound, b: Sound, config: SyncConfig) -> tuple[list[_Candidate], Array, Array]:
    """Delays worth a closer look, and the curve (lags in s, heights in standard deviations) they were taken from."""
    hop = a.hop_s
    lags = np.arange(-(len(b.cepstra) - 1), len(a.cepstra))
    common = np.minimum(np.minimum(len(b.cepstra), len(a.cepstra) - lags), np.minimum(len(b.cepstra) + lags,
                        len(a.cepstra))) * hop  # fmt: skip
    total, drift = _summed_over_drift(*_chunk_curves(a.cepstra, b.cepstra, round(_CHUNK_S / hop)), config)
    total /= np.sqrt(np.maximum(common, 0) + _SURE_OVERLAP_S)
    valid = common >= 0.9 * config.min_overlap_s
    centre = np.median(total[valid])
    spread = 1.4826 * np.median(np.abs(total[valid] - centre)) + 1e-9
    heights = np.where(valid, (total - centre) / spread, 0.0)
    found: list[_Candidate] = []
    left, apart = heights.copy(), round(_APART_S / hop)
    while len(found) < _CANDIDATES:
        at = int(np.argmax(left))
        if left[at] <= 0 or (found and left[at] < _WORTH * found[0].height):
            break
        lag = (lags[at] + peak_shift(heights[max(at - 1, 0) : at + 2])) * hop
        found.append(_Candidate(ClockMap(lag, 1 + drift[at]), float(left[at])))
        left[max(0, at - apart) : at + apart + 1] = -np.inf
    return found, lags * hop, heights


def _chunk_curves(a: Array, b: Array, length: int) -> tuple[Array, Array]:
    """Correlation of each stretch of b with all of a, (K, lags of b against a), and the stretches' middles (K,)."""
    count = max(1, round(len(b) / length))
    edges = np.linspace(0, len(b), count + 1).astype(int)
    size = fft.next_fast_len(len(a) + int(np.diff(edges).max()), real=True)
    cross = np.zeros((count, size // 2 + 1), np.complex64)
    for c in range(a.shape[1]):
        spectrum = fft.rfft(a[:, c].astype(np.float32), size)
        for k in range(count):
            cross[k] += spectrum * np.conj(fft.rfft(b[edges[k] : edges[k + 1], c].astype(np.float32), size))
    curves = np.zeros((count, len(a) + len(b) - 1), np.float32)
    for k in range(count):
        length = edges[k + 1] - edges[k]
        own = np.arange(-(length - 1), len(a))
        first = len(b) - length - edges[k]  # where the stretch's first lag is among all lags
        curves[k, first : first + len(own)] = fft.irfft(cross[k], size)[own]
    return curves, 0.5 * (edges[1:] + edges[:-1])


def _summed_over_drift(curves: Array, middles: Array, config: SyncConfig) -> tuple[Array, Array]:
    """Sum (L,) of the stretches' curves along the best line through each lag at b = 0, and that line's drift (L,)."""
    if len(curves) == 1:
        return curves[0].astype(np.float64), np.zeros(curves.shape[1])
    step = 1.5 / (middles[-1] - middles[0])
    reach = int(np.ceil(config.max_drift_ppm * 1e-6 / step))
    best = np.full(curves.shape[1], -np.inf, np.float32)
    which = np.zeros(curves.shape[1])
    for drift in step * np.arange(-reach, reach + 1):
        total = np.zeros_like(best)
        for curve, middle in zip(curves, middles, strict=True):
            total += np.roll(curve, -round(drift * middle))
        which[total > best] = drift
        np.maximum(best, total, out=best)
    return best.astype(np.float64), which
