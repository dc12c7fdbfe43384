"""ONNX Runtime computes a network."""

from __future__ import annotations

import numpy as np
import torch

from segment.inference.engines.engine import Engine
from segment.inference.engines.onnx_file import IMAGE


def onnxruntime_engine(data: bytes) -> Engine:
    """An engine for the bytes of an ONNX file that `check_onnx` found plain; it uses torch's number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    # From bytes, so that no path of another file could be followed.
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def infer(window: np.ndarray) -> np.ndarray:
        logits: np.ndarray = session.run(None, {IMAGE: window})[0]
        return logits

    return Engine(infer)
