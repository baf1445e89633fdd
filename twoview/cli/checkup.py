"""`twoview doctor`: whether this machine has what twoview needs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from twoview.cli import console
from twoview.cli.options import Json


def doctor(
    try_out: Annotated[
        bool, typer.Option("--try/--no-try", help="Try a second of an included video through every part.")
    ] = True,
    json: Json = False,
) -> None:
    """Check versions, codecs, devices, caches and disks, and say what to do where something is broken (exit code 1)."""
    from twoview.workflow.checkup import doctor

    with console.progress() as on_progress:
        checks = doctor(try_out=try_out, on_progress=on_progress)
    broken = [check for check in checks if check.state == "broken"]
    following = "twoview doctor" if broken else "twoview run a.mp4 b.mp4"
    if json:
        console.as_json({"checks": [asdict(check) for check in checks], "ok": not broken, "next": following})
    else:
        part = ""
        for check in checks:
            if check.part != part:
                part = check.part
                console.result(part)
            console.check(check.state, f"{check.name:<24} {check.value}", check.remedy)
        console.result(f"{len(broken)} broken: what to do stands beside each" if broken else "everything needed works")
        console.next_step(following)
    if broken:
        raise typer.Exit(1)
