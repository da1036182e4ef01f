"""The fast sequence against a plain loop of lstm_cell: one sentence, one direction, one token at a time."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnmt.gradcheck import strategies
from scratchnmt.gradcheck.convention import cast
from scratchnmt.ops.lstm import lstm_backward, lstm_cell_backward, lstm_cell_forward, lstm_forward
from scratchnmt.selfcheck import CASES, SIZES

SEQUENCES = [case for case in CASES if case.forward is lstm_forward]
by_name = pytest.mark.parametrize("case", SEQUENCES, ids=lambda case: case.name)


def reading_order(length, d):
    return range(length) if d == 0 else reversed(range(length))


def plain_forward(x, lengths, Wx, Wh, b, h0=None, c0=None, m=None):
    (T, B, _), (D, H, _) = x.shape, Wh.shape
    m = np.ones((D, B, H)) if m is None else m
    y, last, caches = np.zeros((T, B, D, H)), np.zeros((2, D, B, H)), {}
    for d, s in product(range(D), range(B)):
        h, c = (np.zeros((1, H)) if state is None else state[d, s : s + 1] for state in (h0, c0))
        for t in reading_order(lengths[s], d):
            (h, c), caches[d, s, t] = lstm_cell_forward(x[t, s : s + 1], h * m[d, s], c, Wx[d], Wh[d], b[d])
            y[t, s, d] = h
        last[:, d, s] = h[0], c[0]
    return (y.reshape(T, B, D * H), *last), (x, m, lengths, Wx, Wh, b, caches)


def plain_backward(dy, dh_last, dc_last, cache):
    x, m, lengths, Wx, Wh, b, caches = cache
    D, B, H = dh_last.shape
    dy = dy.reshape(len(x), B, D, H)
    arguments = dict(x=x, Wx=Wx, Wh=Wh, b=b, h0=dh_last, c0=dc_last)
    grads = {f"d{name}": np.zeros_like(array) for name, array in arguments.items()}
    for d, s in product(range(D), range(B)):
        dh, dc = dh_last[d, s : s + 1], dc_last[d, s : s + 1]
        for t in reversed(list(reading_order(lengths[s], d))):
            cell = lstm_cell_backward(dh + dy[t, s, d], dc, caches[d, s, t])
            grads["dx"][t, s] += cell.dx[0]
            for name in ("dWx", "dWh", "db"):
                grads[name][d] += getattr(cell, name)
            dh, dc = cell.dh_prev * m[d, s], cell.dc_prev
        grads["dh0"][d, s], grads["dc0"][d, s] = dh[0], dc[0]
    return grads


PLAIN, FAST = (plain_forward, plain_backward), (lstm_forward, lstm_backward)


@by_name
@settings(max_examples=15, derandomize=True)
@given(data=st.data())
def test_the_sequence_is_a_loop_of_cells(case, data, gradcheck):
    sizes = data.draw(strategies.sizes(case.letters, max_size=5))
    args = case.arguments(sizes, np.random.default_rng(data.draw(strategies.seeds())))
    args["lengths"] = data.draw(strategies.lengths(sizes["T"], sizes["B"]))
    gradcheck.assert_variant(PLAIN, FAST, args, wrt=case.wrt, steps=sizes["T"])


@by_name
def test_in_float32(case, rng, gradcheck):
    args = cast(case.arguments(SIZES, rng), "float32")
    report = gradcheck.assert_variant(PLAIN, FAST, args, wrt=case.wrt, steps=SIZES["T"])
    assert report.dtype == "float32"


@by_name
def test_padding_is_never_read(case, rng):
    args = case.arguments(SIZES, rng)
    args["lengths"] = np.array([2, 4, 1])
    padding = np.arange(SIZES["T"])[:, None] >= args["lengths"]
    spoilt = {**args, "x": np.where(padding[..., None], np.nan, args["x"])}
    ys, cache = lstm_forward(**args)
    ys_spoilt, cache_spoilt = lstm_forward(**spoilt)
    dys = [rng.standard_normal(y.shape) for y in ys]
    dys_spoilt = [np.where(padding[..., None], np.nan, dys[0]), *dys[1:]]
    grads, grads_spoilt = lstm_backward(*dys, cache), lstm_backward(*dys_spoilt, cache_spoilt)
    for expected, found in zip([*ys, *grads], [*ys_spoilt, *grads_spoilt], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert not ys[0][padding].any() and not grads.dx[padding].any()


@pytest.mark.parametrize("change, message", [
    (dict(lengths=[3, 0, 1]), r"lengths are \[3, 0, 1\], expected one from 1 to T = 4"),
    (dict(lengths=[3, 5, 1]), r"lengths are \[3, 5, 1\], expected one from 1 to T = 4"),
    (dict(lengths=[3, 1]), r"lstm: lengths has shape \(2,\), expected \(B\) = \(3\), where B = 3 comes from x"),
    (dict(b=np.zeros((1, 20))), r"lstm: b has shape \(1, 20\), expected \(D, 4H\) = \(2, 20\)"),
    (dict(m=np.zeros((1, 3, 5))), r"lstm: m has shape \(1, 3, 5\), expected \(D, B, H\) = \(2, 3, 5\)"),
    (dict(h0=np.zeros((2, 1, 5))), r"lstm: h0 has shape \(2, 1, 5\), expected \(D, B, H\) = \(2, 3, 5\)"),
])
def test_arguments_that_do_not_fit(change, message, rng):
    args = SEQUENCES[-1].arguments(SIZES, rng)
    with pytest.raises(ValueError, match=message):
        lstm_forward(**{**args, **change})
