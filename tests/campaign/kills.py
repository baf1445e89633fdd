"""Commands killed at a change of a file, or at a moment: nothing is lost, and the same command again completes all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

from cases import Bench, Case, described
from commands import Watch, run
from damage import unreadable
from small_session import STAGES, content, contents

SHARE = {"detect": 5, "finetune": 5, "export": 3, "infer": 3, "sync": 2, "triangulate": 2}  # of the kills
MORE = (("rename", "t2", "t9"), ("remove", "t2"))  # after the last stage; once done, they refuse to be done again
ONNX = ("export", "model.onnx")  # takes half a minute: one export of ten


def cases(bench: Bench, random: Random) -> Iterator[Case]:
    """Kills without end."""
    stages, shares = list(SHARE), list(SHARE.values())
    while True:
        if random.random() < 0.06:
            words, watch = random.choice(MORE), Watch("kill", random.randint(1, 12))
            yield f"{' '.join(words)}: {watch}", partial(moved, bench, words, watch)
            continue
        stage = random.choices(stages, shares)[0]
        words = ONNX if stage == "export" and random.random() < 0.1 else STAGES[stage]
        last = len(bench.small.outcomes[stage].changes)
        act = "stop" if random.random() < 0.25 else "kill"
        watch = Watch(act, random.randint(1, last))
        if random.random() < 0.25:
            watch = Watch(after_s=max(random.random() * bench.small.outcomes[stage].seconds, 0.01))
        yield f"{stage}: {watch}", partial(killed, bench, stage, words, watch)


def killed(bench: Bench, stage: str, words: tuple[str, ...], watch: Watch) -> list[str]:
    """What is wrong after a kill and the same command again."""
    work = bench.room(bench.small.before[stage])
    before = contents(work)
    outcome = run(words, work, bench.log, watch)
    found = described(outcome, outcome.faults(killed=True))
    after = contents(work)
    found += [f"lost {name}" for name in before if name not in after]
    found += [f"unreadable after the kill: {name}" for name in unreadable(work, after)]
    again = run(words, work, bench.log)
    found += described(again, again.faults() + (["fails after the kill"] if again.code else []))
    made = contents(work)
    undisturbed = contents(_after(bench, stage))
    wanted = {ONNX[1]: content(work / ONNX[1])} if words == ONNX else undisturbed
    for name, value in wanted.items():
        if made.get(name) != value:
            found.append(f"after the kill and once more {name} is {'another' if name in made else 'missing'}")
    found += [f"left behind: {path.relative_to(work)}" for path in work.rglob(".*") if path.name not in (".locks",)]
    return found


def moved(bench: Bench, words: tuple[str, ...], watch: Watch) -> list[str]:
    """What is wrong after a kill while takes are renamed or removed, and the same command again."""
    work = bench.room(bench.small.done)
    run(words, work, bench.log)
    wanted = contents(work)
    work = bench.room(bench.small.done)
    outcome = run(words, work, bench.log, watch)
    found = described(outcome, outcome.faults(killed=True))
    again = run(words, work, bench.log)
    shown = run(("show",), work, bench.log)
    found += described(again, again.faults()) + described(shown, shown.faults() + ["cannot show"] * bool(shown.code))
    return found if contents(work) == wanted else [*found, "the takes are not what they are without a kill"]


def _after(bench: Bench, stage: str) -> Path:
    """The work folder after a stage that nothing disturbed: before the next one."""
    names = list(STAGES)
    later = names[names.index(stage) + 1 :]
    return (bench.small.before[later[0]] if later else bench.small.done) / "work"
