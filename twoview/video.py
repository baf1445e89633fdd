"""Video files as phones write them: upright frames at their true times, and sound on the same clock.

A time is a frame's presentation time in the file, never its number over a rate: phones change their rate, start their
streams at other times than 0, and cut with edit lists. Frames are streamed, so memory does not grow with the length.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import av.error
import numpy as np

from twoview.errors import StorageError, VideoError
from twoview.records import atomic
from twoview.timeline import Timeline

Array = np.ndarray
log = logging.getLogger(__name__)

_TRUNCATED_S = 0.5  # a stream that ends this much before the file's own length was cut off
_GAP_S = 0.005  # sound that jumps by more than this against its timestamps is put where they say


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about itself, without decoding it all.

    size           (width, height) of the upright picture in pixels
    rate           nominal frames a second; frames may come at other times, see `timeline`
    duration_s     from the first frame to the end; frames is an estimate
    rotation       degrees counterclockwise that were applied to make the picture upright: 0, 90, 180, 270
    audio_start_s  of the first sound on the clock of the frames; NaN without sound
    warnings       plain sentences about what is unusual
    """

    path: Path
    size: tuple[int, int]
    rate: Fraction
    duration_s: float
    frames: int
    rotation: int
    codec: str
    has_audio: bool
    audio_start_s: float = float("nan")
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Frame:
    """One upright picture. time: presentation time in seconds; rgb (H, W, 3) uint8."""

    time: float
    rgb: Array


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound on the clock of the frames: sample n was heard at `start_s + n / rate`. samples (N, channels) float32."""

    samples: Array
    rate: int
    start_s: float
    warnings: tuple[str, ...] = field(default=())


def probe(path: Path | str) -> VideoInfo:
    """Size, rate, length, rotation and sound of a file. Raises VideoError if it is not a video that can be decoded."""
    path = Path(path)
    with _opened(path) as container:
        stream = _video_stream(container, path)
        first = next(_decoded(container, stream, path, None), None)
        if first is None:
            raise VideoError(f"{path} has no frame that can be decoded", hint="play it; if that works, re-encode it")
        turn = _turn(first)
        width, height = (first.height, first.width) if turn % 2 else (first.width, first.height)
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise VideoError(f"{path} names no frame rate", hint="re-encode it with any video program")
        duration = _duration(container, stream)
        sound = next((s for s in container.streams.audio if _decodable(s)), None)
        start = float("nan")
        if sound is not None:
            start = float((sound.start_time or 0) * sound.time_base)
        return VideoInfo(
            path=path,
            size=(width, height),
            rate=Fraction(rate),
            duration_s=duration,
            frames=stream.frames or round(duration * float(rate)),
            rotation=90 * turn,
            codec=stream.codec_context.name,
            has_audio=sound is not None,
            audio_start_s=start,
        )


def frames(
    path: Path | str, *, start: float | None = None, end: float | None = None, size: tuple[int, int] | None = None
) -> Iterator[Frame]:
    """Upright frames with their times, from `start` to `end` seconds (both included), one at a time.

    size  (width, height) to scale the upright picture to while decoding, or None for its own
    A frame that cannot be decoded is left out and told to the log. Raises VideoError if none can be.
    """
    path = Path(path)
    given = damaged = 0
    last = float("-inf")
    with _opened(path) as container:
        stream = _video_stream(container, path)
        stream.thread_type = "AUTO"
        if start is not None:
            _seek(container, stream, start)
        counter = _Counter()
        for decoded in _decoded(container, stream, path, counter):
            time = float(decoded.time)
            if time <= last:
                continue  # two frames at one time: the later adds nothing that can be told apart
            last = time
            if start is not None and time < start - 1e-6:
                continue
            if end is not None and time > end + 1e-6:
                break
            given += 1
            yield Frame(time, _upright(decoded, size))
        damaged = counter.damaged
        complete = end is not None or last + _TRUNCATED_S >= _end(container, stream)
    if damaged:
        log.warning("%s: %d pieces could not be decoded and were left out", path, damaged)
    if given and not complete:
        log.warning("%s ends at %.2f s, before its own length: it was cut off", path, last)
    if not given and start is None:
        raise VideoError(f"{path} has no frame that can be decoded", hint="play it; if that works, re-encode it")


def timeline(path: Path | str) -> Timeline:
    """True presentation times of all frames, without decoding them."""
    path = Path(path)
    with _opened(path) as container:
        stream = _video_stream(container, path)
        times = [
            float(packet.pts * packet.time_base)
            for packet in _packets(container, stream, _Counter())
            if packet.pts is not None and packet.time_base is not None and not packet.is_discard
        ]
        rate = Fraction(stream.average_rate or stream.guessed_rate or 0)
    if not times:
        raise VideoError(f"{path} has no frames", hint="play it; if that works, re-encode it")
    return Timeline(np.unique(np.array(times)), rate)


def audio(path: Path | str, *, rate: int = 16000) -> Audio:
    """All sound of a file, resampled, as float32 in -1..1, on the clock of its frames.

    Silence fills what the timestamps leave open, so that a sample's place always tells its time.
    Raises VideoError if the file has no sound that can be decoded.
    """
    path = Path(path)
    with _opened(path) as container:
        stream = next((s for s in container.streams.audio if _decodable(s)), None)
        if stream is None:
            raise VideoError(f"{path} has no sound", hint="relate the clocks by motion or by hand: twoview sync --help")
        counter, chunks = _Counter(), []
        resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
        start: float | None = None
        length = 0
        for packet in _packets(container, stream, counter):
            for decoded in _decode(packet, counter):
                if start is None:
                    start = float(decoded.time or 0.0)
                behind = round((float(decoded.time) - start) * rate) - length if decoded.time is not None else 0
                if behind > max(_GAP_S * rate, resampler.rate * 0.002 + 64):
                    chunks.append(np.zeros((behind, len(stream.layout.channels)), np.float32))
                    length += behind
                for piece in resampler.resample(decoded):
                    chunks.append(piece.to_ndarray().T.astype(np.float32))
                    length += piece.samples
        if start is not None:
            chunks += [piece.to_ndarray().T.astype(np.float32) for piece in resampler.resample(None)]
    if not chunks or start is None:
        raise VideoError(f"{path} has a sound track, but nothing in it can be decoded", hint="re-encode the file")
    warnings = (f"{counter.damaged} pieces of the sound could not be decoded",) if counter.damaged else ()
    return Audio(np.concatenate(chunks), rate, start, warnings)


class VideoWriter:
    """Writes H.264 in mp4, with sound if given; the file appears when the block ends without an error.

    with VideoWriter("out.mp4", (1280, 720), 30) as writer:
        writer.write(rgb)                  # (H, W, 3) uint8, at the nominal rate
        writer.write(rgb, time=0.41)       # or at its own time in seconds
    """

    def __init__(
        self,
        path: Path | str,
        size: tuple[int, int],
        rate: Fraction | float,
        *,
        audio: Audio | None = None,
        rotation: int = 0,
        codec: str = "libx264",
        quality: int = 20,
    ) -> None:
        """rotation: display matrix, degrees counterclockwise; quality: constant rate factor, lower is better."""
        self.path, self.size, self.rate = Path(path), size, Fraction(rate).limit_denominator(100000)
        self._audio, self._rotation, self._codec, self._quality = audio, rotation, codec, quality
        self._count = 0

    def __enter__(self) -> VideoWriter:
        self._pending = atomic(self.path)
        temporary = self._pending.__enter__()
        try:
            self._container = cast(Any, av.open(str(temporary), "w", format="mp4"))
            options = {"crf": str(self._quality), "preset": "veryfast"}
            self._stream = self._container.add_stream(self._codec, rate=self.rate, options=options)
            width, height = self.size
            self._stream.width, self._stream.height = width + width % 2, height + height % 2
            self._stream.pix_fmt = "yuv420p"
            self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, 90000)
            if self._rotation:
                self._stream.set_display_rotation(self._rotation)
            if self._audio is not None:
                self._sound = self._container.add_stream("aac", rate=self._audio.rate)
                self._sound.layout = "mono" if self._audio.samples.shape[1] == 1 else "stereo"
        except BaseException as error:
            self._pending.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def write(self, rgb: Array, time: float | None = None) -> None:
        """Add one picture (H, W, 3) uint8, at `time` seconds or one nominal step after the last."""
        height, width = rgb.shape[:2]
        padded = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if width % 2 or height % 2 else rgb
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        seconds = self._count / self.rate if time is None else Fraction(time)
        picture.pts, picture.time_base = round(seconds * 90000), Fraction(1, 90000)
        self._count += 1
        self._mux(self._stream.encode(picture))

    def _mux(self, packets: Any) -> None:
        try:
            self._container.mux(packets)
        except av.error.FFmpegError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}", hint="free some space") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._mux(self._stream.encode(None))
                if self._audio is not None:
                    self._write_sound(self._audio)
                self._container.close()
        except BaseException as late:
            self._pending.__exit__(type(late), late, late.__traceback__)
            raise
        self._pending.__exit__(kind, error, trace)

    def _write_sound(self, sound: Audio) -> None:
        planes = np.ascontiguousarray(sound.samples.T[: len(self._sound.layout.channels)], np.float32)
        step = 1024
        for begin in range(0, planes.shape[1], step):
            piece = np.ascontiguousarray(planes[:, begin : begin + step])
            block = av.AudioFrame.from_ndarray(piece, format="fltp", layout=self._sound.layout.name)
            block.sample_rate, block.time_base = sound.rate, Fraction(1, sound.rate)
            block.pts = begin + round(sound.start_s * sound.rate)
            self._mux(self._sound.encode(block))
        self._mux(self._sound.encode(None))


# --- reading -------------------------------------------------------------------------------------------------------


@dataclass
class _Counter:
    """How many pieces of a stream could not be decoded."""

    damaged: int = 0


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise VideoError(f"no such file: {path}", hint="check the path; names with spaces need quotes")
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"{path} cannot be read as a video: {getattr(error, 'strerror', None) or error}",
            hint="is it complete, and a video? an mp4 whose recording was cut off has lost its index",
        ) from error
    with container:
        yield container


def _decodable(stream: Any) -> bool:
    """Streams of unknown codecs have no codec context, and phones add such tracks."""
    return stream.codec_context is not None


def _video_stream(container: Any, path: Path) -> Any:
    # Cover pictures are video streams too; they have a single frame and no rate.
    for stream in container.streams.video:
        if _decodable(stream) and not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise VideoError(f"{path} has no video track", hint="is it a sound file?")


def _packets(container: Any, stream: Any, counter: _Counter) -> Iterator[Any]:
    """Packets up to the end, or to where the file breaks off."""
    iterator = container.demux(stream)
    while True:
        try:
            packet = next(iterator)
        except StopIteration:
            return
        except av.error.FFmpegError:
            counter.damaged += 1
            return
        yield packet


def _decode(packet: Any, counter: _Counter) -> list[Any]:
    try:
        return packet.decode()
    except av.error.FFmpegError:
        counter.damaged += 1
        return []


def _decoded(container: Any, stream: Any, path: Path, counter: _Counter | None) -> Iterator[Any]:
    counter = counter or _Counter()
    for packet in _packets(container, stream, counter):
        for decoded in _decode(packet, counter):
            if decoded.time is not None:
                yield decoded


def _turn(decoded: Any) -> int:
    """Quarter turns counterclockwise that make a decoded picture upright."""
    return round((decoded.rotation or 0) / 90) % 4


def _upright(decoded: Any, size: tuple[int, int] | None) -> Array:
    turn = _turn(decoded)
    if size is not None:
        width, height = size[::-1] if turn % 2 else size
        decoded = decoded.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    return np.ascontiguousarray(np.rot90(decoded.to_ndarray(format="rgb24"), turn))


def _seek(container: Any, stream: Any, start: float) -> None:
    """Go to a key frame at or before `start` seconds."""
    try:
        container.seek(max(int(start / stream.time_base), 0), stream=stream, backward=True)
    except av.error.FFmpegError:
        container.seek(0)


def _end(container: Any, stream: Any) -> float:
    """Presentation time at which the stream should end, as the file says."""
    if stream.duration and stream.time_base:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    return float(container.duration or 0) / av.time_base


def _duration(container: Any, stream: Any) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return float(container.duration or 0) / av.time_base
