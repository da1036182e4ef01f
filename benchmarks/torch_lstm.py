"""torch.nn.LSTM beside our LSTM over a sequence: oneDNN on a CPU, cuDNN on a GPU; and a loop of torch.nn.LSTMCell."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from scratchnmt.arrays import device_module, to_device


def lstm(args: Mapping[str, Any], options: argparse.Namespace) -> Iterator[tuple[str, Callable, Callable]]:
    """(name, forward, backward) with our arguments and gradients, which the arrays are shared with, not copied."""
    if args.get("h0") is None:
        yield "PyTorch", *_packed(args, options)


def _packed(args: Mapping[str, Any], options: argparse.Namespace) -> tuple[Callable, Callable]:
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = options.matmul == "tf32"
    D, I, H = args["Wx"].shape[0], args["Wx"].shape[1], args["Wh"].shape[1]
    made: dict[str, torch.nn.LSTM] = {}

    def module(dtype: str) -> torch.nn.LSTM:
        if dtype not in made:
            made[dtype] = torch.nn.LSTM(I, H, bidirectional=D == 2).to(getattr(torch, dtype)).to(options.device)
            with torch.no_grad():
                for d, suffix in enumerate(["", "_reverse"][:D]):
                    for theirs, ours in (("weight_ih", "Wx"), ("weight_hh", "Wh"), ("bias_ih", "b")):
                        value = torch.from_numpy(np.ascontiguousarray(args[ours][d].T))
                        getattr(made[dtype], f"{theirs}_l0{suffix}").copy_(value)
                    getattr(made[dtype], f"bias_hh_l0{suffix}").zero_()
        return made[dtype]

    def forward(x, lengths, **_):
        network = module(str(x.dtype))
        x = _tensor(x).requires_grad_()
        packed = pack_padded_sequence(x, torch.from_numpy(to_device(lengths, "cpu")), enforce_sorted=False)
        starts = [torch.zeros((D, x.shape[1], H), dtype=x.dtype, device=x.device, requires_grad=True) for _ in "hc"]
        y, (h, c) = network(packed, tuple(starts))
        y = pad_packed_sequence(y, total_length=len(x))[0]
        return tuple(map(_array, (y.detach(), h.detach(), c.detach()))), (network, (x, *starts), (y, h, c))

    def backward(dy, dh, dc, cache):
        network, inputs, outputs = cache
        names, weights = zip(*network.named_parameters())
        dx, dh0, dc0, *found = torch.autograd.grad(outputs, (*inputs, *weights), tuple(map(_tensor, (dy, dh, dc))),
                                                   retain_graph=True)
        grads = dict(zip(names, found))
        both = lambda name: [grads[f"{name}_l0{suffix}"] for suffix in ["", "_reverse"][:D]]
        stacked = [torch.stack([g.T if g.ndim == 2 else g for g in both(name)])
                   for name in ("weight_ih", "weight_hh", "bias_ih")]
        return dict(zip(("dx", "dWx", "dWh", "db", "dh0", "dc0"), map(_array, (dx, *stacked, dh0, dc0))))

    return forward, backward


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else torch.from_dlpack(array)


def _array(tensor: torch.Tensor) -> Any:
    return tensor.numpy() if tensor.device.type == "cpu" else device_module(f"cuda:{tensor.device.index}").from_dlpack(tensor)
