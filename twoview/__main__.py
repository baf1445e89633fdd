"""The command `twoview`, also as `python -m twoview`."""

from __future__ import annotations


def main() -> None:
    """Run the command: errors a user can act on become one line, a hint and exit code 1."""
    from twoview.cli import console
    from twoview.cli.commands import app

    console.run(app)


if __name__ == "__main__":
    main()
