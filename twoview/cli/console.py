"""What a person sees: progress bars on stderr, results on stdout, errors as one line and the next thing to try."""

from __future__ import annotations

import codecs
import errno
import io
import logging
import math
import os
import signal
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from twoview.errors import TwoViewError
from twoview.progress import OnProgress, Progress, is_first
from twoview.texts import json_text


class _Screen(Console):
    """A console that lets the command end where its reader has gone."""

    def on_broken_pipe(self) -> None:
        """Rich would end the process with exit code 1."""
        raise BrokenPipeError


# Names of takes and files are text, never markup: what is styled is assembled.
out = _Screen(highlight=False, soft_wrap=True, markup=False, emoji=False)
talk = _Screen(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)

if TYPE_CHECKING:
    from twoview.evaluation.scoring import Report
    from twoview.timeline import ClockMap, ClockQuality, Sync
    from twoview.training.finetuning import Run

_SHORT_WAY_S = 0.003  # a smaller allowance for the way of the sound is that of given distances
_SLOW = 0.95  # a clock slower than this against the reference is slow motion, not drift
_INTERRUPTED = 130  # exit code after Ctrl-C, and after the system asked the process to end
_CLOSED = 141  # exit code where nobody reads the output any more, as after `| head -1`
# What stands for symbols in an output that lacks them.
_SYMBOLS = {"±": "+-", "·": "|", "→": "->", "°": " deg", "×": "x", "–": "-", "…": "..."}
_PLAIN_EVERY_S = 10.0  # seconds between plain lines of progress when stderr is not a terminal
# Categories of characters that steer a terminal or hide: controls, formats, halves of characters, line separators.
_STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_HARMLESS = "\n\u200c\u200d"  # line ends, and the two joiners that scripts and emoji need


def visible(text: object) -> str:
    """Text from a file or a name with every character that would steer the terminal spelled out by its number."""
    spelled = str(text)
    if spelled.isascii() and spelled.isprintable():
        return spelled
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _STEERING and character not in _HARMLESS
        else character
        for character in spelled
    )


def _line(*parts: str | tuple[str, str]) -> Text:
    """A line of plain and of styled pieces, (text, style)."""
    return Text.assemble(*(visible(p) if isinstance(p, str) else (visible(p[0]), p[1]) for p in parts))


class _RateColumn(ProgressColumn):
    """Units per second, and the values of the event."""

    def render(self, task: Task) -> Text:
        speed = f"{task.speed:.1f} {task.fields['unit']}/s" if task.speed else ""
        values = "  ".join(f"{name} {value:.4g}" for name, value in task.fields["values"].items())
        return Text(f"{speed}  {values}".strip(), style="dim")


@contextmanager
def progress() -> Iterator[OnProgress]:
    """A callback that draws one bar per stage on a terminal, and prints a plain line every 10 s elsewhere."""
    if not talk.is_terminal:
        yield _plain_lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, _RateColumn(), console=talk, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(event: Progress) -> None:
            if event.stage not in tasks:
                tasks[event.stage] = bars.add_task(visible(event.stage), total=event.total, unit=event.unit, values={})
            bars.update(tasks[event.stage], completed=event.done, total=event.total, values=dict(event.values))

        yield show


def _plain_lines() -> OnProgress:
    started: dict[str, float] = {}
    printed: dict[str, float] = {}

    def show(event: Progress) -> None:
        now = time.monotonic()
        begin = started.setdefault(event.stage, now)
        finished = event.total is not None and event.done >= event.total
        if now - printed.get(event.stage, begin) < _PLAIN_EVERY_S and not (finished and event.stage in printed):
            return
        printed[event.stage] = now
        rate = event.done / max(now - begin, 1e-9)
        share = f"{event.done:.0f}" if event.total is None else f"{event.done:.0f}/{event.total:.0f}"
        left = "" if not event.total or not rate else f", {max(event.total - event.done, 0) / rate:.0f} s left"
        values = "".join(f", {name} {value:.4g}" for name, value in event.values.items())
        talk.print(f"{visible(event.stage)}: {share} {event.unit}, {rate:.1f} {event.unit}/s{left}{values}")

    return show


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> None:
    """A table of results on stdout; numbers are aligned right."""
    drawn = Table(
        title=Text(visible(title)) if title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float) for row in rows) and bool(rows)
        drawn.add_column(Text(visible(column)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(f"{cell:.4g}" if isinstance(cell, float) else visible(cell)) for cell in row))
    out.print(drawn)


def result(*lines: str) -> None:
    """Result lines on stdout."""
    for line in lines:
        out.print(visible(line))


def saved(*paths: Path | str, next: str = "") -> None:
    """Where the results are, and the next command."""
    names = ", ".join(short(path) for path in paths)
    out.print(_line(("saved", "green"), f" {names}", *(("    next: ", (next, "bold")) if next else ())))


def still_saved(*paths: Path | str, next: str = "") -> None:
    """The same for a stage that was up to date."""
    names = ", ".join(short(path) for path in paths)
    out.print(_line(("up to date", "dim"), f" {names}", *(("    next: ", (next, "bold")) if next else ())))


def check(state: str, text: str, remedy: str = "") -> None:
    """One line of a list of checks: ok, note or broken, and what to do."""
    style = {"ok": "green", "note": "yellow", "broken": "bold red"}[state]
    out.print(_line("  ", (f"{state:<6}", style), f" {text}", *(("    do: ", (remedy, "bold")) if remedy else ())))


def next_step(command: str) -> None:
    """The next command, where nothing was saved."""
    out.print(_line("next: ", (command, "bold")))


def open_pages(*pages: Path, most: int = 4) -> None:
    """The pages to open in a browser, the first ones of many."""
    if pages:
        more = f" and {len(pages) - most} more" if len(pages) > most else ""
        named = ", ".join(short(page) for page in pages[:most])
        out.print(_line(("open", "bold green"), f" {named}{more}    in a browser"))


def milliseconds(seconds: float) -> str:
    """A duration in ms with two or three digits, without the unit."""
    value = seconds * 1000
    return f"{value:.{2 if value < 1 else 1 if value < 9.95 else 0}f}"


def _drift_text(clock: ClockMap, quality: ClockQuality) -> str:
    """The drift, or that it is unknown, with what it may make of the clock at the ends of what both recorded."""
    ends = milliseconds(quality.drift_se_ppm * 1e-6 * quality.overlap_s)
    if not quality.drift_known:
        return f"drift unknown, at the ends up to ± {ends} ms more"
    return f"drift {clock.drift_ppm:+.1f} ± {2 * quality.drift_se_ppm:.1f} ppm"


def show_sync(sync: Sync, take: str) -> None:
    """One line per view: when it began relative to the reference, its drift, and how sure that is.

    What stands behind ± is exceeded once in 20 times: two standard errors.
    """
    result(f"{take}: clocks by {sync.method}", f"{sync.reference}   reference")
    for view in sync.views[1:]:
        clock, quality = sync.clocks[view], sync.quality.get(view)
        parts = [f"{view}   began {abs(clock.offset_s):.4f} s {'later' if clock.offset_s >= 0 else 'earlier'}"]
        if quality is not None and not math.isnan(quality.error_s):
            parts[0] += f" ± {milliseconds(quality.error_s)} ms"
            if quality.travel_s > 0:
                of_sound, way = milliseconds(2 * quality.offset_se_s), milliseconds(quality.travel_s)
                parts[0] += f" (the sound ± {of_sound}, its way ± {way})"
        if clock.rate < _SLOW:
            parts.append(f"slow motion, {1 / clock.rate:.3g} times")
        elif clock.rate > 1 / _SLOW:
            parts.append(f"the reference is slow motion, {clock.rate:.3g} times")
        elif quality is not None and not math.isnan(quality.drift_se_ppm):
            parts.append(_drift_text(clock, quality))
        elif abs(clock.drift_ppm) >= 0.5:
            parts.append(f"drift {clock.drift_ppm:+.0f} ppm")
        if quality is not None:
            used, total = quality.windows
            parts += [f"{used} of {total} windows used"] if total else []
            sure = ">99.9%" if quality.confidence > 0.999 else f"{quality.confidence:.1%}"
            parts.append(f"{sure} sure to half a frame")
            if not math.isnan(quality.motion_s) and quality.travel_s != 0:
                error_ms = milliseconds(2 * quality.motion_se_s)
                parts.append(f"motion differs by {quality.motion_s * 1000:+.1f} ± {error_ms} ms")
        result(" · ".join(parts))
    way_s = max((q.travel_s for q in sync.quality.values() if not math.isnan(q.travel_s)), default=0.0)
    if way_s > _SHORT_WAY_S:
        result(
            "its way: sound comes 3 ms later per meter that a phone is farther from its source, which the sound cannot "
            "tell; --distance or --refine removes that"
        )
    if not math.isnan(sync.loop_s):
        result(f"all pairs agree within {sync.loop_s * 1000:.2f} ms")
    warn(*sync.warnings)


def show_run(run: Run, method: str) -> None:
    """Numbers on the held-out clips before and after adaptation, what the loss was, and the warnings of the run.

    method  of the fine-tuning, which says what chooses the epoch
    """
    from twoview.visualization.report import held_out_numbers, reach_sentence, shares_sentence

    rows = held_out_numbers(run.before, run.after, method)
    kept = f"after epoch {run.best_epoch}" if run.adapted else "kept unadapted"
    table(["held-out clips", "before", kept], rows)
    before, after = run.before["criterion"], run.after["criterion"]
    if run.adapted:
        change = after / before - 1 if before else 0.0
        figures = f"   {rows[0][0]}: {rows[0][1]} -> {rows[0][2]} ({change:+.0%})"
        out.print(_line(("adapted", "green"), figures))
    else:
        out.print(_line(("kept unadapted", "yellow"), "   no epoch was better on the held-out clips"))
    result(*filter(None, [shares_sentence(run.shares), reach_sentence(run.reach)]))
    warn(*run.warnings)


def show_report(report: Report, *, joints: bool = False) -> None:
    """Numbers of an evaluation with their 95 % intervals, by activity where there are several."""
    shown = [("", report.rows), ("by activity", report.activities), ("by joint", report.joints if joints else ())]
    for title, metrics in shown:
        rows = []
        for m in metrics:
            between = "" if math.isnan(m.low) else f"{m.low:.4g} to {m.high:.4g}"
            rows.append([m.name, m.part, float(m.value), m.unit, between])
        if rows:
            table(["metric", "of", "value", "unit", "95 % interval"], rows, title=title)
    for note in report.notes:
        talk.print(_line(("note:", "dim"), f" {note}"))


def warn(*sentences: str) -> None:
    """Warnings for the person who will rely on the result, on stderr."""
    for sentence in sentences if is_first() else ():
        talk.print(_line(("warning:", "yellow"), f" {sentence}"))


def show_failures(failed: Sequence[tuple[Path | str, TwoViewError]]) -> None:
    """What could not be done and why, on stderr, each hint once; the rest is done."""
    hints = dict[str, None]()
    for what, error in failed:
        name = short(what) if isinstance(what, Path) else what
        message = error.message if name in error.message else f"{name}: {error.message}"
        talk.print(_line((f"{type(error).__name__}: ", "bold red"), message))
        hints |= {error.hint: None} if error.hint else {}
    for hint in hints:
        talk.print(_line(("hint: ", "bold"), hint))


def failures(failed: Sequence[tuple[Path | str, TwoViewError]]) -> list[dict[str, str]]:
    """The same for a JSON file."""
    return [{"of": str(what), **failure(error)} for what, error in failed]


def failure(error: TwoViewError) -> dict[str, str]:
    """An error for a JSON file: its kind, what happened, and what to do."""
    return {"error": type(error).__name__, "message": error.message, "hint": error.hint}


class _Warnings(logging.Handler):
    """The library's warnings, each sentence once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        if sentence not in self._shown:
            self._shown.add(sentence)
            warn(sentence)


def as_json(content: Mapping[str, Any]) -> None:
    """One JSON object on stdout, nothing else; of several processes the first writes it."""
    if not out.quiet:
        out.file.write(json_text(content, indent=2) + "\n")


def written(*paths: Path | str, json: bool, next: str = "", **content: Any) -> None:
    """The end of a command that wrote these files: as JSON with this content, or as text."""
    if json:
        as_json({**content, "files": [str(path) for path in paths], "next": next})
    else:
        saved(*paths, next=next)


def short(path: Path | str) -> str:
    """A path relative to the current folder, unless it is outside of it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that the output's encoding lacks: the usual symbols in ASCII, others by number."""
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(_SYMBOLS.get(c, c.encode("unicode_escape").decode()) for c in missing), error.end


def _end(signal_number: int, frame: object) -> None:
    """The system asks the process to end: as Ctrl-C, so that what is done is saved."""
    del signal_number, frame
    raise KeyboardInterrupt


def run(app: Callable[..., Any]) -> None:
    """Call the app; an error becomes one line, a hint and an exit code.

    0 done, 1 error, 2 usage, 70 bug, 130 interrupted by Ctrl-C or by the system, 141 nobody reads the output any more.
    """
    out.quiet = not is_first()
    codecs.register_error("twoview", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="twoview")
    with suppress(ValueError):  # not the main thread of a program of someone's own
        signal.signal(signal.SIGTERM, _end)
    code = 0
    try:
        code = _call(app)
        out.file.flush()
    except BrokenPipeError:
        code = _CLOSED
    except SystemExit as stop:  # with 1 it is click's own answer to a broken pipe
        code = stop.code if isinstance(stop.code, int) and stop.code != 1 else _CLOSED
    except OSError as error:  # of the output alone: what commands read and write has errors of its own
        code = code or 1
        with suppress(OSError):
            talk.print(_line(("StorageError: ", "bold red"), f"cannot print the result: {error.strerror or error}"))
    if code == _CLOSED or not _flushed():  # nothing is left that Python would try to print once more
        null = os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):
            os.dup2(null, number)
    if code:
        raise SystemExit(code)


def _flushed() -> bool:
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        return False
    return True


def _call(app: Callable[..., Any]) -> int:
    """Call the app and print what stopped it; the exit code."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    log, shown = logging.getLogger("twoview"), _Warnings()
    log.addHandler(shown)
    try:
        code = app(standalone_mode=False)  # typer returns the code of what stopped a command; older ones raise
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except TwoViewError as error:
        if debug:
            traceback.print_exc()
        if "--json" in sys.argv[1:]:
            as_json({"failed": [failure(error)]})
        talk.print(_line((f"{type(error).__name__}: ", "bold red"), error.message))
        if error.hint:
            talk.print(_line(("hint: ", "bold"), error.hint))
        return 1
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        talk.print("interrupted; what was already saved is kept, and the same command continues from there")
        return _INTERRUPTED
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's own usage errors
            error.show()
            return int(error.exit_code)
        if isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and _of_output(error)):
            raise
        traceback.print_exc()
        talk.print(_line(("this is a bug in twoview", "bold red"), ": please report it with the lines above"))
        return 70
    finally:
        log.removeHandler(shown)


def _of_output(error: OSError) -> bool:
    """Whether printing failed: nobody reads, the disk behind stdout is full, or the terminal is gone."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EBADF, errno.EDQUOT)
