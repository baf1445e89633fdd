"""Write docs/reference/platforms.md: for which Pythons and systems the index has wheels of what twoview needs.

    python docs/make_platforms.py

It asks the Python package index for the versions that are installed here, which constraints.txt holds down.
"""

from __future__ import annotations

import json
import tomllib
import urllib.request
from importlib.metadata import distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

PAGE = Path(__file__).parent / "reference" / "platforms.md"
PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
SYSTEMS = {
    "Linux x86-64": [f"manylinux_2_{minor}_x86_64" for minor in range(35, 4, -1)] + ["manylinux2014_x86_64"],
    "Linux arm64": [f"manylinux_2_{minor}_aarch64" for minor in range(35, 16, -1)] + ["manylinux2014_aarch64"],
    "macOS arm64": [f"macosx_{major}_0_{kind}" for major in range(15, 10, -1) for kind in ("arm64", "universal2")],
    "Windows x86-64": ["win_amd64"],
}  # fmt: skip
MARKERS = {
    "Linux x86-64": ("linux", "Linux", "x86_64"), "Linux arm64": ("linux", "Linux", "aarch64"),
    "macOS arm64": ("darwin", "Darwin", "arm64"), "Windows x86-64": ("win32", "Windows", "AMD64"),
}  # fmt: skip
HEAD = """# Pythons and systems

Wheels that the Python package index has of each package that `pip install twoview` brings, in the version that this
project is tested with (`constraints.txt`). A cell names the Pythons; a dash means that none is needed there. Written by
`docs/make_platforms.py`. Tests run on Linux x86-64 with Python 3.11; elsewhere only that wheels exist is known.

"""


def main() -> None:
    """Ask the index and write the page."""
    needed = {system: needs("twoview", system) for system in SYSTEMS}
    names = sorted(set().union(*needed.values()))
    everywhere, rows = [], []
    for name in names:
        tags = wheels(name, version(name))
        cells = [pythons(tags, system) if name in needed[system] else "–" for system in SYSTEMS]
        if all(cell == "all" for cell in cells):
            everywhere.append(f"{name} {version(name).split('+')[0]}")
        else:
            rows.append(f"| {name} {version(name)} | {' | '.join(cells)} |")
    table = [f"| package | {' | '.join(SYSTEMS)} |", "|---" * (len(SYSTEMS) + 1) + "|", *rows]
    kept = f"With wheels for Python 3.11 to 3.14 on all four systems: {', '.join(everywhere)}.\n"
    PAGE.write_text(HEAD + kept + "\n" + "\n".join(table) + "\n", encoding="utf-8")


def needs(name: str, system: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """Packages that an installation of `name` brings on a system, without graphics processors' libraries."""
    keys = ("sys_platform", "platform_system", "platform_machine")
    marks = {**dict(zip(keys, MARKERS[system], strict=True)), "extra": "", "python_version": "3.13"}
    own = tomllib.loads((PAGE.parents[2] / "pyproject.toml").read_text())["project"]["dependencies"]
    for requirement in map(Requirement, own if name == "twoview" else distribution(name).requires or []):
        found = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate(marks)
        if wanted and found not in seen and not found.startswith(("nvidia-", "triton", "cuda-")):
            try:
                seen = needs(found, system, seen | {found})
            except ModuleNotFoundError:  # of another system: its own needs are not known here
                seen -= {found}
                print(f"not looked at: {found} of {name} on {system}")
    return seen


def wheels(name: str, release: str) -> frozenset[Tag]:
    """The tags of all wheels of one release."""
    request = urllib.request.Request(
        f"https://pypi.org/simple/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request) as answer:
        files = [entry["filename"] for entry in json.load(answer)["files"] if entry["filename"].endswith(".whl")]
    release = release.split("+")[0]
    parsed = [parse_wheel_filename(file) for file in files if f"-{release}-" in file]
    return frozenset().union(*(tags for *_, tags in parsed))


def pythons(tags: frozenset[Tag], system: str) -> str:
    """The Pythons that can install one of these wheels on a system."""
    found = []
    for python in PYTHONS:
        platforms = SYSTEMS[system]
        fitting = {*cpython_tags(python, platforms=platforms), *compatible_tags(python, platforms=platforms)}
        if tags & fitting:
            found.append(f"{python[0]}.{python[1]}")
    return "all" if len(found) == len(PYTHONS) else ", ".join(found) or "none"


if __name__ == "__main__":
    main()
