"""Several videos, each from one view: models are loaded once, and a file that fails keeps none of the others back."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from twoview.config import DetectConfig, FilterConfig, InferConfig
from twoview.errors import (
    ConfigError,
    DetectorError,
    FormatError,
    LifterError,
    SessionError,
    SyncError,
    TwoViewError,
    VideoError,
    WorkerError,
)
from twoview.formats import check
from twoview.media.video_files import video_files, videos_in
from twoview.progress import OnProgress
from twoview.storage import records
from twoview.storage.regular import regular_file
from twoview.storage.session import Session, open_session
from twoview.workers.places import Workers, open_place
from twoview.workers.tasks import Place, Task, run_locked
from twoview.workflow import remembered
from twoview.workflow.inference import (
    Inferred,
    Load,
    ToInfer,
    Written,
    infer_away,
    loader,
    to_infer,
)  # fmt: skip
from twoview.workflow.result_names import result_in, result_of

OF_ONE_FILE = (VideoError, DetectorError, FormatError, LifterError, SessionError, SyncError, WorkerError)


def infer_files(
    named: Sequence[Path | str],
    model: Path | str,
    *,
    session: Path | str,
    out: Path | None = None,
    config: InferConfig | None = None,
    detect_config: DetectConfig | None = None,
    formats: Sequence[str] = (),
    filter: FilterConfig | None = None,
    trust: Collection[str] = (),
    workers: Workers | None = None,
    on_progress: OnProgress | None = None,
    **more: Any,
) -> Iterator[tuple[Path, Inferred | TwoViewError]]:
    """(file, result or what is wrong with the file) of every video or file of 2D poses, as they are done.

    named   files, folders and patterns, see `media.video_files`; a folder's videos are all but those drawn here
    out     folder of the results; default: that of the session. Files of one name get the names of their folders before
    workers  who infers them, a task for each file; default: this process
    more    what else `infer_file` takes: picture, compare, athlete

    Raises at once what is wrong with all files: the model, a format, settings, the disk.
    """
    config, detect_config = config or InferConfig(), detect_config or DetectConfig()
    if formats:
        check(formats, unit=remembered.unit(session, config))
    store = open_session(session, create=True)  # once for all of them
    files = video_files(named, leave_out=_drawn(named))
    if detect_config.person is not None and len(files) > 1:
        raise ConfigError(
            f"person {detect_config.person} is a number of one video, and {len(files)} are named",
            hint="infer that video alone, or take the likeliest person in all: --person auto",
        )
    load, broken = loader(config, trust), list[TwoViewError]()

    def checked(wanted: Path | str) -> Any:
        try:
            return load(wanted)
        except TwoViewError as error:
            broken.append(error)
            raise

    def wanted(file: Path) -> AbstractContextManager[ToInfer]:
        return _named(
            file, model, out, session=store, config=config, detect_config=detect_config, formats=formats,
            filter=filter, trust=trust, **more,
        )  # fmt: skip

    with open_place(workers, folder=session if os.path.isdir(session) else ".") as place:
        if place is not None:
            load(model)  # its error is one, not one for every file
        every = {str(file): wanted(file) for file in files}
        for name, result in infer_many(every, place, load=checked, on_progress=on_progress):
            if isinstance(result, TwoViewError) and (result in broken or not isinstance(result, OF_ONE_FILE)):
                raise result
            yield Path(name), result


@contextmanager
def _named(file: Path, model: Path | str, out: Path | None, *, session: Session, **more: Any) -> Iterator[ToInfer]:
    """What is to be inferred of a file, under the name of its results; see `to_infer`."""
    regular_file(file, VideoError)
    with (
        result_of(session, file) if out is None else result_in(out, file) as where,
        to_infer(file, model, where, session=session, **more) as one,
    ):
        yield one


def infer_many(
    every: Mapping[str, AbstractContextManager[ToInfer]],
    place: Place | None,
    *,
    load: Load | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[str, Inferred | TwoViewError]]:
    """(label, result or what is wrong) of what is to be inferred, each locked while its task runs.

    place  where a task for each runs; None: here, with models by `load`
    """
    ones: dict[str, ToInfer] = {}

    @contextmanager
    def task(label: str, wanted: AbstractContextManager[ToInfer]) -> Iterator[Task]:
        with wanted as one:
            ones[label] = one
            needs = (one.source, *(path for path in (one.session, one.given) if path is not None))
            away = place is not None
            yield Task(label, infer_away if away else one.infer, {"wanted": one} if away else {"load": load}, needs)

    tasks = {label: task(label, wanted) for label, wanted in every.items()}
    for label, made in run_locked(tasks, place, stage="infer", unit="videos", on_progress=on_progress):
        result: Inferred | TwoViewError = ones[label].read(made) if isinstance(made, Written) else made
        if isinstance(result, Inferred):
            ones.pop(label).remember()
        yield label, result


def _drawn(named: Sequence[Path | str]) -> Iterator[Path]:
    """Videos in these folders that were drawn here beside results, which nobody means by the folder."""
    for folder in (Path(name) for name in named if os.path.isdir(name)):
        for video in videos_in(folder):
            record = video.with_suffix(".result.json")
            with suppress(FormatError, TypeError):
                if record.exists() and video.suffix in records.read_json(record).get("made", {}):
                    yield video
