"""Mistakes that a programmer could make, as changes of one expression of a source file; `mutants.py` plants them.

Left out by rule, as no result depends on them or only a message does: docstrings, annotations, decorators, imports and
`TYPE_CHECKING`; what is raised, warned or reported; epsilons (below 1e-5 or `_TINY`); casts, devices and checks of
arguments (`dtype=`, `.to(...)`, `strict=`, `isinstance`); `np.errstate`; sizes of blocks that bound memory. A
comparison of two measured numbers is reversed, not moved by the equal case, which no measurement meets.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

_SWAPPED = {  # operators
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "/", ast.Pow: "*", ast.Mod: "+",
    ast.BitAnd: "|", ast.BitOr: "&",
}  # fmt: skip
_MOVED = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
_REVERSED = {ast.Lt: ">", ast.LtE: ">", ast.Gt: "<", ast.GtE: "<", ast.Eq: "!=", ast.NotEq: "=="}
_OTHER = {ast.In: "not in", ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is"}
_NAMES = {  # functions and methods, each by the one it could be taken for
    "sum": "mean", "mean": "sum", "nanmean": "nansum", "median": "max", "min": "max", "max": "min", "amin": "amax",
    "amax": "amin", "minimum": "maximum", "maximum": "minimum", "nanmin": "nanmax", "nanmax": "nanmin",
    "argmin": "argmax", "argmax": "argmin", "all": "any", "any": "all", "floor": "ceil", "ceil": "floor",
    "sin": "cos", "cos": "sin", "arccos": "arcsin", "degrees": "radians", "to_session": "to_view",
    "to_view": "to_session", "ones_like": "zeros_like", "zeros_like": "ones_like",
    "combinations": "permutations", "permutations": "combinations",
}  # fmt: skip
# x.f() or f(x) -> x
_DROPPED = {"detach", "abs", "clamp", "clip", "sqrt", "square", "conj", "log1p", "round", "cumsum"}
_EITHER_WAY = {  # functions that take two arguments in any order, or of kinds that cannot be exchanged
    "max", "min", "maximum", "minimum", "hypot", "isinstance", "where", "fmax", "zip", "__setattr__",
}  # fmt: skip
_SILENT_CALLS = {
    "report", "Progress", "isinstance", "errstate", "to", "type", "cast", "keep_memory", "empty", "getattr",
}  # fmt: skip
_SILENT_KEYWORDS = {
    "hint", "strict", "dtype", "device", "on_progress", "requires_grad", "copy", "warnings", "unit", "mode", "dynamic",
}  # fmt: skip
_SILENT_NAMES = ("_AT_ONCE", "_BLOCK", "done")  # blocks that bound memory; progress
_EPSILON = 1e-5


@dataclass(frozen=True)
class Mutation:
    """One change of a file: its line before and after, and the whole text of the changed file.

    local  whether it is inside a function, whose code can be exchanged while it is loaded
    """

    file: str
    line: int
    function: str
    before: str
    after: str
    local: bool
    text: str

    @property
    def name(self) -> str:
        """What tells this mutation from others."""
        return f"{self.file}, {self.function or 'module'}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class _Change:
    node: ast.expr | ast.stmt
    after: str
    function: str
    local: bool


def mutations(root: Path, file: str, seed: int) -> Iterator[Mutation]:
    """Mutations of a file below `root`, one of each line, in an order that only the seed and the lines decide."""
    source = (root / file).read_bytes()
    lines = source.splitlines(keepends=True)
    planted = [_planted(lines, file, change) for change in _visit(ast.parse(source), "", False)]
    taken = set[int]()
    for one, parts in sorted(planted, key=lambda p: hashlib.sha1(f"{seed}{p[0].name}".encode()).digest()):
        text = b"".join(parts).decode()
        if one.line not in taken and one.before != one.after and _parses(text):
            taken.add(one.line)
            yield replace(one, text=text)


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _planted(lines: Sequence[bytes], file: str, change: _Change) -> tuple[Mutation, list[bytes]]:
    """A mutation, its text left out, and the parts of that: the file's lines with one node written anew.

    The parser counts columns in bytes.
    """
    node = change.node
    last_line, last_column = node.end_lineno or node.lineno, node.end_col_offset or 0
    head, tail = lines[node.lineno - 1][: node.col_offset], lines[last_line - 1][last_column:]
    before, after = b"".join(lines[node.lineno - 1 : last_line]), head + change.after.encode() + tail
    old, new = (" ".join(part.decode().split()) for part in (before, after))
    parts = [*lines[: node.lineno - 1], after, *lines[last_line:]]
    return Mutation(file, node.lineno, change.function, old, new, change.local, ""), parts


def _visit(node: ast.AST, function: str, local: bool) -> Iterator[_Change]:
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.Raise, ast.JoinedStr, ast.Assert, ast.Yield)):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Call) and _silent(node):
        return
    if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise):  # the rest of its body is for the message
        for child in (node.test, *node.orelse):
            yield from _visit(child, function, local)
        return
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(ast.unparse(target).endswith(_SILENT_NAMES) for target in targets):
            return
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        inner = f"{function}.{node.name}" if function else node.name
        bodies = node.body if isinstance(node, ast.ClassDef) else [*_defaults(node), *node.body]
        for child in bodies:
            yield from _visit(child, inner, local or isinstance(node, ast.FunctionDef))
        return
    if isinstance(node, ast.AnnAssign):
        if node.value is not None:
            yield from _visit(node.value, function, local)
        return
    if isinstance(node, ast.keyword) and node.arg in _SILENT_KEYWORDS:
        return
    if isinstance(node, (ast.expr, ast.stmt)):
        for after in _alternatives(node):
            yield _Change(node, after, function, local)
    for child in ast.iter_child_nodes(node):
        yield from _visit(child, function, local)


def _defaults(node: ast.FunctionDef) -> list[ast.expr]:
    return [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]


def _silent(node: ast.Call) -> bool:
    """Whether a call is one that no result depends on."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
    return name in _SILENT_CALLS or name.endswith(("Error", "warn"))


def _alternatives(node: ast.expr | ast.stmt) -> Iterator[str]:
    """What could stand in a node's place by mistake."""
    if isinstance(node, ast.BinOp):
        yield from _of_operation(node)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        left, right, kind = node.left, node.comparators[0], type(node.ops[0])
        table = _MOVED if _counts(left) or _counts(right) else _REVERSED
        other = table.get(kind) or _OTHER.get(kind)
        if other and not _is_text(left) and not _is_none(right):
            yield f"({_shown(left)} {other} {_shown(right)})"
    elif isinstance(node, ast.BoolOp):
        word = " or " if isinstance(node.op, ast.And) else " and "
        yield "(" + word.join(_shown(value) for value in node.values) + ")"
        yield _shown(node.values[0])
    elif isinstance(node, ast.UnaryOp):
        if isinstance(node.op, (ast.Not, ast.USub, ast.Invert)) and not isinstance(node.operand, ast.Constant):
            yield _shown(node.operand)
        elif isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            yield from (f"-{value}" for value in _of_number(node.operand))
    elif isinstance(node, ast.Constant):
        yield from _of_number(node)
    elif isinstance(node, ast.IfExp):
        yield f"({_shown(node.body)} if not {_shown(node.test)} else {_shown(node.orelse)})"
    elif isinstance(node, ast.Call):
        yield from _of_call(node)
    elif isinstance(node, ast.Attribute) and node.attr in ("mT", "T"):
        yield _shown(node.value)
    elif isinstance(node, (ast.AugAssign, ast.Continue, ast.Break)) or _is_step(node):
        yield "pass"


def _of_operation(node: ast.BinOp) -> Iterator[str]:
    left, right = _shown(node.left), _shown(node.right)
    if _is_text(node.left) or _is_text(node.right):
        return
    if isinstance(node.op, ast.MatMult):
        yield f"({right} @ {left})"
        return
    other = _SWAPPED.get(type(node.op))
    if other:
        yield f"({left} {other} {right})"
    if isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.BitAnd, ast.BitOr, ast.Pow)):
        yield left
    if isinstance(node.op, (ast.Add, ast.Mult, ast.BitAnd)):
        yield right


def _of_number(node: ast.Constant) -> Iterator[str]:
    value = node.value
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int):
        yield str(value + 1)
    elif isinstance(value, float) and (value == 0 or abs(value) >= _EPSILON):
        yield repr(2 * value) if value else "1.0"


def _of_call(node: ast.Call) -> Iterator[str]:
    arguments = [*map(_shown, node.args), *(f"{k.arg}={_shown(k.value)}" if k.arg else f"**{_shown(k.value)}"
                                            for k in node.keywords)]  # fmt: skip
    if isinstance(node.func, ast.Attribute):
        name, owner = node.func.attr, _shown(node.func.value)
        module = owner in ("np", "torch", "math", "torch.linalg", "np.linalg")
    else:
        name, owner, module = ast.unparse(node.func), "", True
    tiny = any(k.arg == "min" and "TINY" in ast.unparse(k.value) for k in node.keywords)
    if name in _DROPPED and not tiny:
        yield _shown(node.args[0]) if module and node.args else owner
    if name in _NAMES:
        other = _NAMES[name]
        whole = f"{owner}.{other}" if owner else other
        if not (not owner and other in ("mean", "sum", "ones_like", "zeros_like")):
            yield f"{whole}({', '.join(arguments)})"
    alike = (ast.Name, ast.Attribute, ast.Subscript)
    if len(node.args) >= 2 and name not in _EITHER_WAY and all(isinstance(a, alike) for a in node.args[:2]):
        swapped = [arguments[1], arguments[0], *arguments[2:]]
        yield f"{ast.unparse(node.func)}({', '.join(swapped)})"


def _counts(node: ast.expr) -> bool:
    """Whether an expression is a whole number: a literal, a length or a count."""
    if isinstance(node, ast.UnaryOp):
        return _counts(node.operand)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int)
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in ("len", "int", "sum") or ast.unparse(node.func).endswith(".sum")
    return isinstance(node, ast.Attribute) and node.attr in ("size", "ndim")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_step(node: ast.AST) -> bool:
    """Whether a node is a statement that only calls something."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _silent(node.value)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _shown(node: ast.expr) -> str:
    """An expression as text that can stand inside another."""
    text = ast.unparse(node)
    simple = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant, ast.List, ast.Tuple, ast.Dict)
    return text if isinstance(node, simple) else f"({text})"
