"""The pointwise part of a step: its equations written out, and its buffers."""

import numpy as np

from scratchnmt.ops.lstm_gates import lstm_gates_backward, lstm_gates_forward


def draw(rng, *shapes):
    return [rng.standard_normal(shape) for shape in shapes]


def test_the_equations_in_the_order_i_f_g_o(rng):
    z, c_prev = draw(rng, (3, 8), (3, 2))
    (h, c), _ = lstm_gates_forward(z, c_prev)
    i, f, o = (1 / (1 + np.exp(-z[:, k : k + 2])) for k in (0, 2, 6))
    np.testing.assert_allclose(c, f * c_prev + i * np.tanh(z[:, 4:6]), rtol=1e-14)
    np.testing.assert_allclose(h, o * np.tanh(c), rtol=1e-14)


def test_buffers_change_where_the_results_lie_and_nothing_else(rng):
    z, c_prev, dh, dc = draw(rng, (3, 8), (3, 2), (3, 2), (3, 2))
    fresh, cache = lstm_gates_forward(z, c_prev)
    grads = lstm_gates_backward(dh, dc, cache)
    buffers = {name: np.full((3, 2), np.nan) for name in ("h", "c", "tanh_c")}
    z_given, dz = z.copy(), np.full(z.shape, np.nan)
    (h, c), given = lstm_gates_forward(z_given, c_prev, **buffers, overwrite=True)
    assert h is buffers["h"] and c is buffers["c"]
    assert given.tanh_c is buffers["tanh_c"] and given.gates is z_given
    grads_given = lstm_gates_backward(dh, dc, given, dz=dz)
    assert grads_given.dz is dz
    for expected, found in zip([*fresh, *cache, *grads], [h, c, *given, *grads_given], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_saturated_gates_are_exact_and_warn_of_nothing():
    z = np.repeat(np.array([[1e4, -1e4, 1e4, 1e4]], "float32"), 2, axis=0)  # write, forget, candidate 1, show
    with np.errstate(all="raise"):
        (h, c), cache = lstm_gates_forward(z, np.full((2, 1), 7, "float32"))
        dz, dc_prev = lstm_gates_backward(np.ones_like(h), np.ones_like(c), cache)
    np.testing.assert_array_equal(c, 1)
    np.testing.assert_array_equal(h, np.tanh(np.float32(1)))
    assert not dz.any() and not dc_prev.any() and dz.dtype == h.dtype == np.float32
