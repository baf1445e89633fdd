"""Speed and memory of detection, beside rtmlib's PoseTracker with the same model files and search frequency.

    python tests/benchmarks/detect.py                     a 1080p clip, both, three times in turn
    python tests/benchmarks/detect.py --scaling 10 60 600 seconds of video against time and peak memory

rtmlib lives in an environment of its own (it wants another OpenCV): TWOVIEW_RTMLIB_PYTHON names its python, by
default /tmp/rtmvenv/bin/python; without it only twoview is measured, and the output says so. The official weights are
not needed: RTMPose-s has random ones, with a standing figure added to its answers, so that people are followed as they
would be; RTMDet-nano is the one of the shared folder, wrapped as OpenMMLab exports it (boxes after suppression),
without those it is less than half sure of: a second box on the one man would be a second person to a network that sees
a figure everywhere. Neither side's time holds the import of libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from beside import ROOT

SHARED = ROOT.parent / "shared"
RTMLIB = Path(os.environ.get("TWOVIEW_RTMLIB_PYTHON", "/tmp/rtmvenv/bin/python"))
CLIP = SHARED / "data" / "video" / "pose2sim_single" / "videos" / "cam04.mp4"
RTMDET = SHARED / "models" / "rtmdet_nano" / "rtmdet-nano.onnx"
EVERY = 10

# Peak memory is VmHWM: what getrusage calls the maximum is inherited from the process that started this one.
MEASURED = """
def measured(frames, wall, **more):
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    cpu = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    print(json.dumps({"frames": frames, "wall": wall, "cpu": cpu, "mib": int(peak) / 1024, **more}))
"""

OURS = """
import json, resource, sys, time
import av, cv2, onnxruntime
from twoview.config import DetectConfig
from twoview.detection.people_file import PeopleFile
from twoview.detection.pipeline import detect
people = []
PeopleFile.save = lambda self, found, detector, complete: people.append(len(found.frame))
video, pose, finder, every = sys.argv[1:5]
config = DetectConfig(detector=pose, finder=finder, device="cpu", people_every=int(every), repair=False)
begin = time.perf_counter()
poses = detect(video, config=config)
wall = time.perf_counter() - begin
measured(len(poses), wall, people=people[-1] / len(poses))
"""

THEIRS = """
import json, resource, sys, time
import cv2
from functools import partial
from rtmlib import Custom, PoseTracker
video, pose, finder, every = sys.argv[1:5]
begin = time.perf_counter()
solution = partial(Custom, det_class="RTMDet", det=finder, det_input_size=(320, 320), pose_class="RTMPose", pose=pose,
                   pose_input_size=(192, 256))
tracker = PoseTracker(solution, det_frequency=int(every), backend="onnxruntime", device="cpu")
film, frames, people = cv2.VideoCapture(video), 0, 0
while True:
    more, picture = film.read()
    if not more:
        break
    keypoints, scores = tracker(picture)
    frames, people = frames + 1, people + len(keypoints)
wall = time.perf_counter() - begin
measured(frames, wall, people=people / frames)
"""


def make_pose_model(path: Path) -> None:
    """RTMPose-s with random weights whose answers are a standing figure, as ONNX."""
    import torch

    from twoview.detectors.rtmpose_network import RTMPoseNet

    torch.manual_seed(0)
    figure = np.stack([np.where(np.arange(17) % 2, 70, 122), np.linspace(45, 211, 17)], axis=-1)  # px of the crop

    class Standing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = RTMPoseNet("s").eval()
            for axis, bins in ((0, 384), (1, 512)):
                peaks = torch.zeros(1, 17, bins)
                peaks[0, range(17), (2 * figure[:, axis]).astype(int)] = 0.7
                self.register_buffer(f"peaks{axis}", peaks)

        def forward(self, x):
            along_x, along_y = self.network(x)
            return 0.01 * along_x + self.peaks0, 0.01 * along_y + self.peaks1

    names = ["input", "simcc_x", "simcc_y"]
    torch.onnx.export(
        Standing(), (torch.zeros(1, 3, 256, 192),), path, input_names=names[:1], output_names=names[1:],
        dynamic_axes={name: {0: "n"} for name in names}, dynamo=False, verbose=False,
    )  # fmt: skip


def make_finder(path: Path) -> None:
    """RTMDet-nano with decoding and suppression inside, [1, N, 5] boxes and [1, N] classes, as OpenMMLab exports it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(RTMDET)
    graph = model.graph
    heads = [output.name for output in graph.output]
    points = np.concatenate(
        [np.stack(np.meshgrid(np.arange(n) * s, np.arange(n) * s), axis=-1).reshape(-1, 2)
         for n, s in ((40, 8), (20, 16), (10, 32))]
    ).astype(np.float32)[None]  # fmt: skip
    constants = {
        "rows": np.array([1, -1, 5]), "points": points, "one": np.array([1]), "zero": np.array([0]),
        "three": np.array([3]), "five": np.array([5]), "last": np.array([2]), "most": np.array([100]),
        "iou": np.array([0.65], np.float32), "least": np.array([0.5], np.float32), "box_index": np.array([2]),
    }  # fmt: skip
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())

    def node(kind: str, inputs: list[str], output: str, **attributes: object) -> None:
        graph.node.append(helper.make_node(kind, inputs, [output], **attributes))

    for i, head in enumerate(heads):
        node("Reshape", [head, "rows"], f"flat{i}")
    node("Concat", [f"flat{i}" for i in range(3)], "all", axis=1)
    node("Slice", ["all", "zero", "one", "last"], "logit")
    node("Sigmoid", ["logit"], "score")
    node("Slice", ["all", "one", "three", "last"], "low_side")
    node("Slice", ["all", "three", "five", "last"], "high_side")
    node("Sub", ["points", "low_side"], "low")
    node("Add", ["points", "high_side"], "high")
    node("Concat", ["low", "high"], "boxes", axis=2)
    node("Transpose", ["score"], "score_first", perm=[0, 2, 1])
    node("NonMaxSuppression", ["boxes", "score_first", "most", "iou", "least"], "kept")
    node("Gather", ["kept", "box_index"], "kept_box", axis=1)
    node("Squeeze", ["kept_box"], "kept_row", axes=[1])
    node("Concat", ["boxes", "score"], "scored", axis=2)
    node("Gather", ["scored", "kept_row"], "dets", axis=1)
    node("Sub", ["kept_row", "kept_row"], "none")
    node("Unsqueeze", ["none"], "labels", axes=[0])
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, "n", 5]))
    graph.output.append(helper.make_tensor_value_info("labels", TensorProto.INT64, [1, "n"]))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def make_clip(path: Path, frames: int, *, rate: int = 30, size: tuple[int, int] | None = None) -> None:
    """The real clip forwards and backwards until it is long enough, in H.264."""
    from twoview.media.video import frames as read
    from twoview.media.writer import VideoWriter

    there = [frame.rgb for frame in read(CLIP, size=size)]
    loop = there + there[-2:0:-1]
    with VideoWriter(path, (there[0].shape[1], there[0].shape[0]), rate) as writer:
        for i in range(frames):
            writer.write(loop[i % len(loop)])


def run(python: Path | str, script: str, *args: object) -> dict[str, float]:
    """What the script prints last, run in a process of its own."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT) if script is OURS else ""}
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(
        [str(python), "-c", MEASURED + script, *map(str, args)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Make the files, run both in turn, print frames per second and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--scaling", type=float, nargs="*", help="seconds of video")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pose, finder, clip = (Path(folder) / name for name in ("rtmpose-s.onnx", "rtmdet-nano.onnx", "clip.mp4"))
        make_pose_model(pose)
        make_finder(finder)
        if args.scaling:
            for seconds in args.scaling:
                make_clip(clip, round(30 * seconds), size=(270, 480))
                got = run(sys.executable, OURS, clip, pose, finder, EVERY)
                print(f"{seconds:6g} s of video: {got['wall']:7.1f} s, {got['mib']:.0f} MiB", flush=True)
            return
        make_clip(clip, args.frames)
        both: dict[str, list[dict[str, float]]] = {"twoview": [], "rtmlib": []}
        for _ in range(args.times):
            both["twoview"].append(run(sys.executable, OURS, clip, pose, finder, EVERY))
            if RTMLIB.exists():
                both["rtmlib"].append(run(RTMLIB, THEIRS, clip, pose, finder, EVERY))
        rates = {}
        for name, results in both.items():
            if not results:
                print(
                    f"{name}: not measured, {RTMLIB} does not exist (pip install rtmlib==0.0.16 in a venv of its own)"
                )
                continue
            each = [r["frames"] / r["wall"] for r in results]
            rates[name] = statistics.median(each)
            shown = ", ".join(f"{rate:.1f}" for rate in each)
            cpu = statistics.median(1000 * r["cpu"] / r["frames"] for r in results)
            most = max(r["mib"] for r in results)
            print(
                f"{name}: {rates[name]:.1f} frames/s ({shown}), {cpu:.1f} ms of processor per frame, {most:.0f} MiB, "
                f"{results[0]['people']:.2f} people per frame"
            )
        if len(rates) == 2:
            print(f"twoview is {rates['twoview'] / rates['rtmlib']:.2f} times as fast")


if __name__ == "__main__":
    main()
