"""A decoder's step without its attention: two products, each with the pointwise operation that follows it.

    (1)  z' = z + x W                       x = [h_prev; o_prev] with input feeding
    (2)  h, c = lstm_gates(z', c_prev)
    (3)  p' = x W, or p + x W               x = [a; h]
    (4)  o, slope = tanh_dropout(p', mask)

This is the definition of what a kernel can do in one launch (kernels/decoder_step.py); models/decoder.py and
models/readout.py compute the same from parts.  (1), (2): the LSTM of Hochreiter & Schmidhuber 1997, what is known
before the loop is in z; (3), (4): Luong, Pham & Manning 2015, equation 5.

x (N, K), W (K, 4H) or (K, H), z (N, 4H), p, mask, o, slope, h, c, c_prev (N, H).  The gradients of W are left to one
product after the loop over steps, dW = x^T dz and x^T dp.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array
from .lstm_gates import LSTMGatesCache, lstm_gates_backward, lstm_gates_forward
from .product import product, transposed_product
from .tanh_dropout import TanhDropoutCache, tanh_dropout_backward, tanh_dropout_forward


class DecoderLSTMCache(NamedTuple):
    gates: LSTMGatesCache
    W: Array  # (K, 4H)


class DecoderLSTMGradients(NamedTuple):
    dz: Array  # (N, 4H)
    dx: Array  # (N, K)
    dc_prev: Array  # (B, H)


class CombineCache(NamedTuple):
    slope: Array  # (N, H)
    W: Array  # (K, H)


class CombineGradients(NamedTuple):
    dp: Array  # (N, H)
    dx: Array  # (N, K)


def decoder_lstm_forward(z: Array, x: Array, W: Array, c_prev: Array, *, h: Array | None = None,
                         c: Array | None = None, tanh_c: Array | None = None, overwrite: bool = False
                         ) -> tuple[tuple[Array, Array], DecoderLSTMCache]:
    """(h, c), cache from z (N, 4H), x (N, K), W (K, 4H), c_prev (N, H); h, c and tanh_c may be buffers to be filled.

    With overwrite=True the activations of the gates take the place of z.  Shapes are NumPy's to check: ValueError if
    they do not fit.
    """
    z = product(x, W, out=z, add=True) if overwrite else z + product(x, W)  # (1)
    states, gates = lstm_gates_forward(z, c_prev, h=h, c=c, tanh_c=tanh_c, overwrite=True)  # (2)
    return states, DecoderLSTMCache(gates, W)


def decoder_lstm_backward(dh: Array, dc: Array, cache: DecoderLSTMCache, *, dz: Array | None = None,
                          dx: Array | None = None) -> DecoderLSTMGradients:
    """Gradients of z, x and c_prev from dh (N, H) and dc (B, H).

    dc_prev has the rows of dc behind the first N unchanged.  dz may be a buffer to be filled; dx is added to, if given.
    """
    N, dc_prev = len(dh), dc.copy()
    # in the forward pass this was (2) h, c = lstm_gates(z', c_prev)
    dz = lstm_gates_backward(dh, dc[:N], cache.gates, dz=dz, dc_prev=dc_prev[:N]).dz
    # in the forward pass this was (1) z' = z + x W
    dx = transposed_product(dz, cache.W, out=dx, add=dx is not None)
    return DecoderLSTMGradients(dz, dx, dc_prev)


def combine_forward(x: Array, W: Array, mask: Array | None = None, *, p: Array | None = None, o: Array | None = None,
                    slope: Array | None = None) -> tuple[Array, CombineCache]:
    """o (N, H), cache from x (N, K), W (K, H); p (N, H): the sum of other products, if any; o, slope may be buffers."""
    whole = product(x, W) if p is None else p + product(x, W)  # (3)
    o, cache = tanh_dropout_forward(whole, mask, o=o, slope=slope)  # (4)
    return o, CombineCache(cache.slope, W)


def combine_backward(do: Array, cache: CombineCache, *, dp: Array | None = None,
                     dx: Array | None = None) -> CombineGradients:
    """dp, which may be a buffer to be filled, and dx, which is added to, if given, from do (N, H)."""
    # in the forward pass this was (4) o = tanh(p') mask
    dp = tanh_dropout_backward(do, TanhDropoutCache(cache.slope), dp=dp).dp
    # in the forward pass this was (3) p' = x W, or p + x W
    dx = transposed_product(dp, cache.W, out=dx, add=dx is not None)
    return CombineGradients(dp, dx)
