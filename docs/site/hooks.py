"""What the site has besides the pages of docs/: pages of the repository's root, and the Python names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

from twoview import _NAMES

ROOT = Path(__file__).parents[2]
FROM_ROOT = ("CONTRIBUTING.md", "CHANGELOG.md")
TITLES = {"Howto": "How to", "Explain": "Explanations"}
SEARCH = "https://unpkg.com/iframe-worker/shim"
API = """# Python

Everything that `import twoview as tv` offers. Times are seconds, joints (T, J, 2 or 3) of a take's or a clip's own
clock; [conventions](../explain/conventions.md) has axes and units.

"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files of docs/."""
    names = sorted(_NAMES.items(), key=lambda pair: (pair[0][0].islower(), pair[0].lower()))
    files.append(
        File.generated(
            config, "reference/python.md", content=API + "\n\n".join(f"::: twoview.{m}.{n}" for n, m in names)
        )
    )
    for name in FROM_ROOT:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links out of docs/ to the pages that were added; one to another file of the repository becomes its name."""
    del config, files
    here = Path(page.file.src_uri)
    folder = (here if page.file.src_uri in FROM_ROOT else "docs" / here).parent

    def led(link: re.Match[str]) -> str:
        words, name, heading = link[1], link[2], link[3] or ""
        target = Path(os.path.normpath(folder / name))
        if target.parts[0] != "docs" and str(target) not in FROM_ROOT:
            return f"{words} (`{target}`)"
        on_site = target.relative_to("docs") if target.parts[0] == "docs" else target
        return f"[{words}]({os.path.relpath(on_site, here.parent)}{heading})"

    return re.sub(r"\[([^\]]+)\]\(([\w.][\w./-]*)(#[^)]*)?\)", led, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Take the script by which the search works from the disk from this site, not from a network."""
    del config
    return output.replace(SEARCH, os.path.relpath("site/iframe-worker.js", Path(page.file.dest_uri).parent))


def on_post_template(output_content: str, *, template_name: str, config: MkDocsConfig) -> str:
    """The same for the page of an address that is not there."""
    del template_name, config
    return output_content.replace(SEARCH, "/site/iframe-worker.js")


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Give folders the names that readers see."""
    del config, files
    for item in nav.items:
        item.title = TITLES.get(item.title or "", item.title)
    return nav
