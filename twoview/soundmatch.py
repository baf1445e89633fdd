"""How two recordings of one event line up, from two arrays of sound: coarse to fine, with the evidence.

Everywhere here `time in a = offset_s + rate * time in b`, both in seconds from the first sample of each array.

Coarse: cepstra of both, correlated over all delays; right within some 10 ms even in halls and noise, never finer.
Fine: waveforms correlated in short windows, near the coarse delay only; their peaks are summed along lines of delay
against time, so that a drift of the clocks costs nothing and no single window decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import fft

from twoview.config import SyncConfig
from twoview.soundfeatures import BAND_HZ, Sound
from twoview.timeline import ClockMap

Array = np.ndarray

_CHUNK_S = 120.0  # cepstra are compared in stretches of this length: over longer ones, drift smears the peak
_CANDIDATES, _APART_S, _WORTH = 6, 0.06, 0.4  # coarse peaks kept; how far apart; least height, of the highest
_SURE_OVERLAP_S = 4.0  # added to the overlap when sums are compared: few seconds agree by chance more easily
_WINDOW_S, _WINDOWS = 3.0, 40
_REACH_S = 0.04  # how far a fine delay may be from the coarse one
_NEAR_S = 0.03  # and how far it usually is: the sum's weight falls to 60 % there
_POWER = 0.8  # of a window's correlation in the sum
_PLAIN_WHITENING = 0.9  # 1 would be the phase transform; slightly less keeps noise-only frequencies down
_CLOSE_S = 0.005  # fits nearer than this are the same answer
_LEAST_TOTAL, _MOST_LIKENESS = 12.5, 0.93  # what is relied on; unrelated sounds reach 9.5


@dataclass(frozen=True, eq=False)
class Fit:
    """One candidate, refined.

    time, delay  (K,) s  middles of the windows in b; how much later each is in a
    used         (K,)    windows that agree with the line
    score        sum along the line in standard deviations of chance; rival the highest elsewhere within reach
    coarse       height of the coarse peak, likewise
    """

    clock: ClockMap
    score: float
    rival: float
    coarse: float
    time: Array
    delay: Array
    used: Array
    offset_se_s: float
    drift_se_ppm: float
    residual_s: float

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
    """

    clock: ClockMap
    confidence: float
    refusal: str
    overlap: tuple[float, float] = (0.0, 0.0)
    fits: tuple[Fit, ...] = ()
    lags: Array = field(default_factory=lambda: np.zeros(0))
    heights: Array = field(default_factory=lambda: np.zeros(0))
    numbers: dict[str, float] = field(default_factory=dict)

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
        if sound.silent:
            return Match(ClockMap(), 0.0, f"the {name} recording is silent")
    shortest = min(a.seconds, b.seconds)
    if shortest < config.min_overlap_s:
        return Match(ClockMap(), 0.0, f"too little sound: {shortest:.1f} s, and {config.min_overlap_s:g} s are needed")
    candidates, lags, heights = _coarse(a, b, config)
    fits = [fit for candidate in candidates if (fit := _refine(a, b, candidate, config)) is not None]
    if not fits:
        return Match(ClockMap(), 0.0, "no sound in what could be common", lags=lags, heights=heights)
    fits.sort(key=lambda fit: -fit.total)
    return _judged(a, b, tuple(fits), lags, heights)


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
    confidence = _probability(best.total, likeness)
    refusal = ""
    if best.total < _LEAST_TOTAL:
        refusal = (
            f"no shared sound: the best of all delays stands {best.total:.1f} above chance, {_LEAST_TOTAL:g} is needed"
        )
    elif second is not None and likeness > _MOST_LIKENESS:
        apart = abs(delays[fits.index(second)] - delays[0])
        refusal = f"the sound repeats itself: two delays {apart:.3f} s apart fit alike ({likeness:.0%})"
    return Match(best.clock, confidence, refusal, span, fits, lags, heights, numbers)


def _probability(total: float, likeness: float) -> float:
    """Chance that the delay is right within half a frame, from what `tests/benchmarks/sync.py` found."""
    found = 1 / (1 + np.exp(-1.3 * (total - 11.0)))
    unique = 1 / (1 + np.exp(50 * (likeness - 1.0)))
    return float(found * unique)


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
        lag = (lags[at] + _peak_shift(heights[max(at - 1, 0) : at + 2])) * hop
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


# --- fine ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Windows:
    """Correlations of short windows. time, delay (K,) s: middles in b, delay at the centre column; rows (K, 2R + 1)."""

    time: Array
    delay: Array
    plain: Array
    onset: Array
    rate: int

    @property
    def reach(self) -> int:
        """Columns on either side of the middle one."""
        return self.plain.shape[1] // 2


def _refine(a: Sound, b: Sound, candidate: _Candidate, config: SyncConfig) -> Fit | None:
    windows = _correlated(a, b, candidate)
    if windows is None:
        return None
    line, score, rival, share = _best_line(windows, candidate, config)
    delay, weight = _peaks(
        windows, line.to_session(windows.time) - windows.time, windows.onset if share > 0.4 else windows.plain
    )
    used, fitted, errors, residual = fit_line(windows.time, delay, weight, line)
    return Fit(fitted, score, rival, candidate.height, windows.time, delay, used, *errors, residual)


def _correlated(a: Sound, b: Sound, candidate: _Candidate) -> _Windows | None:
    """Windows of b against the stretches of a where the candidate says that they are."""
    rate, clock = a.rate, candidate.clock
    lo, hi = overlap(clock, a.seconds, b.seconds)
    seconds = float(np.clip((hi - lo) / 5, 0.6, _WINDOW_S))
    count = max(2, min(_WINDOWS, int(2 * (hi - lo) / seconds) - 1))
    length, reach = round(seconds * rate), round(_REACH_S * rate)
    size = fft.next_fast_len(length + 2 * reach, real=True)
    frequency = fft.rfftfreq(size, 1 / rate)
    band = ((frequency > BAND_HZ[0]) & (frequency < BAND_HZ[1])).astype(np.float32)
    taper = np.hanning(length).astype(np.float32) ** 0.5
    time, delay, plain, onset = [], [], [], []
    for start in lo + np.linspace(0, hi - lo - seconds, count):
        at_b = round(start * rate)
        middle = (at_b + length / 2) / rate
        at_a = round((float(clock.to_session(middle)) - seconds / 2) * rate)
        rows = []
        for name, whitening in (("plain", _PLAIN_WHITENING), ("onset", 0.0)):
            ours = getattr(b, name)(at_b, length) * taper
            theirs = getattr(a, name)(at_a - reach, length + 2 * reach)
            cross = fft.rfft(theirs, size) * np.conj(fft.rfft(ours, size))
            if whitening:
                cross *= band / (np.abs(cross) + 1e-20) ** whitening
            rows.append(fft.irfft(cross, size)[: 2 * reach + 1])
        if all(row.any() for row in rows):
            time.append(middle)
            delay.append((at_a - at_b) / rate)
            plain.append(_in_deviations(rows[0]))
            onset.append(_in_deviations(rows[1]))
    if len(time) < 2:
        return None
    return _Windows(np.array(time), np.array(delay), np.array(plain), np.array(onset), rate)


def _in_deviations(row: Array) -> Array:
    return row / (1.4826 * np.median(np.abs(row)) + 1e-20)


def _best_line(windows: _Windows, candidate: _Candidate, config: SyncConfig) -> tuple[ClockMap, float, float, float]:
    """The line of delays with the highest sum, its height and its highest rival's, and the onsets' share of it."""
    time, rate, reach = windows.time, windows.rate, windows.reach
    middle, half = 0.5 * (time[0] + time[-1]), 0.5 * (time[-1] - time[0])
    steepest = min(config.max_drift_ppm * 1e-6, _REACH_S / half)
    step = 1 / rate / half
    drifts = step * np.arange(-int(steepest / step), int(steepest / step) + 1)
    votes = _votes(windows.plain), _votes(windows.onset)
    padded = np.pad(sum(votes), ((0, 0), (2 * reach, 2 * reach)))
    bent = windows.delay - (candidate.clock.to_session(time) - time)  # windows start at whole samples
    sums = np.zeros((len(drifts), 2 * reach + 1))
    for place, drift in enumerate(drifts):
        shifts = 2 * reach + np.round((drift * (time - middle) - bent) * rate).astype(int)
        for k, shift in enumerate(np.clip(shifts, 0, 4 * reach)):
            sums[place] += padded[k, shift : shift + 2 * reach + 1]
    sums /= np.sqrt(2 * len(time))
    offsets = np.arange(-reach, reach + 1) / rate
    sums *= np.exp(-0.5 * (offsets / _NEAR_S) ** 2)
    row, column = divmod(int(np.argmax(sums)), sums.shape[1])
    score = float(sums[row, column])
    elsewhere = np.abs(offsets - offsets[column]) > 0.001
    rate_b = candidate.clock.rate + drifts[row]
    at_middle = float(candidate.clock.to_session(middle)) + offsets[column]
    shifts = np.clip(
        reach + column - reach + np.round((drifts[row] * (time - middle) - bent) * rate).astype(int), 0, 2 * reach
    )
    shares = [max(float(v[np.arange(len(time)), shifts].sum()), 0.0) for v in votes]
    line = ClockMap(at_middle - rate_b * middle, rate_b)
    return line, score, float(sums[:, elsewhere].max()), shares[1] / (sum(shares) + 1e-9)


def _votes(rows: Array) -> Array:
    """Each window's say on each delay: compressed, as wide as a sample either side, of zero mean and unit variance."""
    votes = np.abs(rows) ** _POWER
    votes[:, 1:-1] = np.maximum(votes[:, 1:-1], np.maximum(votes[:, 2:], votes[:, :-2]))
    return (votes - votes.mean(axis=1, keepdims=True)) / (votes.std(axis=1, keepdims=True) + 1e-9)


def _peaks(windows: _Windows, expected: Array, rows: Array) -> tuple[Array, Array]:
    """Delay (K,) of each window's peak nearest the expected one, between samples, and its weight (K,)."""
    delay, weight = np.array(expected), np.zeros(len(expected))
    near = 6
    for k, row in enumerate(np.abs(rows)):
        centre = round((expected[k] - windows.delay[k]) * windows.rate) + windows.reach
        if near < centre < len(row) - near - 1:
            at = centre - near + int(np.argmax(row[centre - near : centre + near + 1]))
            delay[k] = windows.delay[k] + (at - windows.reach + _peak_shift(row[at - 1 : at + 2])) / windows.rate
            weight[k] = min(float(row[at]), 20.0) ** 2
    return delay, weight


def _peak_shift(three: Array) -> float:
    """Where, between -0.5 and 0.5, the parabola through three values around a maximum has its top."""
    if len(three) < 3:
        return 0.0
    bend = three[0] - 2 * three[1] + three[2]
    return float(np.clip(0.5 * (three[0] - three[2]) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def fit_line(
    time: Array, delay: Array, weight: Array, guess: ClockMap
) -> tuple[Array, ClockMap, tuple[float, float], float]:
    """Weighted line through delays (K,) at times (K,), leaving out those that stay away from it.

    Returns which were used, the clock map, standard errors (offset in the middle in s, drift in ppm) and the median
    distance of the used ones. With fewer than three in agreement the guess stays and the errors are NaN.
    """
    middle = float(np.mean(time))
    columns = np.stack([np.ones_like(time), time - middle], axis=1)
    line = np.array([float(guess.to_session(middle)) - middle, guess.rate - 1])
    used = (np.abs(delay - columns @ line) < 0.25e-3) & (weight > 0)
    errors, residual = np.full(2, np.nan), float("nan")
    for _ in range(8):
        if used.sum() < 3:
            break
        normal = columns[used].T @ (weight[used, None] * columns[used])
        line = np.linalg.solve(normal, columns[used].T @ (weight[used] * delay[used]))
        away = np.abs(delay - columns @ line)
        residual = float(np.median(away[used]))
        variance = float(np.sum(weight[used] * away[used] ** 2)) / max(int(used.sum()) - 2, 1)
        errors = np.sqrt(np.diag(np.linalg.inv(normal)) * variance)
        agree = (away < max(4 * 1.4826 * residual, 0.03e-3)) & (weight > 0)
        if (agree == used).all():
            break
        used = agree
    clock = ClockMap(float(line[0] - line[1] * middle), float(1 + line[1]))
    return used, clock, (float(errors[0]), float(errors[1] * 1e6)), residual
