"""Find the athlete in a video and draw what was found on one frame.

python examples/02_detect_and_draw.py [video.mp4] [picture.png]
"""

import sys
from pathlib import Path

import cv2
import numpy as np

import twoview
from twoview.media.video import frames

SHIPPED = Path(twoview.__file__).parent / "assets" / "demo" / "golf" / "take1" / "view_a.mp4"


def main() -> None:
    video = Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED
    picture = sys.argv[2] if len(sys.argv) > 2 else "detected.png"

    # "movenet" ships with the package; "rtmpose-m" is the better choice where its weights can be had.
    poses = twoview.detect(video, config=twoview.DetectConfig(detector="movenet"))
    seen = (poses.score > 0).mean()
    print(f"{len(poses)} frames, {seen:.1%} of the {len(poses.skeleton)} joints seen, by {poses.source.made_by}")

    # Poses carry their own time, so the frame that belongs to a pose is found by seconds, never by counting.
    best = int(np.argmax(poses.score.mean(axis=1)))
    frame = next(frames(video, start=float(poses.time[best])))
    drawn = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR)
    for parent, child in poses.skeleton.bones:
        ends = poses.xy[best, [parent, child]]
        if np.isfinite(ends).all():
            (x0, y0), (x1, y1) = np.round(ends).astype(int).tolist()
            cv2.line(drawn, (x0, y0), (x1, y1), (60, 200, 60), 2, cv2.LINE_AA)
    cv2.imwrite(picture, drawn)
    print(f"best frame, at {frame.time:.3f} s, drawn to {picture}")


if __name__ == "__main__":
    main()
