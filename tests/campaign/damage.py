"""Files that are damaged, foreign or hostile, of every type that a command reads."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from cases import Bench, Case, described
from commands import run
from small_session import MARKERS, STAGES, TINY, contents

CANARY = "canary"  # a file that appears where code from a damaged file has run


class Hostile:
    """A pickle that leaves a file behind where it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


# --- mutations of any file -----------------------------------------------------------------------------------------


def cut(path: Path, random: Random) -> None:
    """The end is missing."""
    data = path.read_bytes()
    path.write_bytes(data[: random.randrange(len(data))])


def flipped(path: Path, random: Random) -> None:
    """A few bytes are others."""
    data = bytearray(path.read_bytes())
    for _ in range(random.choice((1, 1, 3, 30))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


def zeros(path: Path, random: Random) -> None:
    """A block is empty, as after a power cut."""
    data = bytearray(path.read_bytes())
    at = random.randrange(len(data))
    end = min(len(data), at + random.choice((16, 512, 4096, len(data))))
    data[at:end] = bytes(end - at)
    path.write_bytes(data)


def empty(path: Path, random: Random) -> None:
    """Nothing in it."""
    path.write_bytes(b"")


def text(path: Path, random: Random) -> None:
    """Another kind of file."""
    path.write_text(
        random.choice(("<!doctype html><title>Sign in</title>", "{}", "[]", "null", "7", "\0", "a,b\n1,2\n"))
    )


def noise(path: Path, random: Random) -> None:
    """Random bytes."""
    path.write_bytes(random.randbytes(random.choice((3, 100, 5000))))


def hostile_pickle(path: Path, random: Random) -> None:
    """A pickle that makes a folder, whatever the file's name says."""
    path.write_bytes(pickle.dumps(Hostile(path.parent / CANARY)))


def folder(path: Path, random: Random) -> None:
    """A folder of that name."""
    path.unlink()
    path.mkdir()


def loop(path: Path, random: Random) -> None:
    """A link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def pipe(path: Path, random: Random) -> None:
    """A pipe that nobody writes into."""
    path.unlink()
    os.mkfifo(path)


def device(path: Path, random: Random) -> None:
    """A device that never ends."""
    path.unlink()
    path.symlink_to("/dev/zero")


ANY = [cut, flipped, zeros, empty, text, noise, hostile_pickle, folder, loop, pipe, device]


# --- mutations of what is inside -----------------------------------------------------------------------------------

WRONG = (None, True, -1, 0, 10**30, 1e308, "", "x", "../..", "\x1b[31m", "subprocess:Popen", [], {}, [[]], {"a": 1},
         -0.5, "1e400", "nan", "[/bold]", "a" * 5000)  # fmt: skip


def places(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested dicts and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


def changed(content: Any, random: Random) -> Any:
    """Nested plain values with one of them missing or wrong, or too deep."""
    if random.random() < 0.1:
        deep: Any = 1
        for _ in range(200):
            deep = [deep]
        return {**content, random.choice(list(content)): deep} if isinstance(content, dict) else deep
    at = random.choice(list(places(content)) or [()])
    if not at:
        return random.choice(WRONG)
    inner = content
    for key in at[:-1]:
        inner = inner[key]
    if random.random() < 0.4:
        del inner[at[-1]]
    else:
        inner[at[-1]] = random.choice(WRONG)
    return content


def json_inside(path: Path, random: Random) -> None:
    """One value of a JSON file missing or wrong; or nesting too deep for any reader."""
    if random.random() < 0.1:
        path.write_text("[" * 100_000 if random.random() < 0.5 else '{"a":' * 50_000)
        return
    path.write_text(json.dumps(changed(json.loads(path.read_text()), random)))


def npz_inside(path: Path, random: Random) -> None:
    """An array missing, of another shape or type, with NaN or infinity; a header value wrong; a claim of 100 GB."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    key = random.choice(list(arrays))
    what = random.randrange(9)
    if what == 0:
        del arrays[key]
    elif what == 1:
        arrays["header"] = np.array(json.dumps(changed(json.loads(str(arrays["header"])), random)))
    elif what == 2:
        arrays[key] = arrays[key][..., None]
    elif what == 3:
        arrays[key] = arrays[key].astype(str) if arrays[key].size < 1e5 else arrays[key].astype(complex)
    elif what == 4 and arrays[key].dtype.kind == "f" and arrays[key].size:
        value = arrays[key].copy()
        value.flat[random.randrange(value.size)] = random.choice((np.nan, np.inf, -np.inf, 1e30))
        arrays[key] = value
    elif what == 5 and arrays[key].ndim:
        arrays[key] = arrays[key][: len(arrays[key]) // 2]
    elif what == 6:
        return _claims(path, arrays, key, random)
    elif what == 7:
        arrays[key] = np.array([Hostile(path.parent / CANARY)], dtype=object)
    else:
        return _bomb(path, arrays, key)
    with path.open("wb") as handle:
        np.savez(handle, **arrays)
    return None


def _claims(path: Path, arrays: dict[str, Any], key: str, random: Random) -> None:
    """The header of one array claims far more than there is."""
    head = io.BytesIO()
    shape = random.choice(((25_000_000_000,), (1 << 40, 17, 3), (10**9, 17, 2)))
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as file:
        for name, value in arrays.items():
            data = io.BytesIO()
            np.save(data, value)
            file.writestr(f"{name}.npy", head.getvalue() + b"1234" if name == key else data.getvalue())


def _bomb(path: Path, arrays: dict[str, Any], key: str) -> None:
    """One array unpacks to a gigabyte and more of zeros from a megabyte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, value in arrays.items():
            data = io.BytesIO()
            np.save(data, value)
            with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
                if name != key:
                    entry.write(data.getvalue())
                    continue
                np.lib.format.write_array_header_1_0(
                    entry, {"descr": "<f4", "fortran_order": False, "shape": (300_000_000,)}
                )
                for _ in range(75):
                    entry.write(bytes(16_000_000))


def pt_inside(path: Path, random: Random) -> None:
    """A key missing or wrong, a lifter that is a program, weights of another shape or not finite, an absurd size."""
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    what = random.randrange(6)
    tensors = [at for at in places(content) if isinstance(_at(content, at), torch.Tensor)]
    if what == 0 and "lifter" in content:
        named = random.choice(("subprocess:Popen", "os:system", "posix:mkdir", "hostile_module:Lifter", "nosuch"))
        _set(content, _lifter_name(content), named)
    elif what == 1 and tensors:
        at = random.choice(tensors)
        _set(content, at, _at(content, at)[..., None])
    elif what == 2 and tensors:
        at = random.choice(tensors)
        _set(content, at, torch.full_like(_at(content, at).float(), random.choice((float("nan"), float("inf")))))
    elif what == 3:
        at = random.choice([at for at in places(content) if not isinstance(_at(content, at), torch.Tensor)])
        _set(content, at, random.choice((10**9, 10**18, -1, "1", None, [10**7] * 9)))
    elif what == 4:
        torch.save({**content, "more": Hostile(path.parent / CANARY)}, path)
        return
    else:
        content = changed(content, random)
    torch.save(content, path)


def _lifter_name(content: dict[str, Any]) -> tuple[Any, ...]:
    return ("lifter", "name") if isinstance(content["lifter"], dict) and "name" in content["lifter"] else ("lifter",)


def _at(content: Any, at: tuple[Any, ...]) -> Any:
    for key in at:
        content = content[key]
    return content


def _set(content: Any, at: tuple[Any, ...], value: Any) -> None:
    _at(content, at[:-1])[at[-1]] = value


INSIDE: dict[str, Callable[[Path, Random], None]] = {".json": json_inside, ".npz": npz_inside, ".pt": pt_inside}

# --- trials --------------------------------------------------------------------------------------------------------

# What reads a file, by the end of its name: commands with {} for the file.
FINETUNE = ("finetune", "--views", "a,b", *TINY)
READERS: list[tuple[str, list[tuple[str, ...]]]] = [
    (".people.npz", [("detect", *MARKERS, "--person", "1", "--views", "a"), ("detect", *MARKERS), ("show", "{}")]),
    ("detections/a.npz", [("show", "{}"), ("plan",), FINETUNE, ("triangulate",), ("infer", "{}"), ("detect", *MARKERS),
                          ("render", "{}", "a.mp4", "out.mp4")]),
    ("detections/b.npz", [("show", "{}"), ("plan",), FINETUNE, ("triangulate",)]),
    (".2d.npz", [STAGES["infer"], ("show", "{}")]),
    ("triangulated/a.npz", [("show", "{}"), ("evaluate", "{}", "session/takes/t2/triangulated/a.npz")]),
    ("solved/triangulation.npz", [("show", "{}"), ("triangulate",)]),
    ("solved/cameras.json", [("show", "{}"), ("triangulate",)]),
    ("results/a.npz", [("show", "{}"), ("evaluate", "{}", "session/takes/t1/triangulated/a.npz"), STAGES["infer"]]),
    ("settings.json", [("detect", "--person", "1"), ("triangulate",), ("infer", "two/a.mp4", *MARKERS)]),
    ("result.json", [("show",), FINETUNE, STAGES["infer"]]),
    ("session.json", [("show",), ("plan",), ("detect", *MARKERS), STAGES["sync"]]),
    ("take.json", [("show",), ("plan",), ("detect", *MARKERS), STAGES["sync"]]),
    ("sync.json", [("show", "{}"), ("plan",), FINETUNE, ("triangulate",), STAGES["sync"]]),
    ("config.json", [FINETUNE, ("show", "{}"), ("finetune", "--views", "a,b", "--config", "{}", "--run", "other")]),
    ("log.jsonl", [FINETUNE]),
    ("last.pt", [FINETUNE]),
    ("best.pt", [FINETUNE]),
    ("model.pt", [("show", "{}"), ("infer", "two/a.mp4", *MARKERS, "--model", "{}"), ("weights", "add", "{}"),
                  ("export", "x.pt", "--model", "{}"), ("convert", "{}", "twoview", "y.pt"),
                  (*FINETUNE, "--weights", "{}", "--run", "other")]),
    ("start.pt", [("show", "{}"), FINETUNE, ("convert", "{}", "mmpose", "y.pt"),
                  ("weights", "add", "motionbert-h36m", "{}")]),
    ("b.mp4", [("show", "{}"), STAGES["sync"], ("detect", *MARKERS), ("infer", "{}", *MARKERS)]),
    ("own.toml", [("detect", *MARKERS, "--config", "{}"), ("finetune", "--views", "a,b", *TINY, "--config", "{}")]),
    ("openpose.json", [("detect", "--from", "{}", "--take", "t1", "--views", "a")]),
    ("deeplabcut.csv", [("detect", "--from", "{}", "--take", "t1", "--views", "a")]),
]  # fmt: skip


def cases(bench: Bench, random: Random) -> Iterator[Case]:
    """Damaged files without end."""
    extra(bench.small.done / "work")
    files = [path.relative_to(bench.small.done / "work") for path in sorted((bench.small.done / "work").rglob("*"))]
    known = [(path, readers) for path in files for end, readers in READERS if path.as_posix().endswith(end)]
    while True:
        path, readers = random.choice(known)
        inside = INSIDE.get(path.suffix)
        mutate = inside if inside is not None and random.random() < 0.5 else random.choice(ANY)
        words = random.choice(readers)
        seed = random.randrange(10**9)
        name = f"{mutate.__name__} {path} seed {seed}: {' '.join(words[:2])}"
        yield name, partial(damaged, bench, path, mutate, words, seed)


def extra(work: Path) -> None:
    """Files of a user's own beside the session."""
    (work / "own.toml").write_text("[detect]\nscore = 0.3\n[finetune]\nlr = 0.001\n")
    joints = [[10.0 * i, 5.0 * i, 0.9] for i in range(17)]
    (work / "openpose.json").write_text(
        json.dumps(
            [
                {"image_id": i, "keypoints": [value for joint in joints for value in joint], "score": 0.9}
                for i in range(75)
            ]
        )
    )
    names = [
        f"{side}_{joint}"
        for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ]
    rows = [["scorer"] + ["x"] * 3 * len(names), ["bodyparts", *[n for n in names for _ in range(3)]],
            ["coords", *["x", "y", "likelihood"] * len(names)]]  # fmt: skip
    rows += [[i, *[20 + 3 * j for j in range(3 * len(names))]] for i in range(75)]
    (work / "deeplabcut.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))


def damaged(
    bench: Bench, path: Path, mutate: Callable[[Path, Random], None], words: tuple[str, ...], seed: int
) -> list[str]:
    """What is wrong with a command's answer to a damaged file."""
    work = bench.room(bench.small.done)
    before = contents(work)
    mutate(work / path, Random(seed))
    outcome = run([word.replace("{}", str(path)) for word in words], work, bench.log)
    faults = outcome.faults()
    if any(work.parent.rglob(CANARY)):
        faults.append("CODE RAN")
    if "truncated" in outcome.err and "delete" in outcome.err and path.parts[0] != "session":
        faults.append("advises to delete a file of the user's")
    after = contents(work, broken="unreadable")
    changed_files = {
        name for name in before if name in after and after[name] != before[name] and name != path.as_posix()
    }
    # a damaged file that was taken as good: the command says nothing and another result stands there
    silent = outcome.code == 0 and not outcome.err.strip() and path.suffix in (".npz", ".pt") and mutate in ANY
    if silent and any(name.endswith((".npz", ".pt", ".csv")) for name in changed_files):
        faults.append(f"silently another result in {', '.join(sorted(changed_files)[:3])}")
    found = described(outcome, faults)
    take = path.parent if path.name == "sync.json" else path.parent.parent
    # of clocks or detections that were made again: the damaged ones, or those that a damaged file of the user's gave
    stale = f"{take.as_posix()}/triangulated/" if path.parts[0] == "session" else "session/takes/t1/triangulated/"
    gone = [name for name in before if name not in after and name != path.as_posix()]
    return found + [f"lost {name}" for name in gone if not (words[0] in ("sync", "detect") and name.startswith(stale))]


def unreadable(work: Path, names: dict[str, str]) -> list[str]:
    """The final files that their readers refuse."""
    import torch

    bad = []
    for name in names:
        path = work / name
        try:
            if path.suffix == ".npz":
                with np.load(path, allow_pickle=False) as file:
                    for key in file.files:
                        file[key]
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".jsonl":
                [json.loads(line) for line in path.read_text().splitlines()]
            elif path.suffix == ".pt":
                torch.load(path, map_location="cpu", weights_only=True)
            elif not path.stat().st_size:
                bad.append(name)
        except Exception:
            bad.append(name)
    return bad
