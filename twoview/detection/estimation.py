"""Looking closely at one person: what is kept of a picture for it, and the pose that the keypoint network finds.

Frames read ahead by a thread of its own, in windows that end where people were searched for.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy import ndarray as Array

from twoview.detectors import Cropping, Detector, Person, TopDown
from twoview.detectors.crops import around, crop_matrix, overlap, uncrop, unletterbox
from twoview.media.pixels import DecodedFrame, Pixels

SURE = 0.2  # joints below this score do not tell where a person is

MOST_PEOPLE = 5  # followed at once; the surest of those found
LEAST_BODY = 0.2  # mean score of a followed person's joints below which it is lost
GROW = 0.05  # the joints' box grown by this on each side is the person's box
SAME = 0.6  # two people whose boxes overlap more are one


class Picture:
    """A frame of the video that waits for its window's end, in as little memory as it can.

    found  everyone in it; None between two searches
    """

    def __init__(self, pixels: DecodedFrame | Pixels, on_drop: Callable[[], object] = lambda: None) -> None:
        self.time, self.found = pixels.time, None  # type: float, list[Person] | None
        self._pixels: DecodedFrame | Pixels | None = pixels
        self._on_drop = on_drop

    @property
    def pixels(self) -> DecodedFrame | Pixels:
        """Makes the picture or parts of it."""
        assert self._pixels is not None
        return self._pixels

    def drop(self) -> None:
        """Nobody needs it any more: the reader has room for another."""
        if self._pixels is not None:
            self._pixels = None
            self._on_drop()


class Glimpse(NamedTuple):
    """What the keypoint network sees of one person.

    box     (4,) px of the picture
    matrix  (2, 3) from picture px to those of `pixels` (H, W, 3) uint8
    """

    box: Array
    matrix: Array
    pixels: Array


def glimpse(detector: TopDown, picture: Picture, box: Array) -> Glimpse:
    """What a detector needs of a picture for the person in a box (4,): a crop, or else the box's surroundings."""
    if isinstance(detector, Cropping):
        matrix = crop_matrix(box, detector.crop_size, padding=detector.padding)
        return Glimpse(box, matrix, picture.pixels.crop(matrix, detector.crop_size))
    rgb, (left, top) = picture.pixels.part(surroundings(box))
    return Glimpse(box, np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]), rgb)


def poses(detector: TopDown, glimpses: Sequence[Glimpse]) -> list[Person]:
    """One call of the keypoint network, on the person of each glimpse."""
    if isinstance(detector, Cropping):
        xy, score = detector.look(np.stack([one.pixels for one in glimpses]))
    else:
        boxes = np.array([one.box + np.tile(one.matrix[:, 2], 2) for one in glimpses])
        xy, score = detector.pose([one.pixels for one in glimpses], boxes)
    return [
        _person(uncrop(points, one.matrix), sure, one.box)
        for one, points, sure in zip(glimpses, xy, score, strict=True)
    ]


def everyone_in(detector: Detector, picture: Picture) -> list[Person]:
    """A search: everyone in a picture whose body is sure enough, at most once."""
    if not isinstance(detector, TopDown):
        return [plain(one.xy, one.score, one.box) for one in detector(picture.pixels.rgb())]
    boxes = found(detector, picture.pixels)[:MOST_PEOPLE]
    size, kept = max(detector.batch, 1), []  # type: int, list[Person]
    for i in range(0, len(boxes), size):
        for person in poses(detector, [glimpse(detector, picture, box) for box in boxes[i : i + size]]):
            if is_there(person) and not is_among(person, kept):
                kept.append(person)
    return kept


def found(detector: TopDown, pixels: DecodedFrame | Pixels) -> Array:
    """Boxes (N, 4) of people in px of the picture, best first.

    A detector that says in `search_side` how many px of a picture's longer side it looks at gets no more: making all
    of them takes longer than scaling while they are made.
    """
    whole = np.array(pixels.size)
    scale = min(getattr(detector, "search_side", np.inf) / whole.max(), 1.0)
    small = np.maximum(np.rint(whole * scale), 1).astype(int)
    boxes = detector.find(pixels.rgb((int(small[0]), int(small[1]))))[:, :4]
    return unletterbox(boxes, np.tile(small / whole, 2))


def surroundings(box: Array) -> Array:
    """What a keypoint network may look at for the person in a box (4,), with a little room to spare (4,).

    RTMPose and MMPose's models see 1.25 times the box, as 3 to 4 or a square; MoveNet 1.15 times, as a square.
    """
    middle, (width, height) = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    half = np.array([max(width, height), max(height, width * 4 / 3)]) * (1.25 / 2) + 2
    return np.concatenate([middle - half, middle + half])


def plain(xy: Array, score: Array, box: Array) -> Person:
    """In the precision that is saved, so that a resumed run sees the same numbers."""
    return Person(*(np.asarray(value, np.float32) for value in (xy, score, box)))


def is_there(person: Person) -> bool:
    """Whether a pose is sure enough to be somebody's."""
    return float(person.score.mean()) >= LEAST_BODY


def is_among(person: Person, others: Sequence[Person]) -> bool:
    """Whether somebody of the others has nearly the same box."""
    if not others:
        return False
    return bool((overlap(person.box[None], np.array([p.box for p in others])) > SAME).any())


def _person(xy: Array, score: Array, box: Array) -> Person:
    """A pose found in a box; the person's own box is that around its joints, where they are sure enough."""
    own = around(xy, score, least=SURE, grow=GROW)
    return plain(xy, score, box if np.isnan(own).any() else own)


T = TypeVar("T")


def searched(
    pictures: Iterable[DecodedFrame],
    detector: Detector,
    every: int,
    *,
    after: Array,
    size: tuple[int, int],
    on_drop: Callable[[], object],
) -> Iterator[Picture]:
    """Frames later than those in `after` (T,), every `every`-th of the clip with everyone in it."""
    number, last = len(after), float(after[-1]) if len(after) else -np.inf
    for stored in pictures:
        if stored.time <= last:
            continue
        picture = Picture(stored.kept(size), on_drop)
        if number % every == 0:
            picture.found = everyone_in(detector, picture)
        yield picture
        number += 1


def windows(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """Runs of frames that each end with a searched one; the clip's last run may not."""
    window: list[Picture] = []
    for picture in pictures:
        window.append(picture)
        if picture.found is not None:
            yield window
            window = []
    if window:
        yield window


def ahead(items: Iterable[T], room: threading.Semaphore) -> Generator[T, None, None]:
    """The same items, made by a thread that goes on as long as there is room; who takes an item makes room again."""
    waiting: queue.SimpleQueue[tuple[bool, T | BaseException | None]] = queue.SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        try:
            iterator = iter(items)
            while not stop.is_set():
                if room.acquire(timeout=0.1):
                    waiting.put((True, next(iterator)))
        except StopIteration:
            waiting.put((False, None))
        except BaseException as error:  # handed to the thread that waits for the items
            waiting.put((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            more, value = waiting.get()
            if more:
                yield value  # type: ignore[misc]
            elif value is None:
                return
            else:
                raise value  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
