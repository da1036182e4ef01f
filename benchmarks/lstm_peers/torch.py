"""PyTorch: nn.LSTM on packed sequences (cuDNN on a GPU), and a loop of nn.LSTMCell."""

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
    if args.get("h0") is not None:
        return
    yield f"PyTorch {torch.__version__}, nn.LSTM", *_packed(args, options)
    if len(args["Wx"]) == 1:
        yield "PyTorch, LSTMCells", *_cells(args, options)


@torch.no_grad()
def copy_layer(network: torch.nn.LSTM, layer: int, Wx: np.ndarray, Wh: np.ndarray, b: np.ndarray) -> None:
    """Into a layer of nn.LSTM, whose second bias is zero then: Wx (D, I, 4H), Wh (D, H, 4H), b (D, 4H)."""
    for d, suffix in enumerate(["", "_reverse"][:len(Wx)]):
        for name, ours in (("weight_ih", Wx), ("weight_hh", Wh), ("bias_ih", b)):
            getattr(network, f"{name}_l{layer}{suffix}").copy_(torch.from_numpy(np.ascontiguousarray(ours[d].T)))
        getattr(network, f"bias_hh_l{layer}{suffix}").zero_()


def _cells(args: Mapping[str, Any], options: argparse.Namespace) -> tuple[Callable, Callable]:
    """One direction, a cell a step, its states kept where a sentence has ended."""
    (I, H), made = (args["Wx"].shape[1], args["Wh"].shape[1]), {}

    def module(dtype: str) -> torch.nn.LSTMCell:
        if dtype not in made:
            made[dtype] = torch.nn.LSTMCell(I, H).to(getattr(torch, dtype)).to(options.device)
            with torch.no_grad():
                for theirs, ours in (("weight_ih", "Wx"), ("weight_hh", "Wh"), ("bias_ih", "b")):
                    getattr(made[dtype], theirs).copy_(torch.from_numpy(np.ascontiguousarray(args[ours][0].T)))
                made[dtype].bias_hh.zero_()
        return made[dtype]

    def forward(x, lengths, **_):
        cell, x = module(str(x.dtype)), _tensor(x).requires_grad_()
        is_token = (torch.arange(len(x))[:, None] < torch.from_numpy(to_device(lengths, "cpu"))).to(x.device)
        starts = [torch.zeros((x.shape[1], H), dtype=x.dtype, device=x.device, requires_grad=True) for _ in "hc"]
        h, c, ys = *starts, []
        for step, keep in zip(x.unbind(0), is_token[:, :, None].unbind(0), strict=True):
            new_h, new_c = cell(step, (h, c))
            h, c = torch.where(keep, new_h, h), torch.where(keep, new_c, c)
            ys.append(torch.where(keep, new_h, 0))
        outputs = torch.stack(ys), h[None], c[None]
        return tuple(_array(output.detach()) for output in outputs), (cell, (x, *starts), outputs)

    def backward(dy, dh, dc, cache):
        cell, inputs, outputs = cache
        dx, dh0, dc0, dWx, dWh, db = torch.autograd.grad(
            outputs, (*inputs, cell.weight_ih, cell.weight_hh, cell.bias_ih), tuple(map(_tensor, (dy, dh, dc))),
            retain_graph=True)
        gradients = dx, dWx.T[None], dWh.T[None], db[None], dh0[None], dc0[None]
        return dict(zip(("dx", "dWx", "dWh", "db", "dh0", "dc0"), map(_array, gradients), strict=True))

    return forward, backward


def _packed(args: Mapping[str, Any], options: argparse.Namespace) -> tuple[Callable, Callable]:
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = options.matmul == "tf32"
    D, I, H = args["Wx"].shape[0], args["Wx"].shape[1], args["Wh"].shape[1]
    made: dict[str, torch.nn.LSTM] = {}

    def module(dtype: str) -> torch.nn.LSTM:
        if dtype not in made:
            made[dtype] = torch.nn.LSTM(I, H, bidirectional=D == 2).to(getattr(torch, dtype)).to(options.device)
            copy_layer(made[dtype], 0, args["Wx"], args["Wh"], args["b"])
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
        names, weights = zip(*network.named_parameters(), strict=True)
        dx, dh0, dc0, *dweights = torch.autograd.grad(outputs, (*inputs, *weights), tuple(map(_tensor, (dy, dh, dc))),
                                                      retain_graph=True)
        grads = dict(zip(names, dweights, strict=True))
        both = lambda name: [grads[f"{name}_l0{suffix}"] for suffix in ["", "_reverse"][:D]]
        stacked = [torch.stack([g.T if g.ndim == 2 else g for g in both(name)])
                   for name in ("weight_ih", "weight_hh", "bias_ih")]
        return dict(zip(("dx", "dWx", "dWh", "db", "dh0", "dc0"), map(_array, (dx, *stacked, dh0, dc0)), strict=True))

    return forward, backward


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else torch.from_dlpack(array)


def _array(tensor: torch.Tensor) -> Any:
    if tensor.device.type == "cpu":
        return tensor.numpy()
    return device_module(f"cuda:{tensor.device.index}").from_dlpack(tensor)
