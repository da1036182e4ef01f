"""What each trick of the LSTM, softmax and optimizer code is worth on the CPU: the code beside itself without it.

Both give the same result, which is checked first; they take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from scratchnmt import optim
from scratchnmt.arrays import keep_freed_memory
from scratchnmt.ops import cross_entropy, lstm_gates, product
from scratchnmt.ops.linear_cross_entropy import linear_cross_entropy_forward
from scratchnmt.ops.lstm import lstm_backward, lstm_cell_backward, lstm_cell_forward, lstm_forward
from scratchnmt.ops.packing import pack_whole
from scratchnmt.ops.plain import PLAIN
from scratchnmt.parameters import Parameters

from . import measure
from .ours import random_batch

SIZES = ("8000,256,32,22", "20000,512,64,25")


class Trick(NamedTuple):
    name: str
    with_it: Callable[[], Any]
    without: Callable[[], Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", action="append", metavar="V,H,B,T", help=f"(default {' and '.join(SIZES)})")
    parser.add_argument("--rounds", type=int, default=9, help="(default 9)")


def run(options: argparse.Namespace) -> int:
    print(measure.machine(options.threads))
    keep_freed_memory()
    for text in options.size or SIZES:
        V, H, B, T = measure.sizes("--size", text, "V,H,B,T")
        print(f"\nV {V:,}, E = H = {H}, B {B}, S = T = {T}")
        table = []
        for trick in tricks(V, H, B, T):
            _same(trick)
            times = measure.alternate({"with": trick.with_it, "without": trick.without}, options.rounds, warmup=1)
            on, off = (np.array([s.device for s in times[name]]) for name in ("with", "without"))
            table.append([trick.name, f"{1e3 * np.median(on):.1f}", measure.spread(on), f"{1e3 * np.median(off):.1f}",
                          measure.spread(off), f"{np.median(off) / np.median(on):.2f}"])
        measure.print_table(["", "with, ms", "", "without, ms", "", "without / with"], table)
    return 0


def _same(trick: Trick) -> None:
    for a, b in zip(trick.with_it(), trick.without(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4 * np.abs(b).max(), err_msg=trick.name)


def tricks(V: int, H: int, B: int, T: int) -> list[Trick]:
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape, "float32")
    lengths = random_batch(V, V, B, T, T).src_lengths
    x, Wx, Wh, b = normal(T, B, H), normal(2, H, 4 * H) / H**0.5, normal(2, H, 4 * H) / H**0.5, normal(2, 4 * H)
    dy, zero = normal(T, B, 2 * H), np.zeros((2, B, H), "float32")

    def sequence(lengths: Any = lengths, kernels: Any = PLAIN, directions: slice = slice(None), x: Any = x,
                 dy: Any = dy) -> list:
        weights = (W[directions] for W in (Wx, Wh, b))
        (y, *_), cache = lstm_forward(x, lengths, *weights, kernels=kernels)
        return [y, *lstm_backward(dy, zero[directions], zero[directions], cache)[:4]]

    whole, one = np.full(B, T), dict(lengths=np.full(B, T), directions=slice(1), dy=dy[..., :H])

    def one_after_the_other() -> list:
        first = sequence(**one)
        second = sequence(**one | {"directions": slice(1, 2), "x": x[::-1], "dy": dy[::-1, :, H:]})
        y, dx = (np.concatenate([first[0], second[0][::-1]], axis=-1), first[1] + second[1][::-1])
        return [y, dx, *(np.concatenate(pair) for pair in zip(first[2:], second[2:], strict=True))]

    return [
        Trick("LSTM, one direction: products with x, and weight gradients, once outside the loop",
              lambda: sequence(**one), lambda: textbook(x, Wx[0], Wh[0], b[0], dy[..., :H])),
        Trick("LSTM, both directions in one loop", lambda: sequence(whole), one_after_the_other),
        Trick("LSTM: no row of padding is computed", sequence, lambda: sequence(pack_whole(lengths, T))),
        Trick("LSTM: one tanh over all four gates, in place", sequence,
              lambda: sequence(kernels=PLAIN._replace(lstm_gates=SimpleNamespace(
                  lstm_gates_forward=gate_by_gate, lstm_gates_backward=lstm_gates.lstm_gates_backward)))),
        Trick("LSTM: dz Wh.T as (Wh dz.T).T", sequence,
              lambda: sequence(kernels=PLAIN._replace(product=SimpleNamespace(
                  product=product.product, transposed_product=as_written)))),
        *_vocabulary(V, H, B, T, rng), *_optimizer(V, H, rng), _attention(H, B, T, rng)]


def textbook(x, Wx, Wh, b, dy) -> list:
    """A loop of lstm_cell, all of its gradients at every step."""
    h = c = np.zeros((x.shape[1], len(Wh)), x.dtype)
    ys, caches = [], []
    for step in x:
        (h, c), cache = lstm_cell_forward(step, h, c, Wx, Wh, b)
        ys.append(h)
        caches.append(cache)
    dh = dc = np.zeros_like(h)
    dxs, dWx, dWh, db = [], np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)
    for cache, dy_step in zip(reversed(caches), reversed(dy), strict=True):
        grads = lstm_cell_backward(dh + dy_step, dc, cache)
        dh, dc = grads.dh_prev, grads.dc_prev
        dxs.append(grads.dx)
        dWx += grads.dWx
        dWh += grads.dWh
        db += grads.db
    return [np.stack(ys), np.stack(dxs[::-1]), dWx[None], dWh[None], db[None]]


def gate_by_gate(z, c_prev, *, h, c, tanh_c, overwrite):
    """lstm_gates_forward as its equations are written."""
    sigmoid = lambda a: 0.5 * (1 + np.tanh(0.5 * a))
    i, f, g, o = np.split(z, 4, axis=-1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    z[...] = np.concatenate([i, f, g, o], axis=-1)
    c[...] = f * c_prev + i * g
    tanh_c[...] = np.tanh(c)
    h[...] = o * tanh_c
    return (h, c), lstm_gates.LSTMGatesCache(z, c_prev, tanh_c)


def as_written(a, b, *, out, add):
    """a b.T, in this order."""
    out += a @ b.swapaxes(-1, -2)
    return out


def _vocabulary(V: int, H: int, B: int, T: int, rng: np.random.Generator) -> list[Trick]:
    N = 3 * B * T // 4
    x, W = rng.standard_normal((N, H), "float32"), rng.standard_normal((H, V), "float32") / H**0.5
    targets = rng.integers(1, V, N)

    def loss() -> list:
        value, (dx, dW) = linear_cross_entropy_forward(x, W, targets)
        return [value, dx, dW]

    def softmax(block_bytes: int = cross_entropy.BLOCK_BYTES) -> list:
        before, cross_entropy.BLOCK_BYTES = cross_entropy.BLOCK_BYTES, block_bytes
        np.copyto(z, logits)
        try:
            cross_entropy.cross_entropy_in_place(z, targets, 0.0, losses)
        finally:
            cross_entropy.BLOCK_BYTES = before
        return [z, losses]

    logits = x @ W
    z, losses = np.empty_like(logits), np.empty(N, "float32")

    def separate() -> list:
        logits = x @ W
        value, cache = cross_entropy.cross_entropy_forward(logits, targets)
        dlogits = cross_entropy.cross_entropy_backward(np.float32(1), cache).dlogits
        return [value, dlogits @ W.T, x.T @ dlogits]

    return [Trick("vocabulary: logits turned into their gradient in place, in chunks", loss, separate),
            Trick("softmax alone, with a copy: in blocks that stay in cache, on both cores", softmax,
                  lambda: softmax(1 << 40))]


def _optimizer(V: int, H: int, rng: np.random.Generator) -> list[Trick]:
    shapes = {"embed.src": (V, H), "embed.tgt": (V, H), "vocab.W": (H, V), "rest": (10 * H, 4 * H)}
    params, others = (Parameters(shapes, "float32") for _ in range(2))
    grads = params.like(rng.standard_normal(params.flat.size, "float32"))
    flat = optim.Adam(params)
    each = [optim.Adam(Parameters({name: shape}, flat=others[name].reshape(-1))) for name, shape in shapes.items()]

    def by_tensor() -> list:
        for adam, name in zip(each, shapes, strict=True):
            _unpieced(adam, grads[name].reshape(-1))
        return [others.flat]

    def pieces() -> list:
        flat.step(grads)
        return [params.flat]

    return [Trick("Adam: one flat vector in pieces that stay in cache, on both cores", pieces, by_tensor)]


def _unpieced(adam: optim.Adam, g: np.ndarray) -> None:
    """A step over a whole tensor, one operation after the other, as the paper writes it."""
    adam.step_count += 1
    (b1, b2), t = adam.betas, adam.step_count
    m, v = adam.m, adam.v  # divided by 1 - b1 and 1 - b2
    m *= b1
    m += g
    v *= b2
    v += g * g
    m_hat, v_hat = m * ((1 - b1) / (1 - b1**t)), v * ((1 - b2) / (1 - b2**t))
    adam.params.flat[...] -= adam.learning_rate * m_hat / (np.sqrt(v_hat) + adam.eps)


def _attention(H: int, B: int, T: int, rng: np.random.Generator) -> Trick:
    normal = lambda *shape: rng.standard_normal(shape, "float32")
    weights, dcontext = normal(T, B, T), normal(T, B, 2 * H)

    def after() -> list:
        by_sentence = lambda rows: np.ascontiguousarray(rows.transpose(1, 0, 2))
        return [by_sentence(weights).transpose(0, 2, 1) @ by_sentence(dcontext)]

    def in_the_loop() -> list:
        dvalues = np.zeros((B, T, 2 * H), "float32")
        for w, dc in zip(weights, dcontext, strict=True):
            dvalues += w[:, :, None] * dc[:, None]
        return [dvalues]

    return Trick("attention: d h_enc of all steps in one product", after, in_the_loop)

