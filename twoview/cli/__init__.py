"""The command line: thin readings of the public functions. Only here are typer and rich imported."""

from __future__ import annotations


def main() -> None:
    """Run the `twoview` command: errors a user can act on become one line, a hint and exit code 1."""
    from twoview.cli import console
    from twoview.cli.commands import app

    console.run(app)
