"""Write docs/reference/config.md and cli.md from the code: `python docs/make_reference.py`. A test compares them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

from twoview.cli.options import spelled
from twoview.config import SECTIONS, allowed, default, hints_of, type_name

FOLDER = Path(__file__).parent / "reference"


def config_page() -> str:
    """Every setting with its type, default, allowed values and meaning."""
    lines = [
        "# Settings",
        "",
        "Order: defaults < `--config file.toml` < flags < `--set finetune.loss.consistency=0.5`. A file holds only",
        "what differs. An unknown key is an error that names the nearest one. Written by `docs/make_reference.py`.",
    ]
    for section, kind in SECTIONS.items():
        lines += _rows(section, kind)
    return "\n".join(lines) + "\n"


def _rows(section: str, kind: type) -> list[str]:
    first = (kind.__doc__ or "").splitlines()[0]
    lines = [
        "",
        f"## [{section}]",
        "",
        first,
        "",
        "| key | type | default | allowed | meaning |",
        "|---|---|---|---|---|",
    ]
    hints, nested = hints_of(kind), []
    for entry in dataclasses.fields(kind):
        hint = hints[entry.name]
        if dataclasses.is_dataclass(hint):
            nested.append((f"{section}.{entry.name}", hint))
            continue
        lines.append(
            f"| `{entry.name}` | {type_name(hint)} | `{spelled(default(entry))}` | {allowed(entry.metadata)} | "
            f"{entry.metadata['help']} |"
        )
    for name, hint in nested:
        lines += _rows(name, hint)
    return lines


def cli_page() -> str:
    """Every command with its options, as typer documents them."""
    command = [sys.executable, "-m", "typer", "twoview.cli.commands", "utils", "docs", "--name", "twoview"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip() + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "config.md").write_text(config_page(), encoding="utf-8")
    (FOLDER / "cli.md").write_text(cli_page(), encoding="utf-8")
