"""Web pages with numbers: the report of a fine-tuning run, and tables of an evaluation.

Each is one self-contained html file. A report shows every number in the run's log, whatever its name, and explains the
names that it knows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from twoview.storage.records import atomic
from twoview.visualization.drawing import LEFT, css

Row = Mapping[str, Any]

# Meaning of a number, and whether lower is better.
_MEANING: dict[str, tuple[str, bool]] = {
    "criterion": ("selects the epoch; needs no 3D truth", True),
    "two_view_mm": ("distance from the two-view 3D of the held-out takes, mm", True),
    "reprojection": ("distance between the 3D seen from its camera and the 2D keypoints", True),
    "consistency": ("distance between the 3D of the two views after one fit per clip", True),
    "disagreement": ("consistency as a fraction of the body's size", True),
    "bone_spread": ("variation of bone lengths over a clip, as a fraction", True),
    "radius": ("size of the body; falls when the poses collapse", False),
    "depth_to_width": ("depth of the body over its width; falls when the body becomes flat", False),
    "movement": ("movement of the joints within a clip", False),
    "angle_deg": ("angle between the two phones according to the poses", False),
    "scale": ("size of the body in one view relative to the other", False),
    "mirrored": ("fraction of clips whose views are mirror images of each other", True),
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
) -> Path:
    """Write the html page of a run.

    rows           lines of log.jsonl, one object per epoch; every number in them becomes a curve
    before, after  numbers on the held-out clips of the unadapted and of the adapted lifter, by name
    best_epoch     the epoch that was kept; 0: none
    warnings       sentences for the top of the page
    about          settings and facts, shown folded
    reach          where the adapted lifter answers, see `reach_sentence`

    Raises StorageError when the disk is full.
    """
    before, after = before or {}, after or {}
    parts = [
        f"<p class=lead>{escape(_verdict(rows, before, after, best_epoch))}</p>",
        _warnings(warnings),
        _sentence(shares_sentence(loss_shares(rows))),
        _sentence(reach_sentence(reach or {})),
        _before_and_after(before, after),
        _section("Losses", _curves(rows, _names(rows, losses=True), {}, best_epoch)),
        _section("Held-out clips by epoch", _curves(rows, _names(rows, losses=False), before, best_epoch)),
        _facts(about or {}),
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


def _verdict(rows: Sequence[Row], before: Mapping[str, float], after: Mapping[str, float], best: int | None) -> str:
    if not rows:
        return "No epoch was finished."
    start = f"{len(rows)} epochs"
    seconds = sum(float(row.get("seconds", 0.0)) for row in rows)
    start += f" in {seconds / 60:.1f} min" if seconds >= 90 else f" in {seconds:.0f} s" if seconds else ""
    if best == 0:
        return f"{start}; no epoch was better on the held-out clips than the unadapted lifter, which was kept."
    if best is None or not _is_number(before.get("criterion")) or not _is_number(after.get("criterion")):
        return f"{start}."
    change = after["criterion"] / before["criterion"] - 1 if before["criterion"] else 0.0
    return f"{start}; epoch {best} was kept: its criterion on the held-out clips changed by {change:+.0%}."


def _warnings(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    whole = ((text[:1].upper() + text[1:]).rstrip(".") + "." for text in sentences)
    items = "".join(f"<li>{escape(text)}</li>" for text in whole)
    return f"<section class=warnings><h2>Warnings</h2><ul>{items}</ul></section>"


def _sentence(sentence: str) -> str:
    return f"<p>{escape(sentence[:1].upper() + sentence[1:])}.</p>" if sentence else ""


def _before_and_after(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    names = [name for name in (*before, *after) if _is_number(before.get(name, after.get(name)))]
    if not names:
        return ""
    lines = []
    for name in dict.fromkeys(names):
        meaning, lower = _MEANING.get(name, ("", False))
        first, second = before.get(name, math.nan), after.get(name, math.nan)
        change = (second - first) / abs(first) if first and math.isfinite(first + second) else math.nan
        judged = (
            "" if not lower or not math.isfinite(change) or abs(change) < 0.005 else "good" if change < 0 else "bad"
        )
        cells = (f"<td>{_number(first)}</td><td>{_number(second)}</td>"
                 f"<td class='{judged}'>{'' if math.isnan(change) else f'{change:+.0%}'}</td>")  # fmt: skip
        lines.append(_row((f"<th>{escape(_label(name))}</th>", cells, f"<td class=why>{escape(meaning)}</td>")))
    head = _row(("<th>on held-out clips</th>", "<td>before</td><td>after</td><td>change</td><td></td>"))
    return _section("Before and after", _table(head, *lines))


def _names(rows: Sequence[Row], *, losses: bool) -> list[str]:
    """Names of the numbers in the log, in order of appearance; the losses or the others."""
    found = dict.fromkeys(name for row in rows for name, value in row.items() if _is_number(value))
    known = [name for name in found if name not in ("epoch", "step", "seconds")]
    return [name for name in known if name.startswith("loss") == losses]


def _curves(rows: Sequence[Row], names: Sequence[str], start: Mapping[str, float], best: int | None) -> str:
    """Inline svg with one small plot per name; dashed: the value at the start, dotted: the epoch that was kept."""
    if not rows or not names:
        return ""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "twoview", "font.size": 8, "axes.edgecolor": _PALE,
                  "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 8.5}  # fmt: skip
    epochs = [float(row.get("epoch", row.get("step", index + 1))) for index, row in enumerate(rows)]
    with rc_context(style):
        lines = -(-len(names) // _COLUMNS)
        figure = Figure(figsize=(9.6, 1.75 * lines), layout="constrained")
        plots = figure.subplots(lines, _COLUMNS, squeeze=False).ravel()
        for name, plot in zip(names, plots, strict=False):
            values = [float(row[name]) if _is_number(row.get(name)) else math.nan for row in rows]
            plot.plot(epochs, values, color=_LINE, linewidth=1.6, marker="o" if len(rows) < 3 else None, markersize=3)
            plot.set_title(_label(name), loc="left")
            if _is_number(start.get(name)):
                plot.axhline(start[name], color=_PALE, linewidth=1, linestyle="--")
            if best:
                plot.axvline(best, color=_PALE, linewidth=0.8, linestyle=":")
        for plot in plots[len(names) :]:
            plot.set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _facts(about: Mapping[str, Any]) -> str:
    if not about:
        return ""
    plain = {name: value for name, value in about.items() if not isinstance(value, Mapping)}
    lines = (_row((f"<th>{escape(str(name))}</th>", f"<td>{escape(str(v))}</td>")) for name, v in plain.items())
    return f"<details><summary>Settings and facts</summary>{_table(*lines)}</details>"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


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
    body = "\n".join((f"<h1>{escape(title)}</h1>", *parts))
    with atomic(path) as temporary:
        temporary.write_text(_PAGE.format(title=escape(title), body=body), encoding="utf-8")
    return Path(path)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #282c34; background: #fff; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem }}
h1 {{ font-size: 1.5rem; margin-bottom: 0 }} h2 {{ font-size: 1.05rem; margin: 1.8rem 0 .4rem }}
.lead {{ font-size: 1.05rem; color: #555c69 }} .warnings {{ background: #fff4e5; border-left: 4px solid #ec7022;
  padding: .1rem 1rem .4rem; margin-top: 1rem }} .warnings h2 {{ margin-top: .6rem }}
table {{ border-collapse: collapse }} td, th {{ padding: .2rem .8rem .2rem 0; text-align: left; font-weight: normal;
  border-bottom: 1px solid #e6e8ec; vertical-align: top }} td {{ font-variant-numeric: tabular-nums }}
.good {{ color: #1c7c46 }} .bad {{ color: #b3261e }} .why {{ color: #7b8291; font-size: .9em }}
svg {{ width: 100%; height: auto }} details {{ margin-top: 1.8rem }} summary {{ cursor: pointer }}
</style></head><body>
{body}
</body></html>
"""
