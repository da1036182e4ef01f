"""Products of matrices into buffers, or added to what is there.

    (1)  out = a b        or  out += a b            (..., m, n) from (..., m, k) and (..., k, n)
    (2)  out = a b.T      or  out += a b.T          (..., m, n) from (..., m, k) and (..., n, k)

Leading axes are a stack of matrices.  Everything that multiplies by a weight goes through here, so that a GPU
can have it from cuBLAS in one launch, sum included (see kernels/product.py).
"""

from __future__ import annotations

import numpy as np

from ..arrays import Array


def product(a: Array, b: Array, *, out: Array | None = None, add: bool = False) -> Array:
    """a b, written into `out` or, with add=True, added to it."""
    if add:
        out += a @ b  # (1)
        return out
    return a @ b if out is None else np.matmul(a, b, out=out)  # (1)


def transposed_product(a: Array, b: Array, *, out: Array | None = None, add: bool = False) -> Array:
    """a b.T for a few rows a and a large b, such as dy W.T.

    Computed as (b a.T).T: BLAS reads the large matrix along its rows, which is up to 1.4 times as fast as
    a @ b.T when there are only a batch of rows.
    """
    result = (b @ a.swapaxes(-1, -2)).swapaxes(-1, -2)  # (2)
    if out is None:
        return result
    if add:
        out += result
    else:
        out[...] = result
    return out
