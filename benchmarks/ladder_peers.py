"""The ladder's stack of LSTM layers by PyTorch and by FlashRNN, on sentences that are all T long.

Both know nothing of lengths, which is what makes them fast: cuDNN has a persistent kernel for some sizes, float16, one
direction and rows that are not packed.  On a GPU the passes of nn.LSTM are captured as CUDA graphs, so that no host
takes part in its time; on a CPU the stacks are compared with ours and not timed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from scratchnmt.arrays import Array, to_device
from scratchnmt.errors import InputError

from .ladder import WEIGHTS, largest_error
from .lstm_peers.torch import copy_layer
from .torch_capture import capture

AGREEMENT = {"float32": 1e-4, "tf32": 1e-2, "float16": 1e-2, "bfloat16": 5e-2}  # of the norm of y and of dx


def dtype_of(precision: str) -> torch.dtype:
    return torch.float32 if precision == "tf32" else getattr(torch, precision)


class Peer(NamedTuple):
    """A stack and what it computes with."""

    name: str
    precision: str  # one of AGREEMENT
    network: Callable[[Tensor], Tensor]  # x (T, B, I) -> y (T, B, DH)
    weights: list[Tensor]
    captured: bool  # on a GPU

    @property
    def dtype(self) -> torch.dtype:
        return dtype_of(self.precision)

    @property
    def computes_in(self) -> tuple[str, str]:
        """The type of its numbers, and what products read of them."""
        return ("float32", "tf32") if self.precision == "tf32" else (self.precision, "float32")


def torch_peers(weights: Mapping[str, np.ndarray], device: str) -> Iterator[Peer]:
    """nn.LSTM; on a CPU, where nothing is timed, in float32 alone."""
    for precision in ("float32", "tf32", "float16") if device != "cpu" else ("float32",):
        network = lstm_of(weights).to(device, dtype_of(precision))
        yield Peer(f"PyTorch {torch.__version__}, nn.LSTM, {precision}", precision,
                   lambda x, network=network: network(x)[0], list(network.parameters()), captured=True)


def lstm_of(weights: Mapping[str, np.ndarray]) -> nn.LSTM:
    """From Wx0 (D, I, 4H), Wh0 (D, H, 4H), b0 (D, 4H), Wx1, ..."""
    (D, I, _), H = weights["Wx0"].shape, weights["Wh0"].shape[1]
    layers = len(weights) // len(WEIGHTS)
    network = nn.LSTM(I, H, layers, bidirectional=D == 2)
    for layer in range(layers):
        copy_layer(network, layer, *(weights[f"{name}{layer}"] for name in WEIGHTS))
    return network


def flashrnn_peers(weights: Mapping[str, np.ndarray], device: str) -> Iterator[Peer]:
    """FlashRNN (Pöppel et al., ICLR 2025): its two kernels in bfloat16, on a CPU its formulas in PyTorch.

    It has one direction; its kernels are compiled by nvcc at the first call.
    """
    if importlib.util.find_spec("flashrnn") is None:
        raise InputError("peer flashrnn is not installed: pip install flashrnn")
    if len(weights["Wx0"]) > 1:
        print("FlashRNN has one direction: it is left out")
        return
    precision, backends = ("float32", ["vanilla"]) if device == "cpu" else ("bfloat16", ["cuda_fused", "cuda"])
    here = {name: torch.from_numpy(value).to(device, dtype_of(precision)).requires_grad_()
            for name, value in weights.items()}
    for backend in backends:
        yield Peer(f"FlashRNN, {backend}", precision, partial(flash_layers, here, backend, precision),
                   list(here.values()), captured=False)


def flash_layers(weights: Mapping[str, Tensor], backend: str, precision: str, x: Tensor) -> Tensor:
    from flashrnn import flashrnn

    H, y = weights["Wh0"].shape[1], x.transpose(0, 1)
    for layer in range(len(weights) // len(WEIGHTS)):
        Wx, Wh, b = (weights[f"{name}{layer}"][0] for name in WEIGHTS)
        gates = (y @ Wx).unflatten(2, (4, 1, H))  # (B, T, gates, heads, H): one head has a whole matrix Wh
        R = Wh.unflatten(1, (4, H)).permute(1, 2, 0).unsqueeze(1)  # (gates, heads, to, from)
        states, _ = flashrnn(gates, R, b.view(4, 1, H), function="lstm", backend=backend, dtype=precision)
        y = states[0].squeeze(2)
    return y.transpose(0, 1)


PEERS = {"torch": torch_peers, "flashrnn": flashrnn_peers}


def checked(peers: list[str], args: Mapping[str, Any], y: Array, dy: Array, dx: Array,
            device: str) -> list[tuple[Peer, Mapping[str, Callable[[], object]]]]:
    """The peers of these names that give y and dx, and the calls of each that are timed; who does not is left out.

    args: x and the weights; y, dy, dx: our stack's, on sentences of the same length.
    """
    torch.set_num_threads(1)
    host = {name: np.ascontiguousarray(to_device(value, "cpu")) for name, value in args.items() if name != "lengths"}
    host_x, host_dy, *wanted = (np.ascontiguousarray(to_device(array, "cpu")) for array in (host.pop("x"), dy, y, dx))
    found = []
    for peer in (peer for name in peers for peer in PEERS[name](host, device)):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = peer.precision == "tf32"
        x, dy = (torch.from_numpy(array).to(device, peer.dtype) for array in (host_x, host_dy))
        try:
            calls = passes(peer, x.requires_grad_(), dy)
            results = calls["forward"](), calls["backward"]()
        except Exception as error:  # noqa: BLE001  it may not compile here, or not for this size
            print(f"{peer.name} fails, and is left out: {type(error).__name__}: "
                  + str(error).partition("\n")[0])
            continue
        worst = largest_error([theirs.detach().cpu().double().numpy() for theirs in results], wanted)
        if worst <= AGREEMENT[peer.precision]:
            print(f"{peer.name} agrees to {worst:.0e}")
            found.append((peer, calls))
        else:
            print(f"{peer.name} disagrees by {worst:.1e}, more than {AGREEMENT[peer.precision]}: it is left out")
    return found


def passes(peer: Peer, x: Tensor, dy: Tensor) -> dict[str, Callable[[], Tensor]]:
    """"forward", "backward" and "both": calls that return y, dx and dx; gradients of the weights are computed too."""
    forward = lambda: peer.network(x)
    back = lambda y: torch.autograd.grad(y, [x, *peer.weights], dy, retain_graph=True)[0]
    if x.is_cuda and peer.captured:
        (once, y), (both, _) = capture(forward), capture(lambda: back(forward()))
        return {"forward": once, "backward": capture(lambda: back(y))[0], "both": both}
    y = forward()
    return {"forward": forward, "backward": lambda: back(y), "both": lambda: back(forward())}
