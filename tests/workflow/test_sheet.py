"""A sheet registers many takes at once: each row is checked with its number, and nothing is half registered."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import videos
from calls import files_touched
from terminal import type_command

from twoview.errors import SessionError
from twoview.storage.session import Athlete, open_session
from twoview.workflow import sheet
from twoview.workflow.sheet import read_sheet, register
from twoview.workflow.synchronization import sync_takes

TAKES = ("serve 1", "serve 2", "jump")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A folder with a short video and a table of capture times of each view of three takes."""
    folder = tmp_path_factory.mktemp("films")
    for take in TAKES:
        (folder / take).mkdir()
        for number, view in enumerate("ab"):
            videos.write(folder / take / f"{view}_{len(take)}.mp4", count=20 + number + len(take), rate=25)
            times = 5.0 + 0.01 * number + np.arange(20 + number + len(take)) / 25
            (folder / take / f"{view}.csv").write_text("time_s\n" + "\n".join(f"{t:.4f}" for t in times))
    return folder


def rows(takes=TAKES, **more: str) -> list[dict[str, str]]:
    """The rows of a good sheet, with these cells changed by column."""
    return [
        {"take": take, "view": view, "file": f"{take}/{view}_*.mp4", "timestamps": f"{take}/{view}.csv", **more}
        for take in takes
        for view in "ab"
    ]


def synchronized(session, takes) -> dict[str, bool]:
    """Take -> whether it was synchronized now."""
    found = sync_takes(session, list(takes), options=lambda name: takes[name].options)
    return {name: fresh for name, (_, fresh) in found}


def written(folder, table, *, mark=",", start="", name="sheet.csv"):
    names = list(dict.fromkeys(name for row in table for name in row))
    lines = [mark.join(names), *(mark.join(row.get(name, "") for name in names) for row in table)]
    path = folder / name
    path.write_bytes((start + "\r\n".join(lines)).encode())
    return path


@pytest.mark.parametrize(("mark", "start"), [(",", ""), (";", "\ufeff"), ("\t", "")])
def test_tables_of_every_kind_say_the_same(films, mark, start):
    table = rows(Athlete="Zoë", **{"Height (m)": "1.71" if mark == "," else "1,71"}, notes="windy")
    takes = read_sheet(written(films, table, mark=mark, start=start))
    assert list(takes) == list(TAKES)
    assert takes["jump"].athlete == Athlete("Zoë", 1.71)
    assert takes["serve 1"].rows["b"].file == films / "serve 1" / "b_7.mp4"
    assert [path.name for path in takes["jump"].options.timestamps] == ["a.csv", "b.csv"]


def wrong(column: str, value: str, row: int = 3):
    """A good sheet with one cell changed."""
    table = rows(athlete="Ann", height="1.7", distance="3")
    table[row - 2][column] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (wrong("file", "gone.mp4"), "row 3: no such file"),
        (wrong("file", "*/?_*.mp4"), "row 3: '*/?_*.mp4' matches 6 files, "),
        (wrong("file", "x*.mp4"), "row 3: 'x*.mp4' matches no file"),
        (wrong("file", "serve 1"), "is a folder"),
        (wrong("file", "serve 1/a_7.mp4"), "row 3: .*a_7.mp4 is in row 2, too"),
        (wrong("view", "a"), "row 3: view a of take serve 1 is in row 2, too"),
        (wrong("view", ""), "row 3: no view"),
        (wrong("take", "../x"), "row 3: take name '../x' holds '/'"),
        (wrong("height", "171"), "row 3: height '171' is no number of meters, up to 3"),
        (wrong("height", "1.8"), "row 3: athlete Ann is 1.8 m tall, and in row 2 1.7 m"),
        (wrong("height", "1.8", row=6), "row 6: athlete Ann is 1.8 m tall, and in row 2 1.7 m"),
        (wrong("athlete", "Bea"), "row 3: take serve 1 shows Bea, and in row 2 Ann"),
        (wrong("distance", "far"), "row 3: distance 'far' is no number"),
        (wrong("timestamps", ""), "row 3: no timestamps, and other views of take serve 1 have them"),
        (wrong("timestamps", "gone.csv"), "row 3: no such file"),
        (rows()[:3], "row 4: take serve 2 has one view, a"),
        (rows(hight="1.7"), "column 'hight': is height meant?"),
        ([{"take": "t", "view": "a"}], "it has no column file"),
        ([], "it is empty"),
    ],
)
def test_every_mistake_is_named_with_its_row_and_nothing_is_registered(films, tmp_path, table, message):
    with pytest.raises(SessionError, match=message.replace("*", r"\*").replace("?", r"\?").replace(r".\*a", ".*a")):
        register(tmp_path / "s", written(films, table))
    assert not (tmp_path / "s").exists()


def test_a_file_that_is_no_video_stops_all_of_them(films, tmp_path):
    (films / "no.mp4").write_bytes(b"no video")
    with pytest.raises(SessionError, match=r"sheet.csv, row 7: .*no.mp4"):
        register(tmp_path / "s", written(films, wrong("file", "no.mp4", row=7)))
    assert not (tmp_path / "s").exists()


def test_a_second_time_only_what_is_missing_is_done(films, tmp_path, monkeypatch):
    looked, path = [], written(films, rows(TAKES[:2], athlete="Ann", height="1.7"))
    probed = sheet._probed
    monkeypatch.setattr(sheet, "_probed", lambda file: looked.append(file) or probed(file))
    session, takes = register(tmp_path / "s", path)
    assert synchronized(session, takes) == {"serve 1": True, "serve 2": True}
    assert len(looked) == 4
    written(films, rows(athlete="Ann"))  # a third take, of an athlete whose height is known
    session, takes = register(tmp_path / "s", path)
    assert len(looked) == 6
    assert synchronized(session, takes) == {"serve 1": False, "serve 2": False, "jump": True}
    found = open_session(tmp_path / "s")
    assert {take: found.athlete(take) for take in found.takes} == dict.fromkeys(TAKES, Athlete("Ann", 1.7))
    with pytest.raises(SessionError, match=r"athlete Ann is 1\.8 m tall, and 1\.7 m in take"):
        register(tmp_path / "s", written(films, rows(TAKES[:1], athlete="Ann", height="1.8")))
    session, _ = register(tmp_path / "s", written(films, rows(athlete="Ann", height="1.8")))  # all of them: corrected
    assert session.athlete("jump").height_m == 1.8


def test_a_take_that_fails_keeps_none_of_the_others_back(films, tmp_path):
    table = rows()
    (films / "serve 2" / "short.csv").write_text("time_s\n1.0\n1.1\n")
    table[3]["timestamps"] = "serve 2/short.csv"
    path = written(films, table)
    answer = type_command("sync", "--from", path, "--session", tmp_path / "s")
    assert answer.code == 1
    assert "serve 2" in answer.err
    assert "3 takes: 2 synchronized, 0 up to date" in answer.out
    again = type_command("sync", "--from", path, "--session", tmp_path / "s", "--json")
    content = json.loads(again.out)
    assert [row["take"] for row in content["takes"]] == ["serve 1", "jump"]
    assert content["takes"][0]["views"]["b"]["offset_s"] == pytest.approx(0.01, abs=1e-6)
    assert [row["of"] for row in content["failed"]] == ["serve 2"]
    assert (again.code, content["next"]) == (1, "twoview detect")
    alone = type_command("sync", "a.mp4", "--from", path, "--session", tmp_path / "s")
    assert (alone.code, "from the sheet" in alone.err) == (2, True)


def test_what_is_read_and_written_grows_with_the_takes_and_not_faster(tmp_path, monkeypatch):
    made = videos.write(tmp_path / "one.mp4", count=10, rate=25).read_bytes()
    one = sheet._probed(tmp_path / "one.mp4")
    monkeypatch.setattr(sheet, "_probed", lambda file: replace(one, path=file))
    touched = []
    for count in (20, 40):
        folder = tmp_path / str(count)
        folder.mkdir()
        table = [{"take": f"t{n}", "view": view, "file": f"{n}{view}.mp4"} for n in range(count) for view in "ab"]
        for row in table:
            (folder / row["file"]).write_bytes(made)
        path = written(folder, table)
        touched.append(files_touched(monkeypatch, lambda f=folder, p=path: register(f / "s", p)))
    assert touched[1] < 2.1 * touched[0]
