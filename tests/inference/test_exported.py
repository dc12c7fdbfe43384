"""A model folder with an exported network: it predicts as told, and one made to do harm is refused."""

import json
import re

import numpy as np
import onnx
import pytest
from exported_models import onnx_network, write_files
from onnx import TensorProto, helper
from saved_models import edit, refused

from segment.errors import UserError
from segment.inference import exported
from segment.inference.engines import names
from segment.inference.engines.open_vino import import_openvino, read_onnx
from segment.inference.model import load_model

SCAN = np.zeros((24, 16), np.float32) + np.arange(16) - 8
AFFINE = np.diag([1.5, 0.5, 1, 1])
EXPECTED = np.where(SCAN.mean() > SCAN, 0, 7)  # the labels with the logits minus and plus the intensity


@pytest.fixture(scope="module")
def openvino_files(tmp_path_factory):
    """The network as OpenVINO writes it."""
    folder = tmp_path_factory.mktemp("openvino")
    import_openvino().save_model(read_onnx(onnx_network()), folder / "network.xml")
    return {name: (folder / name).read_bytes() for name in ("network.xml", "network.bin")}


@pytest.mark.parametrize(("format", "engine"), [("onnx", None), ("onnx", "openvino"), ("openvino", None)])
def test_an_export_is_loaded_and_predicts(format, engine, openvino_files, tmp_path):
    files = openvino_files if format == "openvino" else {"network.onnx": onnx_network()}
    model = load_model(write_files(tmp_path / "model", files, format))
    with pytest.warns(UserWarning, match=f"engine is {engine or model.export.engine} here, torch for"):
        prediction = model.predict(SCAN, AFFINE, inference={"engine": engine})
    np.testing.assert_array_equal(prediction.mask, EXPECTED)


def outside(location):
    def change(model: onnx.ModelProto) -> None:
        (weight,) = model.graph.initializer
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)

    return change


def foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.somebody"
    model.opset_import.append(helper.make_opsetid("com.somebody", 1))


def undeclared_domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"


def function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("ai.onnx", "Conv", ["a"], ["b"], [], [helper.make_opsetid("", 18)]))


def loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], [], body=body))


def value_of_a_node_outside(model: onnx.ModelProto) -> None:
    value = TensorProto(data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["other"], value=value))


def huge_map(model: onnx.ModelProto) -> None:
    size = helper.make_tensor("size", TensorProto.INT64, [2], [1 << 20, 1 << 20])
    model.graph.initializer.append(size)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["huge"]))


def map_without_a_size(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("NonZero", ["image"], ["places"]))


def other_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 32
    model.graph.output[0].type.tensor_type.shape.dim[3].dim_value = 32


def second_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(model.graph.output[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (outside("../../secret"), "lies outside the file, in '../../secret'"),
        (outside("/etc/passwd"), "lies outside the file"),
        (outside("weights.bin"), "lies outside the file"),
        (value_of_a_node_outside, "lies outside the file, in '/etc/passwd'"),
        (foreign_operator, "'com.somebody'"),
        (undeclared_domain, "'com.microsoft'"),
        (function, "defines the function 'Conv'"),
        (loop, "control flow 'Loop'"),
        (huge_map, "larger than any"),
        (map_without_a_size, "no fixed size"),
        (other_input, "its input has the shapes [[1, 1, 16, 32]]"),
        (second_output, "its output has the shapes"),
    ],
    ids=lambda value: getattr(value, "__name__", "") or None,
)
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_onnx_file_that_is_no_plain_network_is_refused(change, words, engine, tmp_path, monkeypatch):
    monkeypatch.setitem(names.FORMATS, "onnx", (engine,))
    folder = write_files(tmp_path / "model", {"network.onnx": onnx_network(change)})
    assert words in refused(folder, "network.onnx")


def extension(xml: str) -> str:
    return xml.replace('type="Convolution" version="opset1"', 'type="Convolution" version="extension"')


def entity(xml: str) -> str:
    return xml.replace("<net", '<!DOCTYPE net [<!ENTITY a "b">]><net')


def openvino_loop(xml: str) -> str:
    return xml.replace('type="Convolution"', 'type="Loop"')


def text_in_place_of_numbers(xml: str) -> str:
    return re.sub(r'element_type="\w+"(?= shape="3,)', 'element_type="string"', xml)


def beyond_its_weights(xml: str) -> str:
    return re.sub(r'offset="\d+"', 'offset="4000000000"', xml)


def larger_window(xml: str) -> str:
    return xml.replace('shape="1,1,16,24"', 'shape="1,1,16,32"')


def huge_window(xml: str) -> str:
    return xml.replace('shape="1,1,16,24"', f'shape="1,1,{1 << 20},{1 << 20}"')


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (extension, "is of 'extension'"),
        (entity, "declares entities"),
        (openvino_loop, "control flow 'Loop'"),
        (text_in_place_of_numbers, "holds text"),
        (beyond_its_weights, "is not a network of OpenVINO"),
        (larger_window, "its input is"),
        (huge_window, "larger than any"),
        (lambda xml: xml[:200], "is not a network of OpenVINO"),
    ],
)
def test_a_network_of_openvino_that_is_not_plain_is_refused(change, words, openvino_files, tmp_path):
    before = openvino_files["network.xml"].decode()
    assert change(before) != before
    files = openvino_files | {"network.xml": change(before).encode()}
    assert words in refused(write_files(tmp_path / "model", files, "openvino"), "network.xml")


@pytest.mark.parametrize("content", [b"", b"onnx", b"\x80\x04K\x01."], ids=["empty", "text", "pickle"])
def test_a_file_that_is_no_network_is_refused(content, tmp_path):
    refused(write_files(tmp_path / "model", {"network.onnx": content}), "network.onnx")


def test_a_changed_missing_or_oversized_file_is_refused(tmp_path, monkeypatch):
    folder = write_files(tmp_path / "model", {"network.onnx": onnx_network()})
    monkeypatch.setattr(exported, "MAX_BYTES", 10)
    assert "larger than 10 bytes" in refused(folder, "network.onnx")
    monkeypatch.undo()
    with (folder / "network.onnx").open("ab") as file:
        file.write(b"\0")
    assert "not the file that model.json was written with" in refused(folder, "network.onnx")
    (folder / "network.onnx").unlink()
    assert "cannot be read" in refused(folder, "network.onnx")


@pytest.mark.parametrize(
    "wrong", [{"format": "keras"}, {"precision": "fp8"}, {"sha256": 3}, {"sha256": None}, {"comparison": []}]
)
def test_an_invalid_entry_is_refused(wrong, tmp_path):
    folder = write_files(tmp_path / "model", {"network.onnx": onnx_network()})
    export = json.loads((folder / "model.json").read_text())["export"]
    edit(folder, export=export | wrong)
    refused(folder)


def test_what_an_export_cannot_do_is_said(tmp_path):
    model = load_model(write_files(tmp_path / "model", {"network.onnx": onnx_network()}))
    for given, words in (
        ({"inference": {"engine": "torch"}}, "run by onnxruntime or openvino"),
        ({"inference": {"engine": "openvno"}}, "Did you mean 'openvino'"),
        ({"precision": "bf16-mixed"}, "exported to compute in 32-true"),
    ):
        with pytest.raises(UserError, match=words):
            model.settings(**given)


def test_openvino_reports_to_nobody():
    """Its package sends its use to a server of its maker as soon as it is imported."""
    openvino = import_openvino()
    assert type(openvino.tools.ovc.telemetry).__module__ == "openvino.tools.ovc.telemetry_stub"
