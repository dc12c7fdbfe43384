"""Links of Markdown pages to files of the repository and to headings; links of the site are checked by `make docs`."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    page.relative_to(REPOSITORY)
    for pattern in ("*.md", ".github/*.md", "docs/**/*.md", "*/README.md", "experiments/*/README.md")
    for page in REPOSITORY.glob(pattern)
)
LINK = re.compile(r"\]\(([^()\s]+)\)")
GENERATED = "docs/reference/"  # also contains pages that are written when the site is built


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub and MkDocs name them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", (REPOSITORY / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in LINK.findall(text):
        file, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        target = (REPOSITORY / page).parent / file if file else REPOSITORY / page
        inside = target.resolve().relative_to(REPOSITORY.resolve())
        if str(inside).startswith(GENERATED) and not target.exists():
            continue
        assert target.exists(), f"{page} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page} links to {link}, which is no heading"
