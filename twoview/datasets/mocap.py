"""Prepared motion capture: 17 Human3.6M joints of many clips in one `.npz`, with a `.json` of what each clip is.

The arrays are int16 in units of half a millimetre, 60 frames a second, z up; see `docs/howto/pretrain.md`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from twoview.datasets import Motion
from twoview.errors import FormatError

_UNIT_M = 0.0005
_RATE = 60.0


def read(path: Path | str) -> list[Motion]:
    """All clips of a prepared file, in the order of its list. Raises FormatError if either file is missing or damaged.

    path  the `.npz`; the `.json` of the same name lies beside it
    """
    path = Path(path).with_suffix(".npz")
    try:
        rows = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        with np.load(path, allow_pickle=False) as arrays:
            return [
                Motion(row["key"], arrays[row["key"]].astype(np.float32) * _UNIT_M, _RATE, row["cls"], row["subject"])
                for row in rows
            ]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise FormatError(
            f"{path} and {path.with_suffix('.json').name} cannot be read as prepared motion capture: {error}",
            hint="make them again from the originals, see docs/howto/pretrain.md",
        ) from error


def read_all(paths: Iterable[Path | str]) -> list[Motion]:
    """The clips of several prepared files, one after the other."""
    return [motion for path in paths for motion in read(path)]
