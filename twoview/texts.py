"""Text as other programs save it, UTF-8 with or without a byte order mark (another encoding is named); strict JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_MARKS = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
SAVE_AS = "save it again as UTF-8 (editors offer this as encoding)"


def decoded(data: bytes) -> str:
    """The text in a file's bytes, without a mark. Raises ValueError that names another encoding."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"no text in UTF-8: {_encoding(data, error)}") from error
    if "\0" in text[:1000]:
        raise ValueError(f"no text in UTF-8: {_encoding(data)}")
    return text


def _encoding(data: bytes, error: UnicodeDecodeError | None = None) -> str:
    """What bytes are that are no text in UTF-8."""
    for mark, name in _MARKS.items():
        if data.startswith(mark):
            return f"it is in {name}"
    zeros = data[:1000].count(0) / max(len(data[:1000]), 1)
    if zeros > 0.3:
        return "it is in UTF-16 without a byte order mark"
    if zeros > 0 or error is None:
        return "it is a binary file"
    line = data.count(b"\n", 0, error.start) + 1
    return f"byte {data[error.start]:#04x} in line {line} is none; it may be in Windows-1252 or Latin-1"


def json_text(content: Any, *, indent: int | None = None) -> str:
    """Strict JSON, which has no NaN and no infinity: both become null."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
