"""The model of peer_torch_graph through torch.compile: the loops unrolled and fused, then replayed as CUDA graphs."""

from __future__ import annotations

from . import peer_torch_graph


class Contestant(peer_torch_graph.Contestant):
    name = "PyTorch compiled, graphs"
    compiled = "reduce-overhead"
