"""Named weights: files that ship, files in the cache, files to download once; hashes are checked at every use.

Where the table knows no hash, a new file is first tried as what its name promises, and its hash is then kept ("pinned")
beside the cache and logged. Only https is spoken, and a server that leads elsewhere is not followed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twoview import plugins
from twoview.errors import FormatError, StorageError, TwoViewError
from twoview.progress import OnProgress, Progress, report
from twoview.storage import records
from twoview.storage.locks import locked
from twoview.storage.regular import make_folder, regular_file

ASSETS = Path(__file__).parents[1] / "assets"
_CHUNK = 1 << 18
_MOST_OVER = 4.0  # times the size in the table: a download that goes on is not the file
_SLACK = 1 << 20  # bytes on top, for small files
_log = logging.getLogger(__name__)

# Beginning of a name in the table -> the function (name, file) that raises TwoViewError unless the file is of its kind.
TRIALS = {
    "rtmpose": "twoview.detectors.rtmpose:try_file",
    "rtmdet": "twoview.detectors.person_finders:try_file",
    "yolox": "twoview.detectors.person_finders:try_file",
    "motionbert": "twoview.lifting.model:try_file",
}


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
    def most_bytes(self) -> float:
        """Bytes that neither the download nor the file in it may exceed."""
        return self.mb * 1e6 * _MOST_OVER + _SLACK

    @property
    def file_name(self) -> str:
        """Name of the file that `url` gives."""
        return self.url.rsplit("/", 1)[-1] or Path(self.shipped).name


WEIGHTS: dict[str, Weights] = {
    name: Weights(**row) for name, row in tomllib.loads((ASSETS / "weights.toml").read_text(encoding="utf-8")).items()
}


def cache_folder() -> Path:
    """Where downloads are kept: TWOVIEW_CACHE, or `twoview` in the user's cache folder.

    For a user without a home folder, as in some containers, that is the current folder.
    """
    if own := os.environ.get("TWOVIEW_CACHE"):
        return Path(own)
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "twoview"


def locate(name: str, *, timeout_s: float = 30.0, on_progress: OnProgress | None = None) -> Path:
    """The file of named weights: shipped, in the cache, or downloaded into it now.

    timeout_s  for which a server may be silent
    Raises WeightsError for an unknown name, where the download fails, and where the file's hash is not the known one.
    """
    row = _row(name)
    if row.shipped:
        return ASSETS / row.shipped
    path = cached_path(name)
    if not path.exists():
        if not row.url:
            raise WeightsError(f"{name} has no direct download", hint=_by_hand(name))
        with locked(cache_folder() / f"{row.file_name}.lock", f"the download of {name}"):
            if not path.exists():  # as it may by now, by another process
                return download(name, timeout_s=timeout_s, on_progress=on_progress)
    _check_hash(name, path, path)
    return path


def cached_path(name: str) -> Path:
    """Where the cache keeps the file of these weights, whether or not the file exists."""
    row = _row(name)
    suffix = Path(row.member or row.file_name).suffix or ".pth"
    return cache_folder() / f"{name}{suffix}"


def download(name: str, *, timeout_s: float = 30.0, on_progress: OnProgress | None = None) -> Path:
    """Download named weights into the cache; an interrupted download continues where it stopped."""
    from http.client import HTTPException  # with these come mail and encryption, which nothing else here needs
    from ssl import SSLError
    from urllib.error import URLError

    row = _row(name)
    part = cache_folder() / f"{row.file_name}.part"
    try:
        make_folder(part.parent)
        _fetch(row, part, f"download {name}", timeout_s, on_progress)
    except (URLError, TimeoutError, ConnectionError, HTTPException, SSLError) as error:
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
        _forget(part)  # complete by now, or the wrong file where it was refused


def add(name: str, file: Path | str) -> Path:
    """Copy a file that was downloaded by hand, zip or not, into the cache under its name.

    Raises WeightsError for a file that is not what the name promises; the cache then stays as it was.
    """
    row = _row(name)
    if row.shipped:
        raise WeightsError(f"{name} ships with twoview; there is nothing to add", hint="twoview weights list")
    file = regular_file(file, WeightsError)
    with file.open("rb") as opened:
        start = opened.read(1024).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise WeightsError(f"{file} is a web page, not {name}: a login or an error of the server?", hint=_by_hand(name))
    if file.stat().st_size > row.most_bytes:
        raise WeightsError(
            f"{file} has {file.stat().st_size / 1e6:.0f} MB, and {name} has about {row.mb:g}", hint=_by_hand(name)
        )
    target = cached_path(name)
    with records.atomic(target) as temporary:
        if row.member and start.startswith(b"pk"):
            _extract(file, row, temporary)
        else:
            shutil.copyfile(file, temporary)
        _check_hash(name, temporary, file)
    return target


def recognized(file: Path | str) -> str:
    """The name of the weights that a downloaded file is, by the name it had on the server; "" where none is.

    Browsers add ` (1)` to a name that is taken.
    """
    plain = re.sub(r" ?\(\d+\)(?=\.\w+$)", "", Path(file).name).lower()
    return next((name for name, row in WEIGHTS.items() if row.url and row.file_name.lower() == plain), "")


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
    return f"download {row.url or row.page} elsewhere, then `twoview weights add {name} {row.file_name or 'FILE'}`"


# --- download --------------------------------------------------------------------------------------------------------


def _fetch(row: Weights, part: Path, stage: str, timeout_s: float, on_progress: OnProgress | None) -> None:
    """Download to `part`, from where an earlier try stopped if the server says that its file is still the same."""
    tag = _tag_of(part)
    done = part.stat().st_size if part.exists() and tag.exists() else 0
    wanted = {"Range": f"bytes={done}-", "If-Range": tag.read_text(encoding="utf-8")} if done else {}
    with _ask(row.url, wanted, timeout_s) as reply:
        if reply.status == 416:  # nothing is left to send: complete, or longer than the file is
            whole = re.search(r"/(\d+)$", reply.headers.get("Content-Range", ""))
            if not done or not whole or int(whole[1]) != done:
                _forget(part)
                raise ConnectionError("what an earlier try left was not part of it; the same command starts anew")
            return
        kind = reply.headers.get("Content-Type", "")
        if kind.startswith("text/html"):
            raise WeightsError(f"{row.url} answers with a web page instead of a file: a login, or the page of a proxy?")
        resumed = re.match(rf"bytes {done}-\d+/", reply.headers.get("Content-Range", "")) if done else None
        if reply.status == 206 and not resumed:
            _forget(part)
            raise ConnectionError("the server sent another part than was asked for; the same command starts anew")
        done = done if resumed else 0
        length = reply.headers.get("Content-Length", "")
        total = done + int(length) if length.isdigit() else None
        same = reply.headers.get("ETag", "")  # a weak tag, W/..., does not promise the same bytes
        same = same if same.startswith('"') else reply.headers.get("Last-Modified", "")
        tag.unlink(missing_ok=True)
        with part.open("ab" if resumed else "wb") as file:
            if same:
                tag.write_text(same, encoding="utf-8")
            while block := reply.read(_CHUNK):
                done += len(block)
                if done > row.most_bytes or (total is not None and done > total):
                    _forget(part)
                    raise WeightsError(
                        f"{row.url} sends more than {done / 1e6:.0f} MB, and about {row.mb:g} belong to it"
                    )
                file.write(block)
                report(on_progress, Progress(stage, done, total, "bytes"))
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes; the same command continues")


@contextmanager
def _ask(url: str, headers: Mapping[str, str], timeout_s: float) -> Iterator[Any]:
    """The answer to a GET by https, also the answer 416. Raises WeightsError for what is not https."""
    from urllib import error, request

    class OnlyHttps(request.HTTPRedirectHandler):
        def redirect_request(self, *given: Any) -> Any:
            _check_https(given[-1])  # the new address
            return super().redirect_request(*given)

    _check_https(url)
    opener = request.OpenerDirector()  # without the handlers of http, ftp, files and data
    for handler in (
        request.ProxyHandler(), request.HTTPSHandler(), OnlyHttps(), request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(), request.UnknownHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    try:
        reply = opener.open(request.Request(url, headers={"User-Agent": "twoview", **headers}), timeout=timeout_s)
    except error.HTTPError as refusal:
        if refusal.code != 416:
            raise
        reply = refusal
    with reply:
        yield reply


def _check_https(url: str) -> None:
    if not url.lower().startswith("https://"):
        raise WeightsError(f"{url} is not https, and nobody could tell what arrives: refused")


def _tag_of(part: Path) -> Path:
    """Where the server's name for the version of a partly downloaded file is kept."""
    return part.with_name(part.name + ".tag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag_of(part).unlink(missing_ok=True)


def _extract(archive: Path, row: Weights, target: Path) -> None:
    hint = "delete it and download it again"
    try:
        with zipfile.ZipFile(archive) as zipped:
            entry = next((one for one in zipped.infolist() if Path(one.filename).name == row.member), None)
            if entry is None:
                raise WeightsError(f"{archive} holds no {row.member}; it has {', '.join(zipped.namelist()[:5])}")
            if entry.file_size > row.most_bytes:
                raise WeightsError(f"{archive}: {row.member} would unpack to {entry.file_size / 1e6:.0f} MB", hint=hint)
            with zipped.open(entry) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)  # never more than the entry says
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{archive} is a damaged zip file: {error}", hint=hint) from error


# --- hashes ----------------------------------------------------------------------------------------------------------


def _check_hash(name: str, path: Path, source: Path) -> None:
    """Compare a file with the hash in the table, else with that of the first use; the first use tries it before.

    source  the file to name in messages
    """
    found, known = sha256(path), WEIGHTS[name].sha256
    pinned = "" if known else _pins().get(name, "")
    if known or pinned:
        if found == (known or pinned):
            return
        raise WeightsError(
            f"{source} is not {name}: its SHA-256 starts {found[:12]}, expected {(known or pinned)[:12]}"
            + ("" if known else ", as it was at its first use"),
            hint=_by_hand(name) if source != cached_path(name) else f"delete it, then `twoview weights get {name}`",
        )
    trial = next((function for start, function in TRIALS.items() if name.startswith(start)), None)
    if trial is not None:
        try:
            plugins.load(trial, "trial", WeightsError)(name, path)
        except TwoViewError as error:
            reason = error.message.replace(str(path), source.name)
            raise WeightsError(f"{source} is not {name}: {reason}", hint=_by_hand(name)) from error
    _pin(name, found)
    _log.warning(
        "%s: SHA-256 %s, kept from this first use on; compare it with the publisher's if there is one", name, found
    )


def _pins() -> dict[str, str]:
    """The hashes of first uses. Raises WeightsError for a damaged file, which must not make room for other hashes."""
    path = cache_folder() / "pins.json"
    if not path.exists():
        return {}
    hint = f"if you trust the files in {path.parent}, delete it: they are then tried and their hashes kept again"
    try:
        content = records.read_json(path).get("sha256")
    except (FormatError, RecursionError, UnicodeError) as error:
        raise WeightsError(f"{path}, the hashes of weights, is damaged", hint=hint) from error
    hashes = content if isinstance(content, dict) else {"": ""}
    if not all(isinstance(one, str) and re.fullmatch("[0-9a-f]{64}", one) for one in hashes.values()):
        raise WeightsError(f"{path}, the hashes of weights, is damaged", hint=hint)
    return hashes


def _pin(name: str, digest: str) -> None:
    path = cache_folder() / "pins.json"
    with locked(path.with_suffix(".lock"), "the hashes of weights"):
        records.write_json(path, {**records.header("pins"), "sha256": {**_pins(), name: digest}})
