"""Several videos, each from one view: models are loaded once, and a file that fails keeps none of the others back."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
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
)
from twoview.formats import check
from twoview.media.video_files import video_files, videos_in
from twoview.progress import OnProgress
from twoview.storage import records
from twoview.storage.regular import regular_file
from twoview.storage.session import Session
from twoview.workflow import remembered
from twoview.workflow.inference import Inferred, infer_file, loader, result_in, result_of

OF_ONE_FILE = (VideoError, DetectorError, FormatError, LifterError, SessionError, SyncError)


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
    on_progress: OnProgress | None = None,
    **more: Any,
) -> Iterator[tuple[Path, Inferred | TwoViewError]]:
    """(file, result or what is wrong with the file) of every video or file of 2D poses, as they are done.

    named   files, folders and patterns, see `media.video_files`; a folder's videos are all but those drawn here
    out     folder of the results; default: that of the session. Files of one name get the names of their folders before
    more    what else `infer_file` takes: picture, compare

    Raises at once what is wrong with all files: the model, a format, settings, the disk.
    """
    config, detect_config = config or InferConfig(), detect_config or DetectConfig()
    check(formats, unit="m" if remembered.with_height(Path(session), config).height_m else "screen")
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

    for file in files:
        try:
            regular_file(file, VideoError)
            with result_of(Session(Path(session)), file) if out is None else result_in(out, file) as where:
                result = infer_file(
                    file, model, where, session=session, config=config, detect_config=detect_config, formats=formats,
                    filter=filter, load=checked, trust=trust, on_progress=on_progress, **more,
                )  # fmt: skip
        except OF_ONE_FILE as error:
            if error in broken:
                raise
            yield file, error
        else:
            yield file, result


def _drawn(named: Sequence[Path | str]) -> Iterator[Path]:
    """Videos in these folders that were drawn here beside results, which nobody means by the folder."""
    for folder in (Path(name) for name in named if os.path.isdir(name)):
        for video in videos_in(folder):
            record = video.with_suffix(".result.json")
            with suppress(FormatError, TypeError):
                if record.exists() and video.suffix in records.read_json(record).get("made", {}):
                    yield video
