"""The detector of colored dots, in no hurry where it is asked for: so that workers die in the middle of their work."""

from __future__ import annotations

import os
import time

from markers import Markers


class SlowMarkers(Markers):
    """`Markers`, with a pause in every picture."""

    def __call__(self, rgb):
        time.sleep(float(os.environ.get("SECONDS_PER_PICTURE", "0")))
        return super().__call__(rgb)
