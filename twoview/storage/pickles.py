"""Pickles looked at before they are read: where each one ends, and whether it claims more than it holds.

A few bytes may ask a reader for terabytes: by the length of a text, or by a place in the reader's list of objects.
Nothing here builds an object.
"""

from __future__ import annotations

import mmap
import pickletools

_LINE = pickletools.UP_TO_NEWLINE
_COUNTED = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
# Code of an instruction -> its name and the size of its argument.
_CODES = {ord(op.code): (op.name, op.arg.n if op.arg else 0) for op in pickletools.opcodes}
_PUTS = ("BINPUT", "LONG_BINPUT", "PUT")
_TWO_LINES = ("GLOBAL", "INST")
_SPARE = 256  # places that a writer may have left out


def end_of(data: bytes | mmap.mmap, start: int = 0) -> int:
    """Where the pickle that begins at `start` ends.

    Raises ValueError for bytes that are no whole pickle, and for one that claims more than it holds.
    """
    at, size, count = start, len(data), 0
    while at < size:
        found = _CODES.get(data[at])
        if found is None:
            raise ValueError(f"no pickle: byte {at} is no instruction")
        name, length = found
        at, count = at + 1, count + 1
        argument = at
        if length == _LINE:
            for _ in range(2 if name in _TWO_LINES else 1):
                at = data.find(b"\n", at) + 1
                if at == 0:
                    raise ValueError("the pickle is cut off")
        elif length < 0:
            width = _COUNTED[length]
            at += width + int.from_bytes(data[at : at + width], "little")
        else:
            at += length
        if at > size or (name == "FRAME" and int.from_bytes(data[argument:at], "little") > size - at):
            raise ValueError("the pickle is cut off, or claims more than it holds")
        if name in _PUTS:
            digits = data[argument:at]
            place = int(digits) if name == "PUT" else int.from_bytes(digits, "little")
            if not 0 <= place <= count + _SPARE:
                raise ValueError(f"the pickle claims {place} objects, and holds {count}")
        if name == "STOP":
            return at
    raise ValueError("the pickle is cut off")
