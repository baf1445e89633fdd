"""Two commands at once on one session: each ends well or names the other, and nothing of either is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from random import Random

from cases import Bench, Case, described
from commands import run, start
from damage import unreadable
from small_session import MARKERS, STAGES, contents

# Pairs, the stage before which they start, and whether both have to succeed.
PAIRS: list[tuple[str, tuple[str, ...], tuple[str, ...], bool]] = [
    ("sync", STAGES["sync"], STAGES["sync t2"], True),
    ("sync", STAGES["sync"], STAGES["sync"], False),
    ("detect", ("detect", *MARKERS, "--take", "t1"), ("detect", *MARKERS, "--take", "t2"), True),
    ("detect", ("detect", *MARKERS, "--views", "a"), ("detect", *MARKERS, "--views", "b"), False),
    ("detect", STAGES["detect"], STAGES["detect"], False),
    ("infer", ("infer", "a.mp4", *MARKERS), ("infer", "two/b.mp4", *MARKERS), True),
    ("infer", ("infer", "a.mp4", *MARKERS), ("infer", "two/a.mp4", *MARKERS), True),
    ("infer", STAGES["infer"], STAGES["infer"], False),
    ("finetune", STAGES["finetune"], STAGES["finetune"], False),
    ("finetune", STAGES["finetune"], (*STAGES["finetune"], "--run", "other"), True),
    ("triangulate", STAGES["triangulate"], STAGES["triangulate"], False),
    ("triangulate", STAGES["triangulate"], STAGES["sync"], False),
    ("infer", STAGES["infer"], ("export", "x.pt"), True),
]


VIDEOS = ("a.mp4", "b.mp4", "two/a.mp4", "two/b.mp4")
FOURS: list[tuple[str, list[tuple[str, ...]]]] = [
    ("sync", [("sync", *pair, "--take", take) for take, pair in zip(
        ("t1", "t2", "t3", "t4"), (VIDEOS[:2], VIDEOS[2:], VIDEOS[:2], VIDEOS[2:]), strict=True)]),
    ("detect", [("detect", *MARKERS, "--take", take, "--views", view) for take in ("t1", "t2") for view in "ab"]),
    ("infer", [("infer", video, *MARKERS) for video in VIDEOS]),
]  # fmt: skip


def cases(bench: Bench, random: Random) -> Iterator[Case]:
    """Pairs without end, the second some moment after the first; now and then four at once."""
    while True:
        if random.random() < 0.15:
            stage, four = random.choice(FOURS)
            yield f"four {stage} at once", partial(together, bench, stage, four, 0.0, every=True)
            continue
        stage, first, second, both = random.choice(PAIRS)
        later = random.choice((0.0, 0.0, 0.1, 0.5, 2.0))
        name = f"{first[0]} and {second[0]} {later} s later"
        yield name, partial(together, bench, stage, [first, second], later, every=both)


def together(bench: Bench, stage: str, several: list[tuple[str, ...]], later: float, *, every: bool) -> list[str]:
    """What is wrong after commands at once, against the same ones one after the other.

    every  whether each of them has to succeed; else one of two may be refused, naming the process of the other
    """
    work = bench.room(bench.small.before[stage])
    for words in several:
        run(words, work, bench.log)
    wanted = contents(work)
    work = bench.room(bench.small.before[stage])
    before, running = contents(work), []
    for number, words in enumerate(several):
        time.sleep(later if number else 0.0)
        running.append(start(words, work, bench.folder / f"log{number}"))
    ended = [one.end(300.0) for one in running]
    found = [fault for outcome in ended for fault in described(outcome, outcome.faults())]
    failed = [outcome for outcome in ended if outcome.code]
    if (every and failed) or len(failed) > 1:
        found += described(failed[0], ["fails beside the others"])
    found += [f"names no process: {o.err.strip()[-200:]}" for o in failed if "process" not in o.err]
    for outcome in failed:
        run(outcome.words, work, bench.log)
    after = contents(work)
    found += [f"lost {name}" for name in before if name not in after]
    found += [f"unreadable: {name}" for name in unreadable(work, after)]
    return found + [f"{name} differs from one after the other" for name in wanted if after.get(name) != wanted[name]]
