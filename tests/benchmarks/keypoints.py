"""How far a detector's keypoints are from the truth, and the noise model of the detector that ships.

    python tests/benchmarks/keypoints.py                          every view with truth, a table
    python tests/benchmarks/keypoints.py golf karate --every 3   some rendered scenes, 20 frames per second kept
    python tests/benchmarks/keypoints.py --write                  and twoview/assets/movenet/noise.json anew

Real footage: the four cameras of the calibrated clip, against its refined 3D points (12 joints; the reference itself
reprojects with 5 to 7 px), as `real`. Its frame numbers seem one off: MoveNet sees in a picture, in all four cameras,
what it says of the frame before, while OpenPose's joints, of which it was made, lie on it. `late` is against the
reference one frame later. Rendered scenes: exact truth, pictures like a good computer game.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from beside import ROOT

from twoview.config import DetectConfig
from twoview.detection.pipeline import detect
from twoview.detection.repair import repair
from twoview.poses import Poses2D
from twoview.skeleton import COCO17, H36M17, to_h36m

SHARED = ROOT.parent / "shared" / "data"
NOISE = ROOT / "twoview" / "assets" / "movenet" / "noise.json"
ERROR_EDGES = (0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.045, 0.07, 0.1, 0.2, 10.0)
GROSS = 0.1  # of the body: an error beyond is an outlier, not noise
LAGS_S = tuple(np.arange(1, 13) / 30)


class View(NamedTuple):
    """A video with true COCO-17 (and Human3.6M-17) joints in px, NaN where the truth has none."""

    name: str
    video: Path
    coco: np.ndarray
    h36m: np.ndarray


def views(wanted: list[str]) -> Iterator[View]:
    """The real cameras, then the rendered views; only those whose name contains one of `wanted`, if any."""
    found = [*_real(), *_rendered()]
    return (view for view in found if not wanted or any(word in view.name for word in wanted))


def _real() -> Iterator[View]:
    folder = SHARED / "video" / "pose2sim_single"
    reference = np.load(folder / "reference" / "refined_coco12_3d.npz")
    for camera in json.loads((folder / "reference" / "refined_cameras.json").read_text()):
        args = [np.array(camera[key], dtype=float) for key in ("rvec", "tvec_m", "K", "distortion")]
        flat, _ = cv2.projectPoints(reference["points"].reshape(-1, 3), *args)
        coco = np.full((len(reference["points"]), 17, 2), np.nan)
        coco[:, reference["coco_index"]] = flat.reshape(len(coco), -1, 2)
        video = folder / "videos" / f"{camera['name']}.mp4"
        yield View(f"real/{camera['name']}", video, coco, coco * np.nan)
        late = coco[[0, *range(len(coco) - 1)]]  # of the first frame it says nothing else
        yield View(f"late/{camera['name']}", video, late, late * np.nan)


def _rendered() -> Iterator[View]:
    for truth in sorted((SHARED / "rendered").rglob("truth.npz")):
        arrays = np.load(truth)
        for video in sorted(truth.parent.glob("view_*.mp4")):
            name, view = truth.parent.relative_to(SHARED / "rendered").as_posix(), video.stem[-1]
            yield View(f"{name}/{view}", video, arrays[f"{view}_coco2d"], arrays[f"{view}_joints2d"])


def body_size(truth: np.ndarray) -> np.ndarray:
    """Longer side (T,) of the box around the true joints, px: the unit of all errors here."""
    return np.nanmax(np.nanmax(truth, axis=1) - np.nanmin(truth, axis=1), axis=-1)


def swapped(xy: np.ndarray, truth: np.ndarray, pairs: tuple[tuple[int, int], ...], size: np.ndarray) -> np.ndarray:
    """(T, P) pairs of joints nearer to each other's place than to their own, by at least 5 % of the body."""
    left, right = (np.array([p[i] for p in pairs]) for i in (0, 1))

    def cost(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(xy[:, left] - truth[:, a], axis=-1) + np.linalg.norm(xy[:, right] - truth[:, b], axis=-1)

    return cost(left, right) - cost(right, left) > 0.1 * size[:, None]


def table_row(view: View, poses: Poses2D, raw: Poses2D) -> list[str]:
    """Median and 95th percentile, shares near the truth and found, swapped pairs before repair and after."""
    size = body_size(view.coco)
    error = np.linalg.norm(poses.xy - view.coco, axis=-1)
    there = ~np.isnan(view.coco).any(axis=-1)
    known = there & ~np.isnan(error)
    share = (error / size[:, None])[known]
    limbs = [100 * np.nanmean(swapped(p.xy, view.coco, COCO17.pairs[2:], size)) for p in (raw, poses)]
    return [
        view.name, f"{len(poses)}", f"{np.median(size):.0f}", f"{np.median(error[known]):.1f}",
        f"{np.percentile(error[known], 95):.1f}", f"{100 * np.median(share):.2f}",
        f"{100 * (error[known] < 40).mean():.1f}", f"{100 * (share < 0.05).mean():.1f}",
        f"{100 * known.sum() / there.sum():.1f}", f"{limbs[0]:.2f}", f"{limbs[1]:.2f}",
    ]  # fmt: skip


COLUMNS = ["view", "frames", "body px", "median px", "95 % px", "median % body", "under 40 px", "under 5 % body",
           "found %", "swapped % raw", "repaired"]  # fmt: skip


# --- the noise model -----------------------------------------------------------------------------------------------


class Errors(NamedTuple):
    """Errors of one view as shares of the body: offset (T, J, 2), NaN where unseen or without truth; score; time."""

    offset: np.ndarray
    score: np.ndarray
    time: np.ndarray


def errors(view: View, poses: Poses2D, skeleton: str) -> Errors:
    """What the detector says minus what is true, in the joints of COCO-17 or Human3.6M-17."""
    poses = poses.to(H36M17) if skeleton == "h36m17" else poses
    truth = view.h36m if skeleton == "h36m17" else view.coco
    return Errors(
        (poses.xy.astype(float) - truth) / body_size(view.coco)[:, None, None], poses.score.astype(float), poses.time
    )


def joint_noise(all_errors: list[Errors]) -> dict[str, object]:
    """Bias, slow and quick noise, correlation time, outliers and missing joints of every joint, and its scores."""
    offset = np.concatenate([e.offset for e in all_errors])
    score = np.concatenate([e.score for e in all_errors])
    length = np.linalg.norm(offset, axis=-1)
    seen, gross = ~np.isnan(length), length > GROSS
    fine = np.where((seen & ~gross)[..., None], offset, np.nan)
    bias = np.nanmedian(fine, axis=0)
    std = np.nanstd(fine, axis=0)
    slow, seconds = _temporal(all_errors)
    return {
        "bias": bias.round(5).tolist(),
        "std": std.round(5).tolist(),
        "slow_share": slow.round(3).tolist(),
        "correlation_s": seconds.round(3).tolist(),
        "outlier_share": (gross.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)).round(5).tolist(),
        "outlier_std": float(np.nanstd(np.where(gross[..., None], offset, np.nan)).round(4)),
        "missing_share": (1 - seen.mean(axis=0)).round(5).tolist(),
        "score_mean": np.nanmean(np.where(seen, score, np.nan), axis=0).round(3).tolist(),
        "score_std": np.nanstd(np.where(seen, score, np.nan), axis=0).round(3).tolist(),
    }


def _temporal(all_errors: list[Errors]) -> tuple[np.ndarray, np.ndarray]:
    """Share (J,) of the fine noise's variance that is slow, and its correlation time in seconds.

    The autocorrelation of the errors is fitted by share * exp(-lag / time); what is missing to 1 at lag 0 is quick
    (frame by frame). Within a view errors have a constant part too; only what varies counts.
    """
    joints = all_errors[0].offset.shape[1]
    products, variances = np.zeros((len(LAGS_S), joints)), np.zeros((len(LAGS_S), joints))
    for e in all_errors:
        fine = np.where((np.linalg.norm(e.offset, axis=-1) > GROSS)[..., None], np.nan, e.offset)
        fine = fine - np.nanmean(fine, axis=0)
        step = float(np.median(np.diff(e.time)))
        for i, lag in enumerate(LAGS_S):
            k = round(lag / step)
            if not 0 < k < len(fine):
                continue
            a, b = fine[:-k], fine[k:]
            both = ~np.isnan(a) & ~np.isnan(b)
            products[i] += np.where(both, a * b, 0).sum(axis=(0, 2))
            variances[i] += np.where(both, (a * a + b * b) / 2, 0).sum(axis=(0, 2))
    correlation = np.clip(products / np.maximum(variances, 1e-12), 1e-3, 1)
    lags = np.array(LAGS_S)
    share, seconds = np.empty(joints), np.empty(joints)
    for j in range(joints):
        use = correlation[:, j] > 0.05
        use[:2] = True
        slope, start = np.polyfit(lags[use], np.log(correlation[use, j]), 1)
        share[j], seconds[j] = np.clip(np.exp(start), 0.05, 1), np.clip(-1 / min(slope, -1e-3), 0.02, 2)
    return share, seconds


def score_of_error(all_errors: list[Errors]) -> dict[str, object]:
    """Mean and spread of the score for errors between successive edges, over all joints: how sure it is when wrong."""
    length = np.concatenate([np.linalg.norm(e.offset, axis=-1).ravel() for e in all_errors])
    score = np.concatenate([e.score.ravel() for e in all_errors])
    rows = []
    for low, high in itertools.pairwise(ERROR_EDGES):
        inside = (length >= low) & (length < high)
        rows.append([float(score[inside].mean().round(3)), float(score[inside].std().round(3)), int(inside.sum())])
    return {"edges": ERROR_EDGES, "score_mean_std_count": rows}


def error_of_score(all_errors: list[Errors]) -> list[list[float]]:
    """Per score band of a tenth: lower edge, median error, 90th percentile (shares of the body), joints counted."""
    length = np.concatenate([np.linalg.norm(e.offset, axis=-1).ravel() for e in all_errors])
    score = np.concatenate([e.score.ravel() for e in all_errors])
    rows = []
    for low in np.arange(0.1, 1.0, 0.1):
        inside = (score >= low) & (score < low + 0.1) & ~np.isnan(length)
        if inside.sum() > 20:
            middle, high = np.percentile(length[inside], [50, 90])
            rows.append([round(float(low), 1), round(float(middle), 4), round(float(high), 4), int(inside.sum())])
    return rows


def generator_fields(measured: list[tuple[View, Poses2D]]) -> dict[str, object]:
    """The same errors as settings of `virtual.NoiseModel`: the converted joints against the converted truth."""
    own = []
    for view, poses in measured:
        truth, _ = to_h36m(view.coco, np.ones(view.coco.shape[:2]), COCO17)
        h36m = poses.to(H36M17)
        own.append(Errors((h36m.xy.astype(float) - truth) / body_size(view.coco)[:, None, None], h36m.score, h36m.time))
    fine = [np.where((np.linalg.norm(e.offset, axis=-1) > GROSS)[..., None], np.nan, e.offset) for e in own]
    constant = np.array([np.nanmean(f, axis=0) for f in fine])  # (views, 17, 2)
    total = np.sqrt(np.nanmean(np.concatenate(fine) ** 2, axis=(0, 2)))  # (17,) an axis
    level = np.array([np.sqrt(np.nanmean(f**2, axis=(0, 2)) / total**2).mean() for f in fine]) * total.mean()
    bias = float(np.sqrt((constant**2).mean(axis=(0, 2)) / total**2).mean())
    share, seconds = _temporal(own)
    varying = 1 - bias**2
    length = np.concatenate([np.linalg.norm(e.offset, axis=-1) for e in own])
    score = np.concatenate([e.score for e in own])
    gross, seen = length > GROSS, ~np.isnan(length)
    halves = np.geomspace(0.01, 0.3, 60)
    misfit = [np.mean((h / (h + length[seen]) - score[seen] / np.median(score[seen])) ** 2) for h in halves]
    return {
        "joint": (total / total.mean()).round(3).tolist(),
        "level": [round(float(np.percentile(level, q)), 4) for q in (5, 95)],
        "bias": round(bias, 3),
        "smooth": round(float(np.sqrt(varying * share.mean())), 3),
        "white": round(float(np.sqrt(varying * (1 - share.mean()))), 3),
        "correlation": round(float(np.median(seconds)) * 30),
        "outliers": round(float(gross.sum() / seen.sum()), 4),
        "outlier_size": round(float(np.sqrt(np.nanmean(length[gross] ** 2) / 2)), 3),
        "missing": round(float(1 - seen.mean()), 4),
        "confidence": round(float(halves[np.argmin(misfit)]), 3),
    }


ABOUT = """Errors of the detector that ships, detected minus true, as shares of the person's size in the picture (the
longer side of the box around the true COCO joints, px). Per joint, in the skeleton's order: bias [x, y] (median), std
[x, y] of the fine errors (below gross_error) about it, slow_share of their variance that is correlated over time with
exp(-lag / correlation_s), the rest independent in every frame; outlier_share of joints with a gross error, outlier_std
per axis; missing_share not located at all (score below 0.1); mean and std of the scores. score_of_error: mean, std and
count of the score for errors between successive edges; error_of_score: [score from (bands of 0.1), median error, 90th
percentile, count]. h36m17 rows are after the conversion to Human3.6M joints, against true Human3.6M joints, and so
hold what the two definitions differ by. noise: the same as settings of the generator of virtual clips, converted joints
against the converted truth. x is right and y down in the picture."""


def noise_model(measured: list[tuple[View, Poses2D]], detector: str) -> dict[str, object]:
    """Everything of `ABOUT`, as plain values."""
    rendered = [(v, p) for v, p in measured if not v.name.startswith(("real", "late"))]
    skeletons: dict[str, object] = {}
    for skeleton in (COCO17, H36M17):
        found = [errors(view, poses, skeleton.name) for view, poses in rendered]
        skeletons[skeleton.name] = {
            "joints": skeleton.joints, **joint_noise(found), "score_of_error": score_of_error(found),
            "error_of_score": error_of_score(found),
        }  # fmt: skip
    return {
        "format": "detector-noise", "version": 1, "detector": detector, "about": " ".join(ABOUT.split()),
        "measured_on": [view.name for view, _ in rendered], "frames": sum(len(p) for _, p in rendered),
        "gross_error": GROSS, "noise": generator_fields(rendered), "skeletons": skeletons,
    }  # fmt: skip


def main() -> None:
    """Measure, print a table, and write the noise model where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of view names, e.g. golf real/cam01; default: all")
    parser.add_argument("--detector", default="movenet")
    parser.add_argument("--keep", type=Path, help="folder for detections, to measure again without detecting again")
    parser.add_argument("--write", action="store_true", help=f"write {NOISE.name} beside the model")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="a detection setting, name=value")
    args = parser.parse_args()
    config = DetectConfig(
        detector=args.detector, **{k: json.loads(v) for k, v in (s.split("=") for s in args.settings)}
    )
    measured = []
    print(" | ".join(COLUMNS))
    for view in views(args.names):
        kept = args.keep / f"{view.name.replace('/', '_')}.npz" if args.keep else None
        raw = detect(view.video, config=config, view=view.name, partial=kept)
        poses, _ = repair(raw)
        if len(poses) != len(view.coco):
            print(f"{view.name}: {len(poses)} frames decoded, {len(view.coco)} in the truth")
            continue
        measured.append((view, poses))
        print(" | ".join(table_row(view, poses, raw)), flush=True)
    if args.write:
        NOISE.write_text(json.dumps(noise_model(measured, measured[0][1].source.made_by), indent=1) + "\n")
        print(f"wrote {NOISE}")


if __name__ == "__main__":
    main()
