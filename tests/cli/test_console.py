"""What reaches the terminal: names are shown as they are, never taken for markup, and never steer the terminal."""

from __future__ import annotations

import json

import pytest

from twoview.cli import console
from twoview.errors import SessionError

MARKUP = "swing [/slow] [bold]:smile:"
STEERING = "x\x1b[2J\x9b5m\u202ey\x07\udcff"


@pytest.mark.parametrize("stream", ["out", "err"])
def test_a_name_is_never_taken_for_markup(capsys, stream):
    show_everything(MARKUP)
    assert getattr(capsys.readouterr(), stream).count(MARKUP) >= 2


def test_control_characters_are_spelled_out(capsys):
    show_everything(STEERING)
    printed = "".join(capsys.readouterr())
    assert not set(printed) & set("\x1b\x9b\u202e\x07\udcff")
    assert r"x\x1b[2J\x9b5m\u202ey\x07\udcff" in printed


def test_names_in_any_script_and_lines_stay_as_they_are():
    for text in ("übung 1", "スイング", "हिन्दी", "می\u200cخواهم", "one\ntwo"):
        assert console.visible(text) == text


def show_everything(name: str) -> None:
    """Print a name in every way that there is."""
    console.table([name, "number"], [[name, 1.0]], title=name)
    console.result(name)
    console.saved(name, next=name)
    console.still_saved(name, next=name)
    console.next_step(name)
    console.warn(name)
    with pytest.raises(SystemExit):
        console.run(refuse(name))


def refuse(name: str):
    def app(standalone_mode: bool) -> None:
        raise SessionError(name, hint=name)

    return app


def test_json_keeps_names_and_escapes_what_steers(capsys):
    console.as_json({"take": STEERING})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"take": STEERING}
    assert printed.isascii()
    assert "\x1b" not in printed


def test_a_function_that_ends_the_program_keeps_its_exit_code():
    def app(standalone_mode: bool) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit) as stop:
        console.run(app)
    assert stop.value.code == 3
