"""The paper's experiments on public data sets: read one, train the rows of a table, measure them on its test part.

Every row starts from the same lifter and trains on the same takes; rows that need no labels get none. Human3.6M is
measured as in MotionBERT's evaluation: the lifter's pixel pose times the file's own factors. On the other sets
perspective is undone by the camera's known focal length, and millimeters come from the root's true depth.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from twoview.command_settings import resolve
from twoview.config import DetectConfig, InferConfig, Settings
from twoview.datasets import aspset, human36m, mpi_inf_3dhp, sportspose
from twoview.datasets.recordings import Recording
from twoview.detectors import AUTO, choose
from twoview.errors import ConfigError, DetectorError, FormatError, TwoViewError, joined
from twoview.evaluation.scoring import Matched, Report, match, summarize
from twoview.lifting.inference import lift, pixel_poses
from twoview.lifting.model import Model, load_model
from twoview.poses import Poses3D
from twoview.progress import OnProgress
from twoview.skeleton import H36M17
from twoview.storage import records
from twoview.takes import Take
from twoview.training.finetuning import finetune
from twoview.workers.places import Workers, open_place
from twoview.workers.tasks import Place, Task, run_tasks
from twoview.workflow.detection import View, detect_alone

T = TypeVar("T")
ROWS = {  # row of the paper's tables -> preset
    "unadapted": "",
    "Iqbal et al.": "iqbal",
    "L_3D": "l3d",
    "L_3Dcon": "l3dcon",
    "L_2D": "l2d",
    "per frame": "per_frame",
    "L_2Dcon": "paper_sportspose",
    "L_3D of S1 + L_2Dcon": "paper_h36m",
    "phones": "phones",
}
NEED_LABELS = ("L_3D", "L_3Dcon", "L_3D of S1 + L_2Dcon")
TRUTH = "truth"


@dataclass(frozen=True)
class Experiment:
    """One of the paper's experiments on one data set.

    rows      of ROWS
    train     the training takes of a folder or file, with the views named
    test      the takes to measure on
    labeled   which training takes keep their 3D in the rows that use labels
    detected  whether the set has its own detected 2D, or no videos to detect in
    rate_hz   frames per second that every lifter reads, in training and testing; 0: its own rate
    """

    rows: tuple[str, ...]
    train: Callable[[Path, Sequence[str] | None], Iterable[Recording]]
    test: Callable[[Path, Sequence[str] | None], Iterable[Recording]]
    labeled: Callable[[Recording], bool] = lambda _: True
    detected: bool = False
    rate_hz: float = 0.0


EXPERIMENTS = {
    "sportspose": Experiment(
        ("unadapted", "Iqbal et al.", "L_3D", "L_3Dcon", "L_2D", "per frame", "L_2Dcon", "phones"),
        lambda path, views: sportspose.read(path, split="train", views=views or ("right", "back")),
        lambda path, _: sportspose.read(path, split="test", views=("right",)),
        rate_hz=sportspose.RATE,  # every frame as it was recorded, as in the paper
    ),
    "human36m": Experiment(
        ("unadapted", "L_3D", "L_3D of S1 + L_2Dcon", "phones"),
        lambda path, views: human36m.read(path, split="train", views=views or human36m.VIEWS),
        lambda path, _: human36m.read(path, split="test"),
        labeled=lambda recording: recording.subject == "S1",
        detected=True,
    ),
    "aspset": Experiment(
        ("unadapted", "L_3D", "L_2D", "L_2Dcon", "phones"),
        lambda path, views: aspset.read(path, split="train", views=views or ("left", "mid")),
        lambda path, _: aspset.read(path, split="test"),
    ),
    "mpi_inf_3dhp": Experiment(
        ("unadapted", "L_3D", "L_2D", "L_2Dcon", "phones"),
        lambda path, views: mpi_inf_3dhp.read_train(path / "data_train_3dhp.npz", views=views or ("0", "2")),
        lambda path, _: mpi_inf_3dhp.read_test(path / "data_test_3dhp.npz", rate=25.0),
        detected=True,
    ),
}


def reproduce(
    dataset: str,
    path: Path | str,
    *,
    out: Path | str,
    rows: Sequence[str] | None = None,
    views: Sequence[str] | None = None,
    weights: str | None = None,
    detector: str = TRUTH,
    settings: Sequence[str] = (),
    trust: Collection[str] = (),
    workers: Workers | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Report]:
    """Train the rows of an experiment and measure each: row -> report, by activity and with both averages.

    path      the data set as its authors lay it out: a folder, or the one file
    views     to train on; default: the paper's
    weights   lifter to start from
    detector  finds the 2D in the videos, kept in `out`; "truth" projects it from the 3D instead
    settings  `name=value` of `FinetuneConfig`, for every row
    trust     names of lifters that are no part of twoview and may run, see `load_model`
    workers   who trains and measures the rows, a task for each, and detects; default: this process

    Runs are kept in `out`, and a second call continues. Raises ConfigError for unknown names, FormatError for a folder
    that does not have the set.
    """
    path, out = Path(path), Path(out)
    experiment = _named(dataset, EXPERIMENTS, "data set")
    chosen = list(rows or experiment.rows)
    presets = {row: _named(row, ROWS, "row") for row in chosen}
    given = experiment.detected or detector == TRUTH
    flags = {"weights": weights, "keep": "last", "held_out": 0.0}  # what a table compares is the loss alone
    flags |= {} if given else {"detect.detector": detector}
    unread = {"detect": "the 2D comes with the data set or from its 3D"} if given else {}
    configs = {
        row: resolve("reproduce", file=preset or None, flags=flags, sets=settings, unread=unread)
        for row, preset in presets.items()
    }
    detection = None if given else configs[chosen[0]].detect
    if detection is not None and detection.detector == AUTO:
        detection = replace(detection, detector=choose(detection.device))
    data = _Data(dataset, path, out, None if views is None else tuple(views), detection)
    failed: list[TwoViewError] = []
    reports: dict[str, Report] = {}
    with open_place(workers, folder=out if out.exists() else ".") as place:
        if detection is not None:
            failed += data.detect(place, on_progress)
        if failed:
            raise joined(failed)
        tasks = [
            Task(row, _row, {"data": data, "row": row, "config": configs[row], "trust": tuple(trust)}, needs=(path,))
            for row in presets
        ]
        if place is None:
            _kept(data)  # its error is one, not one for every row
        for row, report in run_tasks(
            tasks, place, stage="reproduce", total=len(tasks), unit="rows", on_progress=on_progress
        ):
            if isinstance(report, TwoViewError):
                failed.append(report)
            else:
                reports[row] = report
    _kept.cache_clear()
    reports = {row: reports[row] for row in presets if row in reports}
    rows_json = {row: report.to_json() for row, report in reports.items()}
    records.write_json(out / f"{dataset}.json", {**records.header("reproduction"), "rows": rows_json})
    if failed:
        raise joined(failed)
    return reports


@dataclass(frozen=True)
class _Data:
    """What a row trains and is measured on. detection: how 2D is found in the videos; None where the set has it."""

    dataset: str
    path: Path
    out: Path
    views: tuple[str, ...] | None
    detection: DetectConfig | None

    def read(self) -> tuple[list[Recording], list[Recording]]:
        """The takes to train on and to test on. Raises FormatError for a folder that has none."""
        train, test = (list(self._detected(part)) for part in self._parts())
        if not train or not test:
            raise FormatError(f"{self.path} has {len(train)} takes to train on and {len(test)} to test on")
        return train, test

    def detect(self, place: Place | None, on_progress: OnProgress | None) -> list[TwoViewError]:
        """Find the 2D in all videos, a task for each, and what is wrong with some."""
        own = {view.path.stem: view for part in self._parts() for one in part for view in self._views(one)}
        tasks = [
            Task(name, _detect, {"view": view, "config": self.detection}, needs=(view.video,))
            for name, view in own.items()
        ]
        found = run_tasks(tasks, place, stage="detect", total=len(tasks), unit="videos", on_progress=on_progress)
        return [error for _, error in found if isinstance(error, TwoViewError)]

    def _parts(self) -> tuple[Iterable[Recording], Iterable[Recording]]:
        experiment = EXPERIMENTS[self.dataset]
        return experiment.train(self.path, self.views), experiment.test(self.path, self.views)

    def _views(self, recording: Recording) -> list[View]:
        """The videos of a recording, whose detections are kept in `out`."""
        assert self.detection is not None
        if not recording.videos:
            raise DetectorError(f"{recording.name} has no videos to detect in", hint=f"--detector {TRUTH}")
        detector = self.detection.detector.replace(":", "_").replace("/", "_")
        folder, config = self.out / "detections" / detector, self.detection
        return [
            View.of("", name, video, folder / f"{recording.name}_{name}.npz", fingerprint=mark, config=config)
            for name, video in recording.videos.items()
            if (mark := records.fingerprint(video))
        ]

    def _detected(self, recordings: Iterable[Recording]) -> Iterator[Recording]:
        """The recordings, with 2D detected in their videos where the set has none."""
        config = self.detection
        if config is None:
            yield from recordings
            return
        for recording in recordings:
            found = (detect_alone(view, config=config) for view in self._views(recording))
            yield recording.with_detections({one.view: one.poses for one in found})


def _detect(view: View, config: DetectConfig, on_progress: OnProgress | None = None) -> None:
    detect_alone(view, config=config, on_progress=on_progress)


@lru_cache(maxsize=1)
def _kept(data: _Data) -> tuple[list[Recording], list[Recording]]:
    """The takes, for one row after the other."""
    return data.read()


def _row(
    data: _Data, row: str, config: Settings, trust: tuple[str, ...], on_progress: OnProgress | None = None
) -> Report:
    """Train one row, and measure it."""
    train, test = _kept(data)
    preset, own = ROWS[row], config.finetune
    own = replace(own, rate_hz=own.rate_hz or EXPERIMENTS[data.dataset].rate_hz)
    model = load_model(own.weights, trust=trust).adjusted(
        framing=own.framing, rate_hz=own.rate_hz, clip_length=own.clip_length
    )
    if preset:
        labeled = EXPERIMENTS[data.dataset].labeled
        takes = [as_take(r, labels=row in NEED_LABELS and labeled(r)) for r in train]
        takes = [take for take in takes if take.truth or row != "L_3D"]
        triangulation = config.triangulate if own.method == "phones" else None
        run = finetune(
            takes, own, out=data.out / "runs" / preset, triangulation=triangulation, trust=trust,
            on_progress=on_progress,
        )  # fmt: skip
        model = load_model(run.model, trust=trust)
    return measure(model, test)


def as_take(recording: Recording, *, labels: bool) -> Take:
    """A recording as a take for `finetune`, with its 3D labels or without."""
    if not labels:
        return Take(recording.name, recording.poses, recording.sync)
    focal = {view: camera.mean_focal for view, camera in recording.cameras.items()}
    return Take(recording.name, recording.poses, recording.sync, recording.truth, focal or None)


def measure(model: Model, recordings: Iterable[Recording]) -> Report:
    """Errors of a lifter on every view of the recordings."""
    return summarize([compare(model, r, view) for r in recordings for view in r.views])


def compare(model: Model, recording: Recording, view: str) -> Matched:
    """A lifter's answer on one view matched with the recording's truth, both root-relative and in meters."""
    poses, focal = recording.poses[view], recording.cameras[view].mean_focal
    config = InferConfig(focal=focal)
    if recording.truth_mm:
        truth = recording.truth_mm[view] / 1000
        meters = pixel_poses(model, poses, config) * recording.mm_per_px[view][:, None, None] / 1000
    else:
        truth = recording.truth[view].xyz
        meters = lift(model, poses, config).xyz * truth[:, :1, 2:] * poses.size[0] / (2 * focal)
    ours, theirs = (
        Poses3D(values - values[:, :1], poses.time, H36M17, "root", "m", view) for values in (meters, truth)
    )
    return match(ours, theirs, activity=recording.activity or recording.subject)


def _named(name: str, table: Mapping[str, T], what: str) -> T:
    if name not in table:
        raise ConfigError(f"no {what} {name!r}; there are {', '.join(table)}")
    return table[name]
