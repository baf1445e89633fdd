"""3D from one view: a clip nobody trained on, its joints in meters, and how fast the wrists move.

python examples/04_infer_clip.py [clip.mp4] [model.pt] [height of the athlete in meters]
"""

import sys
from pathlib import Path

import numpy as np

import twoview
from twoview import DetectConfig, InferConfig

SHIPPED = Path(twoview.__file__).parent / "assets" / "demo" / "golf" / "test1" / "view_a.mp4"


def main() -> None:
    clip = Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED
    model = twoview.load_model(sys.argv[2] if len(sys.argv) > 2 else "twoview-small")
    height = float(sys.argv[3]) if len(sys.argv) > 3 else 1.81

    seen = twoview.detect(clip, config=DetectConfig(detector="movenet"))
    poses = twoview.infer(seen, model, config=InferConfig(height_m=height))
    print(f"{len(poses)} frames in {poses.unit}, origin at the {poses.origin}")

    # Times are those of the video's frames, so speeds are right for phones that change their rate, too.
    for joint in ("left_wrist", "right_wrist"):
        path = poses.xyz[:, poses.skeleton.index(joint)]
        speed = np.linalg.norm(np.diff(path, axis=0), axis=1) / np.diff(poses.time)
        fastest = int(np.nanargmax(speed))
        print(f"{joint}: fastest {speed[fastest]:.1f} m/s, {poses.time[fastest]:.2f} s into the clip")


if __name__ == "__main__":
    main()
