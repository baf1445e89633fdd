"""Output that cannot be written, encodings that lack characters, narrow and absent terminals: the right exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ASSETS, ROOT

VIDEO = ASSETS / "demo" / "golf" / "take1" / "view_a.mp4"
ON_LINUX = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def typed(words: str, folder: Path, **environment: str) -> tuple[int, str]:
    """A command line of a shell in which `twoview` runs this code; exit code of the first command, and its stderr."""
    twoview = f'"{sys.executable}" -m twoview'
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    line = f"set -o pipefail; {words.replace('twoview ', f'{twoview} ')}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=settings, capture_output=True, text=True, errors="replace", check=False
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_prints_any_name(tmp_path, encoding):
    name = "名前 ± swing [bold] é.mp4"
    (tmp_path / name).symlink_to(VIDEO)
    code, said = typed(f"twoview show '{name}'; twoview show 'no {name}'", tmp_path, PYTHONIOENCODING=encoding)
    assert code == 1
    assert "720" in said
    assert "[bold]" in said


def test_the_plainest_locale(tmp_path):
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert typed("twoview show 名前.mp4", tmp_path, **plain)[0] == 1
    assert typed("twoview --help", tmp_path, **plain)[0] == 0


@ON_LINUX
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (f"twoview show {VIDEO} > /dev/full", 1, "cannot print the result"),
        (f"twoview show {VIDEO} --json > /dev/full", 1, "cannot print the result"),
        ("twoview show absent.mp4 2> /dev/full", 1, ""),
        (f"twoview show {VIDEO} >&-", 0, ""),
        (f"twoview show {VIDEO} --json >&-", 0, ""),
        ("twoview show absent.mp4 2>&-", 1, ""),
        ("twoview weights list | true", 141, ""),
        ("twoview weights list --json | true", 141, ""),
        ("twoview --help | true", 141, ""),
    ],
)
def test_output_that_cannot_be_written(tmp_path, words, code, says):
    got, said = typed(words, tmp_path)
    assert got == code, said
    assert says in said


@pytest.mark.parametrize("words", [f"show {VIDEO}", "infer --help", "show absent.mp4"])
def test_twenty_columns(tmp_path, words):
    code, said = typed(f"twoview {words}", tmp_path, COLUMNS="20")
    assert code == ("absent" in words), said


NOBODY = """
import os, pwd, sys
os.environ.pop("HOME", None)
def unknown(*_):
    raise KeyError("uid not found")
pwd.getpwuid = unknown
from twoview.__main__ import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no users by number")
@pytest.mark.parametrize("words", [["weights", "list"], ["show", str(VIDEO)], ["detect"], ["infer", str(VIDEO)]])
def test_a_user_without_a_name_and_a_home(tmp_path, words):
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    settings.pop("XDG_CACHE_HOME", None)
    command = [sys.executable, "-c", NOBODY, *words]
    done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
