"""`twoview infer` from video to 3D, beside the chain that one would write: rtmlib and a plain DSTformer in a loop.

    python tests/benchmarks/infer.py [--frames 300] [--times 3] [--threads 1] [--windows 2]   a 1080p clip, both in turn
    python tests/benchmarks/infer.py --scaling 10 600 [--lifter twoview-small]     seconds of video: time, peak memory

Both get the same clip and the same model files: RTMDet-nano and RTMPose-s (see detect.py: random weights that see a
standing figure), and MotionBERT-Lite's network with random weights. The chain is rtmlib's PoseTracker on every frame,
joints converted, clips of 243 frames one after the other with the mirrored pass, as MotionBERT's own script does; its
network is written plainly (plain_dstformer.py). Ours is `infer_file` without pictures: overlapping windows, people
followed, joints repaired, sigmas, files with headers. rtmlib lives in an environment of its own that has torch too:
TWOVIEW_RTMLIB_PYTHON names its python, see detect.py. Neither side's time holds the import of libraries.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from beside import ROOT
from detect import EVERY, RTMLIB, make_clip, make_finder, make_pose_model, run
from plain_dstformer import PlainDSTformer
from small_lifters import LITE

from twoview.config import InferConfig
from twoview.lifting.model import Model, save_model

OURS = """
import json, resource, sys, time
from pathlib import Path
import av, cv2, onnxruntime, torch
from twoview.config import DetectConfig, InferConfig
from twoview.workflow.inference import infer_file
video, pose, finder, every, lifter, out, threads, windows = sys.argv[1:9]
torch.set_num_threads(int(threads))
config = DetectConfig(detector=pose, finder=finder, device="cpu", people_every=int(every))
begin, spent = time.perf_counter(), time.process_time()
found = infer_file(Path(video), lifter, Path(out), config=InferConfig(windows=int(windows)), detect_config=config,
                   picture=False)
wall = time.perf_counter() - begin
measured(len(found.poses), wall, cpu=time.process_time() - spent)
"""

THEIRS = """
import json, resource, sys, time
from functools import partial
import cv2, numpy as np, torch
from rtmlib import Custom, PoseTracker
video, pose, finder, every, lifter, out, threads, root, benchmarks = sys.argv[1:10]
sys.path[:0] = [root, benchmarks, benchmarks + "/.."]
from plain_dstformer import PlainDSTformer
from small_lifters import LITE
from twoview.skeleton import COCO17, H36M17, to_h36m
torch.set_num_threads(int(threads))
begin, spent = time.perf_counter(), time.process_time()
network = PlainDSTformer(**LITE).eval()
network.load_state_dict(torch.load(lifter + ".plain", weights_only=True))
solution = partial(Custom, det_class="RTMDet", det=finder, det_input_size=(320, 320), pose_class="RTMPose", pose=pose,
                   pose_input_size=(192, 256))
tracker = PoseTracker(solution, det_frequency=int(every), backend="onnxruntime", device="cpu")
film, flat = cv2.VideoCapture(video), []
while True:
    more, picture = film.read()
    if not more:
        break
    keypoints, scores = tracker(picture)
    flat.append(np.concatenate([keypoints[0], scores[0][:, None]], axis=1) if len(keypoints) else np.zeros((17, 3)))
    height, width = picture.shape[:2]
flat = np.stack(flat).astype(np.float32)
xy, score = to_h36m(flat[..., :2], flat[..., 2], COCO17)
x = torch.from_numpy(np.concatenate([(2 * xy - [width, height]) / width, score[..., None]], axis=-1)).float()
order = list(H36M17.flip_order)
mirrored = lambda v: v[:, :, order] * torch.tensor([-1.0, 1, 1])
answers = []
with torch.inference_mode():
    for start in range(0, len(x), 243):
        clip = x[None, start:start + 243]
        answers.append((network(clip) + mirrored(network(mirrored(clip)))) / 2)
np.save(out, torch.cat(answers, dim=1)[0].numpy())
wall = time.perf_counter() - begin
measured(len(flat), wall, cpu=time.process_time() - spent)
"""


def make_lifter(path: Path) -> None:
    """MotionBERT-Lite's network with random weights, as our model file and as the plain network's state."""
    from twoview.lifters.dstformer import DSTformer

    torch.manual_seed(0)
    plain = PlainDSTformer(**LITE)
    ours = DSTformer(**LITE)
    ours.load_state_dict(plain.state_dict())
    save_model(path, Model(ours, "dstformer", dict(LITE), "screen", 30.0, 243))
    torch.save(plain.state_dict(), f"{path}.plain")


def main() -> None:
    """Make the files, run both in turn, print frames per second and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch, for both")
    parser.add_argument("--windows", type=int, default=InferConfig.windows, help="infer.windows of ours")
    parser.add_argument("--lifter", help="of ours in --scaling, instead of the size of MotionBERT-Lite")
    parser.add_argument("--scaling", type=float, nargs="*", help="seconds of video")
    args = parser.parse_args()
    here = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as folder:
        pose, finder, clip, lifter = (
            Path(folder) / name for name in ("rtmpose-s.onnx", "rtmdet-nano.onnx", "clip.mp4", "lite.pt")
        )
        make_pose_model(pose)
        make_finder(finder)
        make_lifter(lifter)
        number = iter(range(10_000))

        def measured(script: str, python: Path | str) -> dict[str, float]:
            out = Path(folder) / f"out{next(number)}"
            more = (args.windows,) if script is OURS else (ROOT, here)
            return run(python, script, clip, pose, finder, EVERY, args.lifter or lifter, out, args.threads, *more)

        if args.scaling:
            for seconds in args.scaling:
                make_clip(clip, round(30 * seconds), size=(270, 480))
                got = measured(OURS, sys.executable)
                print(f"{seconds:6g} s of video: {got['wall']:7.1f} s, {got['mib']:.0f} MiB", flush=True)
            return
        make_clip(clip, args.frames)
        both: dict[str, list[dict[str, float]]] = {"twoview infer": [], "rtmlib + plain DSTformer": []}
        for _ in range(args.times):
            both["twoview infer"].append(measured(OURS, sys.executable))
            if RTMLIB.exists():
                both["rtmlib + plain DSTformer"].append(measured(THEIRS, RTMLIB))
        rates, processor = [], []
        for name, results in both.items():
            if not results:
                print(f"{name}: not measured, {RTMLIB} does not exist (see detect.py)")
                continue
            each = [r["frames"] / r["wall"] for r in results]
            rates.append(statistics.median(each))
            cpu = statistics.median(1000 * r["cpu"] / r["frames"] for r in results)
            processor.append(cpu)
            shown = ", ".join(f"{rate:.1f}" for rate in each)
            print(f"{name}: {rates[-1]:.1f} frames/s ({shown}), {cpu:.1f} ms of processor per frame, "
                  f"{max(r['mib'] for r in results):.0f} MiB")  # fmt: skip
        if len(rates) == 2:
            print(f"twoview is {rates[0] / rates[1]:.2f} times as fast by the clock, and "
                  f"{processor[1] / processor[0]:.2f} times by the processor's time")  # fmt: skip


if __name__ == "__main__":
    main()
