"""Reading our html pages: what they load, what data they hold, and what a browser shows, where one is installed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, Any

# It reads from file 3 and answers to file 4.
_LAUNCH = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3]]
for pipe, number in zip(pipes, (3, 4)):
    os.dup2(pipe, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless_shell")


class Page(HTMLParser):
    """An html file: its elements, texts, scripts, data by id, and policy."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.text = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.data: dict[str, Any] = {}
        self.words: list[str] = []
        self._inside: tuple[str, dict[str, str | None]] = ("", {})
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = (tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ("", {})

    def handle_data(self, data: str) -> None:
        tag, attributes = self._inside
        if tag == "script" and attributes.get("type") == "application/json":
            self.data[attributes["id"] or ""] = json.loads(data)
        elif tag == "script":
            self.scripts.append(data)
        elif tag == "style":
            self.styles.append(data)
        else:
            self.words.append(data)

    @property
    def policy(self) -> dict[str, list[str]]:
        """The content policy: directive -> sources."""
        (content,) = (a["content"] for t, a in self.tags if a.get("http-equiv") == "Content-Security-Policy")
        return {name: rest for name, *rest in (part.split() for part in (content or "").split(";"))}

    def loaded(self) -> list[str]:
        """What the page names to be loaded, other than what it holds itself."""
        names = ("src", "href", "srcset", "poster", "action", "data", "xlink:href", "background")
        found = [a[name] or "" for _, a in self.tags for name in names if name in a]
        found += [hit for style in self.styles for hit in re.findall(r"url\([^)]*\)|@import[^;]*", style)]
        found += [f"<{tag}>" for tag, _ in self.tags if tag in ("link", "iframe", "object", "embed", "base")]
        return [one for one in found if not one.startswith(("data:", "#", "url(#", "url(data:"))]

    def handlers(self) -> list[str]:
        """Attributes that would run as code."""
        return [name for _, attributes in self.tags for name in attributes if name.startswith("on")]


def refused_scripts(page: Page) -> list[str]:
    """Scripts that the page's own policy would not run."""
    allowed = page.policy["script-src"]
    return [code[:60] for code in page.scripts if f"'sha256-{hash_of(code)}'" not in allowed]


def hash_of(code: str) -> str:
    """The hash of a script as a content policy names it."""
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def browser() -> str | None:
    """A headless Chromium: $CHROMIUM, or the first of BROWSERS that is installed."""
    if os.name == "nt":  # it takes other pipes there
        return None
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


def shown_in_browser(path: Path, test: str, *, size: tuple[int, int] = (1200, 900)) -> tuple[Any, list[str]]:
    """What `test`, the body of an async function in the page, returns in a browser, and every address it asked for.

    Errors of the page raise here. The browser is spoken to through two pipes, by its DevTools protocol.
    """
    program, (to_read, to_send), (from_read, from_send) = browser(), os.pipe(), os.pipe()
    options = [
        "--headless", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--no-first-run",
        "--enable-unsafe-swiftshader", "--remote-debugging-pipe", f"--user-data-dir={path.parent / 'browser'}",
    ]  # fmt: skip
    command = [sys.executable, "-c", _LAUNCH, str(to_read), str(from_send), str(program), *options]
    process = subprocess.Popen(command, pass_fds=(to_read, from_send), stderr=subprocess.DEVNULL)
    timer = threading.Timer(60, process.kill)
    timer.start()
    os.close(to_read)
    os.close(from_send)
    try:
        with open(to_send, "wb", buffering=0) as pipe, open(from_read, "rb", buffering=0) as answers:
            return _tested(_Talk(pipe, answers), path, test, size)
    finally:
        timer.cancel()
        process.kill()
        process.wait()


def _tested(talk: _Talk, path: Path, test: str, size: tuple[int, int]) -> tuple[Any, list[str]]:
    target = talk.ask("Target.createTarget", url="about:blank")["targetId"]
    talk.session = talk.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    talk.ask("Emulation.setDeviceMetricsOverride", **metrics)
    for domain in ("Page", "Runtime", "Network", "Log"):
        talk.ask(f"{domain}.enable")
    talk.ask("Page.navigate", url=path.as_uri())
    while not any(event["method"] == "Page.loadEventFired" for event in talk.events):
        talk.read()
    whole = f"(async () => {{ const pause = (ms) => new Promise((done) => setTimeout(done, ms)); {test} }})()"
    answer = talk.ask("Runtime.evaluate", expression=whole, awaitPromise=True, returnByValue=True)
    wrong = ("Runtime.exceptionThrown", "Log.entryAdded")
    errors = [json.dumps(event["params"])[:800] for event in talk.events if event["method"] in wrong]
    errors += [json.dumps(answer["exceptionDetails"])[:800]] if "exceptionDetails" in answer else []
    assert errors == []
    sent = [event["params"]["request"]["url"] for event in talk.events if event["method"].endswith("WillBeSent")]
    return answer["result"].get("value"), sent


class _Talk:
    """Questions to a browser and its answers: JSON, each message ended by a zero byte."""

    def __init__(self, pipe: IO[bytes], answers: IO[bytes]) -> None:
        self.events: list[dict[str, Any]] = []
        self.session = ""
        self._pipe, self._answers, self._rest, self._count = pipe, answers, b"", 0

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        self._pipe.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def read(self) -> dict[str, Any]:
        """The next message; an event is kept."""
        while b"\0" not in self._rest:
            piece = self._answers.read(1 << 16)
            assert piece, "the browser ended"
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message
