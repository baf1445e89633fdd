"""How the clocks of two phones relate, from their sound, and what the answer is good for.

python examples/01_sync_two_videos.py [a.mp4 b.mp4]
"""

import sys
from pathlib import Path

import twoview

SHIPPED = Path(twoview.__file__).parent / "assets" / "demo" / "golf" / "take1"


def main() -> None:
    videos = [Path(p) for p in sys.argv[1:3]] or [SHIPPED / "view_a.mp4", SHIPPED / "view_b.mp4"]
    clocks = twoview.sync(*videos, names=["a", "b"])

    # One straight line a view: session time = offset + rate * the file's own time.
    b, quality = clocks.clocks["b"], clocks.quality["b"]
    print(f"b began {b.offset_s:+.4f} s after a, and drifts by {b.drift_ppm:+.1f} ppm")
    print(f"right within half a frame with a probability of {quality.confidence:.1%}")

    # Nothing is trimmed or re-encoded: ask for the moment in one file that belongs to a moment in the other.
    moment = 2.0
    print(f"what a shows at {moment:.3f} s, b shows at {float(clocks.to_view('b', moment)):.3f} s")
    for sentence in clocks.warnings:
        print("warning:", sentence)


if __name__ == "__main__":
    main()
