"""ONNX Runtime: its LSTM operator, forward alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def lstm(args: Mapping[str, Any], options: argparse.Namespace) -> Iterator[tuple[str, Callable, None]]:
    """A graph of one node; float32, on the CPU."""
    if args.get("h0") is not None or options.device != "cpu" or options.dtype != "float32":
        return
    session = _session(args, options.threads)

    def forward(x, lengths, **_):
        y, h, c = session.run(None, {"x": x, "lengths": lengths.astype("int32")})
        T, D, B, H = y.shape
        return (y.transpose(0, 2, 1, 3).reshape(T, B, D * H), h, c), None

    yield f"ONNX Runtime {onnxruntime.__version__}", forward, None


def _session(args: Mapping[str, Any], threads: int) -> onnxruntime.InferenceSession:
    D, I, H = (*args["Wx"].shape[:2], args["Wh"].shape[1])
    gates = lambda W: np.concatenate([np.split(W, 4, axis=-1)[k] for k in (0, 3, 1, 2)], axis=-1)  # i f g o -> i o f c
    weights = {"W": gates(args["Wx"]).transpose(0, 2, 1), "R": gates(args["Wh"]).transpose(0, 2, 1),
               "B": np.concatenate([gates(args["b"]), np.zeros_like(args["b"])], axis=-1)}
    node = helper.make_node("LSTM", ["x", "W", "R", "B", "lengths"], ["y", "h", "c"], hidden_size=H,
                            direction="bidirectional" if D == 2 else "forward")
    shape = lambda name, kind, dims: helper.make_tensor_value_info(name, kind, dims)
    graph = helper.make_graph(
        [node], "lstm", [shape("x", TensorProto.FLOAT, ["T", "B", I]), shape("lengths", TensorProto.INT32, ["B"])],
        [shape(name, TensorProto.FLOAT, None) for name in "yhc"],
        [numpy_helper.from_array(np.ascontiguousarray(w, "float32"), name) for name, w in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    choices = onnxruntime.SessionOptions()
    choices.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), choices, providers=["CPUExecutionProvider"])
