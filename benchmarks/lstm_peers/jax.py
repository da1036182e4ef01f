"""JAX: a scan over time, compiled by XLA; padding is computed and its states are kept from before."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def lstm(args: Mapping[str, Any], options: argparse.Namespace) -> Iterator[tuple[str, Callable, Callable]]:
    """A jitted scan, and its vector-Jacobian product: what forward leaves behind are the arguments of a jitted pull."""
    if args.get("h0") is not None or options.device != "cpu":
        return
    run = jax.jit(lambda arguments: jax.vjp(_lstm, *arguments))  # the pullback is a tree of arrays
    pull = jax.jit(lambda pullback, dys: pullback(dys))

    def forward(x, lengths, Wx, Wh, b, **_):
        D, B, H = len(Wx), x.shape[1], Wh.shape[1]
        zero = jnp.zeros((D, B, H), x.dtype)
        arguments = tuple(map(jnp.asarray, (x, Wx, Wh, b))) + (zero, zero, jnp.asarray(lengths))
        results, pullback = run(arguments)
        return tuple(map(np.asarray, results)), pullback

    def backward(dy, dh, dc, pullback):
        *grads, _ = pull(pullback, tuple(map(jnp.asarray, (dy, dh, dc))))
        return dict(zip(("dx", "dWx", "dWh", "db", "dh0", "dc0"), map(np.asarray, grads), strict=True))

    yield f"JAX {jax.__version__}", forward, backward


def _lstm(x, Wx, Wh, b, h0, c0, lengths):
    T, B, _ = x.shape
    ys, hs, cs = [], [], []
    t = jnp.arange(T)[:, None]
    backwards = jnp.where(t < lengths, lengths - 1 - t, t)  # where the second direction reads; its own inverse
    for d in range(len(Wx)):
        inputs = x if d == 0 else jnp.take_along_axis(x, backwards[:, :, None], axis=0)
        step = partial(_step, Wh[d])
        (h, c), y = jax.lax.scan(step, (h0[d], c0[d]), (inputs @ Wx[d] + b[d], t < lengths))
        ys.append(y if d == 0 else jnp.take_along_axis(y, backwards[:, :, None], axis=0))
        hs.append(h)
        cs.append(c)
    return jnp.concatenate(ys, axis=-1), jnp.stack(hs), jnp.stack(cs)


def _step(Wh, state, inputs):
    (h, c), (z, is_token) = state, inputs
    i, f, g, o = jnp.split(z + h @ Wh, 4, axis=-1)
    new_c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    new_h = jax.nn.sigmoid(o) * jnp.tanh(new_c)
    keep = lambda new, old: jnp.where(is_token[:, None], new, old)
    return (keep(new_h, h), keep(new_c, c)), keep(new_h, 0.0)
