"""Work of PyTorch as a CUDA graph: launched by the host once, whatever it holds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARMUP = 3  # calls on a stream of their own before a capture, as PyTorch's notes on CUDA graphs ask for


def capture(call: Callable[[], Tensor]) -> tuple[Callable[[], Tensor], Tensor]:
    """A call that replays this one as a CUDA graph, and the tensor that it writes each time."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARMUP):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay, result
