"""Names of takes, views, runs and results: each becomes a part of a path, and stays inside its folder on any system."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

from twoview.errors import SessionError

DEFAULT_FOLDER = "session"
PUNCTUATION = " ._-()[]"
LONGEST = 200  # bytes; file systems allow 255, and endings such as ".people.npz" follow
_SHOWN = 5  # names in a message
_LETTERS = "LMN"  # first letters of Unicode's categories of letters, marks and numbers
# Files beside a view's or a video's own: a name that ends so would name another one's file.
_ENDINGS = (".people", ".2d", ".before", ".result", ".formats")
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


def check_name(name: str, what: str) -> str:
    """A name that a person gave to a take, view or run (`what`), in composed form (NFC).

    Letters and digits of any script, spaces and `._-()[]`. Raises SessionError for anything else, and for names that
    some system cannot keep as a file's name or that a command line reads as an option.
    """
    name = unicodedata.normalize("NFC", name)
    problem = _problem(name)
    if problem:
        raise SessionError(
            f"{what} name {name!r} {problem}", hint=f"letters, digits, spaces and {PUNCTUATION.strip()} make a name"
        )
    return name


def name_from(text: str) -> str:
    """A name made of the stem of a file: what a name cannot hold becomes "_"."""
    text = unicodedata.normalize("NFC", text)
    name = "".join(character if _is_allowed(character) else "_" for character in text).replace("..", "__")
    name = name.encode()[:LONGEST].decode(errors="ignore").strip(" ")
    name = "_" + name[1:] if name[:1] in "-." else name
    if name.endswith((*_ENDINGS, ".")):
        name = name.replace(".", "_")
    return f"{name}_" if _problem(name) else name


def nearest(name: str, known: Iterable[str]) -> str:
    """What a message shows of the known names: all while they are few, else the most similar ones."""
    names = list(known)
    if len(names) <= _SHOWN:
        return ", ".join(names) or "none"
    near = difflib.get_close_matches(name, names, n=_SHOWN, cutoff=0.0)
    return f"{', '.join(near)} and {len(names) - len(near)} more"


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts take2 before take10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def stays_inside(name: object) -> bool:
    """Whether a name found in a file is one part of a path: older versions allowed more than `check_name` does."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and len(name.encode(errors="surrogatepass")) <= LONGEST
        and not any(character in '/\\:"<>|?*' or unicodedata.category(character) == "Cc" for character in name)
    )


def _is_allowed(character: str) -> bool:
    return character in PUNCTUATION or unicodedata.category(character)[0] in _LETTERS


def _problem(name: str) -> str:
    """Why this is no name; "" where it is one."""
    refused = [character for character in name if not _is_allowed(character)]
    if not name.strip():
        return "is empty"
    if refused:
        return f"holds {refused[0]!r}"
    if ".." in name:
        return "holds '..'"
    if name[0] in "-. " or name[-1] in ". ":
        return f"begins or ends with {name[0] if name[0] in '-. ' else name[-1]!r}"
    if name.split(".")[0].strip().lower() in _DEVICES:
        return "is the name of a device on Windows"
    if name.endswith(_ENDINGS):
        return f"ends with .{name.rpartition('.')[2]}, as files beside a view's own do"
    return f"is longer than {LONGEST} bytes" if len(name.encode()) > LONGEST else ""
