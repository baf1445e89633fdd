"""Do the tests notice mistakes in the core? Plants them, one at a time, and runs the tests that should.

    python tests/benchmarks/mutants.py --quick            every tenth mutant
    python tests/benchmarks/mutants.py                    all; continues where it was stopped; writes the table
    python tests/benchmarks/mutants.py --only framing     of the files whose name holds this
    python tests/benchmarks/mutants.py --only framing --tests geometry   the same, by these tests alone

A mutant is the project with one line changed (`mutations.py`), in a copy that has no data beside it. The tests that
should notice are those that run the changed function, which is recorded once for each test: at first those of the files
named after it, then the others, the quickest first. A test that fails, or takes four times as long, kills the mutant.
All tests are collected once; each mutant is a fork of that process in which the function's code is exchanged, so that
most take a second. Only what a module does when it is imported needs a process that imports everything again. (Kept
tools import torch again for each mutant, and plant other mistakes: none knows `detach`, `dim` or `mean`.)
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import accumulate, islice, zip_longest
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from mutations import Mutation, mutations

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs/results/mutants.md"

CORE = {  # file -> mutants
    "training/losses": 24, "geometry/similarity": 18, "training/clips": 16, "geometry/framing": 18,
    "geometry/cameras": 6, "skeleton": 10, "poses": 14, "takes": 4, "timeline": 10,
    "synchronization/several_views": 8, "synchronization/manual": 6, "synchronization/audio": 5,
    "synchronization/audio_clocks": 8, "synchronization/motion": 6, "synchronization/motion_clocks": 5,
    "reconstruction/triangulation": 14, "reconstruction/self_calibration": 5, "reconstruction/bundle_adjustment": 5,
    "lifting/inference": 18, "evaluation/metrics": 12, "evaluation/scoring": 12,
}  # fmt: skip

# Mutants that no test can tell from the original, by name, and why.
EQUIVALENT: dict[str, str] = {
    "twoview/training/losses.py, _gap: share = enough * weight.sum(dim=1) -> share = enough * weight.mean(dim=1)":
        "the shares of a clip are divided by their sum, and its windows have the same number of joints",
    "twoview/training/clips.py, order: return random.permutation(count).tolist(), random.random(count) < 0.5"
    " -> return random.permutation(count).tolist(), (random.random(count) > 0.5)":
        "either half of the random numbers may be the mirrored one",
    "twoview/synchronization/manual.py, read_timestamps: steps = np.diff(np.array([float((value or 0) - first)"
    " for value in numbers])) -> steps = np.diff(np.array([float((value) - first) for value in numbers]))":
        "a line without a number was refused before; only the type checker does not know",
    "twoview/takes.py, _same: a.xy.shape == b.xy.shape and bool(np.isfinite(a.xy).any())"
    " and np.array_equal(a.xy, b.xy, equal_nan=True) -> a.xy.shape == b.xy.shape and bool(np.isfinite(a.xy).any())"
    " and np.array_equal(b.xy, a.xy, equal_nan=True)":
        "equality has no order",
    "twoview/evaluation/scoring.py, summarize: blocks = [((clip.time - clip.time[0]) / BLOCK_S).floor().int().numpy()"
    " for clip in clips] -> blocks = [((clip.time - clip.time[0])).floor().int().numpy() for clip in clips]":
        "a block is one second",
}  # fmt: skip

# Where the tests are that run the core.
NOTICING = (
    "contracts/test_losses.py", "datasets", "evaluation", "geometry", "lifting/test_inference.py", "reconstruction",
    "synchronization", "training", "workflow", "test_poses.py", "test_skeleton.py", "test_timeline.py",
    "media/test_audio.py", "end_to_end/test_reproduce.py", "end_to_end/test_sync.py", "end_to_end/test_two_view.py",
)  # fmt: skip
FIRST_S, MOST_S = 6.0, 45.0  # of the tests that are tried first, and of all that are
SLEEPS_S = 1800.0  # of a mutant that waits without working
PRELOADED = ["pytest", "hypothesis", "torch", "numpy", "scipy.optimize", "scipy.signal", "scipy.ndimage", "cv2", "av",
             "onnxruntime", "lightning_fabric", "matplotlib.pyplot", "typer.testing", "rich.console"]  # fmt: skip

Tests = Mapping[str, tuple[float, list[str]]]  # test -> its seconds, and the core's functions that it runs


@dataclass(frozen=True)
class Known:
    """What is known of a file of tests; failed: those that fail without a mistake."""

    digest: str
    tests: Tests
    failed: Sequence[str] = ()


@dataclass(frozen=True)
class Result:
    """What became of a mutant; source and tests: digests of the mutated file and of all tests."""

    name: str
    killed_by: str
    source: str
    tests: str
    seconds: float


@dataclass(frozen=True)
class Task:
    """Tests to run in a process of their own: stages, of which each begins if the one before saw no failure.

    mutation  planted before; without one, all tests of the file `name` are run, and what they run is recorded
    """

    name: str
    stages: Sequence[Sequence[str]]
    limit_s: float
    mutation: Mutation | None = None


# --- in processes of their own ---------------------------------------------------------------------------------------


class Recorder:
    """Which functions of the core run, and for how long each test."""

    def __init__(self, package: Path) -> None:
        self.package = f"{package}{os.sep}"
        self.tests: dict[str, tuple[float, list[str]]] = {}

    @contextmanager
    def watched(self) -> Iterator[set[str]]:
        """The names of the functions that run meanwhile, complete at the end."""
        codes, names = set[CodeType](), set[str]()

        def note(frame: Any, *_: Any) -> None:
            codes.add(frame.f_code)

        threading.setprofile(note)
        sys.setprofile(note)
        try:
            yield names
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            for code in codes:
                file = code.co_filename.removeprefix(self.package).removesuffix(".py").replace(os.sep, "/")
                if file in CORE:
                    function = code.co_qualname.replace(".<locals>", "").split(".<")[0]
                    names.add(f"{file}:{'' if function.startswith('<') else function}")


class Server:
    """Plugin of pytest that collects all tests, and runs each task in a fork of the process that did."""

    def __init__(self, copy: Path, tasks: Sequence[Task], answers: Path, workers: int, show: int) -> None:
        self.copy, self.tasks, self.answers, self.workers, self.show = copy, tasks, answers, workers, show
        self.recorder = Recorder(copy / "twoview")
        self.imported: dict[str, set[str]] = {}
        self.failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[Any]:
        """Record what a file of tests runs when it is imported."""
        with self.recorder.watched() as names:
            report = yield
        self.imported.setdefault(collector.nodeid.split("::")[0], set()).update(names)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember what failed."""
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tasks, so many at a time, and write their answers."""
        waiting, running = list(self.tasks), dict[int, tuple[Task, float]]()
        if session.testsfailed:  # something could not be imported
            return True
        while waiting or running:
            while waiting and len(running) < self.workers:
                task = waiting.pop(0)
                self._answer(task).unlink(missing_ok=True)
                child = os.fork()
                if child == 0:
                    self._work(task, session)
                running[child] = task, time.monotonic()
            child, status = os.waitpid(-1, os.WNOHANG)
            if child:
                task, start = running.pop(child)
                _end(child)
                self._finish(task, os.waitstatus_to_exitcode(status), time.monotonic() - start)
                os.write(self.show, f"\r{len(waiting) + len(running)} to go ".encode())
            else:
                for child, (task, start) in running.items():
                    if time.monotonic() - start > task.limit_s + SLEEPS_S:
                        _end(child)
                time.sleep(0.02)
        return True

    def _answer(self, task: Task) -> Path:
        return self.answers.with_suffix(f".{digest(task.name.encode())}")

    def _finish(self, task: Task, code: int, seconds: float) -> None:
        path = self._answer(task)
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            path.unlink()
        else:
            found = {"failed": [_cause(code)], "tests": {}}
        with self.answers.open("a", encoding="utf-8") as answers:
            answers.write(json.dumps({"name": task.name, "seconds": round(seconds, 1), **found}) + "\n")

    def _work(self, task: Task, session: pytest.Session) -> None:
        """In the child: plant, run, write, leave."""
        try:
            os.setsid()  # what the tests start dies with them
            _limit(task.limit_s)
            if task.mutation:
                plant(self.copy, task.mutation)
            items = {item.nodeid: item for item in session.items}
            stages = task.stages or [[test for test in items if test.split("::")[0] == task.name]]
            for stage in stages:
                chosen = [items[test] for test in stage if test in items]
                for item, after in zip_longest(chosen, chosen[1:]):
                    self._one(session, item, after, record=task.mutation is None)
                    if self.failed and task.mutation:
                        break
                if self.failed and task.mutation:
                    break
            found = {"failed": self.failed, "tests": self.recorder.tests}
            self._answer(task).write_text(json.dumps(found), encoding="utf-8")
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stderr.flush()
            os._exit(0)

    def _one(self, session: pytest.Session, item: pytest.Item, after: pytest.Item | None, *, record: bool) -> None:
        run = session.config.hook.pytest_runtest_protocol
        if not record:
            run(item=item, nextitem=after)
            return
        start = time.process_time()  # not by the clock: on a busy machine tests would be left out as too slow
        with self.recorder.watched() as names:
            run(item=item, nextitem=after)
        names |= self.imported.get(item.nodeid.split("::")[0], set())
        self.recorder.tests[item.nodeid] = round(time.process_time() - start, 3), sorted(names)


def plant(copy: Path, mutation: Mutation) -> None:
    """Exchange the code of the functions of a loaded module for that of the changed file."""
    path = str(copy / mutation.file)
    old = sys.modules[mutation.file.removesuffix(".py").replace("/", ".")]
    new = ModuleType(old.__name__)
    new.__dict__.update(__file__=path, __package__=old.__package__, __spec__=old.__spec__)
    exec(compile(mutation.text, path, "exec"), new.__dict__)
    fresh, loaded = _functions(new, path), _functions(old, path)
    if [name for name, _ in fresh] != [name for name, _ in loaded]:
        raise RuntimeError(f"{mutation.name}: the functions of the loaded module are others")
    for (_, one), (_, other) in zip(loaded, fresh, strict=True):
        one.__code__ = other.__code__
        if repr(one.__defaults__) != repr(other.__defaults__) or repr(one.__kwdefaults__) != repr(other.__kwdefaults__):
            one.__defaults__, one.__kwdefaults__ = other.__defaults__, other.__kwdefaults__


def _functions(module: ModuleType, path: str) -> list[tuple[str, FunctionType]]:
    """Functions and methods that a file defines when it is imported, decorated ones too, in its order."""
    found = [f for f in gc.get_objects() if type(f) is FunctionType and f.__globals__ is module.__dict__]
    own = [f for f in found if f.__code__.co_filename == path and "<locals>" not in f.__qualname__]
    return [(f.__qualname__, f) for f in sorted(own, key=lambda f: f.__code__.co_firstlineno)]


def serve(copy: Path, files: Sequence[str], tasks: Sequence[Task], answers: Path, workers: int) -> None:
    """Collect the tests of some files of a copy and run tasks with them; answers are lines of JSON.

    The process must have imported nothing of the project.
    """
    show = os.dup(2)
    os.chdir(copy)
    with answers.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    paths = [str(copy), str(copy / "tests")]
    sys.path[:] = [*paths, *(p for p in sys.path if p and not Path(p).is_relative_to(ROOT))]
    temporary = answers.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ.update(PYTHONPATH=os.pathsep.join(paths), PYTEST_DEBUG_TEMPROOT=str(temporary))
    sys.dont_write_bytecode = False
    options = ["-q", "-s", "--tb=line", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist"]
    pytest.main([*options, *files], plugins=[Server(copy, tasks, answers, workers, show)])


def _limit(seconds: float) -> None:
    """Limit this process's own work: seconds of the clock would judge what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = round(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))


def _end(process: int) -> None:
    """End what a process that led its own group left."""
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def _cause(code: int | None) -> str:
    return "time limit" if code in (-signal.SIGXCPU, -signal.SIGKILL) else "crash"


# --- the work --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Work:
    """The working folder: a copy of the project, what is known of the tests, results."""

    folder: Path
    workers: int
    places: Sequence[str] = NOTICING
    known: dict[str, Known] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.copy = self.folder / "copy" / "twoview"  # one folder deeper: nothing lies beside it
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                                capture_output=True, text=True, check=True)  # fmt: skip
        files = [file for file in listed.stdout.split("\0") if file and (ROOT / file).exists()]
        shutil.rmtree(self.copy, ignore_errors=True)
        for file in files:
            (self.copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, self.copy / file)
        tests = sorted(f for f in files if f.startswith("tests/") and not f.startswith("tests/benchmarks/"))
        chosen = "" if self.places == NOTICING else ",".join(self.places)
        self.tests_digest = digest(b"".join((ROOT / file).read_bytes() for file in tests) + chosen.encode())
        noticing = tuple(f"tests/{place}" for place in self.places)
        self.files = [f for f in tests if f.startswith(noticing) and Path(f).name.startswith("test_")]
        self.map, self.log = self.folder / "tests.json", self.folder / "results.jsonl"
        if self.map.exists():
            self.known = {f: Known(**known) for f, known in json.loads(self.map.read_text(encoding="utf-8")).items()}
        if self.log.exists():
            rows = [Result(**json.loads(row)) for row in self.log.read_text(encoding="utf-8").splitlines()]
            self.results = {row.name: row for row in rows}

    def run(self, tasks: Sequence[Task], files: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The answers of tasks, as they come."""
        answers = self.folder / "answers"
        answers.unlink(missing_ok=True)
        process = multiprocessing.get_context("forkserver").Process(
            target=serve, args=(self.copy, files, tasks, answers, self.workers), daemon=True
        )
        process.start()
        read = 0
        while True:
            alive = process.is_alive()
            rows = answers.read_text(encoding="utf-8").splitlines(keepends=True) if answers.exists() else []
            for row in rows[read:]:
                if row.endswith("\n"):
                    read += 1
                    yield json.loads(row)
            if not alive:
                break
            time.sleep(0.2)

    def learn(self) -> None:
        """Run every file of tests that changed since, and record what its tests run."""
        now = {file: digest((ROOT / file).read_bytes()) for file in self.files}
        changed = [file for file in self.files if file not in self.known or self.known[file].digest != now[file]]
        if not changed:
            return
        for found in self.run([Task(file, [], 3600) for file in changed], changed):
            self.known[found["name"]] = Known(now[found["name"]], found["tests"], found["failed"])
            self.map.write_text(json.dumps({f: asdict(k) for f, k in self.known.items()}), encoding="utf-8")
            if found["failed"]:
                print(f"\nfails without a mistake, so that it is left out: {found['failed']}", file=sys.stderr)

    def stages(self, mutation: Mutation) -> tuple[list[list[str]], float]:
        """Tests that should notice, those of the nearest files first, and the seconds that they take."""
        file = mutation.file.removeprefix("twoview/").removesuffix(".py")
        target = f"{file}:{mutation.function}"
        inside = f"{target}." if mutation.function else target

        def runs(functions: Sequence[str]) -> bool:
            return target in functions or any(f.startswith(inside) for f in functions)

        good = {t: k for f in self.files for t, k in self.known[f].tests.items() if t not in self.known[f].failed}
        touching: dict[str, list[str]] = {}  # file of tests -> those that run the function
        for test in sorted((t for t, (_, functions) in good.items() if runs(functions)), key=lambda t: good[t][0]):
            touching.setdefault(test.split("::")[0], []).append(test)

        def rank(tests: str) -> tuple[bool, float]:
            named = Path(file).name.startswith(Path(tests).stem.removeprefix("test_"))
            return not named, good[touching[tests][0]][0]

        near = sorted(touching, key=rank)[:2]
        first = _until(FIRST_S, [test for place in near for test in touching[place]], good)
        others = [t for tests in touching.values() for t in tests] + [t for t in good if t.split("::")[0] in near]
        rest = _until(MOST_S, [t for t in dict.fromkeys(others) if t not in first], good)
        return [first, rest], sum(good[test][0] for test in (*first, *rest))

    def judge(self, chosen: Sequence[Mutation]) -> None:
        """Plant mutations that have no result yet, and keep what becomes of them."""
        sources = {m.name: digest((ROOT / m.file).read_bytes()) for m in chosen}

        def settled(name: str) -> bool:
            known = self.results.get(name)
            if not known or known.source != sources[name]:
                return False
            return bool(known.killed_by) or known.tests == self.tests_digest

        tasks = []
        for mutation in chosen:
            if not settled(mutation.name):
                stages, seconds = self.stages(mutation)
                tasks.append(Task(mutation.name, stages, 20 + 4 * seconds, mutation))
        loaded = [task for task in tasks if task.mutation and task.mutation.local]
        if loaded:
            for found in self.run(loaded, self.files):
                self._keep(found, sources)
        for task in tasks:
            if task not in loaded:
                self._keep(self._imported(task), sources)

    def _imported(self, task: Task) -> dict[str, Any]:
        """The answer of a mutant that matters when it is imported: the file is changed, and all is collected anew."""
        assert task.mutation
        path = self.copy / task.mutation.file
        original, start = path.read_bytes(), time.monotonic()
        failed: list[str] = []
        try:
            for stage in task.stages:
                _write(path, task.mutation.text.encode())
                files = sorted({test.split("::")[0] for test in stage})
                answer = list(self.run([Task(task.name, [stage], task.limit_s)], files))
                failed = [name for found in answer for name in found["failed"]] if answer else ["import"]
                if failed:
                    break
        finally:
            _write(path, original)
        return {"name": task.name, "failed": failed, "seconds": round(time.monotonic() - start, 1)}

    def _keep(self, found: Mapping[str, Any], sources: Mapping[str, str]) -> None:
        killed_by = found["failed"][0] if found["failed"] else ""
        result = Result(found["name"], killed_by, sources[found["name"]], self.tests_digest, found["seconds"])
        self.results[result.name] = result
        with self.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(result)) + "\n")


def _until(limit_s: float, tests: Sequence[str], known: Tests) -> list[str]:
    """The quickest of some tests, as many as fit, and at least one."""
    quickest = sorted(tests, key=lambda test: known[test][0])
    sums = accumulate(known[test][0] for test in quickest)
    return [t for n, (t, total) in enumerate(zip(quickest, sums, strict=True)) if n == 0 or total <= limit_s]


def _write(path: Path, text: bytes) -> None:
    """Write, and forget the bytecode, which Python would take for new within a second."""
    path.write_bytes(text)
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()


def digest(data: bytes) -> str:
    """A short name of some bytes."""
    return hashlib.sha1(data).hexdigest()[:12]


def main() -> None:
    """Plant the mutants and print the table and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every tenth mutant")
    parser.add_argument("--seed", type=int, default=0, help="which mutants are chosen")
    parser.add_argument("--only", default="", help="part of the names of the files to mutate")
    parser.add_argument("--tests", default=",".join(NOTICING), help="tests that may notice, by how their names begin")
    parser.add_argument("--work", type=Path, default=ROOT / "work/mutants", help="folder of results, to continue")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", MPLBACKEND="Agg")
    os.environ.pop("PYTHONPATH", None)
    multiprocessing.set_forkserver_preload(PRELOADED)
    work = Work(given.work.resolve(), given.workers, tuple(given.tests.split(",")))
    work.learn()
    chosen: list[Mutation] = []
    for file, number in CORE.items():
        if given.only in file:
            every = (m for m in mutations(ROOT, f"twoview/{file}.py", given.seed) if m.name not in EQUIVALENT)
            chosen += islice(every, -(-number // 10) if given.quick else number)
    work.judge(chosen)
    text = table(chosen, work.results)
    print(f"\n{text}")
    if not given.quick and not given.only and work.places == NOTICING:
        head = "# Do the tests notice mistakes?\n\n`python tests/benchmarks/mutants.py`: mistakes planted in the core, "
        head += "one at a time, without the data beside the project.\n\n"
        TABLE.write_text(head + text + "\n", encoding="utf-8")


def table(chosen: Sequence[Mutation], results: Mapping[str, Result]) -> str:
    """Mutants by file, then the survivors, then what cannot be noticed."""
    lines = ["| file | mutants | killed | share |", "|---|---|---|---|"]
    groups = {file: [m for m in chosen if m.file == file] for file in dict.fromkeys(m.file for m in chosen)}
    for name, some in {**groups, "**all**": list(chosen)}.items():
        killed = sum(bool(results[m.name].killed_by) for m in some)
        lines.append(f"| {name} | {len(some)} | {killed} | {killed / max(len(some), 1):.1%} |")
    alive = sorted((m for m in chosen if not results[m.name].killed_by), key=lambda m: (m.file, m.line))
    lines += ["", "Survivors:" if alive else "No survivors.", ""]
    lines += [f"- {m.file}:{m.line}\n  `{m.before}`\n  `{m.after}`" for m in alive]
    if EQUIVALENT:
        lines += ["", "Not counted, as they change no result:", ""]
        lines += [f"- `{name}`: {reason}" for name, reason in EQUIVALENT.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
