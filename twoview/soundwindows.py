"""The fine half of `soundmatch`: waveforms in short windows near a coarse delay, and the line that their delays follow.

A window's correlation has two forms. Plain: all frequencies count alike (nearly the phase transform). Onset: only what
rises counts, so that a room's echoes, which come later and from elsewhere, do not. Both vote on every delay, loud
windows more than quiet ones, since what is loud in both recordings happened near both, at the athlete. The line of
delay against time with the most votes wins; no single window decides, and a drift of the clocks costs nothing.
All sources share that drift, so it is told by whatever both hear all the time, also from elsewhere: there the signed
correlations add up. Which of the parallel lines is the athlete's, the votes alone decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from twoview.sound import Sound
from twoview.soundfeatures import BAND_HZ, power_of
from twoview.timeline import ClockMap

Array = np.ndarray

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
        centre = round((expected[k] - windows.delay[k]) * windows.rate) + windows.reach
        if near < centre < len(row) - near - 1:
            at = centre - near + int(np.argmax(row[centre - near : centre + near + 1]))
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
