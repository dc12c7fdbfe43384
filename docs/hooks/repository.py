"""Publishes pages of the repository (README, CONTRIBUTING, ...) in the site, and adapts links to its files."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "data/README.md": "data.md",
    "experiments/README.md": "experiments.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Page of the repository -> page of the site."""

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^(```.*?^```\s*$)", re.M | re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository."""
    for source, page in PAGES.items():
        text = (REPOSITORY / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Adapt the links of a page that lead to files of the repository.

    Raises:
        PluginError: When the repository has no such file.
    """
    sources = {page: source for source, page in PAGES.items()}
    own = page.file.src_uri
    source = sources.get(own, f"docs/{own}")
    parts = _FENCE.split(markdown)
    return "".join(
        part if part.startswith("```") else _LINK.sub(lambda link: _adapted(link, source, own), part) for part in parts
    )


def _adapted(link: re.Match[str], source: str, page: str) -> str:
    """A link of the site: to a page, if the file is published, else the text alone."""
    image, text, target = link.groups()
    if re.match(r"[a-z]+:|#|/", target):
        return link[0]
    file, mark, anchor = target.partition("#")
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), file))
    published = PAGES.get(wanted) or (wanted.removeprefix("docs/") if wanted.startswith("docs/") else None)
    if published is None and (REPOSITORY / wanted).is_dir():
        published = PAGES.get(f"{wanted}/README.md")
    if published is not None:
        return f"{image}[{text}]({posixpath.relpath(published, posixpath.dirname(page) or '.')}{mark}{anchor})"
    if not (REPOSITORY / wanted).exists():
        raise PluginError(f"{source}: links to {target}, but the repository has no {wanted}.")
    return text
