"""Named weights: files that ship, files in the cache, files to download once; hashes are checked at every use."""

from __future__ import annotations

import hashlib
import os
import shutil
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from twoview.errors import FormatError, StorageError, TwoViewError
from twoview.progress import OnProgress, Progress, report
from twoview.storage import records

ASSETS = Path(__file__).parents[1] / "assets"
_CHUNK = 1 << 18


class WeightsError(TwoViewError):
    """Weights that are not here and cannot be downloaded, or a file that is not the one of its name."""


@dataclass(frozen=True)
class Weights:
    """One row of `assets/weights.toml`.

    shipped  path below the package's assets, "" if it does not ship
    url      where to download it; "" if there is no link to a file
    page     web page of it
    member   the file inside, where the download is a zip
    sha256   of the file used; "" where unknown: it is pinned on first use
    mb       size of the download in megabytes
    instead  option that selects what ships instead
    """

    what: str
    licence: str
    mb: float
    shipped: str = ""
    url: str = ""
    page: str = ""
    member: str = ""
    sha256: str = ""
    instead: str = ""

    @property
    def file_name(self) -> str:
        """Name of the file that `url` gives."""
        return self.url.rsplit("/", 1)[-1] or Path(self.shipped).name


WEIGHTS: dict[str, Weights] = {
    name: Weights(**row) for name, row in tomllib.loads((ASSETS / "weights.toml").read_text(encoding="utf-8")).items()
}


def cache_folder() -> Path:
    """Where downloads are kept: TWOVIEW_CACHE, or `twoview` in the user's cache folder."""
    if own := os.environ.get("TWOVIEW_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twoview"


def locate(name: str, *, on_progress: OnProgress | None = None) -> Path:
    """The file of named weights: shipped, in the cache, or downloaded into it now.

    Raises WeightsError for an unknown name, where the download fails, and where the file's hash is not the known one.
    """
    row = _row(name)
    if row.shipped:
        return ASSETS / row.shipped
    path = cached_path(name)
    if not path.exists():
        if not row.url:
            raise WeightsError(f"{name} has no direct download", hint=_by_hand(name))
        download(name, on_progress=on_progress)
    _check_pin(name, path)
    return path


def cached_path(name: str) -> Path:
    """Where the cache keeps the file of these weights, whether or not the file exists."""
    row = _row(name)
    suffix = Path(row.member or row.file_name).suffix or ".pth"
    return cache_folder() / f"{name}{suffix}"


def download(name: str, *, on_progress: OnProgress | None = None) -> Path:
    """Download named weights into the cache; an interrupted download continues where it stopped."""
    from urllib.error import URLError  # with it come HTTP, mail and encryption, which nothing else here needs

    row = _row(name)
    part = cache_folder() / f"{row.file_name}.part"
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        _fetch(row.url, part, f"download {name}", on_progress)
    except (URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise WeightsError(
            f"{name} ({row.mb:g} MB) is not on this machine, and {row.url} cannot be reached: {reason}",
            hint=_by_hand(name) + (f"\n      or use what ships: {row.instead}" if row.instead else ""),
        ) from error
    except OSError as error:
        raise StorageError(
            f"cannot write {part}: {error.strerror}", hint="free some space, or set TWOVIEW_CACHE"
        ) from error
    try:
        return add(name, part)
    finally:
        part.unlink(missing_ok=True)  # complete by now, or the wrong file where it was refused


def add(name: str, file: Path | str) -> Path:
    """Copy a file that was downloaded by hand, zip or not, into the cache under its name."""
    row, file = _row(name), Path(file)
    if row.shipped:
        raise WeightsError(f"{name} ships with twoview; there is nothing to add", hint="twoview weights list")
    if not file.is_file():
        raise WeightsError(f"no such file: {file}", hint=_by_hand(name))
    target = cached_path(name)
    with records.atomic(target) as temporary:
        if row.member and zipfile.is_zipfile(file):
            _extract(file, row.member, temporary)
        else:
            shutil.copyfile(file, temporary)
        if row.sha256 and sha256(temporary) != row.sha256:
            raise WeightsError(
                f"{file} is not {name}: its SHA-256 starts {sha256(temporary)[:12]}, expected {row.sha256[:12]}",
                hint=_by_hand(name),
            )
    _pin(name, sha256(target))
    return target


def listing() -> list[dict[str, str]]:
    """One row per named weights, for people to read: name, what, licence, size, and where it is."""
    rows = []
    for name, row in WEIGHTS.items():
        place = "ships" if row.shipped else "cached" if cached_path(name).exists() else "to download"
        rows.append({"name": name, "what": row.what, "licence": row.licence, "MB": f"{row.mb:g}", "where": place})
    return rows


def sha256(path: Path) -> str:
    """Hash of a whole file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _row(name: str) -> Weights:
    if name not in WEIGHTS:
        raise WeightsError(f"unknown weights {name!r}; known: {', '.join(WEIGHTS)}", hint="twoview weights list")
    return WEIGHTS[name]


def _by_hand(name: str) -> str:
    row = WEIGHTS[name]
    return f"download {row.url or row.page} elsewhere, then: twoview weights add {name} {row.file_name or 'FILE'}"


def _fetch(url: str, part: Path, stage: str, on_progress: OnProgress | None) -> None:
    """Download to `part`, from where an earlier try stopped if the server allows it."""
    import urllib.error
    import urllib.request

    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        reply = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing is left to send
            raise
        return
    with reply:
        resumed = reply.status == 206
        done = done if resumed else 0
        length = reply.headers.get("Content-Length")
        total = done + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file:
            while block := reply.read(_CHUNK):
                file.write(block)
                done += len(block)
                report(on_progress, Progress(stage, done, total, "bytes"))
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes; the same command continues")


def _extract(archive: Path, member: str, target: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as zipped:
            name = next((n for n in zipped.namelist() if Path(n).name == member), None)
            if name is None:
                raise WeightsError(f"{archive} holds no {member}; it has {', '.join(zipped.namelist()[:5])}")
            with zipped.open(name) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{archive} is a damaged zip file", hint="delete it and download it again") from error


def _pins() -> dict[str, str]:
    try:
        content = records.read_json(cache_folder() / "pins.json")
    except FormatError:
        return {}
    return dict(content.get("sha256", {}))


def _pin(name: str, digest: str) -> None:
    records.write_json(cache_folder() / "pins.json", {**records.header("pins"), "sha256": {**_pins(), name: digest}})


def _check_pin(name: str, path: Path) -> None:
    """Compare with the hash in the table, else with that of the first use."""
    known, found = WEIGHTS[name].sha256 or _pins().get(name, ""), sha256(path)
    if not known:
        _pin(name, found)
    elif known != found:
        raise WeightsError(
            f"{path} has changed: its SHA-256 starts {found[:12]}, and it was {known[:12]}",
            hint=f"delete it, then: twoview weights get {name}",
        )
