"""Tasks come out the same wherever they run; what goes wrong with one keeps none of the others back, and is named."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import own_tasks
import pytest

from twoview.errors import ClusterError, ConfigError, DetectorError, StorageError, WorkerError
from twoview.machine import cores
from twoview.workers import tasks
from twoview.workers.places import Workers, open_place
from twoview.workers.tasks import Task, perform, run_locked, run_tasks

HERE = Path(own_tasks.__file__).parent
PLACES = {
    "here": Workers(),
    "two processes": Workers(jobs=2),
    "threads": Workers("own_tasks:threads"),
}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Workers on this machine find the tests' modules."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent)]))


def run(workers: Workers, todo: list[Task], folder: Path, *, events=None) -> dict:
    on_progress = None if events is None else events.append
    with open_place(workers, folder=folder) as place:
        return dict(run_tasks(todo, place, stage="tasks", total=len(todo), on_progress=on_progress))


def writes(folder: Path, *names: str, **more) -> list[Task]:
    return [Task(name, own_tasks.write, {"folder": folder, "name": name, **more}, (folder,)) for name in names]


def task(label: str, function, **arguments) -> Task:
    return Task(label, function, arguments)


@pytest.mark.parametrize("workers", PLACES.values(), ids=PLACES)
def test_what_comes_out_does_not_depend_on_where(workers, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    todo = [
        *writes(Path(), "a", "b", "c"),  # the folder of the command is the folder of its tasks
        task("nobody", own_tasks.fail, kind="user"),
        task("warns", own_tasks.warn, sentence="a joint is gone"),
    ]
    found = run(workers, todo, tmp_path)
    assert set(found) == {"a", "b", "c", "nobody", "warns"}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {n: f"{n} as it must be" for n in "abc"}
    assert isinstance(found["nobody"], DetectorError)
    assert (found["nobody"].message, found["nobody"].hint) == ("nobody is in the video", "another video")
    assert "a joint is gone" in caplog.text


def test_cores_are_shared_fairly_and_frames_of_all_processes_are_summed(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    events = []
    found = run(Workers(jobs=2), writes(tmp_path, "a", "b", "c", frames=40), tmp_path, events=events)
    assert found["a"] == f"a in {max(cores() // 2, 1)} threads"
    last = events[-1]
    assert (last.stage, last.done, last.total, last.unit) == ("tasks", 3, 3, "takes")
    assert last.values["frames"] == 120
    assert [event.done for event in events] == sorted(event.done for event in events)


def test_a_full_disk_ends_all_tasks_after_what_is_done(tmp_path):
    with pytest.raises(StorageError, match="full"):
        run(Workers(jobs=2), [*writes(tmp_path, "a"), task("x", own_tasks.fail, kind="disk")], tmp_path)


def test_a_fault_in_one_task_is_named_and_the_others_are_done(tmp_path):
    found = run(Workers(jobs=2), [task("bad", own_tasks.fail, kind="fault"), *writes(tmp_path, "a", "b")], tmp_path)
    assert isinstance(found["bad"], WorkerError)
    assert found["bad"].message == "bad: ZeroDivisionError: division by zero"
    assert "without --jobs and --on" in found["bad"].hint
    assert (tmp_path / "b").exists()
    with pytest.raises(ZeroDivisionError):  # here it shows where
        run(Workers(), [task("bad", own_tasks.fail, kind="fault")], tmp_path)


def test_killed_workers_are_named_and_their_tasks_tried_again(tmp_path, caplog):
    todo = [
        task("always", own_tasks.die, folder=tmp_path, name="always", times=99),
        task("beside", own_tasks.last, folder=tmp_path, name="beside", seconds=1.5),  # dies with it, and is innocent
        task("once", own_tasks.die, folder=tmp_path, name="once", times=1),
        *writes(tmp_path, "a", "b"),
    ]
    found = run(Workers(jobs=2), todo, tmp_path)
    assert isinstance(found.pop("always"), WorkerError)
    assert all(isinstance(value, str) for value in found.values()), found
    assert {"beside", "once", "a", "b"} == set(found)
    assert (tmp_path / "always died").read_text() == "xxx"  # once, and two retries
    assert "a worker died" in caplog.text
    assert "once" in caplog.text
    (tmp_path / "always died").unlink()
    again = run(Workers("own_tasks:processes"), [todo[0], *writes(tmp_path, "d")], tmp_path)
    assert again["always"].message == "always: its worker died 3 times (killed, or out of memory)"
    assert isinstance(again["d"], str)


def test_another_version_and_folders_that_are_not_there_are_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "__version__", "9.9")
    with pytest.raises(ClusterError, match=r"has twoview 0\.1\.0, and the command 9\.9"):
        run(Workers(jobs=2), writes(tmp_path, "a"), tmp_path)
    monkeypatch.undo()
    content = tasks.pickle.dumps(writes(tmp_path, "a")[0])
    relative = tasks.pickle.dumps(writes(Path(), "b")[0])
    assert perform(tasks.__version__, str(tmp_path), relative).value  # in the folder of the command
    assert (tmp_path / "b").exists()
    gone = perform(tasks.__version__, str(tmp_path / "gone"), content).error
    assert isinstance(gone, ClusterError)
    assert f"does not see {tmp_path / 'gone'}" in gone.message
    assert "the same folders" in gone.hint
    lacking = replace(writes(tmp_path, "a")[0], needs=(tmp_path / "video.mp4",))
    with pytest.raises(ClusterError, match=r"does not see .*video\.mp4"):
        run(Workers("own_tasks:threads"), [lacking], tmp_path)
    monkeypatch.setattr(own_tasks, "only_here", own_tasks.write, raising=False)
    monkeypatch.setattr(own_tasks.write, "__qualname__", "only_here")
    with pytest.raises(ClusterError, match="lacks what its task needs"):
        run(Workers(jobs=2), [task("a", own_tasks.write, folder=tmp_path, name="a")], tmp_path)


def test_what_cannot_be_sent_is_an_error_of_its_task(tmp_path):
    todo = [task("a", lambda on_progress: 1), *writes(tmp_path, "b")]
    found = run(Workers(jobs=2), todo, tmp_path)
    assert "a cannot be sent to another process" in found["a"].message
    assert "package.module:Name" in found["a"].hint
    assert isinstance(found["b"], str)


def test_locks_are_held_while_a_task_runs_and_those_that_cannot_be_had_are_named(tmp_path):
    from contextlib import contextmanager

    held, seen = set(), []

    @contextmanager
    def locked(name: str, kind: str = ""):
        if kind == "taken":
            raise DetectorError("somebody has it")
        held.add(name)
        try:
            yield task(name, own_tasks.fail, kind="user") if kind else writes(tmp_path, name)[0]
        except DetectorError:
            seen.append(f"{name} failed")
            raise
        finally:
            held.discard(name)

    every = {"a": locked("a"), "b": locked("b", "taken"), "c": locked("c", "bad"), "d": locked("d")}
    with open_place(Workers(jobs=2)) as place:
        for name, value in run_locked(every, place, stage="tasks"):
            assert name in held or name == "b"
            assert isinstance(value, str) == (name in "ad"), value
    assert not held
    assert seen == ["c failed"]


@pytest.mark.parametrize("to", ["the command alone, as a system ends it", "all processes, as a terminal does"])
def test_ctrl_c_cancels_what_has_not_begun_and_what_has_is_saved(to, tmp_path):
    script = (
        "import sys; from pathlib import Path; import own_tasks\n"
        "from twoview.workers.places import Workers, open_place; from twoview.workers.tasks import Task, run_tasks\n"
        "if __name__ == '__main__':\n"
        "    folder = Path(sys.argv[1])\n"
        "    def one(n): return Task(n, own_tasks.last, {'folder': folder, 'name': n, 'seconds': 60})\n"
        "    with open_place(Workers(jobs=2)) as place:\n"
        "        list(run_tasks([one(n) for n in 'abcd'], place, stage='x', total=4))\n"
    )
    (tmp_path / "script.py").write_text(script)
    command = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path], stderr=subprocess.PIPE, start_new_session=True
    )
    patience = time.monotonic() + 60
    while len(list(tmp_path.glob("? began"))) < 2 and time.monotonic() < patience:
        time.sleep(0.05)
    began = time.monotonic()
    os.kill(command.pid, signal.SIGINT) if "alone" in to else os.killpg(command.pid, signal.SIGINT)
    _, said = command.communicate(timeout=60)
    assert said.decode().count("Traceback") == 1  # of the script
    assert time.monotonic() - began < 30
    assert {path.name for path in tmp_path.glob("? *")} == {"a began", "b began", "a saved", "b saved"}


@pytest.mark.parametrize("on", ["dask:", "somewhere", "tcp://head:8786", "slurm:", "own_tasks:nothing", "none.at:all"])
def test_what_is_no_place_is_refused(on, tmp_path):
    with pytest.raises(ConfigError) as error:
        run(Workers(on), writes(tmp_path, "a"), tmp_path)
    assert error.value.hint
    assert not logging.getLogger("distributed").handlers
