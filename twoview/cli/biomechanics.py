"""`twoview angles`: joint angles, ranges of motion and peak angular velocities of a result."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twoview.cli import console
from twoview.cli.options import Json, config_file, flag, set_option
from twoview.command_settings import resolve

if TYPE_CHECKING:
    from twoview.poses import Poses3D


def angles(
    result: Annotated[Path, typer.Argument(help="File of 3D poses (.npz) that infer or triangulate made.")],
    filter: Annotated[str | None, flag("filter.kind", "--filter")] = None,
    level: Annotated[
        bool,
        typer.Option("--level", help="Take the phone as level where angles need up, whatever the poses say."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Path of the files without suffix (default: beside the poses).")
    ] = None,
    plot: Annotated[bool, typer.Option(help="Draw the curves.")] = True,
    config: Annotated[Path | None, config_file("angles")] = None,
    sets: Annotated[list[str] | None, set_option("angles")] = None,
    json: Json = False,
) -> None:
    """Measure joint angles, their ranges and peak velocities, as table, OpenSim file and plot."""
    from twoview.workflow.angles import angles_of_file

    settings = resolve("angles", file=config, flags={"kind": filter}, sets=sets or ())
    up = (0.0, -1.0, 0.0) if level else None
    found = angles_of_file(result, out, filter=settings.filter, up=up, plot=plot)
    moved = {}
    for name, values in found.angles.degrees.items():
        if any(not math.isnan(value) for value in values):
            moved[name] = found.angles.motion(name)
    following = f"twoview evaluate {shlex.quote(console.short(result))}"
    if json:
        console.as_json(
            {
                "filter": found.angles.filter,
                "events": dict(found.events),
                "contacts": [vars(contact) for contact in found.contacts],
                "jumps": [vars(jump) for jump in found.jumps],
                "travelled_m": found.travelled_m,
                "up_sigma_deg": found.up_sigma_deg,
                "angles": {
                    name: {"low_deg": one.low, "high_deg": one.high, "range_deg": one.range,
                           "peak_deg_per_s": one.speed, "peak_at_s": one.speed_at}
                    for name, one in moved.items()
                },
                "files": [str(path) for path in found.files],
                "next": following,
            }
        )  # fmt: skip
        return
    rows = [
        [name.replace("_", " "), f"{one.low:.0f}", f"{one.high:.0f}", f"{one.range:.0f}",
         "" if math.isnan(one.speed) else f"{one.speed:.0f}", "" if math.isnan(one.speed) else f"{one.speed_at:.2f}"]
        for name, one in moved.items()
    ]  # fmt: skip
    console.table(["angle (deg)", "lowest", "highest", "range", "peak velocity (deg/s)", "at (s)"], rows)
    for name, moment in found.events.items():
        console.result(f"{name} at {moment:.2f} s")
    for foot in sorted({contact.foot for contact in found.contacts}):
        spans = [f"{c.start:.2f} to {c.end:.2f}" for c in found.contacts if c.foot == foot]
        console.result(f"{foot} foot on the floor, s: {', '.join(spans)}")
    for jump in found.jumps:
        console.result(f"in the air {jump.start:.2f} to {jump.end:.2f} s: hips {100 * jump.rise_m:.0f} cm up")
    if not math.isnan(found.travelled_m):
        console.result(f"travelled {found.travelled_m:.2f} m along the floor")
    if math.isnan(found.up_sigma_deg):
        console.result("angles against gravity: none, up is not known (--level takes the phone as level)")
    elif found.up_sigma_deg:
        console.result(f"angles against gravity: up is known to {found.up_sigma_deg:.1f} degrees")
    console.result(f"filter: {found.angles.filter or 'none (peak velocities hold noise; --filter butterworth)'}")
    console.saved(*found.files, next=following)


def up_and_way(poses: Poses3D) -> list[str]:
    """To how many degrees up is known, and the way travelled, as cells of a table."""
    from twoview.biomechanics.events import travelled

    if poses.world is None:
        return ["not known", ""]
    return [f"{poses.world.up_sigma_deg:.1f}", f"{travelled(poses):.2f}" if poses.unit == "m" else ""]


def on_floor(poses: Poses3D) -> str:
    """What is known of up, the way travelled and jumps, in a sentence."""
    from twoview.biomechanics.events import find_jumps

    known, way = up_and_way(poses)
    if poses.world is None:
        return "where up and the floor are is not known: no feet are seen"
    jumps = find_jumps(poses)
    highest = max((jump.rise_m for jump in jumps), default=0.0)
    jumped = f", {len(jumps)} times in the air, hips {100 * highest:.0f} cm up at most" if jumps else ""
    return f"up known to {known} degrees" + (f", travelled {way} m along the floor" if way else "") + jumped
