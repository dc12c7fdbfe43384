"""``segment fetch``: download a data set and verify its checksum."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from segment.command_line import assign
from segment.command_line import command as command_line
from segment.data.fetch import download
from segment.errors import UserError
from segment.workflow.experiment import NO_COMMAND, Command


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Download the archive of ``data.source`` to ``data.root``."""
    source = OmegaConf.to_container(config.data.source) if config.data.get("source") else None
    if not isinstance(source, dict) or not source.get("url"):
        raise UserError(
            f"data={config.data.get('name')}: has no download URL. data/README.md says how to get each data set; for "
            "your own, set data.root to its folder."
        )
    source.pop("licence", None)
    folder = download(destination=config.data.root, **{str(key): value for key, value in source.items()})
    train = command_line("train", f"data={config.data.get('name')}", assign("data.root", str(folder)))
    print(f"{folder} is ready: {train}")
