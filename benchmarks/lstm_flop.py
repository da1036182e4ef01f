"""How many floating operations the products of an LSTM need, forward; backward takes twice that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lstm_flop(sizes: Mapping[str, int], args: Mapping[str, Any]) -> int:
    """Of `ops.lstm` for its arguments, padding left out; the first step's product with h0 = 0 too."""
    tokens, D = int(args["lengths"].sum()), len(args["Wx"])
    recurrent = tokens - (0 if args.get("h0") is not None else sizes["B"])
    return 2 * D * 4 * sizes["H"] * (tokens * sizes["I"] + recurrent * sizes["H"])
