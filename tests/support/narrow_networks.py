"""The networks of conf/network with an eighth of their widths."""

from __future__ import annotations

from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from segment.config.compose import compose

NARROWER = 8
WIDTHS = ("features", "up_features", "out_features", "stem_features", "filters", "channels", "init_filters", "width",
          "hidden", "growth", "feature_size", "out_channels")  # fmt: skip
LEAST = {"init_filters": 8, "feature_size": 12, "width": 32}  # of MONAI's networks and TransUNet


def narrow(name: str) -> dict[str, Any]:
    """The description of a network, narrowed but for the widths of published encoders."""
    GlobalHydra.instance().clear()
    node = compose("train", [f"network={name}"]).network
    return _narrowed(OmegaConf.to_container(node, resolve=True))


def _narrowed(node: Any, key: str = "") -> Any:
    if isinstance(node, dict):
        return {name: _narrowed(value, name) for name, value in node.items()}
    if isinstance(node, list):
        return [_narrowed(value, key) for value in node]
    scaled = key in WIDTHS and isinstance(node, int) and not isinstance(node, bool)
    return max(LEAST.get(key, 2), node // NARROWER) if scaled else node
