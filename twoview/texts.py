"""Text as other programs save it: UTF-8 with or without a byte order mark; any other encoding is named."""

from __future__ import annotations

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
