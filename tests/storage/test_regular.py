"""A folder that cannot be made is one error, which names what stands in its way."""

from __future__ import annotations

import pytest

from twoview.errors import StorageError
from twoview.storage import records
from twoview.storage.locks import locked


@pytest.mark.parametrize("place", ["notes", "notes/sub", "notes/sub/deeper"])
def test_a_file_where_a_folder_should_be_is_named(tmp_path, place):
    (tmp_path / "notes").write_text("mine")

    def write():
        with records.atomic(tmp_path / place / "a.json"):
            pass

    def lock():
        with locked(tmp_path / place / ".lock", "work"):
            pass

    for use in (write, lock):
        with pytest.raises(StorageError) as error:
            use()
        said = error.value.message
        assert said == f"the folder {tmp_path / place} cannot be made: {tmp_path / 'notes'} is a file"
        assert "another folder" in error.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
    assert (tmp_path / "notes").read_text() == "mine"
