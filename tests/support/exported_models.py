"""A model folder with a small ONNX network, written without torch's exporter."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from saved_models import LABELS, PLAN, save

from segment.files import file_sha256
from segment.inference.engines.onnx_file import IMAGE, LOGITS
from segment.inference.exported import Export

INPUTS, OUTPUTS = (1, 1, *PLAN.patch_size), (1, LABELS.outputs, *PLAN.patch_size)
Change = Callable[[onnx.ModelProto], None]


def unchanged(model: onnx.ModelProto) -> None:
    """The network as it is."""


def onnx_network(change: Change = unchanged) -> bytes:
    """A convolution of one voxel to a logit for each label: minus, equal and plus the intensity."""
    weight = numpy_helper.from_array(np.array([-1, 0, 1], np.float32).reshape(3, 1, 1, 1), "weight")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in ((IMAGE, INPUTS), (LOGITS, OUTPUTS))
    ]
    node = helper.make_node("Conv", [IMAGE, "weight"], [LOGITS])
    graph = helper.make_graph([node], "network", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    change(model)
    return model.SerializeToString()


def write_files(folder: Path, files: dict[str, bytes], format: str = "onnx") -> Path:
    """Make a model folder an export with these files, their hashes included."""
    if not (folder / "model.json").exists():
        save(folder)
        (folder / "weights.safetensors").unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    hashes = {name: file_sha256(folder / name) for name in files}
    export = Export(format, "fp32", hashes, "0", {}, {})
    content = json.loads((folder / "model.json").read_text()) | {"format": 2, "export": asdict(export)}
    (folder / "model.json").write_text(json.dumps(content))
    return folder
