from __future__ import annotations

import errno

import av
import pytest
from videos import click, picture, write

from twoview.errors import StorageError
from twoview.media.video import probe
from twoview.media.writer import VideoWriter


def test_an_error_while_writing_leaves_nothing(tmp_path):
    def interrupted() -> None:
        with VideoWriter(tmp_path / "a.mp4", (64, 48), 25) as writer:
            writer.write(picture(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise av.error.OSError(errno.ENOSPC, "No space left on device")

    real = av.open

    def opened(*arguments, **options):
        container = real(*arguments, **options)
        return container if "w" not in arguments else _Full(container)

    class _Full:
        def __init__(self, container):
            self._container, self.mux = container, full

        def __getattr__(self, name):
            return getattr(self._container, name)

    monkeypatch.setattr(av, "open", opened)
    with pytest.raises(StorageError, match="No space left"):
        write(tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_at_the_very_end_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise av.error.OSError(errno.ENOSPC, "No space left on device")

    def interrupted() -> None:
        with VideoWriter(tmp_path / "a.mp4", (64, 48), 25) as writer:
            writer.write(picture(0))
            monkeypatch.setattr(writer, "_container", _Failing(writer._container, full))

    with pytest.raises(StorageError, match="No space left"):
        interrupted()
    assert list(tmp_path.iterdir()) == []


class _Failing:
    def __init__(self, container, mux):
        self._container, self.mux = container, mux

    def __getattr__(self, name):
        return getattr(self._container, name)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"cannot be made: .* is a file"):
        write(tmp_path / "file" / "a.mp4")


@pytest.mark.parametrize(
    ("size", "times", "says"), [((48, 64), [0.0], "expected shape"), ((64, 48), [0.2, 0.2], "expected a time after")]
)
def test_wrong_sizes_and_times_that_go_back_are_refused(tmp_path, size, times, says):
    def wrong() -> None:
        with VideoWriter(tmp_path / "a.mp4", (64, 48), 25) as writer:
            for index, time in enumerate(times):
                writer.write(picture(index, size), time)

    with pytest.raises(ValueError, match=says):
        wrong()
    assert list(tmp_path.iterdir()) == []


def test_odd_sizes_are_padded_not_refused(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", (63, 47), 25) as writer:
        writer.write(picture(0, (63, 47)))
    assert probe(tmp_path / "a.mp4").size == (64, 48)


def test_sound_lies_beside_the_pictures_in_the_file(tmp_path):
    path = write(tmp_path / "a.mp4", count=100, audio=click(0.4, seconds=4.0))
    with av.open(str(path)) as container:
        kinds = [packet.stream.type for packet in container.demux() if packet.size]
    assert "audio" in kinds[: len(kinds) // 4]
