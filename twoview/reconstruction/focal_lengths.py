"""What is known of the focal lengths before a take is solved: from the person, from the video file, or of phones.

A length in mm is a 35 mm equivalent: that of a picture whose long side is 36 mm. Phones are not exact in it. Some mean
the diagonal (5 % less in a video of 16:9), and stabilization crops the picture by up to a tenth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from twoview.config import TriangulateConfig
from twoview.errors import ConfigError
from twoview.geometry.framing import DEFAULT_FOCAL
from twoview.takes import ResampledTake

FULL_FRAME_MM = 36.0
PX_SIGMA = 0.02  # sigma of the log of a focal length that the user gave in pixels
MM_SIGMA = 0.05  # of one in mm, of a file or of the user

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(px|mm)?")
_HINT = "--focal 1200, --focal 26mm, or by view: --focal a=1200,b=26mm"


@dataclass(frozen=True)
class KnownFocal:
    """A focal length that somebody knows.

    value, unit  px of the upright picture, or mm as a 35 mm equivalent
    """

    value: float
    unit: str = "px"

    def in_px(self, size: Array) -> float:
        """Focal length in px of a picture of `size` (2,) px."""
        return self.value if self.unit == "px" else self.value / FULL_FRAME_MM * float(max(size))

    @property
    def sigma(self) -> float:
        """Sigma of the log of the focal length."""
        return PX_SIGMA if self.unit == "px" else MM_SIGMA


def given(setting: str | float, views: Sequence[str]) -> dict[str, KnownFocal]:
    """View -> focal length, from `triangulate.focal`; nothing for 0 and "".

    Raises ConfigError for what is no length, and for a view that there is not among `views`.
    """
    text = str(setting).strip()
    found: dict[str, KnownFocal] = {}
    for part in [part.strip() for part in text.split(",")] if text else []:
        view, equals, length = part.rpartition("=")
        known = _LENGTH.fullmatch(length.strip())
        if known is None or (equals and view.strip() in found) or (not equals and found):
            raise ConfigError(
                f"triangulate.focal {text!r}: expected one length, or one for each view once, in px or mm", hint=_HINT
            )
        if equals and view.strip() not in views:
            raise ConfigError(
                f"triangulate.focal names a view {view.strip()!r}, and the views are {', '.join(views)}", hint=_HINT
            )
        if float(known[1]):
            of = KnownFocal(float(known[1]), known[2] or "px")
            found |= {view.strip(): of} if equals else dict.fromkeys(views, of)
    return found


def known_focals(grid: ResampledTake, config: TriangulateConfig) -> Mapping[str, KnownFocal]:
    """View -> focal length, of those views of a take whose focal length the user or the file says."""
    from_files = {view: KnownFocal(mm, "mm") for view, mm in grid.take.focal_mm.items() if view in grid.views and mm}
    return from_files | {view: one for view, one in given(config.focal, grid.views).items() if view in grid.views}


def start_of(grid: ResampledTake, config: TriangulateConfig, usual_sigma: float) -> tuple[Array, Array]:
    """Focal lengths (V,) px to start from, the usual one where none is known, and the sigmas (V,) of their logs."""
    known = known_focals(grid, config)
    focal = [
        known[view].in_px(size) if view in known else DEFAULT_FOCAL * max(size)
        for view, size in zip(grid.views, grid.size, strict=True)
    ]
    sigma = [known[view].sigma if view in known else usual_sigma for view in grid.views]
    return np.array(focal, dtype=np.float64), np.array(sigma)
