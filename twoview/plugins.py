"""Plug-ins: objects given by name as `module:Name`, imported only when they are used.

A name that a person gives is honored. A name in a file may come from a stranger: `check_trust` refuses it before
anything is imported, unless the person trusts exactly this name.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from twoview.errors import TwoViewError

NETWORKS = (".onnx", ".pth", ".zip")  # suffixes of files that are data, whatever else is in their names


def load(name: str, what: str, error: type[TwoViewError]) -> Any:
    """The object that `package.module:Name` names.

    what   the kind of plug-in, for the message: "detector", "lifter"
    Raises `error` where the module cannot be imported or has no such name.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as reason:  # ValueError: no module before the colon
        raise error(
            f"cannot load the {what} {name!r}: {reason}",
            hint="is the package installed, and the name spelled right? expected package.module:Name",
        ) from reason


def is_code(name: str) -> bool:
    """Whether using what is called so runs code that is not part of this package.

    That is `package.module:Name`, and a model of MMPose, whose configs are programs.
    """
    return name.startswith("mmpose:") or (":" in name and Path(name).suffix not in NETWORKS)


def check_trust(
    name: object,
    what: str,
    *,
    known: Iterable[str],
    where: Path | str,
    trust: Collection[str],
    error: type[TwoViewError],
) -> str:
    """The name of a plug-in that stands in a file, if it may be used. Raises `error` otherwise; nothing is imported.

    what   the kind of plug-in, for the message
    known  names of this package's own table
    where  the file
    trust  names that the person trusts
    """
    if not isinstance(name, str):
        raise error(f"{where} names no {what}: {name!r}"[:300], hint="the file is damaged; make or fetch it again")
    if name in known or name in trust:
        return name
    if not is_code(name):
        raise error(f"{where} names the unknown {what} {name[:100]!r}", hint=f"known: {', '.join(known)}")
    raise error(
        f"{where} wants the {what} {name[:100]!r} to be run, which is a program and no part of twoview: refused",
        hint=f"if you know that program and trust it: --trust {name[:100]}",
    )
