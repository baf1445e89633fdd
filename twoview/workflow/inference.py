"""One clip from one view, file to files: detect, lift, save, draw. Nothing here knows about a second view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twoview.config import DetectConfig, InferConfig, shaping
from twoview.errors import FormatError
from twoview.poses import Poses2D, Poses3D
from twoview.progress import OnProgress
from twoview.storage import records
from twoview.storage.session import Session

if TYPE_CHECKING:
    from twoview.lifting.model import Model


@dataclass(frozen=True)
class Inferred:
    """What `infer_clip` made: the poses (and another model's, if asked for), and the files that hold and show them."""

    poses: Poses3D
    before: Poses3D | None
    detections: Poses2D
    files: Mapping[str, Path]
    fresh: bool


def infer_clip(
    clip: Path,
    model: Path | str,
    out: Path,
    *,
    config: InferConfig | None = None,
    detect_config: DetectConfig | None = None,
    formats: Sequence[str] = (),
    picture: bool = True,
    compare: Path | str | None = None,
    on_progress: OnProgress | None = None,
) -> Inferred:
    """3D from one view: a video (detected first) or saved Poses2D; writes poses, the formats asked for, pictures.

    out      path without suffix (.npz is taken off); files are `<out>.npz`, `<out>.<format>`, `<out>.mp4`, `<out>.png`
    compare  another model, drawn beside; its poses are in `<out>.before.npz`
    """
    config, detect_config = config or InferConfig(), detect_config or DetectConfig()
    out = out.with_suffix("") if out.suffix == ".npz" else out
    if out.with_name(out.name + ".npz").resolve() == clip.resolve():
        raise FormatError(f"the results would be written over {clip}", hint=f"another name: --out {out.name}_3d")
    loaded = _loaded(model, config), None if compare is None else _loaded(compare, config)
    poses2d, fingerprint, made = _detections_of(clip, out, detect_config, on_progress)
    path, other = out.with_name(out.name + ".npz"), out.with_name(out.name + ".before.npz")
    before = None
    poses, fresh = _lifted(poses2d, fingerprint, model, loaded[0], path, config, made, on_progress)
    if compare is not None and loaded[1] is not None:
        before, drawn = _lifted(poses2d, fingerprint, compare, loaded[1], other, config, made, on_progress)
        fresh = fresh or drawn
    elif other.exists():  # the pictures show a comparison that nobody asks for any more
        other.unlink()
        fresh = True
    files = {"poses": path}
    for format in formats:
        from twoview.formats import write

        files[format] = out.with_name(f"{out.name}.{format}")
        write(poses, files[format], format)
    if picture and clip.suffix != ".npz":
        files |= _draw(clip, poses2d, poses, before, out, fresh, on_progress)
    return Inferred(poses, before, poses2d, files, fresh)


def _loaded(model: Path | str, config: InferConfig) -> Model:
    from twoview.lifting.model import load_model

    return load_model(model, device=config.device)


def _lifted(
    poses2d: Poses2D, fingerprint: str, name: Path | str, model: Model, path: Path, config: InferConfig, made: bool,
    on_progress: OnProgress | None,
) -> tuple[Poses3D, bool]:  # fmt: skip
    """What a model makes of the poses, and whether it was made now; kept in the file `path`."""
    from twoview.lifting.inference import infer

    key = name if isinstance(name, str) and not Path(name).exists() else records.fingerprint(name)
    head = records.header("poses3d", inputs={"clip": fingerprint, "model": key}, settings=shaping(config))
    if not made and records.is_current(path, head):
        return records.load_as(path, Poses3D), False
    poses = infer(poses2d, model, config=config, on_progress=on_progress)
    records.save(path, poses, inputs=head["inputs"], settings=head["settings"])
    return poses, True


def _detections_of(
    clip: Path, out: Path, config: DetectConfig, on_progress: OnProgress | None
) -> tuple[Poses2D, str, bool]:
    """Poses2D of a clip, its fingerprint, and whether detection ran now."""
    from twoview.detection.pipeline import detect

    if clip.suffix == ".npz":
        return records.load_as(clip, Poses2D), records.fingerprint(clip), False
    path = out.with_name(out.name + ".2d.npz")
    fingerprint = records.fingerprint(clip)
    head = records.header("poses2d", inputs={"video": fingerprint}, settings=shaping(config))
    if records.is_current(path, head):
        return records.load_as(path, Poses2D), fingerprint, False
    everyone = path.with_suffix(".people.npz")
    poses = detect(clip, config=config, view=clip.stem, partial=everyone, on_progress=on_progress)
    records.save(path, poses, inputs=head["inputs"], settings=head["settings"])
    return poses, fingerprint, True


def _draw(
    clip: Path, poses2d: Poses2D, poses: Poses3D, before: Poses3D | None, out: Path, fresh: bool,
    on_progress: OnProgress | None,
) -> dict[str, Path]:  # fmt: skip
    from twoview.visualization.overlay import contact_sheet, render

    video, sheet = out.with_name(out.name + ".mp4"), out.with_name(out.name + ".png")
    if fresh or not video.exists():
        render(clip, poses2d, poses, video, before=before, on_progress=on_progress)
    if fresh or not sheet.exists():
        contact_sheet(clip, poses2d, poses, sheet, before=before)
    return {"overlay": video, "contact sheet": sheet}


def result_path(session_folder: Path | str, clip: Path) -> Path:
    """Where the results of a clip go (no suffix): its stem, with the folder's name before it if that is taken."""
    results = Session(Path(session_folder)).results
    plain = results / clip.stem
    existing = plain.with_name(plain.name + ".2d.npz")
    if clip.suffix != ".npz" and existing.exists():
        try:
            taken = records.read_header(existing)["inputs"] != {"video": records.fingerprint(clip)}
        except FormatError:
            taken = False
        if taken:
            return results / f"{clip.resolve().parent.name}_{clip.stem}"
    return plain
