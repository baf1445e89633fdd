"""Names become parts of paths: none leaves its folder, steers a terminal, or names another name's files."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twoview.errors import SessionError
from twoview.storage.names import LONGEST, check_name, name_from, stays_inside


@pytest.mark.parametrize(
    "name", ["take1", "serve 2 (wide) [b]", "a-b_c.d", "übung", "スイング", "हिन्दी", "подача", "السلام", "2024.05.01"]
)
def test_letters_of_any_script_digits_spaces_and_some_marks_make_names(name):
    assert check_name(name, "take") == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    "name",
    [
        "", " ", ".", "..", "a/b", "a\\b", "/abs", "C:x", "../x", "a..b", "a\x1b[2J", "a\nb", "a\0b", "x\u202ey", "a,b",
        "a*", "-x", ".hidden", "end.", " led", "trailed ", "con", "NUL.txt", "Com1", "a.people", "a.2d", "x" * 300,
        "'; rm", "\udcff",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_the_name(name):
    with pytest.raises(SessionError, match="view name"):
        check_name(name, "view")


def test_one_name_however_it_is_typed():
    assert check_name("u\u0308bung", "take") == check_name("\u00fcbung", "take")


@given(st.text(st.characters(), max_size=300))
def test_a_name_can_be_made_of_any_stem(text):
    name = name_from(text)
    assert check_name(name, "view") == name
    assert stays_inside(name)
    assert len(name.encode()) <= LONGEST + 1


def test_a_stem_that_is_a_name_stays():
    assert [name_from(stem) for stem in ("GX010001", "view b", "a+b,c", "clip.2d")] == [
        "GX010001", "view b", "a_b_c", "clip_2d",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "..\\x", "C:", "a\x1b", None, 3, "x" * 300])
def test_names_in_files_that_would_leave_the_folder_are_seen(name):
    assert not stays_inside(name)


def test_names_of_older_versions_stay_readable():
    assert all(stays_inside(name) for name in ("a+b", "it's", "-x", "a,b"))
