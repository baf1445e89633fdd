"""Forty takes on a real Dask cluster whose parts are killed at random moments, in local processes, and by submitit."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import own_tasks
import pytest
from session_takes import put_take
from terminal import type_command

from twoview.config import ClusterConfig, DetectConfig, TriangulateConfig
from twoview.errors import ClusterError, WorkerError
from twoview.storage.session import Session, open_session
from twoview.workers import dask_client, tasks
from twoview.workers.places import Workers, open_place
from twoview.workers.tasks import Task, run_tasks
from twoview.workflow.inference_batch import infer_files
from twoview.workflow.stages import detect_views
from twoview.workflow.triangulation import triangulate_session

if find_spec("distributed") is None or find_spec("submitit") is None:
    pytest.skip('needs pip install "twoview[cluster]"', allow_module_level=True)

import psutil
from cluster.clusters import Cluster, Kills, detections, emptied, kill_a_child, small_takes, words_of

pytestmark = pytest.mark.slow
HERE = Path(own_tasks.__file__).parent
TAKES = 40
CONFIG = DetectConfig(detector="slow_markers:SlowMarkers")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Workers on this machine find the tests' modules."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent)]))


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Session:
    """The takes, detected by this process."""
    session = small_takes(tmp_path_factory.mktemp("takes"), TAKES)
    assert len(list(detect_views(session, config=CONFIG))) == 2 * TAKES
    return session


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("dask") / "own")
    yield made
    made.stop()


def detect(session: Session, workers: Workers, *, then: Callable[[int], None] = lambda seen: None, **more) -> int:
    """How many views are detected now; `then` is called with the number of those that have been seen."""
    fresh = 0
    for seen, found in enumerate(detect_views(session, config=CONFIG, workers=workers, **more), 1):
        fresh += found.fresh
        then(seen)
    return fresh


def on(cluster: Cluster, **more) -> Workers:
    return Workers(f"dask:{cluster.address}", **more)


def run(workers: Workers, todo: list[Task], folder: Path) -> dict:
    with open_place(workers, folder=folder) as place:
        return dict(run_tasks(todo, place, stage="tasks", total=len(todo)))


def task(folder: Path, name: str, function=own_tasks.write, **more) -> Task:
    return Task(name, function, {"folder": folder, "name": name, **more}, (folder,))


# --- Dask ----------------------------------------------------------------------------------------------------------


def test_killed_workers_nannies_and_a_scheduler_lose_nothing(local, cluster, tmp_path):
    session = emptied(local, tmp_path / "session")
    kills = Kills(cluster, 3, count=3, of=TAKES), Kills(cluster, 4, count=3, of=TAKES)
    seen = list[int]()

    def then(count: int) -> None:
        seen.append(count)
        kills[0](count)
        if count == TAKES:
            cluster.kill("scheduler")

    with pytest.raises(ClusterError) as gone:
        detect(session, on(cluster), then=then)
    assert f"dask:{cluster.address} is gone, with" in gone.value.message
    assert "run the same command again" in gone.value.hint
    assert TAKES <= len(seen) < 2 * TAKES
    kept = {path: path.stat().st_mtime_ns for path in session.folder.glob("takes/*/detections/?.npz")}
    assert len(kept) >= len(seen)
    cluster.start()
    assert detect(session, on(cluster), then=kills[1]) == 2 * TAKES - len(kept)
    assert {worker for _, worker in kills[0].done + kills[1].done} == {True, False}
    assert len(kills[0].done) == 3
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert detections(session) == detections(local)
    assert not list(session.folder.glob(".locks/*"))


def test_on_dask_the_task_that_kills_is_named_and_the_rest_is_done(cluster, tmp_path):
    names = "abcdef"
    todo = [task(tmp_path, "always", own_tasks.die, times=99), task(tmp_path, "once", own_tasks.die, times=1)]
    found = run(on(cluster), [*todo, *(task(tmp_path, name) for name in names)], tmp_path)
    assert isinstance(found.pop("always"), WorkerError)
    assert {name for name, value in found.items() if isinstance(value, str)} == {"once", *names}
    assert (tmp_path / "always died").read_text() in ("xxx", "xxxx")  # more, where it is not clear which one killed


def test_on_dask_another_version_and_a_video_that_is_not_there_are_refused(cluster, tmp_path, monkeypatch):
    lacking = Task("a", own_tasks.write, {"folder": tmp_path, "name": "a"}, (tmp_path / "video.mp4",))
    with pytest.raises(ClusterError, match=r"the worker on .* does not see .*video\.mp4"):
        run(on(cluster), [lacking], tmp_path)
    monkeypatch.setattr(tasks, "__version__", "9.9")
    with pytest.raises(ClusterError, match=r"has twoview 0\.1\.0, and the command 9\.9"):
        run(on(cluster), [task(tmp_path, "a")], tmp_path)


def test_on_dask_ctrl_c_takes_back_what_has_not_begun(cluster, tmp_path):
    def interrupted() -> None:
        todo = [task(tmp_path, str(number), own_tasks.last, seconds=0.5) for number in range(30)]
        with open_place(on(cluster)) as place:
            for _ in run_tasks(todo, place, stage="tasks", total=30):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    time.sleep(2)
    began = len(list(tmp_path.glob("* began")))
    time.sleep(1)
    assert 1 <= began < 15
    assert len(list(tmp_path.glob("* began"))) == began


def test_where_nobody_listens_a_line_says_what_to_start(local, monkeypatch):
    monkeypatch.setattr(dask_client, "CONNECT_S", 0.5)
    monkeypatch.chdir(local.folder.parent)
    answer = type_command("detect", "--detector", "slow_markers:SlowMarkers", "--set", "score=0.3",
                          "--on", "dask:tcp://127.0.0.1:1")  # fmt: skip
    assert answer.code == 1
    first, second, *rest = answer.err.strip().splitlines()
    assert first == "ClusterError: nobody answers at tcp://127.0.0.1:1 within 0 s"
    assert second.startswith("hint: start a scheduler there, `dask scheduler`")
    assert rest == []


def test_a_task_that_needs_a_gpu_waits_for_a_worker_with_one_and_says_so(cluster, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(dask_client, "_NOBODY_S", 0.1)

    run(on(cluster), [task(tmp_path, "b")], tmp_path)  # so that there are workers

    def waiting() -> None:
        with open_place(on(cluster, gpu=True)) as place:
            watch, place.watch = (
                place.watch,
                lambda: (watch(), caplog.text and (_ for _ in ()).throw(KeyboardInterrupt)),
            )
            list(run_tasks([task(tmp_path, "a")], place, stage="tasks", total=1))

    with pytest.raises(KeyboardInterrupt):
        waiting()
    assert "has no worker with a GPU; start some: dask worker" in caplog.text
    assert not (tmp_path / "a").exists()


# --- processes of this machine --------------------------------------------------------------------------------------


def test_killed_local_processes_lose_nothing(local, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("SECONDS_PER_PICTURE", "0.005")
    session = emptied(local, tmp_path / "session")
    events = []

    def then(seen: int) -> None:
        if seen in (7, 30, 61):
            kill_a_child()

    made = detect(session, Workers(jobs=2), then=then, on_progress=events.append)
    assert made == 2 * TAKES
    assert "a worker died" in caplog.text
    assert detections(session) == detections(local)
    assert (events[-1].stage, events[-1].done, events[-1].unit) == ("detect", 2 * TAKES, "videos")
    assert events[-1].values["frames"] >= 2 * TAKES * 12


def test_processes_solve_and_lift_to_the_same_bytes(tmp_path, start, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        session = put_take(tmp_path / "s", f"t{number}", seconds=1.5, seed=number)
    flat = [session.detection_path(name, "a") for name in session.takes]

    def made(workers: Workers) -> dict[str, bytes]:
        folder = tmp_path / "made"
        shutil.copytree(session.folder, folder)
        config = TriangulateConfig(height_m=1.8, same_athlete=False)
        solved = triangulate_session(
            open_session(folder), model="start.pt", picture=False, config=config, formats=["csv"], workers=workers
        )
        assert [one.fresh for one in solved] == [True] * 2
        lifted = dict(infer_files(flat, "start.pt", session=folder, picture=False, formats=["csv"], workers=workers))
        assert all(len(one.poses) and one.fresh for one in lifted.values())
        files = [path for path in folder.rglob("*") if path.is_file()]
        found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
        shutil.rmtree(folder)
        return found

    here = made(Workers())
    assert here == made(Workers(jobs=2))
    assert {"results/a.csv", "takes/t1/triangulated/b.csv"} <= set(here)


# --- submitit ------------------------------------------------------------------------------------------------------


def test_jobs_of_submitit_give_the_same(local, tmp_path):
    names = list(local.takes)[:5]
    session = emptied(local, tmp_path / "session")
    assert detect(session, Workers("slurm:local", jobs=3), takes=names) == 2 * len(names)
    made = detections(session)
    assert len(made) == 2 * 2 * len(names)
    assert made.items() <= detections(local).items()
    assert not (session.folder / ".jobs").exists()


def test_jobs_that_are_killed_are_sent_again_and_their_logs_stay(tmp_path):
    todo = [task(tmp_path, "always", own_tasks.die, times=99), task(tmp_path, "once", own_tasks.die, times=1)]
    found = run(Workers("slurm:local", jobs=3), [*todo, task(tmp_path, "a")], tmp_path)
    assert isinstance(found.pop("always"), WorkerError)
    assert {name for name, value in found.items() if isinstance(value, str)} == {"once", "a"}
    assert (tmp_path / "always died").read_text() == "xxx"
    assert list((tmp_path / ".jobs").glob("*/*_log.err"))


def test_a_job_whose_time_is_over_goes_on_by_itself(tmp_path):
    def preempt() -> None:
        """What Slurm does before it takes the node away, or the time is over: a signal to the job."""
        for child in psutil.Process().children(recursive=True):
            if "submitit.core._submit" in words_of(child):
                child.send_signal(12)

    with open_place(Workers("slurm:local", cluster=ClusterConfig(minutes=1)), folder=tmp_path) as place:
        place.watch = lambda: preempt() if (tmp_path / "a began").exists() else None
        todo = [task(tmp_path, "a", own_tasks.resume)]
        assert dict(run_tasks(todo, place, stage="tasks", total=1)) == {"a": "a went on"}
