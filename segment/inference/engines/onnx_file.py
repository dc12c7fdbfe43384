"""A network as an ONNX file, and the check of one that somebody else wrote."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from segment.errors import UserError
from segment.text import one_line

if TYPE_CHECKING:
    import onnx

DOMAINS = ("", "ai.onnx")
MAX_NODES = 50_000  # the largest networks in use have about 5,000
MAX_VALUES = 1 << 31  # in one map; 8 GB in fp32
IMAGE, LOGITS = "image", "logits"  # names of input and output


def to_onnx(network: nn.Module, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
    """Convert a network to the bytes of an ONNX file that `check_onnx` finds plain.

    torch's older exporter, which traces the network, takes seconds where the newer one takes minutes. The newer one
    converts what the older one cannot, such as group norms whose shapes it leaves open.

    Args:
        network: On the CPU and in evaluation mode.
        inputs: Shape of one window: (1, channel, *window).
        outputs: Shape of its logits: (1, output, *window).

    Raises:
        UserError: When the network computes something that ONNX lacks.
    """
    window = torch.zeros(*inputs)
    for newer in (False, True):
        try:
            data = _exported(network, window, newer)
            check_onnx(data, inputs, outputs)
        except Exception as error:  # both exporters, protobuf and the check raise their own kinds
            reason = one_line(error)[:300]
        else:
            return data
    raise UserError(
        f"model: its network {type(network).__name__} cannot be converted to ONNX ({reason}). Predict it with "
        "inference.engine=torch or compile."
    )


def _exported(network: nn.Module, window: Tensor, newer: bool) -> bytes:
    """The bytes that one of torch's exporters writes, without what tells of the machine."""
    import onnx

    stream = io.BytesIO()
    with warnings.catch_warnings(), quiet("torch.onnx", "onnxscript", "onnx_ir"):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (window,),
            stream,  # type: ignore[arg-type]  # a buffer is taken too
            input_names=[IMAGE],
            output_names=[LOGITS],
            dynamo=newer,
            external_data=False,
            verbose=False,
        )
    model = onnx.load_model_from_string(stream.getvalue())
    graph = model.graph
    # Where in the code each node comes from: paths of this machine.
    for part in (model, graph, *graph.input, *graph.output, *graph.initializer, *graph.node, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    data: bytes = model.SerializeToString()
    return data


@contextlib.contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Let loggers pass errors only."""
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    try:
        for logger in levels:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def check_onnx(data: bytes, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    """Check that an ONNX file is a plain network, before any engine reads it.

    It may keep no tensor in another file, name no operator outside the ONNX standard, contain no loop, condition or
    function, and none of its maps may be larger than any network's.

    Args:
        data: Content of the file.
        inputs: Shape of its only input, one window: (1, channel, *window).
        outputs: Shape of its only output: (1, output, *window).

    Raises:
        ValueError: When it is not, or cannot be read.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own kinds
        raise ValueError(f"it is not an ONNX file ({one_line(error)[:200]})") from error
    _check_nodes(model)
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "another file")
            raise ValueError(f"its tensor {tensor.name[:100]!r} lies outside the file, in {place[:200]!r}")
        _check_size(tensor.name, tensor.dims)
    try:
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # onnx's own kinds
        raise ValueError(f"its maps have no valid shapes ({one_line(error)[:200]})") from error
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        _check_size(value.name, _shape(value))
    for kind, values, expected in (("input", model.graph.input, inputs), ("output", model.graph.output, outputs)):
        shapes = [_shape(value) for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
        if len(values) != 1 or shapes != [list(expected)]:
            raise ValueError(f"its {kind} has the shapes {shapes}, but model.json needs one float32 {list(expected)}")


def _check_nodes(model: onnx.ModelProto) -> None:
    if len(model.graph.node) > MAX_NODES:
        raise ValueError(f"it has {len(model.graph.node):,} nodes, more than any network")
    if model.functions:
        raise ValueError(f"it defines the function {model.functions[0].name[:100]!r}, which no export does")
    domains = [*(entry.domain for entry in model.opset_import), *(node.domain for node in model.graph.node)]
    if foreign := next((domain for domain in domains if domain not in DOMAINS), None):
        raise ValueError(f"it uses operators of {foreign[:100]!r}, which are not those of the ONNX standard")
    for node in model.graph.node:
        if any(entry.HasField("g") or entry.graphs for entry in node.attribute):
            raise ValueError(f"it contains the control flow {node.op_type[:100]!r}, which no export does")


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All tensors with values in a graph without control flow."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for entry in node.attribute:
            yield from (entry.t, *entry.tensors)
            for sparse in (entry.sparse_tensor, *entry.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    """The shape of a map; -1 for an axis without a fixed size."""
    axes = value.type.tensor_type.shape.dim
    return [axis.dim_value if axis.HasField("dim_value") else -1 for axis in axes]


def _check_size(name: str, shape: Sequence[int]) -> None:
    if any(size < 0 for size in shape) or math.prod(shape) > MAX_VALUES:
        raise ValueError(f"its map {name[:100]!r} of shape {list(shape)} has no fixed size or is larger than any")
