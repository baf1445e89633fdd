"""One self-contained html file: it opens from disk, without a network, and no text in it can become code.

Scripts run only where their hash is in the page's own content policy, which also refuses every request.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from twoview.storage.records import atomic

ASSETS = Path(str(files("twoview") / "assets" / "page"))


def write_html(
    path: Path | str,
    title: str,
    body: str,
    *,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    data: Mapping[str, str] | None = None,
) -> Path:
    """Write a page. `body` is html, whose texts are escaped already; raises StorageError when the disk is full.

    styles, scripts  names of files in `assets/page`; scripts run one after the other, after the body
    data             id -> JSON or base64 that scripts read, see `as_data`
    """
    codes = [(ASSETS / name).read_text(encoding="utf-8") for name in scripts]
    hashes = " ".join(f"'sha256-{_hash(code)}'" for code in codes) or "'none'"
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; media-src blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    css = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in ("page.css", *styles))
    stored = [
        f'<script type="application/json" id="{escape(name)}">{text}</script>' for name, text in (data or {}).items()
    ]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{css}\n</style></head><body>",
        body,
        *stored,
        *(f"<script>{code}</script>" for code in codes),
        "</body></html>\n",
    ]
    with atomic(path) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8", newline="\n")
    return Path(path)


def as_data(content: Any) -> str:
    """JSON that can stand inside a script element: no text in it can end the element or begin another."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def as_base64(content: bytes) -> str:
    """Bytes as JSON text."""
    return f'"{base64.b64encode(content).decode()}"'


def _data(name: str, text: str) -> str:
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


def _hash(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
