"""Do the sigmas hold the errors, from one view and from two? On rendered scenes, from pixels; and their constants.

python tests/benchmarks/sigmas.py [--detector movenet] [--work work/pixels] [--adapt golf,karate]

Every scene goes through sync and detect, then triangulate (all views) and infer (each view alone, the shipped lifter)
with default settings and the athlete's height. An error is that of one root-relative joint along one axis; 68 % of them
should be within one sigma and 95 % within 1.96. The constants of `twoview/sigmas.py` are fitted to all scenes, each
with the same weight, and printed. What is reported of a scene uses constants that were fitted to the five other ones.
`--adapt` names sessions to which a lifter is adapted, as by `twoview finetune`; its test takes are measured too. The
page is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from adapting import RESULTS
from angles import adapted
from numpy import ndarray as Array
from pixels import SESSIONS, SINGLE, of_session
from scipy.optimize import minimize
from two_view_3d import Filmed, session_of

from twoview.config import InferConfig, TriangulateConfig
from twoview.lifting import inference
from twoview.lifting.model import Model, load_model
from twoview.poses import Poses2D, Poses3D
from twoview.reconstruction.triangulation import triangulate_takes
from twoview.sigmas import lifted_sigma
from twoview.skeleton import BODY_M, H36M17, STATURE_M, Skeleton

JOINTS = np.arange(1, len(H36M17))  # the root is at 0
KINDS = list(dict.fromkeys(H36M17.joints[joint].split("_")[-1] for joint in JOINTS))
KIND = np.array([KINDS.index(H36M17.joints[joint].split("_")[-1]) for joint in JOINTS])
WITHIN = np.array([0.68, 0.95])
WIDTHS = np.array([1.0, 1.96])
WITHIN_NAMES, TYPICAL = "within 1 and 1.96 sigma", "median sigma / error (rms), mm"
PICKED = 600  # frames of a scene that the fit looks at
TAIL = 4.0  # degrees of freedom of the errors' distribution in the fit
HEAD = """# Sigmas

`python tests/benchmarks/sigmas.py --detector {detector}{adapt}`: rendered scenes, from pixels. Share of the errors
within one sigma (68 % would be right) and within 1.96 (95 %). An error is that of one root-relative joint along one
axis, in meters with the athlete's height.
[What a sigma contains](../explain/self-calibration.md#what-a-sigma-contains).

"""


@dataclass(frozen=True, eq=False)
class Measured:
    """Errors of a scene and what is known beside. N frames of all takes and views, J joints but the root.

    error   (N, J, 3) m
    body    (N, 1)     the athlete's size, of a common one
    random  (N, J) m   two views: the part of sigma that the views know
    score, window, flip (N, J)  one view: what `lifted_sigma` takes
    sigma   (N, J) m   as shipped
    """

    error: Array
    body: Array
    sigma: Array
    random: Array | None = None
    score: Array | None = None
    window: Array | None = None
    flip: Array | None = None


def joined(parts: Sequence[dict[str, Array]]) -> Measured:
    """All takes and views as one."""
    known = [np.isfinite(part["error"]).all(axis=(1, 2)) for part in parts]
    return Measured(**{
        name: np.concatenate([part[name][own] for part, own in zip(parts, known, strict=True)]) for name in parts[0]
    })  # fmt: skip


def off(found: Poses3D, truth: Poses3D) -> Array:
    """Errors (T, J, 3) m of root-relative joints."""
    true = truth.at(found.time, max_gap=0.2).xyz
    return np.asarray((found.xyz - (true - true[:, :1]))[:, JOINTS], dtype=np.float64)


def two_views(session: Sequence[Filmed], model: Model) -> Measured:
    """A scene as `twoview triangulate` answers."""
    config = TriangulateConfig(height_m=session[0].scene.height_m)
    parts = []
    for one, found in zip(session, triangulate_takes([one.take for one in session], model, config=config), strict=True):
        for view in found.views:
            body = np.full((len(found.time), 1), found.bones_m.sum() / BODY_M)
            parts.append({
                "error": off(found.poses(view), one.scene.views[view].poses3d), "body": body,
                "sigma": found.sigma[:, JOINTS], "random": found.random_sigma[:, JOINTS],
            })  # fmt: skip
    return joined(parts)


def one_view(tests: Sequence[tuple[Poses2D, Poses3D, float]], model: Model) -> Measured:
    """A scene as `twoview infer` answers to each view."""
    parts = []
    for flat, truth, height in tests:
        known: dict[str, Array] = {}

        def recorded(skeleton: Skeleton, known: dict[str, Array] = known, **features: Array) -> Array:
            known.update({name: value[:, JOINTS] for name, value in features.items()})
            return lifted_sigma(skeleton, **features)

        with mock.patch.object(inference, "lifted_sigma", recorded):
            found = inference.infer(flat, model, config=InferConfig(height_m=height))
        grid = np.linspace(found.time[0], found.time[-1], len(known["score"]))
        even = found.at(grid, max_gap=0.2)
        body = np.full((len(grid), 1), height / STATURE_M)
        assert even.sigma is not None
        parts.append({"error": off(even, truth), "body": body, "sigma": even.sigma[:, JOINTS].astype(float), **known})
    return joined(parts)


def inside(error: Array, sigma: Array) -> Array:
    """Share of the errors within each of WIDTHS."""
    return np.array([np.mean(np.abs(error) < width * np.maximum(sigma, 1e-9)[..., None]) for width in WIDTHS])


def fit_constants(scenes: Sequence[Measured]) -> dict[str, float]:
    """Kind of joint -> constant error in m, with which 68 % of the errors of two views are inside."""
    found = {}
    for number, kind in enumerate(KINDS):
        own = number == KIND
        low, high = 0.0, 0.3
        for _ in range(30):
            middle = (low + high) / 2
            share = np.mean([
                inside(one.error[:, own], np.hypot(one.random[:, own], middle * one.body))[0] for one in scenes
            ])  # fmt: skip
            low, high = (middle, high) if share < WITHIN[0] else (low, middle)
        found[kind] = middle
    return found


def with_constants(one: Measured, constants: dict[str, float]) -> Array:
    """Sigma (N, J) m of two views."""
    return np.hypot(one.random, np.array([constants[kind] for kind in KINDS])[KIND] * one.body)


def lifted(one: Measured, values: Array) -> Array:
    """Sigma (N, J) m of one view by the values (kinds, flip, window, score) of `lifted_sigma`."""
    parts = (values[:-3][KIND], values[-3] * one.flip, values[-2] * one.window, values[-1] * (1 - one.score))
    return np.sqrt(sum(part**2 for part in parts)) * one.body


def fit_lifted(scenes: Sequence[Measured]) -> Array:
    """The values of `lifted`: most likely for errors with long tails, then scaled to hold 68 and 95 % of them."""
    chance = np.random.default_rng(0)
    some = []
    for one in scenes:
        pick = chance.choice(len(one.error), min(PICKED, len(one.error)), replace=False)
        parts = {name: getattr(one, name)[pick] for name in ("error", "body", "sigma", "score", "window", "flip")}
        some.append(Measured(**parts))

    def cost(logs: Array) -> float:
        total = 0.0
        for one in some:
            sigma = lifted(one, np.exp(logs))[..., None]
            total += np.mean(np.log(sigma) + (TAIL + 1) / 2 * np.log1p((one.error / sigma) ** 2 / TAIL))
        return total

    start = np.log(np.r_[np.full(len(KINDS), 0.03), 1.0, 1.0, 0.03])
    values = np.exp(minimize(cost, start, method="L-BFGS-B", options={"maxiter": 60}).x)

    def missed(scale: float) -> float:
        shares = np.mean([inside(one.error, scale * lifted(one, values)) for one in scenes], axis=0)
        return float(np.abs(shares - WITHIN).sum())

    return values * min(np.arange(0.7, 2.5, 0.01), key=missed)


def titles(*names: str) -> list[str]:
    """The first two rows of a table."""
    return [f"| {' | '.join(names)} |", "|---|" + "---|" * (len(names) - 1)]


def shares(values: Array) -> str:
    """Two shares in percent."""
    return " / ".join(f"{100 * value:.0f}" for value in values)


def typical(sigma: Array, error: Array) -> str:
    """Median sigma and root mean square error in mm."""
    return f"{1000 * np.median(sigma):.0f} / {1000 * np.sqrt(np.mean(error**2)):.0f}"


def main() -> None:
    """Print the tables and the constants, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="movenet")
    parser.add_argument("--work", type=Path, default=Path("work/pixels"))
    parser.add_argument("--adapt", default="", help="sessions to adapt to, with commas")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names, model = [*SESSIONS, *SINGLE], load_model("twoview-small")
    both, single = {}, {}
    for name in names:
        session = session_of(name, given.work, given.detector)
        both[name] = two_views(session, model)
        tests = [(one.take.poses[view], one.scene.views[view].poses3d, one.scene.height_m)
                 for one in session for view in one.take.views]  # fmt: skip
        single[name] = one_view(tests, model)
        print(name, "measured", flush=True)
    lines = ["## Two views", "", "Constants fitted to the other five scenes.", ""]
    lines += titles("scene", f"{WITHIN_NAMES}, %", "without the constant part, %", "as shipped, %", TYPICAL)
    for name, one in both.items():
        sigma = with_constants(one, fit_constants([other for key, other in both.items() if key != name]))
        cells = [inside(one.error, s) for s in (sigma, one.random, one.sigma)]
        lines.append(f"| {name} | {' | '.join(map(shares, cells))} | {typical(sigma, one.error)} |")
    lines += [
        "",
        "## One view",
        "",
        "`twoview infer` with the shipped lifter; constants fitted to the other five scenes.",
    ]
    lines += ["", *titles("scene", f"{WITHIN_NAMES}, %", "as shipped, %", TYPICAL, "correlation of sigma and error")]
    for name, one in single.items():
        sigma = lifted(one, fit_lifted([other for key, other in single.items() if key != name]))
        follows = np.corrcoef(sigma.ravel(), np.sqrt(np.mean(one.error**2, axis=-1)).ravel())[0, 1]
        cells = [inside(one.error, s) for s in (sigma, one.sigma)]
        lines.append(f"| {name} | {' | '.join(map(shares, cells))} | {typical(sigma, one.error)} | {follows:.2f} |")
    axes = np.mean([np.sqrt(np.mean(one.error**2, axis=(0, 1))) for one in single.values()], axis=0)
    lines += [
        "",
        f"Errors along x, y and z (away from the camera): {', '.join(f'{1000 * a:.0f}' for a in axes)} mm (rms).",
    ]
    if given.adapt:
        lines += ["", "Test takes of a lifter that was adapted to the session, with the sigmas as shipped:", ""]
        lines += titles("session", f"{WITHIN_NAMES}, %", TYPICAL)
        for name in given.adapt.split(","):
            train, tests = of_session(name, given.work, given.detector)
            one = one_view(tests, adapted(name, train, given.work))
            lines.append(f"| {name} | {shares(inside(one.error, one.sigma))} | {typical(one.sigma, one.error)} |")
    values = fit_lifted(list(single.values()))
    flips = np.mean([np.median(one.flip) for one in single.values()])
    made = {kind: round(float(v), 3) for kind, v in fit_constants(list(both.values())).items()}
    alone = {kind: round(float(v), 3) for kind, v in zip(KINDS, values, strict=False)}
    others = ", ".join(f"{value:.3f}" for value in (*values[-3:], flips))
    lines += ["", "## Constants", "", "Fitted to all six scenes, as they stand in `twoview/sigmas.py`:", ""]
    lines += [
        "```text",
        f"CONSTANT_M = {made}",
        f"LIFTED_M = {alone}",
        f"FLIP, WINDOW, SCORE_M, USUAL_FLIP_M = {others}",
    ]
    lines += ["```"]
    print("\n" + "\n".join(lines))
    text = HEAD.format(detector=given.detector, adapt=f" --adapt {given.adapt}" if given.adapt else "")
    (RESULTS / "sigmas.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
