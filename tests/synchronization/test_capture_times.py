"""Tables of capture times as recorder apps write them: the column, its unit and its camera are found."""

from __future__ import annotations

import numpy as np
import pytest

from twoview.errors import SyncError
from twoview.synchronization.capture_times import by_phones_clocks, read_timestamps

TIMES = 12.25 + np.arange(30) / 25


def rows(*columns: str, heading: str = "", mark: str = ",") -> str:
    body = [mark.join(column.format(i=i, s=t, ms=t * 1e3, us=round(t * 1e6), ns=round(t * 1e9)) for column in columns)
            for i, t in enumerate(TIMES)]  # fmt: skip
    return "\n".join([*([heading] if heading else []), *body]) + "\n"


TABLES = {
    "nanoseconds alone": rows("{ns}"),
    "microseconds alone": rows("{us}"),
    "number, seconds": rows("{i}", "{s:.6f}", heading="frame_number,timestamp_s"),
    "milliseconds, number": rows("{ms:.3f}", "{i}", heading="timestamp_ms,frame"),
    "decimal comma alone": rows("{s:.6f}", heading="time_s").replace(".", ","),
    "decimal comma, semicolon": rows("{i}", "{s:.6f}", heading="frame;time_s", mark=";").replace(".", ","),
    "without heading": rows("{i}", "{ns}"),
    "without heading, three": rows("{ns}", "{i}", "7"),
    "tabs": rows("{i}", "{ms:.3f}", "0.01", heading="Frame\tTime [ms]\tExposure", mark="\t"),
    "blanks": rows("{i}", "{s:.6f}", mark=" "),
    "mark and comment": "\ufeff# recorded by an app\n" + rows("{us}", heading="timestamp_us"),
    "two clocks": rows("{ns}", "{ms:.1f}", "{i}", heading="sensor_timestamp_ns,system_time_ms,frame"),
    "exposure and gain": rows("{i}", "{ns}", "{i}", "100", heading="frame,timestamp,exposure,iso"),
    "words beside": rows("{i}", "{s:.5f}", "ok", heading="index,pts,status"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_the_times_are_found_among_other_columns(kind, tmp_path):
    path = tmp_path / "times.csv"
    path.write_text(TABLES[kind], encoding="utf-8")
    assert read_timestamps(path) == pytest.approx(TIMES, abs=1e-4)


@pytest.mark.parametrize(
    "heading", ["sync_index,cam_id,frame_index,frame_time", "sync_index,port,frame_index,frame_time"]
)
def test_a_table_of_several_cameras(heading, tmp_path):
    lines = [f"{i},{cam},{i},{t + cam / 2:.6f}" for i, t in enumerate(TIMES) for cam in (0, 1)]
    (tmp_path / "frame_time_history.csv").write_text("\n".join([heading, *lines]))
    for place, cam in enumerate((0, 1)):
        found = read_timestamps(tmp_path / "frame_time_history.csv", "a", place=place)
        assert found == pytest.approx(TIMES + cam / 2, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (rows("{i}", "{ms:.2f}", heading="frame,time_s"), "40 s, which is no time between frames"),
        (rows("{i}", "{s:.2f}", "{s:.3f}", heading="a,b,c"), "not clear: a, b, c"),
        (rows("{ns}").encode("utf-16"), "it is in UTF-16"),
        ("time_s\n", "has 0 times"),
    ],
)
def test_what_is_no_time_is_refused(text, message, tmp_path):
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SyncError, match=message):
        read_timestamps(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("b", "says"),
    [
        ("2026-05-01T12:35:08+02:00", "b was filmed about 12 s after a; look there"),
        ("2026-05-01T10:34:51+00:00", "b was filmed about 5 s before a; look there"),
        ("2026-05-01T15:34:56+02:00", "b was filmed about 3 hours after a: are these videos of one take?"),
        ("2025-05-01T12:34:56+02:00", "b was filmed about 365 days before a: are these"),
        ("2026-05-01T12:35:08", ""),
        ("", ""),
    ],
)
def test_the_phones_own_clocks_are_a_hint_and_no_more(b, says):
    said = by_phones_clocks({"a": "2026-05-01T12:34:56+02:00", "b": b}, {"a": 10.0, "b": 20.0}, "a")
    assert says in said
    assert bool(said) == bool(says)
    assert not said or "which are seconds apart" in said
