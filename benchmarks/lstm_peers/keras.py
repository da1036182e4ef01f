"""Keras 3 on its torch backend: layers.LSTM, or Bidirectional, under a mask; gradients by torch.autograd."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras  # noqa: E402  it reads the variable above
import torch  # noqa: E402


def lstm(args: Mapping[str, Any], options: argparse.Namespace) -> Iterator[tuple[str, Callable, Callable]]:
    """The layer with our weights, in Keras' order of gates, i f c o, which is ours."""
    if args.get("h0") is not None or options.device != "cpu" or keras.backend.backend() != "torch":
        return
    torch.set_num_threads(options.threads)
    D, H = len(args["Wx"]), args["Wh"].shape[1]
    made: dict[str, Any] = {}

    def layer(dtype: str) -> Any:
        if dtype not in made:
            cell = keras.layers.LSTM(H, return_sequences=True, return_state=True, dtype=dtype)
            made[dtype] = keras.layers.Bidirectional(cell, merge_mode="concat", dtype=dtype) if D == 2 else cell
            made[dtype].build((None, None, args["Wx"].shape[1]))
            made[dtype].set_weights([args[name][d] for d in range(D) for name in ("Wx", "Wh", "b")])
        return made[dtype]

    def forward(x, lengths, **_):
        network = layer(str(x.dtype))
        T, B, _ = x.shape
        inputs = torch.from_numpy(np.ascontiguousarray(x.transpose(1, 0, 2))).requires_grad_()
        is_token = torch.from_numpy(np.arange(T) < lengths[:, None])
        y, *states = network(inputs, mask=is_token)
        y = (y * is_token[:, :, None]).transpose(0, 1)  # Keras repeats the last output in the padding
        outputs = (y, torch.stack(states[0::2]), torch.stack(states[1::2]))
        return tuple(output.detach().numpy() for output in outputs), (network, inputs, outputs)

    def backward(dy, dh, dc, cache):
        network, inputs, outputs = cache
        weights = [variable.value for variable in network.trainable_weights]
        dx, *dweights = torch.autograd.grad(outputs, (inputs, *weights), tuple(map(torch.from_numpy, (dy, dh, dc))),
                                            retain_graph=True)
        stacked = [torch.stack(dweights[k::3]).numpy() for k in range(3)]
        return dict(zip(("dx", "dWx", "dWh", "db"), (dx.transpose(0, 1).numpy(), *stacked), strict=True))

    yield f"Keras {keras.__version__} on torch", forward, backward
