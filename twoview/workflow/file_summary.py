"""show: what a folder of a session holds, and files that other programs read."""

from __future__ import annotations

import csv
import json
import math
import re
import struct
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twoview.errors import FormatError
from twoview.media.video_files import videos_in
from twoview.storage import records
from twoview.storage.regular import regular_file

Row = dict[str, Any]
_MOST_KEPT = 60  # characters of a value
_SKIPPED = {"format", "version", "made_by", "inputs", "settings"}
STATES = ("run state", "pretraining state")


def describe_run(folder: Path) -> Row:
    """How far a run is, what its criterion was and is, and how it was set up."""
    from twoview.training.runs import rows

    settings = records.read_json(folder / "config.json")
    chosen = settings.get("finetune") or settings.get("pretrain") or {}
    log = rows(folder) if (folder / "log.jsonl").exists() else []
    row: Row = {"run": folder.name, "made by": str(settings.get("made_by", ""))}
    row |= {name: chosen[name] for name in ("method", "weights", "lr", "seed") if name in chosen}
    row["epochs"] = f"{len(log)} of {chosen['epochs']}" if "epochs" in chosen else len(log)
    if log and "criterion" in log[-1]:
        best = min(log, key=lambda one: one["criterion"] if math.isfinite(one["criterion"]) else math.inf)
        row["best criterion"] = f"{best['criterion']:.4g}, epoch {best['epoch']:.0f}"
    if (folder / "result.json").exists():
        row |= plain_values(records.read_json(folder / "result.json"))
    return {**row, "model": "model.pt" if (folder / "model.pt").exists() else "not finished"}


def describe_state(path: Path) -> Row:
    """How far the training is that a state file was saved by."""
    from twoview.storage import torch_files

    content = torch_files.read(path)
    row: Row = {"format": str(content.get("format"))}
    row |= {name: content[name] for name in ("epoch", "step", "finished") if name in content}
    return {**row, "settings": ", ".join(f"{k}={v}" for k, v in content.get("settings", {}).items() if _is_plain(v))}


def is_state(path: Path) -> bool:
    """Whether a file of PyTorch is what a training continues from, and no model."""
    from twoview.storage import torch_files

    with suppress(FormatError):
        return torch_files.read(path).get("format") in STATES
    return False


def plain_values(content: records.Header, prefix: str = "") -> Row:
    """The plain values of a JSON file of ours, those of groups under both names."""
    row: Row = {}
    for name, value in content.items():
        if not prefix and name in _SKIPPED:
            continue
        if isinstance(value, dict):
            row |= plain_values(value, f"{prefix}{name}.")
        elif _is_plain(value):
            row[f"{prefix}{name}".replace("_", " ")] = value
        elif isinstance(value, list):
            row[f"{prefix}{name}".replace("_", " ")] = _shortened(", ".join(map(str, value)))
    return row


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_KEPT else text[: _MOST_KEPT - 3] + "..."


def describe_videos(folder: Path) -> list[Row]:
    """One row per video of a folder. Raises FormatError where there is none, and nothing of ours."""
    from twoview.errors import VideoError
    from twoview.media.video import probe

    found = list[Row]()
    for path in videos_in(folder):
        try:
            info = probe(path)
        except VideoError as error:
            found.append(
                {"video": path.name, "picture": "", "frames per second": "", "seconds": "", "sound": str(error)}
            )
            continue
        size, sound = f"{info.size[0]} x {info.size[1]} px", "yes" if info.has_audio else "none"
        row = {"video": path.name, "picture": size, "frames per second": f"{float(info.rate):.4g}"}
        found.append({**row, "seconds": f"{info.duration_s:.2f}", "sound": sound})
    if not found:
        raise FormatError(
            f"{folder} holds nothing of twoview, and no video", hint="a session, take or run folder, or one with videos"
        )
    return found


# --- files of other programs ---------------------------------------------------------------------------------------


def describe_foreign(path: Path) -> Row:
    """What a file in a format of other programs holds. Raises FormatError where it is damaged."""
    regular_file(path)
    try:
        return READERS[path.suffix.lower()](path)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, csv.Error) as error:
        raise FormatError(
            f"{path} is no {path.suffix.lstrip('.')} file, or damaged: {error}", hint="its command makes it again"
        ) from error


def _lines(path: Path, most: int = 40) -> list[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line, _ in zip(file, range(most), strict=False)]


def _csv(path: Path) -> Row:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.reader(file)
        columns, count, first, last = next(rows, []), 0, None, None
        for row in rows:
            first, last, count = first or row, row, count + 1
    shown: Row = {"rows": count, "columns": len(columns), "names": _shortened(", ".join(columns))}
    time = next((index for index, name in enumerate(columns) if name in ("time_s", "time")), None)
    if time is not None and first and last:
        shown["seconds"] = f"{float(first[time]):.3f} to {float(last[time]):.3f}"
    return shown


def _trc(path: Path) -> Row:
    lines = _lines(path, 4)
    if not lines[0].startswith("PathFileType"):
        raise ValueError("its first line names no TRC file")
    known = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=False))
    markers = [name for name in lines[3].split("\t")[2:] if name]
    return {"frames": known["NumFrames"], "frames per second": known["DataRate"], "unit": known["Units"],
            "markers": len(markers), "names": _shortened(", ".join(markers))}  # fmt: skip


def _mot(path: Path) -> Row:
    lines = _lines(path)
    known = dict(line.split("=", 1) for line in lines if "=" in line)
    columns = lines[lines.index("endheader") + 1].split("\t")
    return {"rows": known["nRows"], "columns": known["nColumns"], "degrees": known.get("inDegrees", ""),
            "names": _shortened(", ".join(columns))}  # fmt: skip


def _c3d(path: Path) -> Row:
    with path.open("rb") as file:
        _, key, points, _, first, last, _, _, _, _, rate = struct.unpack("<BBHHHHHfHHf", file.read(24))
    if key != 0x50:
        raise ValueError("it has not the mark of a C3D file")
    return {"points": points, "frames": f"{first} to {last} by its header", "frames per second": rate}


def _bvh(path: Path) -> Row:
    text = path.read_text(encoding="utf-8", errors="replace").partition("MOTION")
    frames, step = re.search(r"Frames:\s*(\d+)", text[2]), re.search(r"Frame Time:\s*(\S+)", text[2])
    if not frames or not step:
        raise ValueError("it has no MOTION")
    return {"joints": len(re.findall(r"\b(?:JOINT|ROOT)\b", text[0])), "frames": int(frames[1]),
            "frames per second": round(1 / float(step[1]), 3)}  # fmt: skip


def _netcdf(path: Path) -> Row:
    from scipy.io import netcdf_file

    with netcdf_file(path, "r", mmap=False) as file:
        return {"sizes": ", ".join(f"{name} {size}" for name, size in file.dimensions.items()),
                "variables": ", ".join(file.variables)}  # fmt: skip


def _png(path: Path) -> Row:
    with path.open("rb") as file:
        start = file.read(24)
    if start[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("it has not the mark of a PNG file")
    width, height = struct.unpack(">II", start[16:24])
    return {"picture": f"{width} x {height} px"}


def _html(path: Path) -> Row:
    title = re.search(r"<title>(.*?)</title>", "\n".join(_lines(path)), re.DOTALL)
    return {"page": title[1].strip() if title else "without a title", "open": "in a browser"}


def _toml(path: Path) -> Row:
    return {name: _shortened(json.dumps(value, default=str)) for name, value in tomllib.loads(path.read_text()).items()}


def _jsonl(path: Path) -> Row:
    rows = [records.parse_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {"rows": len(rows), **{f"last {name}": value for name, value in (rows[-1] if rows else {}).items()}}


def _onnx(path: Path) -> Row:
    from twoview.machine import onnx_runtime

    try:
        network = onnx_runtime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever the runtime raises for a file that is no network
        raise ValueError(str(error).splitlines()[0]) from error
    ports = {one.name: f"{one.type} {one.shape}" for one in (*network.get_inputs(), *network.get_outputs())}
    return {**ports, **{k: _shortened(v) for k, v in network.get_modelmeta().custom_metadata_map.items()}}


READERS: dict[str, Callable[[Path], Row]] = {
    ".csv": _csv, ".trc": _trc, ".mot": _mot, ".c3d": _c3d, ".bvh": _bvh, ".nc": _netcdf, ".png": _png,
    ".html": _html, ".toml": _toml, ".jsonl": _jsonl, ".onnx": _onnx,
}  # fmt: skip


def folder_kind(folder: Path) -> str:
    """session, take, run or triangulated: what a folder of ours is; "" for any other."""
    signs = {
        "take": ("take.json",), "run": ("config.json", "log.jsonl"), "triangulated": ("solved",),
        "session": ("takes", "model.pt", "runs", "session.json", "results"),
    }  # fmt: skip
    return next((kind for kind, names in signs.items() if any((folder / name).exists() for name in names)), "")
