"""Progress as events: long functions report to a callback, and are silent without one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """One report from a long function.

    stage   the work, such as "detect a"; one bar is drawn per stage
    done    units finished so far; total is how many there will be, None while unknown
    unit    what is counted: "frames", "steps", "bytes", "s"
    values  numbers shown beside the bar, such as {"loss": 0.12}
    """

    stage: str
    done: float
    total: float | None = None
    unit: str = "steps"
    values: Mapping[str, float] = field(default_factory=dict)


OnProgress = Callable[[Progress], None]


def report(on_progress: OnProgress | None, event: Progress) -> None:
    """Send `event` to the callback, if there is one."""
    if on_progress is not None:
        on_progress(event)


def is_first() -> bool:
    """Whether this is the one process of several that prints and writes, by the launchers' environment variables."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"))
