"""Writes the Python reference: one page per room that users build on, filled by mkdocstrings."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = {
    "networks": ("Networks", "segment/networks"),
    "losses": ("Losses", "segment/losses"),
    "metrics": ("Metrics", "segment/metrics"),
    "augment": ("Augmentation", "segment/augment"),
    "statistics": ("Statistics", "segment/statistics"),
    "formats": ("Image formats", "segment/io/formats"),
    "inference": ("Inference", "segment/inference"),
    "training": ("Training", "segment/training/callbacks", "segment/training/modules"),
    "data": ("Data", "segment/data", "segment/sampling"),
}
"""Page -> title and folders whose modules it documents."""
CALLS = ("train", "load_run", "load_model", "evaluate", "compare", "build", "datamodule", "Comparison", "Evaluation")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    first = ["# import segment", "", "The functions of `import segment`; `segment.Model` is under"]
    first += ["[inference](inference.md), `segment.UserError` is what every mistake raises.", ""]
    first += [f"::: segment.api.{name}\n" for name in CALLS]
    pages = {"index": "\n".join(first)}
    for name, (title, *folders) in ROOMS.items():
        pages[name] = "\n".join([f"# {title}", "", *(f"::: {module}\n" for module in _modules(folders))])
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/python/{name}.md", content=text))
    return files


def _modules(folders: list[str]) -> list[str]:
    """Modules of folders, without packages that contain nothing."""
    found = []
    for folder in folders:
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            module = file.relative_to(REPOSITORY).with_suffix("").parts
            if module[-1] == "__init__":
                if file.read_text(encoding="utf-8").count("\n") <= 1:
                    continue
                module = module[:-1]
            found.append(".".join(module))
    return found
