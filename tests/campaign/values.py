"""Absurd values for every option and setting, and names that are no names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random

import numpy as np
from cases import Bench, Case, described
from commands import run
from small_session import MARKERS, TINY

NUMBERS = ("nan", "inf", "-inf", "1e308", "-1", "-0.001", "0", "1e12", "10**9", "99999999999999999999", "1e-300",
           "0x10", "", " ", "١٢", "1,5", "true", "[]", "{a=1}", "--", "1e400")  # fmt: skip
NAMES = ("../out", "/abs", "a/b", "a\\b", "..", ".", "", " ", "\x1b[31mred", "x" * 400, "[/bold]", "a\nb", "CON",
         "é" * 200, "..\\..\\x", "a\tb", "-x", "名前", "swing [/slow]")  # fmt: skip
REFUSED = {
    "nan",
    "inf",
    "-inf",
    "1e400",
    "10**9",
    "0x10",
    "",
    " ",
    "1,5",
    "true",
    "[]",
    "{a=1}",
    "--",
    "1e308",
}  # as numbers
ESCAPING = {"../out", "/abs", "a/b", "a\\b", "..", ".", "", " ", "..\\..\\x", "a\nb", "a\tb", "\x1b[31mred"}

# Command -> its start, and its options that take a number.
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sync": (("sync", "a.mp4", "b.mp4", "--take", "t1"), ("--offset", "--distance", "--temperature")),
    "detect": (("detect", *MARKERS), ("--person", "--jobs")),
    "finetune": (("finetune", "--views", "a,b", *TINY, "--run", "new"), ("--epochs", "--seed", "--devices", "--nodes")),
    "infer": (("infer", "a.mp4", *MARKERS), ("--height",)),
    "triangulate": (("triangulate",), ("--height",)),
    "plan": (("plan",), ()),
}
NAMED: list[tuple[str, ...]] = [
    ("sync", "a.mp4", "b.mp4", "--take", "{}"),
    ("sync", "a.mp4", "b.mp4", "--take", "t9", "--views", "{},b"),
    ("finetune", "--views", "a,b", *TINY, "--run", "{}"),
    ("finetune", "--views", "{}", *TINY),
    ("detect", *MARKERS, "--take", "{}"),
    ("detect", *MARKERS, "--views", "{}"),
    ("infer", "a.mp4", *MARKERS, "--model", "{}"),
    ("infer", "{}", *MARKERS),
    ("infer", "a.mp4", *MARKERS, "--format", "{}"),
    ("show", "{}"),
    ("detect", "--detector", "{}"),
    ("convert", "start.pt", "{}", "x.pt"),
    ("weights", "get", "{}"),
    ("weights", "add", "{}", "start.pt"),
    ("detect", "--from", "{}"),
    ("plan", "--config", "{}"),
]  # fmt: skip


def cases(bench: Bench, random: Random) -> Iterator[Case]:
    """Absurd values without end."""
    from twoview.cli.options import keys
    from twoview.command_settings import COMMANDS as READ

    while True:
        if random.random() < 0.35:
            words, value = random.choice(NAMED), random.choice(NAMES)
            words = tuple(word.replace("{}", value) for word in words)
            refuse = value in ESCAPING and "{}" in str(words) and False
            yield f"name {value!r}: {' '.join(words[:2])}", partial(absurd, bench, words, refuse, value)
            continue
        command = random.choice(list(COMMANDS))
        start, options = COMMANDS[command]
        value = random.choice(NUMBERS)
        if options and random.random() < 0.5:
            option = random.choice(options)
            words = (*start, option, f"a={value}" if option == "--distance" else value)
            refuse = value in REFUSED - {"--"}
        else:
            key = random.choice([k for section in READ[command] for k in keys(section)])
            words = (*start, "--set", f"{key}={value}")
            refuse = False
        yield f"{command} {words[-2]} {words[-1]!r}", partial(absurd, bench, words, refuse, value)


def absurd(bench: Bench, words: tuple[str, ...], refuse: bool, value: str) -> list[str]:
    """What is wrong with a command's answer to an absurd value."""
    work = bench.room(bench.small.done)
    outcome = run(words, work, bench.log)
    faults = outcome.faults()
    if outcome.code == 0 and refuse:
        faults.append(f"takes {value!r}")
    if "\x1b[31m" in outcome.out + outcome.err:
        faults.append("a control character reaches the terminal")
    if outcome.code == 0:
        faults += not_finite(work)
    return described(outcome, faults)


def not_finite(work) -> list[str]:  # type: ignore[no-untyped-def]
    """The results that hold no finite number at all."""
    bad = []
    for path in work.rglob("results/*.npz"):
        with np.load(path, allow_pickle=False) as file:
            if "xyz" in file.files and file["xyz"].size and not np.isfinite(file["xyz"]).any():
                bad.append(f"nothing but NaN saved in {path.name}")
    return bad
