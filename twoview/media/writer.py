"""Writing video files: H.264 and AAC in an mp4 that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import av.error
import numpy as np
from numpy import ndarray as Array

from twoview.errors import StorageError
from twoview.storage.records import atomic

if TYPE_CHECKING:
    from twoview.media.audio import Audio

_CLOCK = 90000  # ticks per second: a whole number of them per frame at all usual rates
_BLOCK = 1024  # samples of sound in an AAC packet


class VideoWriter:
    """Writes a video, with sound if given; the file appears when the `with` block ends without an error.

    with VideoWriter("out.mp4", (1280, 720), 30) as writer:
        writer.write(rgb)                  # (H, W, 3) uint8, at the nominal rate
        writer.write(rgb, time=0.41)       # or at its own time in seconds

    Raises StorageError when the disk is full or the folder cannot be written.
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
        options: Mapping[str, str] | None = None,
    ) -> None:
        """rotation: display matrix, degrees counterclockwise; quality: constant rate factor, lower is better.

        options: more of the encoder's own
        """
        self.path, self.size, self.rate = Path(path), size, Fraction(rate).limit_denominator(100000)
        self._audio, self._rotation, self._codec = audio, rotation, codec
        self._options = {"crf": str(quality), "preset": "veryfast", **(options or {})}
        self._count = self._sound_written = 0
        self._last = -1

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic(self.path))
            # The default clock of an mp4's edit lists counts whole ms, which would move a first frame that is not at 0.
            options = {"movie_timescale": str(_CLOCK)}
            with self._storage_errors():
                self._container = cast(Any, av.open(str(temporary), "w", format="mp4", options=options))
            stack.callback(self._abandon)
            stack.push(self._finish)
            self._stream = self._container.add_stream(self._codec, rate=self.rate, options=self._options)
            width, height = self.size
            self._stream.width, self._stream.height = width + width % 2, height + height % 2
            self._stream.pix_fmt = "yuv420p"
            self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, _CLOCK)
            if self._rotation:
                self._stream.set_display_rotation(self._rotation)
            if self._audio is not None:
                layout = "mono" if self._audio.samples.shape[1] == 1 else "stereo"
                self._sound = self._container.add_stream("aac", rate=self._audio.rate, layout=layout)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, rgb: Array, time: float | None = None) -> None:
        """Add one picture (H, W, 3) uint8, at `time` seconds or one nominal step after the last.

        Raises ValueError for another size than the video's, or a time that is not after the last one.
        """
        width, height = self.size
        if rgb.shape != (height, width, 3):
            raise ValueError(f"VideoWriter.write: expected shape {(height, width, 3)}, got {rgb.shape}")
        at = round((self._count / self.rate if time is None else Fraction(time)) * _CLOCK)
        if at <= self._last:
            raise ValueError(f"VideoWriter.write: expected a time after {self._last / _CLOCK:.6f} s, got {time}")
        if width % 2 or height % 2:  # H.264 needs even sizes
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        picture.pts, picture.time_base = at, Fraction(1, _CLOCK)
        self._count, self._last = self._count + 1, at
        self._mux(self._stream, [picture])
        self._write_sound(until=at / _CLOCK)

    def _write_sound(self, until: float) -> None:
        """Write the sound up to a time, so that it lies beside the pictures in the file."""
        sound = self._audio
        if sound is None:
            return
        blocks = []
        while self._sound_written < len(sound.samples) and sound.start_s + self._sound_written / sound.rate < until:
            piece = sound.samples[self._sound_written : self._sound_written + _BLOCK, : self._sound.layout.nb_channels]
            planes = np.ascontiguousarray(piece.T, np.float32)
            block = av.AudioFrame.from_ndarray(planes, format="fltp", layout=self._sound.layout.name)
            block.sample_rate, block.time_base = sound.rate, Fraction(1, sound.rate)
            block.pts = self._sound_written + round(sound.start_s * sound.rate)
            blocks.append(block)
            self._sound_written += _BLOCK
        self._mux(self._sound, blocks)

    def _mux(self, stream: Any, pieces: Iterable[Any]) -> None:
        with self._storage_errors():
            for piece in pieces:
                self._container.mux(stream.encode(piece))

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        self._write_sound(until=float("inf"))
        self._mux(self._stream, [None])
        if self._audio is not None:
            self._mux(self._sound, [None])
        with self._storage_errors():
            self._container.close()

    def _abandon(self) -> None:
        """Close the file, whatever its state; does nothing after `_finish`."""
        with suppress(av.error.FFmpegError, OSError):
            self._container.close()

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            raise StorageError(
                f"cannot write {self.path}: {error.strerror}", hint="free some space or choose another folder"
            ) from error
