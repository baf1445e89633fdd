"""The stage behind `twoview angles`: a file of 3D poses to angles, a table, OpenSim's file and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.biomechanics.angles import Angles, angles
from twoview.biomechanics.events import Contact, Jump, find_contacts, find_jumps, find_swing, travelled
from twoview.biomechanics.filtering import filter_poses
from twoview.biomechanics.world import in_world
from twoview.config import FilterConfig
from twoview.errors import FormatError
from twoview.formats.angles import write_angles_csv, write_mot
from twoview.poses import Poses3D
from twoview.storage import records
from twoview.visualization.angle_plot import draw_angles
from twoview.workflow.inference import ANGLE_FILES, remember_beside


@dataclass(frozen=True)
class Measured:
    """What `angles_of_file` made: the angles, moments in s by name, and the files that hold and show them.

    contacts, jumps  of poses whose floor is known
    travelled_m      along the floor; NaN where that is not known
    up_sigma_deg     of where up is: 0 where it was given, NaN where it is not known
    """

    angles: Angles
    events: Mapping[str, float]
    files: Sequence[Path]
    contacts: Sequence[Contact] = ()
    jumps: Sequence[Jump] = ()
    travelled_m: float = float("nan")
    up_sigma_deg: float = float("nan")


def angles_of_file(
    source: Path,
    out: Path | None = None,
    *,
    filter: FilterConfig | None = None,
    up: Sequence[float] | Array | None = None,
    plot: bool = True,
) -> Measured:
    """Angles of saved Poses3D; writes `<out>.angles.csv`, `.angles.mot` and, with `plot`, `.angles.png`.

    out  path without suffix; default: that of the source
    up   where up is in the poses' axes, for angles that need it; default: what the poses say, if they do

    Raises FormatError for a file that holds no Poses3D, and where no frame shows an angle.
    """
    poses = filter_poses(records.load_as(source, Poses3D), filter)
    sigma = 0.0 if up is not None else float("nan") if poses.world is None else poses.world.up_sigma_deg
    up = poses.world.up if up is None and poses.world is not None else up
    found = angles(poses, up=up)
    if not any(np.isfinite(values).any() for values in found.degrees.values()):
        raise FormatError(f"{source}: no frame shows an angle", hint="was an athlete found in the video?")
    swing, contacts = find_swing(poses), find_contacts(poses)
    events = {} if swing is None else {"top of swing": swing.top, "fastest hands": swing.fastest}
    out = source.with_suffix("") if out is None else out
    files = []
    for suffix in ANGLE_FILES:
        path = out.with_name(out.name + suffix)
        if suffix == ".angles.png":
            if not plot:
                records.remove(path)  # it would show other angles
                continue
            draw_angles(found, path, events=events, contacts=contacts)
        else:
            with records.atomic(path) as temporary:
                if suffix == ".angles.csv":
                    contact = None if poses.world is None else poses.world.contact
                    write_angles_csv(found, temporary, contact=contact)
                else:
                    write_mot(in_world(poses) if poses.world is not None and poses.unit == "m" else poses, temporary)
        files.append(path)
    if out == source.with_suffix(""):
        remember_beside(source, ANGLE_FILES)
    return Measured(found, events, files, contacts, find_jumps(poses), travelled(poses), sigma)
