"""How the clocks of two recordings of one event relate, from their sound: coarse search, fine lines, judgment.

Coarse: the cepstra of both, correlated over all delays. The peaks are right within some 10 ms even in halls and noise,
but never finer.

Fine: waveforms in short windows, within 40 ms of a coarse peak. A window's correlation has two forms. Plain: all
frequencies count alike (nearly the phase transform). Onsets: only what rises counts, so that the echoes of a room,
which come later and from other directions, do not. Both vote for delays, loud windows with more weight than quiet
ones, since what is loud in both recordings happened near both, at the athlete. The line of delay against time with the
most votes wins; no single window decides, and a drift of the clocks does no harm. All sources of sound share that
drift, so sound that both recorded all the time, also from elsewhere, helps to find it: there the signed correlations
add up. Which of the parallel lines is the athlete's is decided by the votes alone.

Inside this module `time in a = offset_s + rate * time in b`, in real seconds from the first sample of each recording;
`match_sounds` returns the relation of the views' clocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray as Array
from scipy import fft, ndimage
from scipy.special import stdtrit

from twoview.config import SyncConfig
from twoview.synchronization.audio_delays import coarse_peaks, find_periods, peak_shift
from twoview.synchronization.audio_features import BAND_HZ, Sound, power_spectrum
from twoview.synchronization.several_views import Relation
from twoview.timeline import USUAL_DRIFT_PPM, ClockMap, ClockQuality

SPEED_OF_SOUND = 343.0  # m/s at 20 degrees Celsius


_WINDOW_S, _WINDOWS = 3.0, 40  # longest window; most windows
_REACH_S = 0.04  # largest distance of a fine delay from the coarse one
_USUAL_REACH_S = 0.03  # and its usual size: there the weight of a sum falls to 60 %
_POWER = 0.8  # exponent that compresses correlations before they are summed
_BLUR = 0.6  # samples of Gaussian smoothing: lines pass between samples
_MOST_WEIGHT = 3.0  # largest weight of a window, and inverse of the smallest; 1 is the usual one
_DRIFT_PENALTY = 0.5  # standard deviations per 100 ppm of drift: most phones are within 20 ppm of each other
_WHITENING = 0.9  # of the plain correlation; 1 is the phase transform, less keeps noise-only frequencies down
_MOST_ONSET = 0.4  # share of the votes from onsets above which onsets give the windows' delays too
_SHARPENING = 8  # steps per sample when the best line is sharpened

_AGREE_S = 0.25e-3  # largest distance from the line of the peak of a window that belongs to it
_LEAST_WINDOWS = 3  # windows that a line needs
_NEAR = 6  # samples from the line within which the peak of a window is looked for
_DRIFT_WINDOWS, _MANY_WINDOWS, _DRIFT_FROM_S = (
    5,
    10,
    10.0,
)  # windows that show a drift; that do in any case; and seconds
_LEAST_OFFSET_SE_S, _ENDS_SE_S = (
    0.08e-3,
    0.015e-3,
)  # of an offset; of the delay at the ends of a line against each other
_ECHO_SE_S, _ECHO_SCORE = 1e-3, 10.0  # standard error that echoes cause, at this score
_WITHIN_TWO = 0.977  # share of normal errors below two standard errors
_CLEAR, _CLEAREST = 3.0, 20.0  # standard deviations: above the first a peak is rarely chance; the second is the most

_MOST_FAIRNESS = 1.5
_SAME_ANSWER_S = 0.005  # lines nearer than this are one answer
_LEAST_TOTAL, _MOST_LIKENESS = 12.5, 0.93  # limits of what is accepted; unrelated sounds reach 9.5
_COPY = 0.98  # correlation of samples that two microphones never reach
_SHORT_S = 4.0  # an overlap shorter than this explains why nothing certain was found


@dataclass(frozen=True, eq=False)
class Line:
    """A line of delays against time, and its support.

    clock        time in a of times in b
    score        sum of votes along the line, standard deviations of chance; rival: the highest sum elsewhere in reach
    coarse       height of the coarse peak near the line, standard deviations of chance
    time, delay  (K,) s  middles of the windows in b; how much later each is in a
    used         (K,)    whether the window agrees with the line
    offset_se_s, drift_se_ppm  standard errors; residual_s: median distance of the used windows
    overlap_s    what both recorded there
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
    overlap_s: float = 0.0

    @property
    def total(self) -> float:
        """The number by which lines are ranked."""
        return self.score + 0.5 * self.coarse


def match_sounds(
    a: Sound, b: Sound, *, distances: Mapping[str, float] | None = None, config: SyncConfig | None = None
) -> Relation:
    """How the clocks of two views relate. Never raises: `refusal` says why a relation cannot be relied on.

    distances  meters from the source of the sound to the views
    """
    config, distances = config or SyncConfig(), distances or {}
    refusal = _unusable(a, b, config)
    lines, lags, heights = ([], np.zeros(0), np.zeros(0)) if refusal else find_lines(a, b, config)
    if not lines:
        clock = _between_views(ClockMap(), a, b, distances)
        return Relation(a.name, b.name, clock, ClockQuality(0.0), refusal or "no sound in what could be common")
    best = lines[0]
    span = _overlap(best.clock, a, b)
    confidence, refusal = judge(lines, span)
    clock = _between_views(best.clock, a, b, distances)
    windows = int(best.used.sum()), len(best.used)
    quality = ClockQuality(
        confidence, a.slowdown * best.offset_se_s, best.drift_se_ppm, span[1] - span[0], windows,
        a.slowdown * best.residual_s,
    )  # fmt: skip
    return Relation(
        a.name, b.name, clock, quality, refusal,
        copies=_are_copies(a, b, best),
        middle_s=b.start_s + b.slowdown * sum(span) / 2,
        time=b.start_s + b.slowdown * best.time,
        delay=a.slowdown * (best.delay - _delays(best.clock, best.time)),
        used=best.used,
        lags=a.start_s + a.slowdown * lags - clock.rate * b.start_s,
        heights=heights,
    )  # fmt: skip


def find_lines(a: Sound, b: Sound, config: SyncConfig) -> tuple[list[Line], Array, Array]:
    """Lines near the highest coarse peaks, best first; lags (L,) s and heights (L,) of the coarse correlation."""
    peaks, lags, heights = coarse_peaks(a, b, config)
    spectra = dict[float, _Spectra]()

    def follow(coarse: ClockMap, height: float) -> list[Line]:
        span = _overlap(coarse, a, b)
        # Nine windows, each half over the next; whole tenths of a second.
        seconds = float(np.clip(np.floor(2 * (span[1] - span[0])) / 10, 0.6, _WINDOW_S))
        windows = _correlate(a, spectra.setdefault(seconds, _Spectra(b, seconds)), coarse, span)
        line = None if windows is None else _follow(windows, coarse, height, config.max_drift_ppm)
        return [] if line is None else [replace(line, overlap_s=span[1] - span[0])]

    lines = [line for peak in peaks for line in follow(*peak)]
    if lines:  # whole periods away from the best, a line may be as good and no coarse peak
        best = max(lines, key=lambda line: line.total).clock
        for period in find_periods(a if a.seconds < b.seconds else b):
            for lag in (best.offset_s - period, best.offset_s + period):
                other = ClockMap(lag, best.rate)
                span = _overlap(other, a, b)
                if span[1] - span[0] >= 0.9 * config.min_overlap_s:
                    lines += follow(other, float(np.interp(lag, lags, heights)))
    return sorted(lines, key=lambda line: -line.total), lags, heights


def judge(lines: Sequence[Line], span: tuple[float, float]) -> tuple[float, str]:
    """Confidence in the first of the lines, and why it should be refused; empty where it should not.

    span  start and end of what both recorded, seconds of b
    """
    best, seconds, middle = lines[0], span[1] - span[0], 0.5 * (span[0] + span[1])
    apart = [abs(float(line.clock.to_session(middle)) - float(best.clock.to_session(middle))) for line in lines]
    others = [(line, s) for line, s in zip(lines, apart, strict=True) if s > _SAME_ANSWER_S]
    second, second_s = max(others, key=lambda other: other[0].total, default=(None, 0.0))
    likeness = min(second.total * _fairness(best, second) / best.total, 1.0) if second else 0.0
    refusal = ""
    if best.total < _LEAST_TOTAL:
        refusal = (
            f"no shared sound: the best of all delays stands {best.total:.1f} above chance, {_LEAST_TOTAL:g} is needed"
        )
        if seconds < _SHORT_S:
            refusal = f"too little overlap: at the likeliest delay both recorded {seconds:.1f} s; {refusal}"
    elif likeness > _MOST_LIKENESS:
        refusal = f"the sound repeats itself: two delays {second_s:.3f} s apart fit alike ({likeness:.0%})"
    elif best.rival > best.score:
        refusal = (
            f"the sounds contradict each other: the loudest stand {best.rival:.1f} above chance at a delay whose drift "
            f"the others do not have, and {best.score:.1f} at one with their drift"
        )
    return _probability(best.total, likeness, best.rival / max(best.score, 1e-9)), refusal


def _fairness(best: Line, other: Line) -> float:
    """By how much the other line would be higher if its overlap were as long: sums grow with the root of time."""
    return math.sqrt(np.clip(best.overlap_s / max(other.overlap_s, 0.1), 1.0, _MOST_FAIRNESS))


def _probability(total: float, likeness: float, rivalry: float) -> float:
    """Probability that the delay is right within half a frame.

    Fitted on seeds 1101 and 3303 of `tests/benchmarks/sync.py`, where the totals of unrelated sounds ended at 7.7 and
    those of right answers began at 9.4. Never above 0.999: the few hundred pairs tried do not support more.

    rivalry  height of the highest line over 1 ms away, of the best's: above 1 if its drift is not that of the rest
    """
    found = 1 / (1 + np.exp(-1.5 * (total - 9.8)))
    unique = 1 / (1 + np.exp(60 * (likeness - 0.96)))
    clear = 1 / (1 + np.exp(60 * (rivalry - 1.0)))
    return float(min(found * unique * clear, 0.999))


def _unusable(a: Sound, b: Sound, config: SyncConfig) -> str:
    """Why two sounds cannot be compared; empty where they can."""
    for sound, name in ((a, "first"), (b, "second")):
        if not sound.length:
            return f"the {name} recording is empty"
        if sound.silent:
            return f"the {name} recording is silent"
    shortest = min(a.seconds, b.seconds)
    if shortest < config.min_overlap_s:
        return f"too little sound: {shortest:.1f} s, and {config.min_overlap_s:g} s are needed"
    return ""


def _are_copies(a: Sound, b: Sound, best: Line) -> bool:
    """Whether the samples themselves are alike, which those of two microphones never are."""
    alike, length = [], a.rate // 2
    for middle in best.time:
        start = round(middle * b.rate) - length // 2
        of_b = b.plain(start, length)
        of_a = a.plain(round(float(best.clock.to_session(start / b.rate)) * a.rate), length)
        alike.append(float(of_b @ of_a) / (float(np.linalg.norm(of_b) * np.linalg.norm(of_a)) + 1e-9))
    return bool(np.median(alike) > _COPY)


def _overlap(clock: ClockMap, a: Sound, b: Sound) -> tuple[float, float]:
    """Start and end, in seconds of b, of what both recorded."""
    return max(0.0, float(clock.to_view(0.0))), min(b.seconds, float(clock.to_view(a.seconds)))


def _between_views(clock: ClockMap, a: Sound, b: Sound, distances: Mapping[str, float]) -> ClockMap:
    """A map between two recordings as one between the views' clocks, without the travel time of the sound."""
    travel_a, travel_b = (distances.get(sound.name, 0.0) / SPEED_OF_SOUND for sound in (a, b))
    rate = a.slowdown * clock.rate / b.slowdown
    return ClockMap(a.start_s - travel_a + a.slowdown * clock.offset_s - rate * (b.start_s - travel_b), rate)


# --- fine: correlations of short windows -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Windows:
    """Correlations of short windows.

    time, delay, weight  (K,) middles in b, s; delay at the middle column, s; weight by loudness, 1 is the usual one
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
        return int(self.plain.shape[1] // 2)


class _Spectra:
    """Spectra of b's windows, which are the same for all coarse peaks of one pair."""

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
            onset = self._sound.onsets(start, self.length) * self._taper
            spectra = [np.conj(fft.rfft(window, self.size)) for window in (plain, onset)]
            self._kept[start] = (spectra[0], spectra[1], float(np.mean(plain**2)))
        return self._kept[start]


def _correlate(a: Sound, b: _Spectra, coarse: ClockMap, span: tuple[float, float]) -> _Windows | None:
    """Windows of b correlated with a, where the coarse peak places them; None if fewer than two hold sound in both."""
    rate, length, reach = a.rate, b.length, b.reach
    inside = b.starts[(b.starts >= span[0] * rate - 1) & (b.starts + length <= span[1] * rate + 1)]
    if len(inside) > _WINDOWS:
        inside = inside[np.linspace(0, len(inside) - 1, _WINDOWS).astype(int)]
    frequency = fft.rfftfreq(b.size, 1 / rate)
    band = ((frequency > BAND_HZ[0]) & (frequency < BAND_HZ[1])).astype(np.float32)
    time, delay, loudness, rows = [], [], [], []
    for at_b in inside.tolist():
        middle = (at_b + length / 2) / rate
        at_a = round(float(coarse.to_session(middle)) * rate - length / 2)
        plain_b, onset_b, power = b[at_b]
        plain_a = a.plain(at_a - reach, length + 2 * reach)
        cross = fft.rfft(plain_a, b.size) * plain_b
        cross *= band / (power_spectrum(cross) + 1e-30) ** (_WHITENING / 2)
        plain = fft.irfft(cross, b.size)[: 2 * reach + 1]
        cross = fft.rfft(a.onsets(at_a - reach, length + 2 * reach), b.size) * onset_b
        onset = fft.irfft(cross, b.size)[: 2 * reach + 1]
        if plain.any() and onset.any():
            time.append(middle)
            delay.append((at_a - at_b) / rate)
            loudness.append((power * float(np.mean(plain_a**2))) ** 0.25)
            rows.append((_in_deviations(plain), _in_deviations(onset)))
    if len(time) < 2:
        return None
    weight = np.clip(np.array(loudness) / (np.median(loudness) + 1e-12), 1 / _MOST_WEIGHT, _MOST_WEIGHT)
    both = np.array(rows)
    return _Windows(np.array(time), np.array(delay), weight.astype(np.float32), both[:, 0], both[:, 1], rate)


def _unit(rows: Array) -> Array:
    """Rows of zero mean and unit variance."""
    unit: Array = (rows - rows.mean(axis=1, keepdims=True)) / (rows.std(axis=1, keepdims=True) + 1e-9)
    return unit


def _in_deviations(row: Array) -> Array:
    """A row in units of its robust standard deviation."""
    scaled: Array = row / (1.4826 * np.median(np.abs(row)) + 1e-20)
    return scaled


# --- fine: the line through the windows ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _BestLine:
    """The line with the most votes; rival: highest sum over 1 ms away; onset_share: of the votes."""

    clock: ClockMap
    score: float
    rival: float
    onset_share: float


@dataclass(frozen=True, eq=False)
class _LineFit:
    """A least-squares line through delays; used (K,); errors: of the offset in s, of the drift in ppm, or NaN."""

    clock: ClockMap
    used: Array
    errors: tuple[float, float]
    residual_s: float


def _follow(windows: _Windows, coarse: ClockMap, height: float, max_drift_ppm: float) -> Line:
    """The line of delays that the windows agree on, with standard errors; height: of its coarse peak."""
    best = _best_line(windows, coarse, max_drift_ppm)
    rows = windows.onset if best.onset_share > _MOST_ONSET else windows.plain
    delay, weight = _window_peaks(windows, _delays(best.clock, windows.time), rows)
    fit = _fit_line(windows.time, delay, weight, best.clock)
    clock, least = _sharpen(windows, fit.clock)
    offset_se, drift_se = _standard_errors(fit, least, windows.time, best.score)
    if not _shows_drift(fit, windows):
        drift_se = min(USUAL_DRIFT_PPM, max_drift_ppm)
        # The delay is that of the windows in agreement; the rest of the recordings may be as far off as drift takes it.
        at = float(np.mean(windows.time[fit.used] if fit.used.any() else windows.time))
        clock = ClockMap(float(clock.to_session(at)) - coarse.rate * at, coarse.rate)
        away = max(abs(at - float(np.mean(windows.time))), float(np.ptp(windows.time)) / 4)
        offset_se = math.hypot(offset_se, 1e-6 * drift_se * away)
    return Line(
        clock, best.score, best.rival, height, windows.time, delay, fit.used, offset_se, drift_se, fit.residual_s
    )


def _standard_errors(fit: _LineFit, least: tuple[float, float], time: Array, score: float) -> tuple[float, float]:
    """Standard errors of the offset in s and of the drift in ppm. least: lower limits, from the votes.

    Fitted on seed 9101 of `tests/benchmarks/sync.py`: few windows know their spread badly; those in agreement were
    chosen for it; microphones and echoes shift all windows alike; and where the votes are few, the line may be that of
    an echo.
    """
    used = max(int(fit.used.sum()), _LEAST_WINDOWS)
    few = float(stdtrit(used - 2, _WITHIN_TWO)) / 2
    offset, drift = np.fmax(fit.errors, least) * few
    long = max(float(np.ptp(time[fit.used])) if fit.used.any() else 0.0, 1.0)
    return (
        math.hypot(offset, _LEAST_OFFSET_SE_S, _ECHO_SE_S * (_ECHO_SCORE / max(score, 1.0)) ** 3),
        math.hypot(drift * (len(time) / used) ** 0.5, 1e6 * _ENDS_SE_S / long),
    )


def _shows_drift(fit: _LineFit, windows: _Windows) -> bool:
    """Whether the drift is known: enough windows agree, far enough apart, and more than would by chance."""
    used = int(fit.used.sum())
    if used < _DRIFT_WINDOWS or np.ptp(windows.time[fit.used]) < _DRIFT_FROM_S:
        return False
    chance = min(1.0, _gate(fit.residual_s) * windows.rate / _NEAR) * len(windows.time)  # in so narrow a band
    return used >= _MANY_WINDOWS or used > chance + 2  # two are on any line


def _gate(residual: float) -> float:
    """Largest distance from the line of a window that agrees, seconds."""
    return max(4 * 1.4826 * residual, 0.03e-3)


def _delays(clock: ClockMap, time: Array) -> Array:
    """How much later times of b are in a, seconds."""
    delays: Array = clock.to_session(time) - time
    return delays


def _best_line(windows: _Windows, coarse: ClockMap, max_drift_ppm: float) -> _BestLine:
    """The line with the highest sum of votes: offset within _REACH_S of the coarse one, drift within a limit."""
    time, rate, reach = windows.time, windows.rate, windows.reach
    middle, half = 0.5 * (time[0] + time[-1]), 0.5 * (time[-1] - time[0])
    step = 1 / rate / half
    steepest = int(min(max_drift_ppm * 1e-6, _REACH_S / half) / step)
    drifts = step * np.arange(-steepest, steepest + 1)
    kinds = windows.plain, windows.onset
    votes = [_unit(ndimage.maximum_filter1d(_unit(np.abs(rows) ** _POWER), 3, axis=1)) for rows in kinds]
    signed = [_unit(ndimage.gaussian_filter1d(np.sign(rows) * np.abs(rows) ** _POWER, _BLUR, axis=1)) for rows in kinds]
    both = np.stack([sum(votes), sum(signed)], axis=1).astype(np.float32) * windows.weight[:, None, None]
    padded = np.pad(both, ((0, 0), (0, 0), (2 * reach, 2 * reach)))
    rounding = windows.delay - _delays(coarse, time)  # windows start at whole samples
    places = 2 * reach + np.round((drifts[:, None] * (time - middle) - rounding) * rate).astype(int)
    heights = np.zeros((len(drifts), 2, 2 * reach + 1), np.float32)
    for total, shifts in zip(heights, np.clip(places, 0, 4 * reach), strict=True):
        for k, shift in enumerate(shifts):
            total += padded[k, :, shift : shift + 2 * reach + 1]
    heights /= np.sqrt(2 * np.sum(windows.weight**2))
    offsets = np.arange(-reach, reach + 1) / rate
    near = np.exp(-0.5 * (offsets / _USUAL_REACH_S) ** 2)
    penalty = _DRIFT_PENALTY * 1e4 * np.abs(coarse.rate - 1 + drifts)[:, None]
    sums, coherent = (heights[:, 0] - penalty) * near, (np.abs(heights[:, 1]) - penalty) * near
    row = int(np.argmax(sums.max(axis=1) + coherent.max(axis=1)))
    column = int(np.argmax(sums[row]))
    rival = float(sums[:, np.abs(offsets - offsets[column]) > 0.001].max())
    on_line = np.clip(places[row] - 2 * reach + column, 0, 2 * reach)
    shares = [max(float(v[np.arange(len(time)), on_line].sum()), 0.0) for v in votes]
    line_rate = coarse.rate + drifts[row]
    line = ClockMap(float(coarse.to_session(middle)) + offsets[column] - line_rate * middle, line_rate)
    return _BestLine(line, float(sums[row, column]), rival, shares[1] / (sum(shares) + 1e-9))


def _window_peaks(windows: _Windows, expected: Array, rows: Array) -> tuple[Array, Array]:
    """Delay (K,) of the peak of each window nearest the expected one, between samples, and its weight (K,)."""
    delay, weight = np.array(expected), np.zeros(len(expected))
    near = _NEAR
    for k, row in enumerate(np.abs(rows)):
        center = round((expected[k] - windows.delay[k]) * windows.rate) + windows.reach
        if near < center < len(row) - near - 1:
            at = center - near + int(np.argmax(row[center - near : center + near + 1]))
            delay[k] = windows.delay[k] + (at - windows.reach + peak_shift(row[at - 1 : at + 2])) / windows.rate
            weight[k] = max((windows.weight[k] * min(float(row[at]), _CLEAREST)) ** 2 - _CLEAR**2, 0.0)
    return delay, weight


def _fit_line(time: Array, delay: Array, weight: Array, guess: ClockMap) -> _LineFit:
    """Weighted line through delays (K,) at times (K,), without those that lie away from it.

    With fewer than three windows in agreement the guess stays, and errors and residual are NaN.
    """
    middle = float(np.mean(time))
    columns = np.stack([np.ones_like(time), time - middle], axis=1)
    line = np.array([float(guess.to_session(middle)) - middle, guess.rate - 1])
    used = (np.abs(delay - columns @ line) < _AGREE_S) & (weight > 0)
    errors, residual = np.full(2, np.nan), float("nan")
    for _ in range(8):
        if used.sum() < _LEAST_WINDOWS:
            break
        normal = columns[used].T @ (weight[used, None] * columns[used])
        line = np.linalg.solve(normal, columns[used].T @ (weight[used] * delay[used]))
        away = np.abs(delay - columns @ line)
        residual = float(np.median(away[used]))
        variance = float(np.sum(weight[used] * away[used] ** 2)) / max(int(used.sum()) - 2, 1)
        errors = np.sqrt(np.diag(np.linalg.inv(normal)) * variance)
        agree = (away < _gate(residual)) & (weight > 0)
        if (agree == used).all():
            break
        used = agree
    clock = ClockMap(float(line[0] - line[1] * middle), float(1 + line[1]))
    return _LineFit(clock, used, (float(errors[0]), float(errors[1] * 1e6)), residual)


def _sharpen(windows: _Windows, line: ClockMap) -> tuple[ClockMap, tuple[float, float]]:
    """The line moved and turned slightly to where the smoothed votes of all windows, between samples, are highest.

    Where windows are clear this changes microseconds; where none is, it halves the error of the drift. Also lower
    limits of the standard errors (offset in s, drift in ppm): as far as the votes lose half a squared deviation.
    """
    time, rate, fine = windows.time, windows.rate, _SHARPENING
    middle, half = 0.5 * (time[0] + time[-1]), 0.5 * (time[-1] - time[0])
    turn, move = 5, 8  # most samples by which the ends turn, and by which the middle moves
    columns = np.arange(-(turn + move) * fine, (turn + move) * fine + 1) / fine
    local = np.zeros((len(time), len(columns)))
    at = (_delays(line, time) - windows.delay) * rate + windows.reach
    for rows in (windows.plain, windows.onset):
        votes = ndimage.gaussian_filter1d(_unit(np.abs(rows) ** _POWER), 1.0, axis=1)
        for k, own in enumerate(votes):
            local[k] += windows.weight[k] * np.interp(at[k] + columns, np.arange(len(own)), own)
    local /= np.sqrt(2 * np.sum(windows.weight**2))
    tilts = np.arange(-turn * fine, turn * fine + 1) / fine
    sums = np.zeros((len(tilts), 2 * move * fine + 1))
    for total, tilt in zip(sums, tilts, strict=True):
        first = turn * fine + np.round(tilt * fine * (time - middle) / half).astype(int)
        for row, start in zip(local, first, strict=True):
            total += row[start : start + len(total)]
    sums -= _DRIFT_PENALTY * 1e4 * np.abs(line.rate - 1 + tilts / rate / half)[:, None]
    turned, moved = divmod(int(np.argmax(sums)), sums.shape[1])
    top = float(sums[turned, moved])
    near = sums >= min(top, max(top**2 - 1, 0.0) ** 0.5)
    errors = np.ptp(np.flatnonzero(near[turned])) / fine / rate / 2, np.ptp(tilts[near.any(axis=1)]) / rate / half / 2
    offset, drift = (moved - move * fine) / fine / rate, tilts[turned] / rate / half
    clock = ClockMap(line.offset_s + offset - drift * middle, line.rate + drift)
    return clock, (float(errors[0]), float(errors[1]) * 1e6)
