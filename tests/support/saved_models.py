"""A small model saved for sharing, and a check of the errors of a damaged one."""

import json
from pathlib import Path

import pytest
import torch

from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference.architecture import build
from segment.inference.model import load_model, save_model
from segment.preprocessing.plan import Plan

UNET = "segment.networks.unet.UNet"
PADDED = "segment.networks.padding.PadToDivisor"
STAGED = {"_target_": "segment.networks.encoders.staged.StagedEncoder", "_partial_": True}
DECODER = {"_target_": "segment.networks.decoders.unet.UNetDecoder", "_partial_": True}
STAGE = {"_target_": "segment.networks.stages.BlockStage", "_partial_": True}


def tiny(**encoder) -> dict:
    """A small network's description; the arguments are its encoder's."""
    encoder = STAGED | {"features": [4, 6]} | encoder
    return {"_target_": UNET, "spatial_dims": 2, "in_channels": 1, "out_channels": 3, "encoder": encoder} | {
        "decoder": DECODER
    }


TINY = tiny()
PLAN = Plan((0.5, 1.5), (16, 24), 2, ("zscore",))
LABELS = Labels({"background": 0, "head": 7, "tail": 3})
INFERENCE = {"_target_": "segment.inference.windows.SlidingWindows", "overlap": 0.5, "mirror": "all"}


def save(folder: Path, architecture: dict = TINY, plan: Plan = PLAN) -> torch.nn.Module:
    torch.manual_seed(0)
    network = build(architecture)
    save_model(folder, network, architecture, plan, LABELS, ("ct",), INFERENCE, "demo")
    return network.eval()


def edit(folder: Path, **changes) -> None:
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(content | changes))


def refused(folder: Path, name: str = "model.json", **more) -> str:
    """The error of loading it, which must name the file and be one paragraph."""
    with pytest.raises(UserError) as refusal:
        load_model(folder, **more)
    words = str(refusal.value)
    assert str(folder / name) in words
    assert "\n\n" not in words
    return words
