"""PyTorch files read and written: tensors and plain values only. No code in a file is ever run."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twoview.errors import FormatError, TwoViewError
from twoview.storage import records


def read(path: Path | str, error: type[TwoViewError] = FormatError) -> dict[str, Any]:
    """The dict in a PyTorch file, tensors on the CPU.

    Raises `error` for a file that holds code, is truncated, is of another kind, or holds anything but a dict.
    """
    path = Path(path)
    try:
        with plain_types(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as reason:
        raise _refusal(path, str(reason), error) from reason
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as reason:
        raise _unreadable(path, error) from reason
    if not isinstance(content, dict):
        raise error(
            f"{path} holds a {type(content).__name__}; expected a dict of weights",
            hint="save the weights where the network is: torch.save({'model': net.state_dict()}, ...)",
        )
    return content


def write(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write a dict of tensors and plain values, atomically. Raises StorageError when the disk is full."""
    with records.atomic(path) as temporary:
        try:
            torch.save(dict(content), temporary)
        except RuntimeError as error:  # how torch reports a full disk
            raise OSError(f"the weights could not be written: {str(error).splitlines()[0]}") from error


class _Ignored:
    """Stands for the log objects in mmengine's checkpoints, so that their code is neither needed nor run."""

    def __new__(cls, *_: object) -> _Ignored:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Keep nothing."""


def plain_types() -> AbstractContextManager[None]:
    """Inside this context `torch.load(weights_only=True)` also reads what mmpose's checkpoints hold beside tensors.

    That is numpy arrays, under their old and their new names; mmengine's log objects are skipped.
    """
    from numpy._core.multiarray import _reconstruct, scalar

    named = [
        (function, f"{module}.multiarray.{function.__name__}")
        for module in ("numpy.core", "numpy._core")
        for function in (_reconstruct, scalar)
    ]
    kinds = [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64, np.int32, np.bool_, np.uint8)]
    ignored = [(_Ignored, name) for name in ("mmengine.logging.history_buffer.HistoryBuffer", "builtins.getattr")]
    return torch.serialization.safe_globals([np.ndarray, np.dtype, *named, *kinds, *ignored])


def _unreadable(path: Path, error: type[TwoViewError]) -> TwoViewError:
    size = f"{path.stat().st_size / 1e6:.1f} MB" if path.exists() else "gone"
    return error(
        f"{path} ({size}) is truncated or not a PyTorch file",
        hint="download or copy it again, and compare its size with the original's",
    )


def _refusal(path: Path, reason: str, error: type[TwoViewError]) -> TwoViewError:
    """Torch has one error for objects that are neither tensors nor plain values, and for files that are no pickle."""
    culprit = re.search(r"(?:GLOBAL|global:?|class) ([\w.]+\.[\w.]+)", reason)
    if culprit is not None:
        what = f"holds {culprit[1]} beside its weights"
    elif path.read_bytes()[:2] in (b"\x80\x04", b"\x80\x05"):
        what = "is a pickle that torch.save did not write"
    else:
        return _unreadable(path, error)
    return error(
        f"{path} {what}, which could run code when read: refused",
        hint="if you trust it, save only its weights, where it was made: torch.save({'model': net.state_dict()}, ...)",
    )
