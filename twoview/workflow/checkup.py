"""doctor: whether this machine has what twoview needs, and what to do where it has not."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np

from twoview import __version__
from twoview.errors import TwoViewError
from twoview.machine import ONNX_PROVIDERS, cores, onnx_runtime
from twoview.progress import OnProgress, Progress, report
from twoview.storage import weights

CLIP = Path(str(files("twoview") / "assets" / "demo" / "golf" / "test1" / "view_a.mp4"))
CLIP_S = 1.0  # seconds of it that the self-test takes
SMALL_BYTES = 2 << 30  # free bytes below which a long video may not find room
PYTHON = (3, 11)
# Package -> the module of it that is imported, where that has another name.
MODULES = {"opencv-python": "twoview.media.opencv", "lightning-fabric": "lightning_fabric"}
# Package that is installed only where it is wanted -> what for.
OPTIONAL = {
    "onnx": "export to .onnx", "onnxscript": "export to .onnx", "tensorboard": "curves of a run",
    "mmpose": "MMPose's models",
}  # fmt: skip
DECODERS = {"h264": "videos of most phones", "hevc": "videos of newer phones", "aac": "sound of most phones"}
ENCODERS = {"libx264": "videos that are drawn", "aac": "their sound"}
State = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    state   ok; note: worth knowing, nothing needed is missing; broken: something needed does not work
    remedy  what to do, often a command to type
    """

    part: str
    name: str
    value: str
    state: State = "ok"
    remedy: str = ""


def doctor(*, try_out: bool = True, folder: Path | str = ".", on_progress: OnProgress | None = None) -> list[Check]:
    """Look at versions, codecs, devices, caches and disks, and try a second of video through every part.

    try_out  without it nothing is computed
    folder   where results would be written
    """
    found = [*_versions(), *_codecs(), *_devices(), *_storage(Path(folder))]
    return [*found, *(_trials(on_progress) if try_out else ())]


def _versions() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info[:2] < PYTHON
    yield Check("versions", "twoview", __version__)
    yield Check(
        "versions", "python", f"{version}, {platform.system()} {platform.machine()}", "broken" if old else "ok",
        f"install Python {'.'.join(map(str, PYTHON))} or later" if old else "",
    )  # fmt: skip
    for package, least in _required():
        yield _package(package, least)
    for package, purpose in OPTIONAL.items():
        installed = _version(package)
        missing = f"not installed; needed for {purpose}"
        yield Check("versions", package, installed or missing, "ok" if installed else "note")


def _required() -> Iterator[tuple[str, str]]:
    """(package, least version) of everything that twoview's own metadata asks for on any machine."""
    try:
        lines = importlib.metadata.requires("twoview") or []
    except importlib.metadata.PackageNotFoundError:  # run from its folder, without installation
        lines = []
    for line in lines:
        if ";" not in line and (found := re.match(r"([A-Za-z0-9._-]+)\s*(?:.*?>=\s*([0-9.]+))?", line)):
            yield found[1].lower(), found[2] or ""


def _version(package: str) -> str:
    """The version of an installed package; "" where it is not installed."""
    names = (package, f"{package}-headless") if package == "opencv-python" else (package, f"{package}-gpu")
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def _package(package: str, least: str) -> Check:
    """Whether a package is installed, new enough, and can be loaded."""
    version, remedy = _version(package), f'pip install "{package}>={least}"' if least else f"pip install {package}"
    if not version:
        return Check("versions", package, "not installed", "broken", remedy)
    if least and _numbers(version) < _numbers(least):
        return Check("versions", package, f"{version}, older than {least}", "broken", remedy)
    try:
        onnx_runtime() if package == "onnxruntime" else importlib.import_module(MODULES.get(package, package))
    except TwoViewError as error:
        return Check("versions", package, f"{version}, {error.message}", "broken", error.hint)
    except Exception as error:  # whatever another package does when it is loaded
        line = (str(error).splitlines() or [type(error).__name__])[0]
        return Check(
            "versions", package, f"{version} cannot be loaded: {line}", "broken", f"{remedy} --force-reinstall"
        )
    return Check("versions", package, version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version.partition("+")[0])[:3])


def _codecs() -> Iterator[Check]:
    try:
        from av.codec import Codec, codecs_available
    except ImportError:
        return  # which stands under the versions
    modes: tuple[tuple[Literal["r", "w"], dict[str, str]], ...] = (("r", DECODERS), ("w", ENCODERS))
    for mode, wanted in modes:
        for name, purpose in wanted.items():
            try:
                there = name in codecs_available and bool(Codec(name, mode))
            except ValueError:
                there = False
            what = f"{'read' if mode == 'r' else 'write'} {name}"
            again = "" if there else "pip install --force-reinstall --only-binary av av"
            yield Check("codecs", what, purpose if there else "missing", "ok" if there else "broken", again)


def _devices() -> Iterator[Check]:
    yield Check("devices", "processor", f"{cores()} cores for this process")
    try:
        import torch

        kinds = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
        yield Check("devices", "torch", ", ".join(["cpu", *kinds]))
    except Exception:
        yield Check("devices", "torch", "none", "broken", "pip install torch")
    try:
        providers = onnx_runtime().get_available_providers()
    except Exception:
        yield Check("devices", "onnxruntime", "none", "broken", "pip install onnxruntime")
        return
    known = [device for device, provider in ONNX_PROVIDERS.items() if provider in providers]
    there = "cpu" in known
    yield Check("devices", "onnxruntime", ", ".join(known), "ok" if there else "broken",
                "" if there else "pip install --force-reinstall onnxruntime")  # fmt: skip


def _storage(folder: Path) -> Iterator[Check]:
    cache = weights.cache_folder()
    kept = [path for path in cache.rglob("*") if path.is_file()] if cache.is_dir() else []
    size = sum(path.stat().st_size for path in kept)
    writable = _is_writable(cache)
    yield Check(
        "storage", "cache", f"{cache}: {len(kept)} files, {size / 1e6:.0f} MB" + ("" if writable else ", read-only"),
        "ok" if writable else "note", "" if writable else "set TWOVIEW_CACHE to a folder that can be written",
    )  # fmt: skip
    for name, row in weights.WEIGHTS.items():
        if row.shipped and row.sha256:
            path = weights.ASSETS / row.shipped
            whole = path.is_file() and weights.sha256(path) == row.sha256
            again = "" if whole else "pip install --force-reinstall twoview"
            yield Check("storage", name, "ships" if whole else "damaged", "ok" if whole else "broken", again)
    for what, place in {"free disk here": folder, "free disk of the cache": cache}.items():
        free = shutil.disk_usage(_existing(place)).free
        short = free < SMALL_BYTES
        yield Check(
            "storage", what, f"{free / 1e9:.1f} GB", "note" if short else "ok", "free some space" if short else ""
        )
    if not _is_writable(folder):
        yield Check(
            "storage", "results here", f"{folder.resolve()} cannot be written", "note", "--session FOLDER elsewhere"
        )


def _existing(path: Path) -> Path:
    """The nearest folder above that exists."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


def _is_writable(folder: Path) -> bool:
    return os.access(_existing(folder), os.W_OK)


def _trials(on_progress: OnProgress | None) -> Iterator[Check]:
    """A second of an included video through every part; what stands on a broken part is not tried."""
    made: dict[str, Any] = {}
    trials: list[tuple[str, Callable[[dict[str, Any]], str], tuple[str, ...]]] = [
        ("read a video", _try_video, ()), ("read its sound", _try_sound, ()), ("write a video", _try_writing, ("rgb",)),
        ("detector movenet", _try_detector, ("rgb",)), ("lifter twoview-small", _try_lifter, ("poses",)),
    ]  # fmt: skip
    for done, (name, trial, needs) in enumerate(trials):
        report(on_progress, Progress("try a second of video", done, len(trials), "parts"))
        if any(need not in made for need in needs):
            continue
        began = time.perf_counter()
        try:
            said = trial(made)
        except TwoViewError as error:
            yield Check("trial", name, error.message, "broken", error.hint)
        except Exception as error:  # whatever another package does
            yield Check("trial", name, f"{type(error).__name__}: {error}", "broken", "see the versions above")
        else:
            yield Check("trial", name, f"{said}, {time.perf_counter() - began:.2f} s")
    report(on_progress, Progress("try a second of video", len(trials), len(trials), "parts"))


def _try_video(made: dict[str, Any]) -> str:
    from twoview.media.video import frames

    shown = list(frames(CLIP, end=CLIP_S))
    made["time"], made["rgb"] = np.array([one.time for one in shown]), [one.rgb for one in shown]
    return f"{len(shown)} frames"


def _try_sound(_: dict[str, Any]) -> str:
    from twoview.synchronization.audio import find_claps, read_sound

    return f"{len(find_claps(read_sound(CLIP)))} sharp sounds"


def _try_writing(made: dict[str, Any]) -> str:
    from twoview.media.video import probe
    from twoview.media.writer import VideoWriter

    height, width = made["rgb"][0].shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with VideoWriter(path, (width, height), 30) as writer:
            for rgb in made["rgb"][:10]:
                writer.write(rgb)
        return f"{path.stat().st_size / 1000:.0f} kB, {probe(path).codec}"


def _try_detector(made: dict[str, Any]) -> str:
    from twoview.detectors import build
    from twoview.errors import DetectorError
    from twoview.poses import Poses2D

    detector = build("movenet", device="cpu")
    every = max(len(made["rgb"]) // 3, 1)
    found = [detector(rgb) for rgb in made["rgb"][::every]]
    people = [max(one, key=lambda person: float(person.score.mean())) for one in found if one]
    if len(people) < len(found):
        raise DetectorError(f"a person is seen in {len(people)} of {len(found)} pictures", hint="please report it")
    height, width = made["rgb"][0].shape[:2]
    xy, score = np.stack([person.xy for person in people]), np.stack([person.score for person in people])
    score = np.where(np.isfinite(xy).all(axis=-1), np.clip(score, 0.01, 1.0), 0.0)
    made["poses"] = Poses2D(xy, score, made["time"][::every], detector.skeleton, (width, height))
    return f"a person in {len(found)} pictures"


def _try_lifter(made: dict[str, Any]) -> str:
    from twoview.config import InferConfig
    from twoview.lifting.inference import infer
    from twoview.lifting.model import load_model

    lifted = infer(made["poses"], load_model("twoview-small"), config=InferConfig(max_gap_s=CLIP_S))
    return f"{int(np.isfinite(lifted.xyz).all(axis=(1, 2)).sum())} frames in 3D"
