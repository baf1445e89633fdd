"""The shape of the house: imports point down, heavy packages load late, commands mirror functions."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

import twoview
import twoview.machine

PACKAGE = Path(twoview.__file__).parent

# The floors of the house, lowest first: a file imports from its own floor and from those above in this list.
ORDER = [
    "errors",
    "texts",
    "progress",
    "machine",
    "plugins",
    "config",
    "command_settings",
    "skeleton",
    "poses",
    "sigmas",
    "timeline",
    "takes",
    "storage",
    "workers",
    "media",
    "synchronization",
    "detectors",
    "detection",
    "geometry",
    "lifters",
    "lifting",
    "reconstruction",
    "datasets",
    "evaluation",
    "biomechanics",
    "formats",
    "visualization",
    "training",
    "workflow",
    "cli",
]
FLOOR = {name: floor for floor, name in enumerate(ORDER)}
# Where torch may be imported when a module loads; everything else loads it inside the function that needs it.
WITH_TORCH = {
    "geometry", "lifters", "lifting", "reconstruction", "evaluation", "training", "workflow",
    "storage.torch_files", "detectors.rtmpose_network", "detectors.mmpose",
}  # fmt: skip
HEAVY = {
    "distributed",
    "submitit",
    "numpy",
    "torch",
    "cv2",
    "av",
    "onnxruntime",
    "matplotlib",
    "scipy",
    "lightning_fabric",
    "mmpose",
    "rich",
    "typer",
}
ONLY_IN_CLI = {"rich", "typer"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def top_name(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(tree: ast.Module, *, everywhere: bool = True, members: bool = False) -> set[str]:
    """Dotted names that a file imports, but for types' sake alone.

    everywhere  also inside functions
    members     `from a import b` counts as `a.b` too, since b may be a module
    """
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if typing_only or (not everywhere and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                names = [f"{child.module}.{alias.name}" for alias in child.names]
                found.update(
                    names if child.module == "twoview" else [child.module, *names] if members else [child.module]
                )
            visit(child)

    visit(tree)
    return found


def violations(path: Path, source: str) -> list[str]:
    """Imports in `source`, as if it stood at `path`, that point up the house."""
    own = top_name(path)
    bad = []
    for name in imported(ast.parse(source)):
        parts = name.split(".")
        if parts[0] != "twoview" or len(parts) < 2 or parts[1] not in FLOOR or own not in FLOOR:
            continue
        if FLOOR[parts[1]] > FLOOR[own]:
            bad.append(f"{own} imports {parts[1]}, which comes later in the list")
    return bad


def test_every_folder_and_file_has_its_floor():
    assert {top_name(path) for path in modules()} - set(ORDER) == {"__init__", "__main__"} & {
        top_name(path) for path in modules()
    }


def test_imports_point_down():
    assert [line for path in modules() for line in violations(path, path.read_text())] == []


def test_a_planted_import_upwards_is_seen():
    planted = "def f():\n    from twoview.training.finetuning import finetune\n"
    assert violations(PACKAGE / "media" / "video.py", planted) == [
        "media imports training, which comes later in the list"
    ]


def circles(sources: dict[str, str]) -> list[str]:
    """Circles of imports among modules, given as dotted name -> source; imports inside functions count too."""
    graph: dict[str, set[str]] = {}
    for own, source in sources.items():
        graph[own] = {name for name in imported(ast.parse(source), members=True) if name in sources and name != own}
    found: list[str] = []
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            found.append(" -> ".join((*trail[trail.index(name) :], name)))
        elif name not in done:
            for following in sorted(graph[name]):
                walk(following, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        walk(name, ())
    return found


def dotted(path: Path) -> str:
    parts = ("twoview", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_circles():
    assert circles({dotted(path): path.read_text() for path in modules() if dotted(path) != "twoview"}) == []


def test_a_planted_circle_is_seen():
    planted = {"twoview.a": "from twoview.b import c", "twoview.b": "def f():\n    from twoview import a"}
    assert circles(planted) == ["twoview.a -> twoview.b -> twoview.a"]


def test_only_the_command_line_prints_prettily():
    outside = [path for path in modules() if top_name(path) != "cli"]
    names = {(path.name, name.split(".")[0]) for path in outside for name in imported(ast.parse(path.read_text()))}
    assert not {pair for pair in names if pair[1] in ONLY_IN_CLI}


def test_onnx_runtime_is_imported_in_one_place_where_its_telemetry_is_off():
    places = {dotted(path) for path in modules() if "onnxruntime" in imported(ast.parse(path.read_text()))}
    assert places == {"twoview.machine"}
    source = inspect.getsource(twoview.machine.onnx_runtime)
    assert source.index('os.environ["ORT_DISABLE_TELEMETRY"] = "1"') < source.index("import onnxruntime")


def test_opencv_is_imported_in_one_place_and_opens_no_window():
    sources = {dotted(path): path.read_text() for path in modules()}
    assert {name for name, source in sources.items() if "cv2" in imported(ast.parse(source))} == {
        "twoview.media.opencv"
    }
    windows = re.compile(
        r"cv2\.(imshow|waitKey\w*|namedWindow|selectROI\w*|createTrackbar|setMouseCallback|destroy\w+)"
    )
    assert not {name for name, source in sources.items() if windows.search(source)}


def test_workflows_remove_files_where_a_refusal_is_an_error_of_ours():
    assert not [path for path in modules() if top_name(path) == "workflow" and ".unlink(" in path.read_text()]


ONLY_POSIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty"}
POSIX_CALLS = re.compile(
    r"os\.(fork\w*|get(e?uid|e?gid|pgid|loadavg)|mkfifo|kill(pg)?|uname|sched_\w+|sysconf|statvfs|setsid|chown|wait\w*)\b"
    r"|signal\.(SIGKILL|SIGHUP|SIGALRM|SIGUSR\d|alarm|setitimer)"
)
GUARDED = {"twoview.machine": "hasattr(os, ", "twoview.storage.records": 'sys.platform == "win32"'}


def test_what_only_posix_has_stands_behind_a_guard():
    """Windows has none of these, and `os.kill` ends there what it should only ask."""
    for path in modules():
        source = path.read_text()
        assert not imported(ast.parse(source)) & ONLY_POSIX, path
        assert not POSIX_CALLS.search(source) or GUARDED[dotted(path)] in source, path


def test_early_stages_do_not_import_torch_when_loaded():
    loaded = {dotted(path): imported(ast.parse(path.read_text()), everywhere=False) for path in modules()}
    allowed = tuple(f"twoview.{name}" for name in WITH_TORCH)
    early = {name: names for name, names in loaded.items() if not name.startswith(allowed)}
    assert not {name for name, names in early.items() if any(n.split(".")[0] == "torch" for n in names)}


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import twoview") & HEAVY


def test_importing_the_command_line_loads_nothing_but_what_help_needs():
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


def documented() -> list[str]:
    """Dotted names in the tree of docs/explain/architecture.md, in its order; each has a description beside it."""
    page = (ROOT / "docs" / "explain" / "architecture.md").read_text()
    found, folder = [], ""
    for line in page.split("```\ntwoview/\n")[1].split("```")[0].splitlines():
        indent, name, description = re.fullmatch(r"( +)(\w+/?)  *(.*)", line).groups()
        assert description, line
        folder = "" if len(indent) == 2 else folder
        found.append(f"twoview.{folder}{name.rstrip('/')}")
        folder = name.replace("/", ".") if name.endswith("/") else folder
    return found


def test_the_documented_tree_is_the_package():
    package = {dotted(path) for path in modules()} - {"twoview"} | {"twoview.__init__"}
    page = documented()
    assert sorted(page) == sorted(set(page))
    assert set(page) - package == set(), "delete these lines of docs/explain/architecture.md"
    assert package - set(page) == set(), "give each of these a line in docs/explain/architecture.md"


def test_the_documented_tree_stands_in_the_order_of_imports():
    top = [name.split(".")[1] for name in documented() if name.count(".") == 1]
    assert [name for name in top if name in ORDER] == [name for name in ORDER if name in top]


def many_arguments(source: str) -> list[str]:
    """Functions that take more than five positional arguments; `self`, `cls` and autograd's `ctx` do not count."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return [f.name for f in functions if len({a.arg for a in f.args.args} - {"self", "cls", "ctx"}) > 5]


def test_more_than_five_arguments_go_by_name():
    outside_the_terminal = [path for path in modules() if top_name(path) != "cli"]  # typer's options are all named
    assert not {dotted(p): found for p in outside_the_terminal if (found := many_arguments(p.read_text()))}
    assert many_arguments("def f(a, b, c, d, e, g): ...\ndef h(a, b, c, d, e, *, g): ...") == ["f"]


def test_a_long_file_has_a_reason():
    reasons = {"twoview.config": "every setting has one home"}
    long = {dotted(path): len(path.read_text().splitlines()) for path in modules()}
    assert not {name: lines for name, lines in long.items() if lines > 550 and name not in reasons}
