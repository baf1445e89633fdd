"""The pages agree with the code: reference pages are current, links and names of files and functions exist."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

import twoview

# Metadata of exported models.
NO_MODULES = {f"twoview.{key}" for key in ("inputs", "joints", "clip_length", "rate_hz")}
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def reference():
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["config", "cli"])
def test_reference_pages_are_current(page):
    written = (ROOT / "docs" / "reference" / f"{page}.md").read_text()
    assert written == getattr(reference(), f"{page}_page")(), "run: python docs/make_reference.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert dead_links(page.read_text(), page.parent) == []


def test_dead_links_are_seen(tmp_path):
    (tmp_path / "page.md").write_text("## A *good* heading, once\n\n```\n# not a heading\n```\n")
    for link in ("page.md", "page.md#a-good-heading-once", "https://example.org/none"):
        assert dead_links(f"see [it]({link})", tmp_path) == []
    for link in ("gone.md", "page.md#other", "page.md#not-a-heading", "#nowhere"):
        assert dead_links(f"see [it]({link})", tmp_path) == [link]


def dead_links(text: str, folder: Path) -> list[str]:
    """Relative links to a file or a heading that is not there."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, heading = link.partition("#")
        if "://" in link:
            continue
        target = folder / name
        if not target.exists() or (heading and heading not in headings(target.read_text() if name else text)):
            dead.append(link)
    return dead


def headings(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    lines = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_names_of_the_package_exist(page):
    assert unknown_names(page.read_text()) == []


def test_unknown_files_and_names_are_seen():
    right = "`twoview/media/video.py`, `tests/places.py`, `twoview.media.video.probe(path)`, `twoview.joints`"
    assert unknown_names(right) == []
    for wrong in (
        "`twoview/workflow.py`",
        "`tests/none.py`",
        "`losses.py` holds",
        "`twoview.media.film`",
        "`twoview.load.x`",
    ):
        assert len(unknown_names(wrong)) == 1, wrong


def unknown_names(text: str) -> list[str]:
    """Python files and dotted names of the package that a page mentions and that do not exist.

    A file without its folder, in code style, is one of the page's own (`# mylifter.py`), of the benchmarks, or wrong.
    """
    own = set(re.findall(r"^# (\w+\.py)", text, re.MULTILINE))
    files = re.findall(r"(?<![\w./])(?:twoview|tests|docs|examples)/[\w/]+\.py", text)
    wrong = [name for name in files if not (ROOT / name).exists()]
    bare = set(re.findall(r"`(\w+\.py)[` ]", text)) - own
    wrong += [name for name in bare if not (ROOT / "tests" / "benchmarks" / name).exists()]
    return wrong + [name for name in re.findall(r"\btwoview(?:\.[a-zA-Z_]\w*)+", text) if not resolves(name)]


def resolves(name: str) -> bool:
    """Whether a dotted name is a module of the package, something in one, or one of NO_MODULES."""
    found: object = twoview
    for index, part in enumerate(name.split(".")[1:], 2):
        if hasattr(found, part):
            found = getattr(found, part)
            continue
        try:
            found = importlib.import_module(".".join(name.split(".")[:index]))
        except ModuleNotFoundError:
            return name in NO_MODULES
    return True


def glossary() -> list[list[str]]:
    """Rows of the glossary: term, meaning, unit, where used."""
    table = (ROOT / "docs" / "reference" / "glossary.md").read_text().split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return rows[2:]


def test_the_glossary_is_one_alphabetical_table():
    terms = [term.lower() for term, _, _, _ in glossary()]
    assert terms == sorted(set(terms))
    assert all(meaning and where for _, meaning, _, where in glossary())


def test_names_in_the_glossary_exist():
    files = [path for path in (ROOT / "twoview").rglob("*") if path.suffix in (".py", ".toml")]
    text = "\n".join([*(path.read_text() for path in files), *(str(path) for path in files)])
    names = {name for *_, where in glossary() for name in re.findall(r"`(?:--)?([^`]+)`", where)}
    assert {name for name in names if name.split(".")[-1].split("(")[0].rstrip("=)") not in text} == set()


def test_the_site_is_whole_and_fetches_nothing(tmp_path):
    """Every page, every name of the package, no dead link, and no address that a browser would load."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    site = {str(path.relative_to(tmp_path / "site")): path for path in (tmp_path / "site").rglob("*.html")}
    pages = {str(page.relative_to(ROOT / "docs").with_suffix(".html")) for page in (ROOT / "docs").rglob("*.md")}
    assert set(site) == pages | {
        "404.html",
        "CHANGELOG.html",
        "CONTRIBUTING.html",
        "reference/python.html",
        "pictures/golf-swing.html",
    }
    names = site["reference/python.html"].read_text()
    assert [name for name in twoview.__all__ if name != "__version__" and f">{name}<" not in names] == []
    loaded = re.compile(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(?:https?:)?//|<link[^>]*stylesheet[^>]*https?://")
    assert [name for name, path in site.items() if loaded.search(path.read_text())] == []
