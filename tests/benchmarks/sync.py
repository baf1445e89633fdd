"""How well sound relates the clocks of two phones, and two other methods do, on generated pairs with known truth.

    python tests/benchmarks/sync.py --seed 5501 --seed 7702                 91 pairs per seed; 10 minutes to make them
    python tests/benchmarks/sync.py --seed 5501 --crossed 100               and 100 pairs of files of different pairs
    python tests/benchmarks/sync.py --seed 6606 --sets unrelated --n-unrelated 100
    python tests/benchmarks/sync.py --seed 9303 --sets std,trap --n-std 100         errors against standard errors
    python tests/benchmarks/sync.py --hour                                  memory of two files of 60 minutes

The generator (`../shared/bench/sync`, needs ffmpeg and espeak-ng) writes mp4 files; the truth is moved to another
folder before a tool runs, and every tool runs in a process of its own that gets the folder of files alone. The
generator's scorer measures errors in the middle of the overlap, on the clock of the frames; right is within half a
frame at 30 frames per second (16.7 ms). CPU time includes the children of a tool.

Compared: plain correlation of whole sound tracks (full band, every answer accepted), and audio-offset-finder with its
defaults and its own rule (score above 10), where `--finder` names a Python that has it. "CPU s/min" is per minute of
pair: of the matching, and with a process of its own for every pair (imports, just-in-time code):

    python -m venv finder && finder/bin/pip install audio-offset-finder==0.5.5
    python tests/benchmarks/sync.py --seed 5501 --finder finder/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
from beside import SHARED

from twoview.timeline import USUAL_DRIFT_PPM

SCRIPTS = SHARED / "bench" / "sync"
HALF_FRAME_MS = 1000 / 60
STARTS = 3  # processes of which the middle one's time counts
KNOWN_PPM = 5.0  # a drift with a smaller standard error counts as known


@dataclass(frozen=True)
class Answer:
    """What a tool found, as the scorer reads it; offset None: nothing."""

    offset_s: float | None
    drift_ppm: float
    accepted: bool
    confidence: float | None = None
    refusal: str = ""
    drift_se_ppm: float | None = None
    offset_se_s: float | None = None


# --- tools: two files in, an answer out ------------------------------------------------------------------------------


def ours(a: Path, b: Path) -> Answer:
    """The relation behind `twoview.sync`, which also gives the confidence of refused answers."""
    from twoview.synchronization.audio import read_sound
    from twoview.synchronization.audio_clocks import match_sounds

    found = match_sounds(read_sound(a, "a"), read_sound(b, "b"))
    quality, known = found.quality, len(found.time) > 0
    return Answer(
        found.clock.offset_s if known else None, found.clock.drift_ppm, not found.refusal,
        quality.confidence, found.refusal, quality.drift_se_ppm if known else None,
        quality.offset_se_s if known else None,
    )  # fmt: skip


def full_band(a: Path, b: Path) -> Answer:
    """The highest point of the plain correlation of both whole sound tracks at 48 kHz."""
    from scipy import signal

    from twoview.media.audio import read_audio

    first, second = (read_audio(path, rate=48000).samples.mean(axis=1) for path in (a, b))
    first, second = ((s - s.mean()) / (s.std() + 1e-12) for s in (first, second))
    curve = signal.correlate(first, second, "full", "fft")
    return Answer((int(np.argmax(curve)) - len(second) + 1) / 48000, 0.0, True)


def offset_finder(a: Path, b: Path) -> Answer:
    """audio-offset-finder, as its command line calls it."""
    from audio_offset_finder.audio_offset_finder import find_offset_between_files

    try:
        found = find_offset_between_files(str(a), str(b))
    except Exception:  # it raises for silence
        return Answer(None, 0.0, False)
    return Answer(float(found["time_offset"]), 0.0, bool(found["standard_score"] > 10))


TOOLS: dict[str, Callable[[Path, Path], Answer]] = {
    "twoview": ours,
    "full-band correlation": full_band,
    "audio-offset-finder": offset_finder,
}


def cpu_s() -> float:
    """CPU seconds of this process and of its children."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def answer_all(tool: str, pairs: Path, out: Path, crossed: int) -> None:
    """Answers for all pairs, then for files of different pairs, as JSON lines; the last holds the peak memory, MiB.

    The first pair is answered before the clock runs: what a process needs once is measured apart.
    """
    names = sorted(p.name for p in pairs.iterdir() if p.is_dir())
    TOOLS[tool](pairs / names[0] / "a.mp4", pairs / names[0] / "b.mp4")
    asked = [(name, name) for name in names]
    chance, usual = np.random.default_rng(0), [name for name in names if name.startswith("std")]
    asked += [tuple(chance.choice(usual, 2, replace=False)) for _ in range(crossed)]
    with out.open("w") as file:
        for one, other in asked:
            started = cpu_s()
            answer = TOOLS[tool](pairs / one / "a.mp4", pairs / other / "b.mp4")
            name = one if one == other else f"{one} x {other}"
            file.write(json.dumps({"id": name, **asdict(answer), "seconds": cpu_s() - started}) + "\n")
        # VmHWM: for a child, getrusage counts the memory of the process that started it
        status = Path("/proc/self/status").read_text().split()
        peak = int(status[status.index("VmHWM:") + 1]) / 1024
        file.write(json.dumps({"id": "peak", "MiB": peak}) + "\n")


# --- pairs, scores, tables -------------------------------------------------------------------------------------------


def make(seed: int, folder: Path, sets: str, *, unrelated: int, standard: int) -> None:
    """Files in folder/media/pairs, truth in folder/truth; nothing is made twice."""
    if (folder / "truth" / "manifest.json").exists():
        return
    media = folder / "media"
    command = [sys.executable, str(SCRIPTS / "make_sync_bench.py"), "--out", str(media), "--seed", str(seed)]
    command += ["--sets", sets, "--n-unrelated", str(unrelated), "--n-std", str(standard), "--formats", "mp4"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    (folder / "truth").mkdir(exist_ok=True)
    os.replace(media / "truth", folder / "truth" / "truth")
    os.replace(media / "manifest.json", folder / "truth" / "manifest.json")


def run(tool: str, python: str, folder: Path, crossed: int) -> dict[str, object]:
    """Answers, scores and memory of one tool on one folder of pairs."""
    out = folder / f"{tool.replace(' ', '-')}.jsonl"
    command = [python, __file__, "--tool", tool, "--pairs", str(folder / "media" / "pairs"), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--crossed", str(crossed)], check=True, env=environment)
    scored = out.with_suffix(".json")
    command = [sys.executable, str(SCRIPTS / "score_sync_bench.py"), "--bench", str(folder / "truth")]
    subprocess.run([*command, "--pred", str(out), "--json", str(scored)], check=True, stdout=subprocess.DEVNULL)
    answers = {row["id"]: row for row in map(json.loads, out.read_text().splitlines())}
    rows = json.loads(scored.read_text())["rows"]
    for row in rows:
        row |= {key: answers[row["id"]].get(key) for key in ("confidence", "drift_se_ppm", "offset_se_s")}
    rows += [{**row, "set": "crossed", "expect": "abstain", "audio_s": 0.0, "seconds": 0.0}
             for name, row in answers.items() if " x " in name]  # fmt: skip
    first = next(iter(answers))
    pair = folder / "media" / "pairs" / first
    once = [python, __file__, "--tool", tool, "--one", str(pair)]
    whole = median(spent_s(once, environment) for _ in range(STARTS))
    return {"rows": rows, "MiB": answers["peak"]["MiB"], "start_s": whole - answers[first]["seconds"]}


def spent_s(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """CPU seconds of a process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def row_of(tool: str, results: Sequence[dict]) -> str:
    """One line of the table over all seeds."""
    rows = [row for result in results for row in result["rows"]]
    std = [row for row in rows if row["set"] == "std"]
    trap = [row for row in rows if row["set"] == "trap" and row["expect"] == "align"]
    refuse = [row for row in rows if row["expect"] == "abstain"]
    taken = [row for row in std if row["accepted"]]
    errors = np.array([row["err_ms"] for row in taken])
    drifts = np.array([abs(row["drift_err_ppm"]) for row in taken])
    known = np.array([abs(row["drift_err_ppm"]) for row in taken if (row.get("drift_se_ppm") or np.inf) < KNOWN_PPM])
    within = lambda some, key, ms: 100 * np.mean([row.get(key, np.inf) < ms for row in some]) if some else np.nan  # noqa: E731
    wrong = lambda some: sum(row["accepted"] and row.get("err_ms", np.inf) > HALF_FRAME_MS for row in some)  # noqa: E731
    at = lambda values, q: float(np.quantile(values, q)) if len(values) else np.nan  # noqa: E731
    minutes = sum(row["audio_s"] for row in rows) / 120
    matching = sum(row["seconds"] for row in rows)
    starts = sum(result["start_s"] * sum(row["audio_s"] > 0 for row in result["rows"]) for result in results)
    cells = [
        f"{tool:21}", f"{len(std):3}", f"{at(errors, 0.5):6.3f}", f"{at(errors, 0.95):7.2f}",
        f"{within(std, 'err_ms', 1):3.0f} / {within(std, 'err_ms', HALF_FRAME_MS):3.0f}",
        f"{within(std, 'worst_ms', 5):3.0f}", f"{100 * len(taken) / max(len(std), 1):3.0f}",
        f"{wrong(std)} / {wrong(trap)} of {len(trap)}", f"{within(trap, 'err_ms', 1):3.0f}",
        f"{sum(row['accepted'] for row in refuse)} of {len(refuse)}",  # those from the generator and crossed ones
        f"{at(drifts, 0.5):.2f} / {at(drifts, 0.95):.1f}" if tool == "twoview" else "none",
        f"{len(known)} of {len(taken)}, {at(known, 0.95):.1f}" if tool == "twoview" else "none",
        f"{matching / minutes:.2f} / {(matching + starts) / minutes:.2f}", f"{max(r['MiB'] for r in results):.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "| tool | n | median ms | p95 ms | std % within 1 / 16.7 ms | worst end 5 ms | accepted % "
    "| accepted, wrong: std / trap | trap % 1 ms | false accepts | drift ppm median / p95 "
    f"| drift se below {KNOWN_PPM:g} ppm, p95 | CPU s/min, with starts | MiB |\n"
    + "|---" * 14 + "|"
)  # fmt: skip


def reliability(results: Sequence[dict]) -> str:
    """Of the answers given with a confidence, how many were right; an answer for unrelated sound is wrong."""
    rows = [r for result in results for r in result["rows"] if r["confidence"] is not None]
    rows = [r for r in rows if r["expect"] != "diagnostic"]
    confidence = np.array([row["confidence"] for row in rows])
    right = np.array([row.get("err_ms", np.inf) < HALF_FRAME_MS for row in rows])
    lines = ["| confidence | pairs | mean confidence % | right % |", "|---|---|---|---|"]
    edges = [0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0001]
    for low, high in pairwise(edges):
        inside = (confidence >= low) & (confidence < high)
        if inside.any():
            share = f"{100 * confidence[inside].mean():.1f} | {100 * right[inside].mean():.1f}"
            lines.append(f"| {low:g} to {min(high, 1):g} | {inside.sum()} | {share} |")
    return "\n".join(lines)


def coverage(results: Sequence[dict]) -> str:
    """Of the accepted answers, how many of the true offsets and drifts are within one and two standard errors."""
    rows = [r for result in results for r in result["rows"] if r["accepted"] and r["set"] in ("std", "trap")]
    rows = [r for r in rows if r["expect"] == "align" and r.get("offset_se_s")]
    offset = np.array([(abs(r["err_ms"]), 1000 * r["offset_se_s"]) for r in rows])
    drift = np.array([(abs(r["drift_err_ppm"]), r["drift_se_ppm"]) for r in rows])
    known = drift[:, 1] < USUAL_DRIFT_PPM / 2
    lines = [
        "| of the accepted | pairs | within 1 se % | within 2 se % | median se | median and 95 % of the error |",
        "|---" * 6 + "|",
    ]
    for name, unit, values in (
        ("offset", "ms", offset), ("drift, known", "ppm", drift[known]), ("drift, unknown", "ppm", drift[~known])
    ):  # fmt: skip
        if len(values):
            error, se = values.T
            shares = " | ".join(f"{100 * np.mean(error < times * se):.0f}" for times in (1, 2))
            middle, most = np.quantile(error, [0.5, 0.95])
            lines.append(
                f"| {name} | {len(error)} | {shares} | {np.median(se):.2f} {unit} | {middle:.2f}, {most:.2f} {unit} |"
            )
    return "\n".join(lines)


def hour(folder: Path) -> None:
    """Two videos of 60 minutes from two phones, 50 ppm apart, and 20 s against 60 minutes: memory, time and error."""
    from twoview.media.audio import Audio
    from twoview.media.writer import VideoWriter

    chance, rate, seconds = np.random.default_rng(0), 16000, 3600
    world = 0.02 * chance.standard_normal(rate * (seconds + 20), dtype=np.float32)
    for start in np.cumsum(chance.exponential(2.0, seconds // 2)):
        at = round(start * rate)
        if at + 1600 < len(world):
            world[at : at + 1600] += chance.standard_normal(1600) * np.exp(-np.arange(1600) / 200)

    def write_video(path: Path, start: float, ppm: float, length: int) -> None:
        at = (start + np.arange(rate * length) / rate / (1 + ppm * 1e-6)) * rate
        sound = 0.2 * np.interp(at, np.arange(len(world)), world).astype(np.float32)
        with VideoWriter(path, (64, 48), Fraction(1), audio=Audio(sound[:, None], rate, 0.0)) as video:
            for _ in range(length):
                video.write(np.zeros((48, 64, 3), np.uint8))

    starts = {"60 against 60 minutes": (7.123, 50.0, seconds), "20 s in 60 minutes": (2345.678, 50.0, 20)}
    for name, (start, ppm, length) in starts.items():
        pair = folder / name / "pair"
        if not (pair / "b.mp4").exists():
            pair.mkdir(parents=True)
            write_video(pair / "a.mp4", 0.0, 0.0, seconds)
            write_video(pair / "b.mp4", start, ppm, length)
        out = folder / f"{name}.jsonl"
        command = [sys.executable, __file__, "--tool", "twoview", "--pairs", str(pair.parent), "--out", str(out)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        found, peak = map(json.loads, out.read_text().splitlines())
        middle = length / 2
        error = found["offset_s"] + found["drift_ppm"] * 1e-6 * middle - (start - ppm * 1e-6 * middle)
        minutes = (seconds + length) / 120
        print(
            f"{name}: {peak['MiB']:.0f} MiB, {found['seconds'] / minutes:.2f} CPU s per minute of pair; error in the "
            f"middle {1000 * error:+.3f} ms, drift {found['drift_ppm']:+.2f} (truth {-ppm:+.0f}) ppm; "
            f"accepted: {found['accepted']}", flush=True,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, action="append", default=[])
    parser.add_argument("--sets", default="std,trap,unrelated")
    parser.add_argument("--n-unrelated", type=int, default=24)
    parser.add_argument("--n-std", type=int, default=42)
    parser.add_argument("--crossed", type=int, default=0, help="pairs of files of different pairs, per seed")
    parser.add_argument("--finder", help="a Python that has audio-offset-finder")
    parser.add_argument("--only", help="tools, separated by commas; default: all that can run")
    parser.add_argument(
        "--keep", type=Path, help="folder that keeps the pairs for the next run; default: a temporary one"
    )
    parser.add_argument("--hour", action="store_true", help="memory of two files of 60 minutes")
    for hidden in ("--tool", "--pairs", "--out", "--one"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        TOOLS[args.tool](Path(args.one) / "a.mp4", Path(args.one) / "b.mp4")
        return None
    if args.tool:
        return answer_all(args.tool, Path(args.pairs), Path(args.out), args.crossed)
    with tempfile.TemporaryDirectory() as temporary:
        if args.hour:
            hour(args.keep or Path(temporary))
        tools = args.only.split(",") if args.only else list(TOOLS)
        if not args.finder and "audio-offset-finder" in tools:
            tools.remove("audio-offset-finder")
            print("audio-offset-finder is left out: --finder names a Python that has it", file=sys.stderr)
        results: dict[str, list[dict]] = {tool: [] for tool in tools}
        for seed in args.seed:
            folder = (args.keep or Path(temporary)) / str(seed)
            make(seed, folder, args.sets, unrelated=args.n_unrelated, standard=args.n_std)
            for tool, found in results.items():
                python = args.finder if tool == "audio-offset-finder" else sys.executable
                found.append(run(tool, python, folder, args.crossed))
        if args.seed:
            print(HEAD, *(row_of(tool, found) for tool, found in results.items()), sep="\n")
            if "twoview" in results:
                print("\nHow reliable twoview's confidence is:\n", reliability(results["twoview"]), sep="\n")
                print("\nHow reliable its standard errors are:\n", coverage(results["twoview"]), sep="\n")
    return None


if __name__ == "__main__":
    main()
