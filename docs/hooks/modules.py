"""Writes the Python reference: one page per room that users build on, filled by mkdocstrings."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = {
    "networks": (
        "Networks",
        "unet.py",
        "encoders",
        "decoders",
        "stages.py",
        "joins.py",
        "blocks.py",
        "padding.py",
        ".",
    ),
    "losses": ("Losses", "."),
    "metrics": ("Metrics", "metric.py", "."),
    "augment": ("Augmentation", "augmentation.py", "recipe.py", "spatial.py", "changes.py", "monai_transforms.py", "."),
    "statistics": ("Statistics", "."),
    "io/formats": ("Image formats", "base.py", "registry.py", "."),
    "inference": ("Inference", "model.py", "windows.py", "prediction.py", "predictor.py", "."),
    "training": ("Training", "modules", "callbacks"),
    "data": ("Data", "case.py", "labels.py", "splits.py", "layouts", "."),
    "sampling": ("Sampling", "datamodule.py", "."),
}
"""Folder in segment/ -> title, and what it documents in which order; ``.`` is everything else."""
CALLS = ("train", "load_run", "load_model", "evaluate", "compare", "build", "datamodule", "Comparison", "Evaluation")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    first = ["# import segment", "", "The functions of `import segment`. `segment.Model` is under"]
    first += ["[inference](inference.md); `segment.UserError` is raised for every mistake that a user can fix.", ""]
    first += [f"::: segment.api.{name}\n" for name in CALLS]
    pages = {"index": "\n".join(first)}
    for room, (title, *parts) in ROOMS.items():
        named = room.rpartition("/")[2]
        pages[named] = "\n".join([f"# {title}", "", *(f"::: {module}\n" for module in _modules(room, parts))])
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/python/{name}.md", content=text))
    return files


def _modules(room: str, parts: list[str]) -> list[str]:
    """Modules of a room in the order of its parts, without packages that contain nothing."""
    folder = REPOSITORY / "segment" / room
    found: dict[str, None] = {}
    for part in parts:
        for file in [folder / part] if part.endswith(".py") else sorted((folder / part).rglob("*.py")):
            module = file.relative_to(REPOSITORY).with_suffix("").parts
            if module[-1] == "__init__":
                if file.read_text(encoding="utf-8").count("\n") <= 1:
                    continue
                module = module[:-1]
            found[".".join(module)] = None
    return list(found)
