"""The shape of the house: imports point down, heavy packages load late, commands mirror functions."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import twoview

PACKAGE = Path(twoview.__file__).parent

RANK = {
    0: ["errors", "progress", "config", "skeleton", "poses", "timeline", "machine"],
    1: ["records", "session"],
    2: [
        "video",
        "videowriter",
        "containers",
        "pixels",
        "soundtrack",
        "sound",
        "soundmatch",
        "soundfeatures",
        "soundwindows",
        "audiosync",
        "clocks",
        "epipolar",
        "motionfeatures",
        "motionmatch",
        "motionsync",
        "handsync",
        "weights",
        "datasets",
        "formats",
    ],
    3: [
        "choosing",
        "detection",
        "detectors",
        "following",
        "importing",
        "looking",
        "reading",
        "repair",
        "thumbnails",
        "tracking",
    ],
    4: ["rendering", "drawing", "sidebyside", "synthetic", "plots", "reports"],
    5: [
        "geometry",
        "framing",
        "virtual",
        "bodies",
        "filming",
        "monitors",
        "clips",
        "lifters",
        "losses",
        "metrics",
        "bundle",
        "minimisation",
        "swaps",
        "firstguess",
        "selfcalibration",
        "lessons",
    ],
    6: [
        "checkpoint",
        "triangulation",
        "planning",
        "training",
        "objectives",
        "processes",
        "runs",
        "pretraining",
        "inference",
        "evaluation",
        "exporters",
        "adaptation",
    ],
    7: [
        "__init__",
        "workflow",
        "clipwork",
        "syncwork",
        "viewwork",
        "judging",
        "reproduction",
        "demonstration",
        "showing",
        "cli",
    ],
}
LAYER = {name: rank for rank, names in RANK.items() for name in names}
HEAVY = {"torch", "cv2", "av", "onnxruntime", "matplotlib", "scipy", "lightning_fabric", "mmpose", "rich", "typer"}
ONLY_IN_CLI = {"rich", "typer"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def top_name(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(tree: ast.Module, *, everywhere: bool = True) -> set[str]:
    """Dotted names that a file imports; without `everywhere`, only outside functions and TYPE_CHECKING blocks."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if typing_only or (not everywhere and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                names = [child.module]
                if child.module == "twoview":
                    names = [f"twoview.{alias.name}" for alias in child.names]
                found.update(names)
            visit(child)

    visit(tree)
    return found


def violations(path: Path, source: str) -> list[str]:
    """Imports in `source`, as if it stood at `path`, that point up the layers."""
    own = top_name(path)
    bad = []
    for name in imported(ast.parse(source)):
        parts = name.split(".")
        if parts[0] != "twoview" or len(parts) < 2 or parts[1] == own or parts[1].startswith("__"):
            continue
        if parts[1] not in LAYER:
            if (PACKAGE / f"{parts[1]}.py").exists() or (PACKAGE / parts[1]).is_dir():
                bad.append(f"{own} imports {parts[1]}, which has no layer in this test")
        elif LAYER[parts[1]] > LAYER[own]:
            bad.append(f"{own} (layer {LAYER[own]}) imports {parts[1]} (layer {LAYER[parts[1]]})")
    return bad


def test_every_module_has_a_layer():
    unknown = {top_name(path) for path in modules()} - set(LAYER)
    assert not unknown


def test_imports_point_down():
    assert [line for path in modules() for line in violations(path, path.read_text())] == []


def test_a_planted_import_upwards_is_seen():
    planted = "def f():\n    from twoview.training import finetune\n"
    assert violations(PACKAGE / "video.py", planted) == ["video (layer 2) imports training (layer 6)"]


def test_no_cycles_inside_a_layer():
    graph: dict[str, set[str]] = {}
    for path in modules():
        own = top_name(path)
        names = {name.split(".")[1] for name in imported(ast.parse(path.read_text())) if name.startswith("twoview.")}
        graph.setdefault(own, set()).update(n for n in names if n in LAYER and n != own and LAYER[n] == LAYER[own])
    seen: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"cycle: {' -> '.join((*trail, name))}"
        if name not in seen:
            for following in graph.get(name, ()):
                walk(following, (*trail, name))
            seen.add(name)

    for name in graph:
        walk(name, ())


def test_only_the_command_line_prints_prettily():
    outside = [path for path in modules() if top_name(path) != "cli"]
    names = {(path.name, name.split(".")[0]) for path in outside for name in imported(ast.parse(path.read_text()))}
    assert not {pair for pair in names if pair[1] in ONLY_IN_CLI}


def test_lower_layers_do_not_import_torch_when_loaded():
    # cspnext.py is a network; only the engine that runs it imports it, inside its constructor.
    low = [path for path in modules() if LAYER[top_name(path)] <= 4 and path.name != "cspnext.py"]
    loaded = {
        path.name: imported(ast.parse(path.read_text()), everywhere=False)
        for path in low
    }  # fmt: skip
    assert not {name for name, names in loaded.items() if any(n.split(".")[0] == "torch" for n in names)}


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import twoview") & HEAVY


def test_importing_the_command_line_loads_neither_torch_nor_decoders():
    assert not loaded_by("import twoview.cli.commands") & (HEAVY - ONLY_IN_CLI)


def test_the_loading_check_can_tell_a_loaded_package():
    assert "cv2" in loaded_by("import cv2")


@pytest.mark.parametrize("name", [n for n in twoview.__all__ if n != "__version__"])
def test_every_public_name_resolves_and_is_documented(name):
    value = getattr(twoview, name)
    assert value.__doc__ if inspect.isclass(value) or callable(value) else value is not None


def test_every_command_is_a_public_function():
    from twoview.cli.commands import app

    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert commands - set(twoview.__all__) - {"show"} == set()  # `show` is `load` for people


def test_no_file_is_longer_than_a_few_screens():
    reasons = {"config.py": "all defaults have one home"}
    long = {path.name: len(path.read_text().splitlines()) for path in modules()}
    assert not {name: lines for name, lines in long.items() if lines > 320 and name not in reasons}
