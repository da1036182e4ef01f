"""What layers promise, held to a loop of the textbook cell and to gradients by complex step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sequential import examples

from scratchnmt.gradcheck import strategies
from scratchnmt.ops.lstm import lstm_cell_forward
from scratchnmt.selfcheck import SEQUENTIAL
from scratchnmt.sequential import LSTM, Bidirectional, Dense, Dropout, Embedding, Masking, RepeatVector, TimeDistributed

by_name = pytest.mark.parametrize("case", SEQUENTIAL, ids=lambda case: case.name)


@by_name
@settings(max_examples=3, derandomize=True)
@given(data=st.data())
def test_gradients_at_drawn_sizes(case, data, gradcheck):
    sizes = dict(case.sizes, B=data.draw(st.integers(1, 4)), **({} if "network" in case.name else
                                                                {"T": data.draw(st.integers(1, 4))}))
    args = case.arguments(sizes, np.random.default_rng(data.draw(strategies.seeds())))
    case.check(args, gradcheck.assert_gradients)


@by_name
def test_a_slip_in_any_gradient_is_caught(case, rng):
    def slip(*dys_and_cache):
        return {name: g * (1 + 1e-6) for name, g in case.backward(*dys_and_cache).items()}

    report = case._replace(backward=slip).check(case.arguments(case.sizes, rng), contract=False)
    assert report.wrong == tuple(t.name for t in report.tensors)


def textbook(x, mask, weights):
    """Keras' meaning of a mask, step by step: states and output stay as they are where it is False."""
    B, H = len(x), len(weights["Wh"])
    h, c, shown = np.zeros((3, B, H))
    ys = []
    for t in range(x.shape[1]):
        (new_h, new_c), _ = lstm_cell_forward(x[:, t], h, c, **weights)
        keep = mask[:, t, None]
        h, c, shown = (np.where(keep, new, old) for new, old in ((new_h, h), (new_c, c), (new_h, shown)))
        ys.append(shown)
    return np.stack(ys, axis=1), h, c


@pytest.mark.parametrize("backwards", [False, True])
def test_an_lstm_under_any_mask_is_the_loop_of_cells(backwards, rng):
    x, mask = rng.standard_normal((6, 5, 3)), rng.random((6, 5)) < 0.6
    mask[1] = False
    weights = {"Wx": rng.standard_normal((3, 16)), "Wh": rng.standard_normal((4, 16)), "b": rng.standard_normal(16)}
    order = slice(None, None, -1 if backwards else None)
    expected, h, c = textbook(x[:, order], mask[:, order], weights)
    (y, *states), _ = LSTM(4, go_backwards=backwards).run(x, weights, mask)
    np.testing.assert_allclose(y, expected, atol=1e-14)
    np.testing.assert_allclose(states, (h, c), atol=1e-14)


def test_what_is_masked_out_has_no_influence(rng):
    x, mask = rng.standard_normal((3, 5, 2)), rng.random((3, 5)) < 0.5
    other = np.where(mask[:, :, None], x, 1e3)
    for layer in (LSTM(3), Bidirectional(LSTM(3, return_sequences=True))):
        np.testing.assert_array_equal(layer(x, mask=mask), layer(other, mask=mask))


def test_time_distributed_is_the_layer_at_each_step(rng):
    x = rng.standard_normal((2, 3, 4))
    layer = TimeDistributed(Dense(5, activation="softmax"))
    y = layer(x)
    for t in range(3):
        np.testing.assert_allclose(y[:, t], layer.layer.forward(x[:, t], layer._alone, None, None)[0])


def test_small_layers(rng):
    x = rng.standard_normal((2, 3))
    assert (RepeatVector(4)(x) == x[:, None]).all() and RepeatVector(4)(x).shape == (2, 4, 3)
    assert (Dropout(0.5)(x) == x).all()
    dropped = Dropout(0.5)(np.ones((100, 50)), training=True)
    assert set(np.unique(dropped)) == {0.0, 2.0} and abs(dropped.mean() - 1) < 0.1
    _, mask, _ = Masking(0.0).forward(np.array([[[0.0, 0], [0, 1]]]), {}, None, None)
    assert mask.tolist() == [[False, True]]
    _, mask, _ = Embedding(5, 2, mask_zero=True).forward(np.array([[0, 3]]), {"W": np.ones((5, 2))}, None, None)
    assert mask.tolist() == [[False, True]]


def test_weights_start_as_in_keras():
    layer = LSTM(32)
    layer(examples.vectors(np.random.default_rng(0)))
    Wx, Wh, b = layer._alone.values()
    np.testing.assert_allclose(Wh @ Wh.T, np.eye(32), atol=1e-5)
    assert abs(Wx).max() <= np.sqrt(6 / (5 + 128)) and abs(Wx).max() > 0.9 * np.sqrt(6 / (5 + 128))
    assert b.reshape(4, 32).tolist() == [[0.0] * 32, [1.0] * 32, [0.0] * 32, [0.0] * 32]
