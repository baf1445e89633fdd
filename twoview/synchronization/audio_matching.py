"""The fine half of `soundmatch`: waveforms in short windows near a coarse delay, and the line that their delays follow.

A window's correlation has two forms. Plain: all frequencies count alike (nearly the phase transform). Onset: only what
rises counts, so that a room's echoes, which come later and from elsewhere, do not. Both vote on every delay, loud
windows more than quiet ones, since what is loud in both recordings happened near both, at the athlete. The line of
delay against time with the most votes wins; no single window decides, and a drift of the clocks costs nothing.
All sources share that drift, so it is told by whatever both hear all the time, also from elsewhere: there the signed
correlations add up. Which of the parallel lines is the athlete's, the votes alone decide.

How two recordings of one event line up, from two arrays of sound: coarse to fine, with the evidence.

Everywhere here `time in a = offset_s + rate * time in b`, both in seconds from the first sample of each array.

Coarse: cepstra of both, correlated over all delays; right within some 10 ms even in halls and noise, never finer.
Fine: waveforms in short windows near the coarse delay only, see `soundwindows`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray as Array
from scipy import fft, ndimage

from twoview.config import SyncConfig
from twoview.synchronization.audio_features import BAND_HZ, Sound, power_of
from twoview.timeline import ClockMap

_WINDOW_S, _WINDOWS = 3.0, 40
_REACH_S = 0.04  # how far a fine delay may be from the coarse one
_NEAR_S = 0.03  # and how far it usually is: the sum's weight falls to 60 % there
_POWER = 0.8  # of a window's correlation in the sum
_BLUR = 0.6  # samples: lines pass between them
_LOUDEST = 3.0  # most, and least, weight of a window, of the usual one's
_STEADY = 0.5  # standard deviations that 100 ppm of drift cost: most phones are within 20 of each other
_PLAIN_WHITENING = 0.9  # 1 would be the phase transform; slightly less keeps noise-only frequencies down
_MOST_ONSET = 0.4  # of the votes; with more from onsets, these tell the windows' delays too
_AGREE_S = 0.25e-3  # from the line to a window's peak that belongs to it
_FEW = 3  # windows that a line needs
_CLEAR, _CLEAREST = 3.0, 20.0  # standard deviations: a peak that chance does not reach often, and one no other exceeds


@dataclass(frozen=True, eq=False)
class Line:
    """A line of delays, with what supports it.

    clock        time in a of times in b
    score        sum along the line in standard deviations of chance; rival the highest elsewhere within reach
    time, delay  (K,) s  middles of the windows in b; how much later each is in a
    used         (K,)    windows that agree with the line
    """

    clock: ClockMap
    score: float
    rival: float
    time: Array
    delay: Array
    used: Array
    offset_se_s: float
    drift_se_ppm: float
    residual_s: float


@dataclass(frozen=True, eq=False)
class _Windows:
    """Correlations of short windows.

    time, delay, weight  (K,) middles in b, s; delay at the middle column, s; loudness, of the usual
    plain, onset         (K, 2R + 1) in standard deviations of chance
    """

    time: Array
    delay: Array
    weight: Array
    plain: Array
    onset: Array
    rate: int

    @property
    def reach(self) -> int:
        """Columns on either side of the middle one."""
        return self.plain.shape[1] // 2

    def votes(self, rows: Array) -> Array:
        """Each window's say on each delay: compressed, of zero mean and unit variance."""
        return _unit(np.abs(rows) ** _POWER)


class Spectra:
    """Spectra of b's windows, which are the same for all candidates of one pair."""

    def __init__(self, b: Sound, seconds: float) -> None:
        self.length, self.reach = round(seconds * b.rate), round(_REACH_S * b.rate)
        self.size = fft.next_fast_len(self.length + 2 * self.reach, real=True)
        self.starts = np.arange(0, b.length - self.length + 1, self.length // 2)
        self._sound, self._kept = b, dict[int, tuple[Array, Array, float]]()
        self._taper = np.hanning(self.length).astype(np.float32) ** 0.5

    def __getitem__(self, start: int) -> tuple[Array, Array, float]:
        """Conjugate spectra of the plain and the onset window that begins at a sample, and its mean power."""
        if start not in self._kept:
            plain = self._sound.plain(start, self.length) * self._taper
            onset = self._sound.onset(start, self.length) * self._taper
            spectra = [np.conj(fft.rfft(window, self.size)) for window in (plain, onset)]
            self._kept[start] = (spectra[0], spectra[1], float(np.mean(plain**2)))
        return self._kept[start]


def window_s(overlap_s: float) -> float:
    """Length of windows that suits an overlap: nine of them, half over each other; tenths of a second."""
    return float(np.clip(np.floor(2 * overlap_s) / 10, 0.6, _WINDOW_S))


def follow(a: Sound, b: Spectra, coarse: ClockMap, overlap: tuple[float, float], max_drift_ppm: float) -> Line | None:
    """The line of delays near a coarse clock map; None if fewer than two windows hold sound in both.

    overlap  start and end of what both heard, seconds of b
    """
    windows = _correlated(a, b, coarse, overlap)
    return None if windows is None else _followed(windows, coarse, max_drift_ppm)


def _followed(windows: _Windows, coarse: ClockMap, max_drift_ppm: float) -> Line:
    """The line of delays that windows agree on, with its errors."""
    line, score, rival, share = _best_line(windows, coarse, max_drift_ppm)
    delay, weight = _peaks(
        windows, _delays(line, windows.time), windows.onset if share > _MOST_ONSET else windows.plain
    )
    used, fitted, errors, residual = fit_line(windows.time, delay, weight, line)
    clock, least = _sharpened(windows, fitted)
    offset_se, drift_se = np.fmax(errors, least).tolist()
    if used.sum() < _FEW:  # one or two sharp sounds tell no drift: all that is known of it is the range searched
        drift_se = max_drift_ppm / 3**0.5
        offset_se = float(np.hypot(offset_se, 0.5e-6 * drift_se * np.ptp(windows.time) / 2))
    return Line(clock, score, rival, windows.time, delay, used, offset_se, drift_se, residual)


def _correlated(a: Sound, b: Spectra, clock: ClockMap, overlap: tuple[float, float]) -> _Windows | None:
    """Windows of b against the stretches of a where the candidate says that they are."""
    rate, length, reach = a.rate, b.length, b.reach
    inside = b.starts[(b.starts >= overlap[0] * rate - 1) & (b.starts + length <= overlap[1] * rate + 1)]
    if len(inside) > _WINDOWS:
        inside = inside[np.linspace(0, len(inside) - 1, _WINDOWS).astype(int)]
    frequency = fft.rfftfreq(b.size, 1 / rate)
    band = ((frequency > BAND_HZ[0]) & (frequency < BAND_HZ[1])).astype(np.float32)
    time, delay, loud, rows = [], [], [], []
    for at_b in inside.tolist():
        middle = (at_b + length / 2) / rate
        at_a = round(float(clock.to_session(middle)) * rate - length / 2)
        ours_plain, ours_onset, power = b[at_b]
        theirs = a.plain(at_a - reach, length + 2 * reach)
        cross = fft.rfft(theirs, b.size) * ours_plain
        cross *= band / (power_of(cross) + 1e-30) ** (_PLAIN_WHITENING / 2)
        plain = fft.irfft(cross, b.size)[: 2 * reach + 1]
        cross = fft.rfft(a.onset(at_a - reach, length + 2 * reach), b.size) * ours_onset
        onset = fft.irfft(cross, b.size)[: 2 * reach + 1]
        if plain.any() and onset.any():
            time.append(middle)
            delay.append((at_a - at_b) / rate)
            loud.append((power * float(np.mean(theirs**2))) ** 0.25)
            rows.append((_in_deviations(plain), _in_deviations(onset)))
    if len(time) < 2:
        return None
    weight = np.clip(np.array(loud) / (np.median(loud) + 1e-12), 1 / _LOUDEST, _LOUDEST).astype(np.float32)
    both = np.array(rows)
    return _Windows(np.array(time), np.array(delay), weight, both[:, 0], both[:, 1], rate)


def _unit(rows: Array) -> Array:
    """Rows of zero mean and unit variance."""
    return (rows - rows.mean(axis=1, keepdims=True)) / (rows.std(axis=1, keepdims=True) + 1e-9)


def _in_deviations(row: Array) -> Array:
    return row / (1.4826 * np.median(np.abs(row)) + 1e-20)


def _delays(clock: ClockMap, time: Array) -> Array:
    return clock.to_session(time) - time


def _best_line(windows: _Windows, coarse: ClockMap, max_drift_ppm: float) -> tuple[ClockMap, float, float, float]:
    """The line of delays with the highest sum, its height and its highest rival's, and the onsets' share of it."""
    time, rate, reach = windows.time, windows.rate, windows.reach
    middle, half = 0.5 * (time[0] + time[-1]), 0.5 * (time[-1] - time[0])
    step = 1 / rate / half
    steepest = int(min(max_drift_ppm * 1e-6, _REACH_S / half) / step)
    drifts = step * np.arange(-steepest, steepest + 1)
    kinds = windows.plain, windows.onset
    votes = [_unit(ndimage.maximum_filter1d(windows.votes(rows), 3, axis=1)) for rows in kinds]
    signed = [_unit(ndimage.gaussian_filter1d(np.sign(rows) * np.abs(rows) ** _POWER, _BLUR, axis=1)) for rows in kinds]
    both = np.stack([sum(votes), sum(signed)], axis=1).astype(np.float32) * windows.weight[:, None, None]
    padded = np.pad(both, ((0, 0), (0, 0), (2 * reach, 2 * reach)))
    bent = windows.delay - _delays(coarse, time)  # windows start at whole samples
    places = 2 * reach + np.round((drifts[:, None] * (time - middle) - bent) * rate).astype(int)
    heights = np.zeros((len(drifts), 2, 2 * reach + 1), np.float32)
    for total, shifts in zip(heights, np.clip(places, 0, 4 * reach), strict=True):
        for k, shift in enumerate(shifts):
            total += padded[k, :, shift : shift + 2 * reach + 1]
    heights /= np.sqrt(2 * np.sum(windows.weight**2))
    offsets = np.arange(-reach, reach + 1) / rate
    near = np.exp(-0.5 * (offsets / _NEAR_S) ** 2)
    unusual = _STEADY * 1e4 * np.abs(coarse.rate - 1 + drifts)[:, None]
    sums, coherent = (heights[:, 0] - unusual) * near, (np.abs(heights[:, 1]) - unusual) * near
    row = int(np.argmax(sums.max(axis=1) + coherent.max(axis=1)))
    column = int(np.argmax(sums[row]))
    rival = float(sums[:, np.abs(offsets - offsets[column]) > 0.001].max())
    on_line = np.clip(places[row] - 2 * reach + column, 0, 2 * reach)
    shares = [max(float(v[np.arange(len(time)), on_line].sum()), 0.0) for v in votes]
    line_rate = coarse.rate + drifts[row]
    line = ClockMap(float(coarse.to_session(middle)) + offsets[column] - line_rate * middle, line_rate)
    return line, float(sums[row, column]), rival, shares[1] / (sum(shares) + 1e-9)


def _peaks(windows: _Windows, expected: Array, rows: Array) -> tuple[Array, Array]:
    """Delay (K,) of each window's peak nearest the expected one, between samples, and its weight (K,)."""
    delay, weight = np.array(expected), np.zeros(len(expected))
    near = 6
    for k, row in enumerate(np.abs(rows)):
        center = round((expected[k] - windows.delay[k]) * windows.rate) + windows.reach
        if near < center < len(row) - near - 1:
            at = center - near + int(np.argmax(row[center - near : center + near + 1]))
            delay[k] = windows.delay[k] + (at - windows.reach + peak_shift(row[at - 1 : at + 2])) / windows.rate
            weight[k] = max((windows.weight[k] * min(float(row[at]), _CLEAREST)) ** 2 - _CLEAR**2, 0.0)
    return delay, weight


def peak_shift(three: Array) -> float:
    """Where, between -0.5 and 0.5, the parabola through three values around a maximum has its top."""
    if len(three) < 3:
        return 0.0
    bend = three[0] - 2 * three[1] + three[2]
    return float(np.clip(0.5 * (three[0] - three[2]) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _sharpened(windows: _Windows, line: ClockMap) -> tuple[ClockMap, tuple[float, float]]:
    """The line moved and turned a little to where the smoothed votes of all windows, between samples, are highest.

    Where windows are clear this changes microseconds; where none is, it halves the error of the drift. Also the least
    standard errors (offset in s, drift in ppm): as far as the votes lose half a squared deviation.
    """
    time, rate = windows.time, windows.rate
    middle, half = 0.5 * (time[0] + time[-1]), 0.5 * (time[-1] - time[0])
    fine, turn, move = 8, 5, 8  # parts of a sample; most samples that the ends turn, and the middle moves
    columns = np.arange(-(turn + move) * fine, (turn + move) * fine + 1) / fine
    local = np.zeros((len(time), len(columns)))
    at = (_delays(line, time) - windows.delay) * rate + windows.reach
    for rows in (windows.plain, windows.onset):
        votes = ndimage.gaussian_filter1d(windows.votes(rows), 1.0, axis=1)
        for k, own in enumerate(votes):
            local[k] += windows.weight[k] * np.interp(at[k] + columns, np.arange(len(own)), own)
    local /= np.sqrt(2 * np.sum(windows.weight**2))
    tilts = np.arange(-turn * fine, turn * fine + 1) / fine
    sums = np.zeros((len(tilts), 2 * move * fine + 1))
    for total, tilt in zip(sums, tilts, strict=True):
        first = turn * fine + np.round(tilt * fine * (time - middle) / half).astype(int)
        for row, start in zip(local, first, strict=True):
            total += row[start : start + len(total)]
    sums -= _STEADY * 1e4 * np.abs(line.rate - 1 + tilts / rate / half)[:, None]
    turned, moved = divmod(int(np.argmax(sums)), sums.shape[1])
    top = float(sums[turned, moved])
    near = sums >= min(top, max(top**2 - 1, 0.0) ** 0.5)
    errors = np.ptp(np.flatnonzero(near[turned])) / fine / rate / 2, np.ptp(tilts[near.any(axis=1)]) / rate / half / 2
    offset, drift = (moved - move * fine) / fine / rate, tilts[turned] / rate / half
    clock = ClockMap(line.offset_s + offset - drift * middle, line.rate + drift)
    return clock, (float(errors[0]), float(errors[1]) * 1e6)


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
    used = (np.abs(delay - columns @ line) < _AGREE_S) & (weight > 0)
    errors, residual = np.full(2, np.nan), float("nan")
    for _ in range(8):
        if used.sum() < _FEW:
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
    shared: dict[float, Spectra] = {}
    for candidate in candidates:
        span = overlap(candidate.clock, a.seconds, b.seconds)
        seconds = window_s(span[1] - span[0])
        spectra = shared.setdefault(seconds, Spectra(b, seconds))
        line = follow(a, spectra, candidate.clock, span, config.max_drift_ppm)
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
    center = np.median(total[valid])
    spread = 1.4826 * np.median(np.abs(total[valid] - center)) + 1e-9
    heights = np.where(valid, (total - center) / spread, 0.0)
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
