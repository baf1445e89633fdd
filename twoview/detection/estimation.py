"""The poses in single pictures: a search for everyone, and the keypoint network on the people already found.

Pictures come from the decoder in a thread of its own, and leave it in windows: each ends with the picture of a search.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy import ndarray as Array

from twoview.detectors import CropDetector, Detector, Person, PersonCrop, TopDown, poses_of
from twoview.detectors.crops import around, crop_matrix, overlap, uncrop, unletterbox
from twoview.media.pixels import DecodedFrame, Pixels

LEAST_JOINT_SCORE = 0.2  # joints with a lower score do not tell where a person is
LEAST_BODY_SCORE = 0.2  # a person whose joints have a lower mean score is lost
MOST_PEOPLE = 5  # that are tracked at once: those with the best boxes
BOX_MARGIN = 0.05  # a person's box is that of the joints, larger by this share on each side
MOST_OVERLAP = 0.6  # two people whose boxes overlap more are one

T = TypeVar("T")


# --- the pose of one person ----------------------------------------------------------------------------------------


class Picture:
    """A frame of the video until its window is done, in as little memory as possible.

    people  everyone in it; None in the frames between two searches
    """

    def __init__(self, pixels: DecodedFrame | Pixels, on_drop: Callable[[], object] = lambda: None) -> None:
        self.time, self.people = pixels.time, None  # type: float, list[Person] | None
        self._pixels: DecodedFrame | Pixels | None = pixels
        self._on_drop = on_drop

    @property
    def pixels(self) -> DecodedFrame | Pixels:
        """Gives the picture or parts of it."""
        assert self._pixels is not None
        return self._pixels

    def drop(self) -> None:
        """Free the pixels: nobody needs them any more, and the decoder may read another frame."""
        if self._pixels is not None:
            self._pixels = None
            self._on_drop()


def person_crop(detector: TopDown, picture: Picture, box: Array) -> PersonCrop:
    """What a detector needs of a picture for the person in a box (4,): a crop, or the box with its surroundings."""
    if isinstance(detector, CropDetector):
        matrix = crop_matrix(box, detector.crop_size, padding=detector.padding)
        return PersonCrop(box, matrix, picture.pixels.crop(matrix, detector.crop_size))
    rgb, (left, top) = picture.pixels.part(surroundings(box))
    return PersonCrop(box, np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]), rgb)


def surroundings(box: Array) -> Array:
    """The part (4,) of the picture that a keypoint network may use for the person in a box (4,), with some room.

    RTMPose and MMPose's models see 1.25 times the box, as 3 to 4 or a square; MoveNet 1.15 times, as a square.
    """
    middle, (width, height) = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    half = np.array([max(width, height), max(height, width * 4 / 3)]) * (1.25 / 2) + 2
    return np.concatenate([middle - half, middle + half])


def estimate(detector: TopDown, crops: Sequence[PersonCrop]) -> list[Person]:
    """The person in each crop: one call of the keypoint network."""
    if isinstance(detector, CropDetector):
        xy, score = poses_of(detector, crops)
    else:
        boxes = np.array([one.box + np.tile(one.matrix[:, 2], 2) for one in crops])
        xy, score = detector.pose([one.pixels for one in crops], boxes)
        xy = np.stack([uncrop(points, one.matrix) for points, one in zip(xy, crops, strict=True)])
    people = []
    for points, scores, one in zip(xy, score, crops, strict=True):
        box = around(points, scores, least=LEAST_JOINT_SCORE, grow=BOX_MARGIN)
        people.append(as_saved(points, scores, one.box if np.isnan(box).any() else box))
    return people


def as_saved(xy: Array, score: Array, box: Array) -> Person:
    """A person in the precision that is saved, so that a resumed run computes with the same numbers."""
    return Person(*(np.asarray(value, np.float32) for value in (xy, score, box)))


def is_visible(person: Person) -> bool:
    """Whether the joints' mean score is high enough for somebody to be there."""
    return float(person.score.mean()) >= LEAST_BODY_SCORE


def is_among(person: Person, others: Sequence[Person]) -> bool:
    """Whether one of the others has nearly the same box."""
    if not others:
        return False
    return bool((overlap(person.box[None], np.array([p.box for p in others])) > MOST_OVERLAP).any())


# --- searches ------------------------------------------------------------------------------------------------------


def search(detector: Detector, picture: Picture) -> list[Person]:
    """Everyone in a picture who is visible, each once."""
    if not isinstance(detector, TopDown):
        return [as_saved(one.xy, one.score, one.box) for one in detector(picture.pixels.rgb())]
    boxes = find_boxes(detector, picture.pixels)[:MOST_PEOPLE]
    size, people = max(detector.batch, 1), []  # type: int, list[Person]
    for i in range(0, len(boxes), size):
        for person in estimate(detector, [person_crop(detector, picture, box) for box in boxes[i : i + size]]):
            if is_visible(person) and not is_among(person, people):
                people.append(person)
    return people


def find_boxes(detector: TopDown, pixels: DecodedFrame | Pixels) -> Array:
    """Boxes (N, 4) of people in px of the picture, best first.

    A detector whose `search_side` says how many px of a picture's longer side it uses gets no more: scaling a picture
    while it is made takes less time than making all of its pixels.
    """
    whole = np.array(pixels.size)
    scale = min(getattr(detector, "search_side", np.inf) / whole.max(), 1.0)
    small = np.maximum(np.rint(whole * scale), 1).astype(int)
    boxes = detector.find(pixels.rgb((int(small[0]), int(small[1]))))[:, :4]
    return unletterbox(boxes, np.tile(small / whole, 2))


def search_every(
    frames: Iterable[DecodedFrame],
    detector: Detector,
    every: int,
    *,
    after: Array,
    size: tuple[int, int],
    on_drop: Callable[[], object],
) -> Iterator[Picture]:
    """The frames later than those in `after` (T,), every `every`-th frame of the video with everyone in it."""
    last = float(after[-1]) if len(after) else -np.inf
    later = (frame for frame in frames if frame.time > last)
    for number, frame in enumerate(later, start=len(after)):
        picture = Picture(frame.kept(size), on_drop)
        if number % every == 0:
            picture.people = search(detector, picture)
        yield picture


def windows(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """Runs of frames that each end with the frame of a search; the last run of a video may not."""
    window: list[Picture] = []
    for picture in pictures:
        window.append(picture)
        if picture.people is not None:
            yield window
            window = []
    if window:
        yield window


def read_ahead(items: Iterable[T], room: threading.Semaphore) -> Generator[T, None, None]:
    """The same items, made by another thread while there is room; whoever has used an item makes room again."""
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
