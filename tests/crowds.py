"""Several people before two phones, as the tracks that a detector would leave: truth for who is the athlete.

A body is (T, 17, 3) m in a room, z up, Human3.6M joints, NaN where the person is absent. A phone projects everyone, the
simulated detector errs as MoveNet does (`twoview/assets/movenet/noise.json`), joints behind somebody nearer are weak
and partly his, two people in nearly one box are one, and the package's own tracker says who is who.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray as Array

from twoview.detection.estimation import MOST_OVERLAP
from twoview.detection.tracking import People, Tracker, join
from twoview.detectors import Person
from twoview.detectors.crops import around, overlap

RATE = 30.0
EVERY = 10  # frames between two searches
NOISE, CORRELATION_S = 0.015, 0.3  # sigma of a joint per axis, of the body's size; how long an error lasts


@dataclass(frozen=True, eq=False)
class Phone:
    """position (3,) m and the point (3,) m that it is aimed at; size (width, height) px; focal px."""

    position: Array
    aim: Array
    size: tuple[int, int] = (1920, 1080)
    focal: float = 1500.0

    def axes(self) -> Array:
        """Rows (3, 3): right, down and forward, in the room."""
        forward = (self.aim - self.position) / np.linalg.norm(self.aim - self.position)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward])

    def project(self, points: Array) -> tuple[Array, Array]:
        """Pixels (..., 2) and depths (...) m of points (..., 3) m; NaN behind the phone."""
        seen = (points - self.position) @ self.axes().T
        depth = np.where(seen[..., 2] > 0.3, seen[..., 2], np.nan)
        return seen[..., :2] / depth[..., None] * self.focal + (np.array(self.size) - 1) / 2, depth


@dataclass(frozen=True, eq=False)
class Seen:
    """What a phone saw: everyone's tracks, whose body each row shows (M,), and the picture's size."""

    people: People
    owner: Array
    size: tuple[int, int]

    def owner_of(self, track: int) -> int:
        """The body that most rows of a track show."""
        return int(np.bincount(self.owner[self.people.track == track]).argmax())


def slow_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Noise (T, ...) of sigma 1: four fifths of its variance last CORRELATION_S, the rest is new in every frame."""
    keep = np.exp(-1 / RATE / CORRELATION_S)
    white, out = rng.normal(size=shape), np.empty(shape)
    out[0] = white[0]
    for i in range(1, shape[0]):
        out[i] = keep * out[i - 1] + np.sqrt(1 - keep**2) * white[i]
    return np.sqrt(0.8) * out + np.sqrt(0.2) * rng.normal(size=shape)


def detected(phone: Phone, bodies: Sequence[Array], rng: np.random.Generator) -> list[list[Person | None]]:
    """Frame -> body -> the person that the detector sees there, or None."""
    size = np.array(phone.size)
    flat, depth = (np.array(x) for x in zip(*(phone.project(b) for b in bodies), strict=True))  # (P, T, 17, 2)
    low, high = flat.min(axis=2), flat.max(axis=2)
    body_px = (high - low).max(axis=-1)  # (P, T)
    smear = NOISE * rng.uniform(0.7, 1.6, len(bodies))[:, None] * np.maximum(body_px, 60.0)
    noise = np.stack([slow_noise(rng, flat.shape[1:]) for _ in bodies])
    xy = flat + smear[..., None, None] * noise
    score = np.clip(0.75 - 0.25 * np.abs(noise).max(axis=-1) / 2 + 0.05 * rng.normal(size=noise.shape[:-1]), 0.15, 0.95)
    middle_depth = depth.mean(axis=2)
    blend = np.abs(np.stack([slow_noise(rng, (flat.shape[1], 17)) for _ in bodies]))
    for behind in range(len(bodies)):
        for before in range(len(bodies)):
            if behind == before:
                continue
            width = 0.3 * (high[before] - low[before])[:, None] * [1, 0]  # a body does not fill its box
            inside = (
                (flat[behind] > low[before][:, None] + width) & (flat[behind] < high[before][:, None] - width)
            ).all(-1)
            hidden = inside & (middle_depth[before] < middle_depth[behind])[:, None]
            share = np.clip(blend[behind], 0, 1)[..., None]
            xy[behind] = np.where(hidden[..., None], (1 - share) * xy[behind] + share * xy[before], xy[behind])
            score[behind] = np.where(hidden, 0.5 * score[behind], score[behind])
    found: list[list[Person | None]] = []
    for t in range(flat.shape[1]):
        row: list[Person | None] = [None] * len(bodies)
        taken: list[Person] = []
        for p in sorted(range(len(bodies)), key=lambda p: np.nan_to_num(middle_depth[p, t], nan=np.inf)):
            shown = (flat[p, t] > 0).all(-1) & (flat[p, t] < size - 1).all(-1)
            if not np.isfinite(flat[p, t]).all() or shown.sum() < 8 or body_px[p, t] < 50:
                continue
            points, scores = np.clip(xy[p, t], 0, size - 1), np.where(shown, score[p, t], 0.12)
            if scores.mean() < 0.2:
                continue
            box = around(points, scores, least=0.2, grow=0.05)
            if np.isnan(box).any() or (
                taken and overlap(box[None], np.array([o.box for o in taken])).max() > MOST_OVERLAP
            ):
                continue
            row[p] = Person(points, scores, box)
            taken.append(row[p])  # type: ignore[arg-type]
        found.append(row)
    return found


def look(
    phone: Phone, bodies: Sequence[Array], rng: np.random.Generator, colors: Sequence[Array] | None = None
) -> Seen:
    """The joined tracks that a phone's video gives of bodies (T, 17, 3), all of one length."""
    found, frames = detected(phone, bodies, rng), len(bodies[0])
    tracker, rows = Tracker(), []
    holds: dict[int, int] = {}  # track -> body, at the search before

    def record(frame: int, track: int, body: int) -> None:
        person = found[frame][body]
        if person is not None:
            rows.append((frame, track, body, person))

    for frame in range(0, frames, EVERY):
        there = [p for p in range(len(bodies)) if found[frame][p] is not None]
        matched = tracker.match(frame, [found[frame][p] for p in there])  # type: ignore[misc]
        now = {track: there[i] for track, i in matched.items()}
        for track, body in now.items():
            for between in range(frame - EVERY + 1, frame):
                record(between, track, holds[track] if between < frame - EVERY / 2 else body)
        for track in [t for t in tracker.last if t not in now]:
            tracker.end(track)
        for body in there:
            if body not in now.values():
                now[tracker.new()] = body
        for track, body in now.items():
            tracker.update(frame, track, found[frame][body])  # type: ignore[arg-type]
            record(frame, track, body)
        holds = now
    colors = colors if colors is not None else rng.uniform(0.1, 0.9, (len(bodies), 6))
    empty = People.none(17)
    if not rows:
        return Seen(replace(empty, time=np.arange(frames) / RATE), np.zeros(0, int), phone.size)
    rows.sort(key=lambda row: row[:2])
    people = People(
        np.arange(frames) / RATE,
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows]),
        *(np.array([getattr(row[3], name) for row in rows]) for name in ("xy", "score", "box")),
        colors=np.array([colors[row[2]] + 0.03 * rng.normal(size=6) for row in rows]),
    )
    owner = {(row[0], row[1]): row[2] for row in rows}
    before = {}
    for row in rows:
        before[(row[0], row[3].xy.tobytes())] = owner[(row[0], row[1])]
    people = join(people)
    owners = np.array([before[(int(f), xy.tobytes())] for f, xy in zip(people.frame, people.xy, strict=True)])
    return Seen(people, owners, phone.size)
