"""Five lines for whoever gets an exported network without this program."""

from __future__ import annotations

from segment.inference.engines.onnx_file import IMAGE
from segment.inference.exported import FILES
from segment.inference.model import Model

NAME = "README.md"
_ONNX_RUNTIME = """\
import numpy, onnxruntime
session = onnxruntime.InferenceSession("{file}")
window = numpy.zeros({window}, "float32")  # normalised as model.json says under plan
(logits,) = session.run(None, {{session.get_inputs()[0].name: window}})
classes = logits.argmax(1)
"""
_OPENVINO = """\
import numpy, openvino
network = openvino.Core().compile_model("{file}", "CPU")
window = numpy.zeros({window}, "float32")  # normalised as model.json says under plan
logits = network(window)[0]
classes = logits.argmax(1)
"""
_TENSORFLOW = """\
## TensorFlow

TensorFlow reads no ONNX itself; converters are made by others, and this file was not converted. `onnx2tf` 1.28.8 with
TensorFlow 2.21 (`onnx2tf -i {file} -o saved`) gave the logits of a small 2D U-Net to 1e-6, channels last, but wrong
ones, without an error, of a 3D one: its transposed convolutions differ. So compare first:

```python
import numpy, onnxruntime, tensorflow
window = numpy.random.default_rng(0).normal(size={window}).astype("float32")
(ours,) = onnxruntime.InferenceSession("{file}").run(None, {{"{image}": window}})
network = tensorflow.saved_model.load("saved").signatures["serving_default"]
(theirs,) = network(tensorflow.constant(numpy.moveaxis(window, 1, -1))).values()
print(abs(numpy.moveaxis(theirs.numpy(), -1, 1) - ours).max())  # above 1e-3: do not use it
```

"""


def readme(model: Model, format: str) -> str:
    """The text of the folder's ``README.md``.

    Args:
        model: The model that was exported.
        format: ``onnx`` or ``openvino``.

    Returns:
        Markdown with five lines of Python for each program that reads the file.
    """
    file = FILES[format][0]
    window, logits = (list(shape) for shape in model.shapes)
    given = {"file": file, "window": window}
    parts = {"ONNX Runtime": _ONNX_RUNTIME} if format == "onnx" else {}
    parts |= {"OpenVINO": _OPENVINO}
    blocks = [f"## {name}\n\n```python\n{code.format(**given)}```\n" for name, code in parts.items()]
    more = _TENSORFLOW.format(image=IMAGE, **given) if format == "onnx" else ""
    regions = (
        " Regions overlap: take `logits > 0` for each in place of the largest.\n" if model.labels.regions else "\n"
    )
    named = ", ".join(model.labels.regions or model.labels)
    return (
        f"# {model.dataset or 'A network'} for other programs\n\n"
        f"`{file}` maps a window {window} (batch, channel, axes) to logits {logits} of {named}.{regions}\n"
        "Whole scans, on their own grid: `segment predict model=THIS_FOLDER input=FOLDER output=FOLDER`, or "
        "`segment serve model=THIS_FOLDER`.\n\n" + "\n".join(blocks) + ("\n" + more if more else "")
    ).rstrip() + "\n"
