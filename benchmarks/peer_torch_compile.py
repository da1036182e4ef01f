"""PyTorch through torch.compile, otherwise as in peer_torch: the loops over time are unrolled for each length."""

from __future__ import annotations

from . import peer_torch


class Contestant(peer_torch.Contestant):
    name = "PyTorch compiled"
    compiled = "default"
