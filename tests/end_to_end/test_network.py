"""Nothing but a named download uses the network: sync, detect and infer, where every socket is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from places import ROOT

SCENE = ROOT / "twoview" / "assets" / "demo" / "golf" / "test1"
# Imported by Python before anything else: every use of a socket, a name or a URL ends the process.
GUARD = """
import os, sys

def refuse(event, given):
    if event.startswith(("socket.", "urllib.", "http.client.")) and event not in ("socket.gethostname",):
        sys.stderr.write(f"NETWORK {event} {given!r}\\n")
        sys.stderr.flush()
        os._exit(99)

sys.addaudithook(refuse)
"""
# The same below Python, for libraries of C: preloaded, it writes down each network socket and each look-up.
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static void note(const char *what) {
    int file = open(getenv("NETWORK_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (write(file, what, strlen(what)) < 0) abort();
    close(file);
}
int socket(int family, int kind, int protocol) {
    int (*real)(int, int, int) = dlsym(RTLD_NEXT, "socket");
    if (family == AF_INET || family == AF_INET6) note("socket ");
    return real(family, kind, protocol);
}
int getaddrinfo(const char *n, const char *s, const struct addrinfo *h, struct addrinfo **r) {
    note("getaddrinfo ");
    return EAI_FAIL;
}
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Runs Python code in a new process without network and with a home of its own; the process and its home."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "sitecustomize.py").write_text(GUARD)
    # ONNX Runtime is silent where a variable says that this is a test machine (CI, TF_BUILD, ...): none is kept.
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "TEMP", "SYSTEMROOT")
    environment = {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT), str(ROOT / "tests")]),
        "HOME": str(folder / "home"), "XDG_CACHE_HOME": "", "TWOVIEW_CACHE": str(folder / "cache"),
        "NETWORK_LOG": str(folder / "network.log"), "ORT_DISABLE_TELEMETRY": "0",
    }  # fmt: skip
    compiler = shutil.which("cc") if sys.platform == "linux" else None
    if compiler:
        (folder / "shim.c").write_text(SHIM)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", "shim.so", "shim.c", "-ldl"], cwd=folder, check=True)
        environment["LD_PRELOAD"] = str(folder / "shim.so")

    def run(code: str) -> tuple[subprocess.CompletedProcess[str], Path, str]:
        home, log = folder / "home", folder / "network.log"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        log.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        return done, home, log.read_text() if log.exists() else ""

    return folder, run, bool(compiler)


def files_of_microsoft(home: Path) -> list[str]:
    return [str(path) for path in home.rglob("*") if "microsoft" in str(path.relative_to(home)).lower()]


def test_the_guards_see_the_network(guarded):
    """A look-up by Python ends the process, one by C is written down, and ONNX Runtime left alone leaves its marks."""
    _, run, shim = guarded
    done, _, _ = run("import socket; socket.create_connection(('localhost', 9))")
    assert done.returncode == 99
    done, _, _ = run("import urllib.request; urllib.request.urlopen('https://localhost:9')")
    assert done.returncode == 99
    if shim:
        done, _, log = run("import ctypes\nctypes.CDLL(None).getaddrinfo(b'localhost', None, None, None)")
        assert log == "getaddrinfo "
    model = ROOT / "twoview" / "assets" / "movenet" / "movenet-thunder.w16.onnx"
    done, home, _ = run(f"import onnxruntime, time\nonnxruntime.InferenceSession({str(model)!r})\ntime.sleep(1)")
    assert done.returncode == 0, done.stderr
    if version("onnxruntime") == "1.32.0" and sys.platform == "linux":
        assert files_of_microsoft(home)


def test_sync_detect_and_infer_use_no_network(guarded):
    folder, run, _ = guarded
    for view in "ab":
        shutil.copyfile(SCENE / f"view_{view}.mp4", folder / f"{view}.mp4")
    words = [
        ["sync", "a.mp4", "b.mp4"],
        ["detect", "--detector", "movenet", "--views", "a"],
        ["infer", "b.mp4", "--model", "twoview-small", "--detector", "movenet", "--no-picture"],
    ]
    code = (
        "import sys, time\nfrom twoview.__main__ import main\n"
        f"for words in {words!r}:\n"
        "    sys.argv = ['twoview', *words]\n"
        "    try:\n        main()\n"
        "    except SystemExit as stop:\n        assert stop.code in (0, None), stop.code\n"
        "time.sleep(0.5)\n"
    )
    done, home, log = run(code)
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stderr
    assert log == ""
    assert files_of_microsoft(home) == []
    assert (folder / "session" / "takes" / "take1" / "detections" / "a.npz").exists()
    assert (folder / "session" / "results" / "b.npz").exists()
