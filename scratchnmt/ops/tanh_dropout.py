"""tanh and dropout in one, as the attentional output has them (Luong et al. 2015, equation 5).

    (1)  o = tanh(p) mask                mask as in dropout: 0 or 1 / (1 - rate); none: 1
    (2)  slope = (1 - tanh(p)^2) mask    do/dp, all that backward needs

p, mask, o, slope (N, H).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array


class TanhDropoutCache(NamedTuple):
    slope: Array  # (N, H)


class TanhDropoutGradients(NamedTuple):
    dp: Array  # (N, H)


def tanh_dropout_forward(p: Array, mask: Array | None = None, *, o: Array | None = None,
                         slope: Array | None = None) -> tuple[Array, TanhDropoutCache]:
    """o (N, H), cache from p (N, H) and the mask (N, H) of dropout, if any.

    o and slope (N, H) may be given as buffers to be filled.  Shapes are NumPy's to check: ValueError if they do not
    broadcast.
    """
    tanh = np.tanh(p)  # (1)
    o = np.add(tanh, 0, out=o) if mask is None else np.multiply(tanh, mask, out=o)  # (1)
    slope = np.multiply(tanh, tanh, out=slope)  # (2)
    np.subtract(1, slope, out=slope)
    if mask is not None:
        slope *= mask
    return o, TanhDropoutCache(slope)


def tanh_dropout_backward(do: Array, cache: TanhDropoutCache, *, dp: Array | None = None) -> TanhDropoutGradients:
    """dp from do; dp may be a buffer to be filled."""
    # in the forward pass this was (1) o = tanh(p) mask, whose derivative is (2)
    return TanhDropoutGradients(np.multiply(do, cache.slope, out=dp))
