"""One word per idea: words that the glossary replaces do not come back in names, texts of the package, or pages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from places import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PAGES.remove(ROOT / "CHANGELOG.md")  # it has to name what was renamed
MODULES = sorted((ROOT / "twoview").rglob("*.py"))

_COUNTED = (
    "answers|boxes|clips|columns|cores|crops|epochs|fits?|frames?|hits|images|joints|lines?|pictures|pixels|plots?|"
    "rows?|samples|seconds|steps|times|videos|votes|weights|windows"
)
_PER = (
    "batch|camera|clip|core|epoch|file|frame|joint|minute|moment|pair|person|picture|process|row|second|seed|step|take|"
    "track|video|view|window"
)
# Pattern -> what to write.
INSTEAD = {
    r"\bstretch(es|ed)?\b": "window, or clip in training, or slowdown",
    r"\bbrought\b": "imported, or moved",
    r"\blateness\b": "delay",
    r"\bdoubts?\b|\bbelie(f|fs|ve|ved|ves)\b": "sigma, standard error or weight",
    r"\bexchanged?\b": "swapped",
    r"\bspoil(s|ed|t|ing)?\b": "simulated detector noise",
    r"\blessons?\b|\bexams?\b|\bshel(f|ves)\b": "pseudo-labels, rehearsal or held-out takes",
    r"\btold\b": "warned, reported or known",
    rf"\b({_COUNTED}) an? ({_PER})\b": "per",
    r"(?i)\b\w*(behaviour|centred|colour|favour|grey|honour|(?<!un)labelled|metres?\b|neighbour)\w*": "American",
    r"(?i)\b\w*(general|initial|linear|maxim|minim|normal|optim|organ|recogn|summar|synchron)is(e|ed|es|ing|ation|er)\b":
    "American",
}  # fmt: skip
NAMES = r"(^|_)(beliefs?|believed|doubts?|exam|film|filming|lateness|lessons?|spoil|spoiled|told)(_|$)"


def found(text: str) -> list[str]:
    """The words of INSTEAD in a text, each with what to write."""
    return [f"{hit[0]}: {better}" for pattern, better in INSTEAD.items() for hit in re.finditer(pattern, text)]


def texts(source: str) -> Iterator[str]:
    """Docstrings, messages and help texts of a module: its strings of several words."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value


def names(source: str) -> Iterator[str]:
    """Names that a module gives to functions, classes, arguments and values."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_use_the_words_of_the_glossary(page):
    text = page.read_text().split("## Words that are not used")[0] if page.name == "glossary.md" else page.read_text()
    assert found(text) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_package_uses_the_words_of_the_glossary(path):
    source = path.read_text()
    assert [hit for text in texts(source) for hit in found(text)] == []
    assert [name for name in names(source) if re.search(NAMES, name.lower())] == []


def test_planted_words_are_seen():
    planted = 'def film_clip(doubt_mm):\n    raise E(f"{n} stretches agree at 30 frames a second")'
    assert [hit.split(":")[0] for text in texts(planted) for hit in found(text)] == ["stretches", "frames a second"]
    assert [name for name in names(planted) if re.search(NAMES, name)] == ["film_clip", "doubt_mm"]
    assert found("a 3D second, lines a clip starts with, optimizer, geometry, unlabeled, in a row a frame") != []


def test_plain_words_pass():
    assert found("frames per second; a video; swapped; 1.78 m; parameters; symmetric; kilometers; a step a day") == []
