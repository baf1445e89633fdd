"""Plug-ins: objects given by name as `module:Name`, imported only when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from twoview.errors import TwoViewError


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
