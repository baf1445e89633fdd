"""Videos in a high dynamic range (10 bit, BT.2020, HLG or PQ), as phones film, with the content of standard pictures.

The inverse of what a screen does, by ITU-R BT.2100 and BT.2408: a standard picture's white is the white of paper, 203
candelas per square meter.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy import ndarray as Array

HLG, PQ = 18, 16
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])
_TO_WIDE = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
_TICKS = 90_000


def wide(rgb: Array, transfer: int) -> Array:
    """Values 0..1 (H, W, 3) in a high dynamic range, of a standard picture 0..255."""
    light = ((rgb / 255.0) ** 2.4 * 203) @ _TO_WIDE.T
    if transfer == PQ:
        root = np.maximum(light / 10_000, 0) ** (2610 / 16384)
        return ((3424 / 4096 + 2413 / 128 * root) / (1 + 2392 / 128 * root)) ** (2523 / 32)
    light = light / 1000
    scene = light * (np.maximum(light @ _LUMINANCE, 1e-9) ** (-0.2 / 1.2))[..., None]
    bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * np.maximum(scene, 0)), bright)


def frame(rgb: Array, transfer: int) -> av.VideoFrame:
    """A frame (yuv420p10le) that shows a standard picture (H, W, 3) uint8 of even size."""
    signal = wide(rgb.astype(float), transfer)
    bright = signal @ _LUMINANCE
    blue, red = (signal[..., 2] - bright) / 1.8814, (signal[..., 0] - bright) / 1.4746
    height, width = bright.shape
    made = av.VideoFrame(width, height, "yuv420p10le")
    halves = (color.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) for color in (blue, red))
    for plane, values in zip(made.planes, (876 * bright + 64, *(896 * half + 512 for half in halves)), strict=True):
        stored = np.zeros((plane.height, plane.line_size // 2), "<u2")
        stored[:, : values.shape[1]] = np.clip(np.rint(values), 4, 1019)
        plane.update(stored.tobytes())
    made.color_range, made.colorspace, made.color_trc, made.color_primaries = 1, 9, transfer, 9
    return made


def write_hdr(path: Path, pictures: Iterable[tuple[float, Array]], transfer: int, rate: Fraction | int = 30) -> Path:
    """A HEVC file of pictures (time s, (H, W, 3) uint8); transfer 0: the standard range in as many bits."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx265", rate=rate, options={"crf": "6", "preset": "ultrafast", **_QUIET})
        stream.pix_fmt = "yuv420p10le"
        for time, rgb in pictures:
            shown = frame(rgb, transfer) if transfer else av.VideoFrame.from_ndarray(rgb, format="rgb24")
            if not stream.codec_context.is_open:
                stream.width, stream.height = shown.width, shown.height
                if transfer:
                    context = stream.codec_context
                    context.color_range, context.colorspace = 1, 9
                    context.color_trc, context.color_primaries = transfer, 9
            shown.pts, shown.time_base = round(time * _TICKS), Fraction(1, _TICKS)
            out.mux(stream.encode(shown))
        out.mux(stream.encode(None))
    return path


_QUIET = {"x265-params": "log-level=none"}
