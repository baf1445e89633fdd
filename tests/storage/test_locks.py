"""Two processes and one piece of work: the second waits or is refused, and a process that is gone holds nothing."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from twoview.errors import SessionError
from twoview.storage.locks import locked

HOLD = """
import sys, time
from pathlib import Path
from twoview.storage.locks import locked
with locked(Path(sys.argv[1]), "take 't'"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextmanager
def holder(path, seconds: float = 60.0):
    """Another process that holds a lock; its process."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_process_is_refused_with_the_process_and_host_of_the_first(tmp_path):
    path = tmp_path / "locks" / "t"
    with holder(path) as first:
        named = rf"process {first.pid} on {socket.gethostname()} works on take 't'"
        with pytest.raises(SessionError, match=named), locked(path, "take 't'", wait=False):
            pass
        assert path.exists()


def test_a_second_process_waits_and_says_for_whom(tmp_path, caplog):
    path, began = tmp_path / "t", time.monotonic()
    with holder(path, 1.5) as first, caplog.at_level(logging.WARNING), locked(path, "take 't'"):
        assert time.monotonic() - began > 1.0
    assert f"waiting for process {first.pid} on {socket.gethostname()}, which works on take 't'" in caplog.text


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    path = tmp_path / "t"
    with holder(path) as first:
        first.kill()
        first.wait()
        assert path.exists()
        with locked(path, "take 't'", wait=False):
            assert path.read_text().splitlines()[0] == str(os.getpid())
    assert not path.exists()


def test_a_process_on_another_host_is_named_and_its_lock_may_be_deleted_by_hand(tmp_path):
    path = tmp_path / "t"
    path.write_text(f"{os.getpid()}\nlab-pc-7\n")
    with pytest.raises(SessionError, match="on lab-pc-7 works on take 't'") as error, locked(path, "take 't'"):
        pass
    assert f"delete {path}" in error.value.hint


def test_a_half_written_lock_is_no_obstacle(tmp_path):
    path = tmp_path / "t"
    path.write_text("12")
    with locked(path, "take 't'"):
        pass


def test_the_same_thread_may_hold_a_lock_twice_and_nothing_is_left_behind(tmp_path):
    path = tmp_path / "new" / ".locks" / "t"
    with locked(path, "take 't'"):
        with locked(path, "take 't'"):
            pass
        assert path.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_still_read(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with locked(tmp_path / "t", "take 't'"):
            pass
    finally:
        tmp_path.chmod(0o700)
