"""Web pages with numbers: the report of a fine-tuning run, and tables of an evaluation.

Each is one self-contained html file. A report shows every number in the run's log, whatever its name, and explains the
names that it knows.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from twoview.visualization.drawing import LEFT, css
from twoview.visualization.page import write_html

Row = Mapping[str, Any]

_SCREEN = "screen units"


@dataclass(frozen=True)
class _Number:
    """A number on held-out clips: what it is called, in which unit, what it means, whether lower is better."""

    name: str
    unit: str
    meaning: str
    lower: bool = False

    @property
    def titled(self) -> str:
        """Name and unit, for a curve."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    def shown(self, value: float) -> str:
        """A value with its unit."""
        if not math.isfinite(value):
            return ""
        if self.unit == "%":
            return f"{100 * value:.1f} %"
        return f"{value:.1f} {self.unit}" if self.unit in ("mm", "degrees") else f"{value:.4g}"

    @property
    def row(self) -> str:
        """The name in a table whose cells are `shown`."""
        return self.titled if self.unit == _SCREEN else self.name


# What chooses the epoch, by the method.
_CRITERION = {
    "phones": _Number(
        "error on held-out takes", "mm",
        "mean distance of the joints from the two-view 3D of these takes, for a body 1.75 m tall; it chooses the epoch",
        True,
    ),
    "paper": _Number(
        "disagreement on held-out takes", "%",
        "of the body's size: how far the views disagree, bones change and keypoints are missed, together; it chooses "
        "the epoch", True,
    ),
    "": _Number("criterion", "", "it chooses the epoch, without 3D truth", True),
}  # fmt: skip
_MEANING = {
    "two_view_mm": _Number(
        "distance from two-view 3D", "mm", "of the joints, on held-out takes, for a body 1.75 m tall", True
    ),
    "reprojection": _Number(
        "reprojection", _SCREEN, "distance between the 3D seen from its camera and the 2D keypoints", True
    ),
    "consistency": _Number(
        "consistency", _SCREEN, "distance between the 3D of the two views after one fit per clip", True
    ),
    "disagreement": _Number("disagreement", "%", "consistency, of the body's size", True),
    "bone_spread": _Number("bone spread", "%", "variation of bone lengths over a clip", True),
    "radius": _Number("radius", _SCREEN, "size of the body; falls when the poses collapse"),
    "depth_to_width": _Number(
        "depth to width", "", "depth of the body over its width; falls when the body becomes flat"
    ),
    "movement": _Number("movement", _SCREEN, "of the joints within a clip"),
    "angle_deg": _Number("angle", "degrees", "between the two phones according to the poses"),
    "scale": _Number("scale", "", "size of the body in one view relative to the other"),
    "mirrored": _Number("mirrored", "%", "of the clips, whose views are mirror images of each other", True),
}
# First word of a loss term in the log -> what the term is, for those terms that belong together.
_SOURCES = {
    "pseudo": "pseudo-labels",
    "turned": "turned",
    "rehearsal": "rehearsal",
    "consistency": "the paper's consistency",
}
_LINE, _PALE = css(LEFT), "#8b93a3"
_COLUMNS = 4  # plots side by side


def held_out_numbers(before: Mapping[str, float], after: Mapping[str, float], method: str) -> list[list[str]]:
    """Name, value before and value after of the numbers on the held-out clips, in words and with units.

    The first is the one that chooses the epoch. method: of the fine-tuning
    """
    numbers = _numbers(method)
    rows = []
    for name in sorted((name for name in before if name in after), key=lambda name: name != "criterion"):
        number = numbers.get(name, _Number(_label(name), "", ""))
        rows.append([number.row, number.shown(before[name]), number.shown(after[name])])
    return rows


def _numbers(method: str) -> dict[str, _Number]:
    return {**_MEANING, "criterion": _CRITERION.get(method, _CRITERION[""])}


def write_report(
    path: Path | str,
    rows: Sequence[Row],
    *,
    title: str,
    before: Mapping[str, float] | None = None,
    after: Mapping[str, float] | None = None,
    best_epoch: int | None = None,
    warnings: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
    reach: Mapping[str, float] | None = None,
    pictures: Sequence[tuple[str, bytes]] = (),
) -> Path:
    """Write the html page of a run.

    rows           lines of log.jsonl, one object per epoch; every number in them becomes a curve
    before, after  numbers on the held-out clips of the unadapted and of the adapted lifter, by name
    best_epoch     the epoch that was kept; 0: none
    warnings       sentences for the top of the page
    about          settings and facts, shown folded; its `method` says what the criterion is
    reach          where the adapted lifter answers, see `reach_sentence`
    pictures       of held-out takes before and after, caption and jpeg

    Raises StorageError when the disk is full.
    """
    before, after, about = before or {}, after or {}, about or {}
    numbers = _numbers(str(about.get("method", "")))
    held_out, losses = _names(rows, losses=False), _names(rows, losses=True)
    parts = [
        f"<p class=lead>{escape(_verdict(rows, before, after, best_epoch, numbers['criterion']))}</p>",
        _pictures(pictures),
        _warnings(warnings),
        _sentence(reach_sentence(reach or {})),
        _before_and_after(before, after, numbers),
        _section("Held-out clips by epoch", _curves(rows, held_out, before, best_epoch, numbers), _CURVES),
        _sentence(shares_sentence(loss_shares(rows))),
        _section("Losses by epoch", _curves(rows, losses, {}, best_epoch, numbers)),
        _facts(about),
    ]
    return _write_page(path, title, parts)


def loss_shares(rows: Sequence[Row]) -> dict[str, float]:
    """What part of the loss over all epochs each source is, such as "pseudo-labels"; the shares add up to 1."""
    sums: dict[str, float] = {}
    for name in _names(rows, losses=True):
        source = _SOURCES.get(_label(name).split()[0], _label(name))
        sums[source] = sums.get(source, 0.0) + sum(row[name] for row in rows if _is_number(row.get(name)))
    total = sum(sums.values())
    return {source: value / total for source, value in sums.items()} if total else {}


def reach_sentence(reach: Mapping[str, float]) -> str:
    """Where an adapted model answers with its adapted lifter, in a line for a person; empty where nothing is known."""
    if not reach:
        return ""
    return (
        f"the adapted lifter answers {reach['taught']:.0%} of the held-out clips and {reach['everyday']:.0%} of "
        f"everyday movement, which it changes by {reach['everyday_mm']:.0f} mm "
        f"({reach['ungated_mm']:.0f} mm if it answered all of it)"
    )


def shares_sentence(shares: Mapping[str, float]) -> str:
    """The shares in a line for a person; empty where there are none."""
    shown = (f"{source} {share:.0%}" if share >= 0.1 else f"{source} {share:.1%}" for source, share in shares.items())
    return f"share of the loss: {', '.join(shown)}" if shares else ""


def write_tables(
    path: Path | str,
    tables: Mapping[str, Sequence[Sequence[Any]]],
    columns: Sequence[str],
    *,
    title: str,
    notes: Sequence[str] = (),
) -> Path:
    """Write tables with the same columns, by name, as an html page; empty tables are omitted. Raises StorageError."""
    head = _row(f"<th>{escape(column)}</th>" for column in columns)
    parts = [_warnings(notes)]
    for name, rows in tables.items():
        lines = [
            _row(f"<td>{_number(c) if isinstance(c, float) else escape(str(c))}</td>" for c in row) for row in rows
        ]
        parts.append(_section(name, _table(head, *lines) if rows else ""))
    return _write_page(path, title, parts)


def _verdict(
    rows: Sequence[Row], before: Mapping[str, float], after: Mapping[str, float], best: int | None, number: _Number
) -> str:
    """The run in two sentences."""
    if not rows:
        return "No epoch was finished."
    start = f"{len(rows)} {'epoch' if len(rows) == 1 else 'epochs'}"
    seconds = sum(float(row.get("seconds", 0.0)) for row in rows)
    start += f" in {seconds / 60:.1f} min" if seconds >= 90 else f" in {seconds:.0f} s" if seconds else ""
    if best == 0:
        return f"{start}. No epoch was better on the held-out clips than the unadapted lifter, which was kept."
    if best is None or not _is_number(before.get("criterion")) or not _is_number(after.get("criterion")):
        return f"{start}."
    change = after["criterion"] / before["criterion"] - 1 if before["criterion"] else 0.0
    return (
        f"{start}. Epoch {best} was kept: {number.name} {number.shown(before['criterion'])} before, "
        f"{number.shown(after['criterion'])} after ({change:+.0%})."
    )


def _pictures(pictures: Sequence[tuple[str, bytes]]) -> str:
    """Pictures of held-out takes, with a link of each to its full size within the page."""
    if not pictures:
        return ""
    shown = "".join(
        f'<figure><img alt="{escape(caption)}: the athlete, and the 3D before and after" '
        f'src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, jpeg in pictures
    )
    why = "Not used in training. From above: the 2D keypoints, the 3D of the unadapted lifter, that of the adapted one."
    return _section("Held-out takes, before and after", shown, why)


def _warnings(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    whole = ((text[:1].upper() + text[1:]).rstrip(".") + "." for text in sentences)
    items = "".join(f"<li>{escape(text)}</li>" for text in whole)
    return f"<section class=warnings><h2>Warnings</h2><ul>{items}</ul></section>"


def _sentence(sentence: str) -> str:
    return f"<p>{escape(sentence[:1].upper() + sentence[1:])}.</p>" if sentence else ""


def _before_and_after(before: Mapping[str, float], after: Mapping[str, float], numbers: Mapping[str, _Number]) -> str:
    names = [name for name in dict.fromkeys((*before, *after)) if _is_number(before.get(name, after.get(name)))]
    if not names:
        return ""
    lines = []
    for name in sorted(names, key=lambda name: name != "criterion"):  # what chooses the epoch comes first
        number = numbers.get(name, _Number(_label(name), "", ""))
        first, second = before.get(name, math.nan), after.get(name, math.nan)
        change = (second - first) / abs(first) if first and math.isfinite(first + second) else math.nan
        known = number.lower and math.isfinite(change) and abs(change) >= 0.005
        judged = "" if not known else "good" if change < 0 else "bad"
        cells = (f"<td>{number.shown(first)}</td><td>{number.shown(second)}</td>"
                 f"<td class='{judged}'>{'' if math.isnan(change) else f'{change:+.0%}'}</td>")  # fmt: skip
        lines.append(_row((f"<th>{escape(number.row)}</th>", cells, f"<td class=why>{escape(number.meaning)}</td>")))
    head = _row(("<th>on held-out clips</th>", "<td>before</td><td>after</td><td>change</td><td></td>"))
    return _section("Numbers before and after", f"<div class=wide>{_table(head, *lines)}</div>")


def _names(rows: Sequence[Row], *, losses: bool) -> list[str]:
    """Names of the numbers in the log, in order of appearance; the losses or the others."""
    found = dict.fromkeys(name for row in rows for name, value in row.items() if _is_number(value))
    known = [name for name in found if name not in ("epoch", "step", "seconds")]
    return [name for name in known if name.startswith("loss") == losses]


_CURVES = "Dashed: before adaptation. Dotted: the epoch that was kept."


def _curves(
    rows: Sequence[Row],
    names: Sequence[str],
    start: Mapping[str, float],
    best: int | None,
    numbers: Mapping[str, _Number],
) -> str:
    """Inline svg with one small plot per name; dashed: the value at the start, dotted: the epoch that was kept."""
    if not rows or not names:
        return ""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "twoview", "font.size": 8, "axes.edgecolor": _PALE,
                  "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 8.5, "text.color": _PALE,
                  "axes.titlecolor": _PALE, "xtick.color": _PALE, "ytick.color": _PALE}  # fmt: skip
    epochs = [float(row.get("epoch", row.get("step", index + 1))) for index, row in enumerate(rows)]
    names = sorted(names, key=lambda name: name != "criterion")
    with rc_context(style):
        lines = -(-len(names) // _COLUMNS)
        figure = Figure(figsize=(9.6, 1.75 * lines), layout="constrained")
        plots = figure.subplots(lines, _COLUMNS, squeeze=False).ravel()
        for name, plot in zip(names, plots, strict=False):
            number = numbers.get(name, _Number(_label(name), "", ""))
            share = 100.0 if number.unit == "%" else 1.0
            values = [share * float(row[name]) if _is_number(row.get(name)) else math.nan for row in rows]
            plot.plot(epochs, values, color=_LINE, linewidth=1.6, marker="o" if len(rows) < 3 else None, markersize=3)
            plot.set_title(number.titled, loc="left")
            plot.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if _is_number(start.get(name)):
                plot.axhline(share * start[name], color=_PALE, linewidth=1, linestyle="--")
            if best:
                plot.axvline(best, color=_PALE, linewidth=0.8, linestyle=":")
        for plot in plots[len(names) :]:
            plot.set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return f"<div class=wide>{svg[svg.index('<svg') :]}</div>"


def _facts(about: Mapping[str, Any]) -> str:
    if not about:
        return ""
    plain = {name: value for name, value in about.items() if not isinstance(value, Mapping)}
    lines = (_row((f"<th>{escape(str(name))}</th>", f"<td>{escape(str(v))}</td>")) for name, v in plain.items())
    return f"<details><summary>Settings and facts</summary>{_table(*lines)}</details>"


def _section(title: str, content: str, why: str = "") -> str:
    hint = f"<p class=hint>{escape(why)}</p>" if why else ""
    return f"<section><h2>{escape(title)}</h2>{hint}{content}</section>" if content else ""


def _table(*rows: str) -> str:
    return f"<table>{''.join(rows)}</table>"


def _row(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _label(name: str) -> str:
    return name.removeprefix("loss_").replace("_", " ")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else ""


def _write_page(path: Path | str, title: str, parts: Sequence[str]) -> Path:
    body = "\n".join((f"<h1>{escape(title)}</h1>", *filter(None, parts)))
    return write_html(path, title, f"<main>\n{body}\n</main>", styles=("report.css",))
