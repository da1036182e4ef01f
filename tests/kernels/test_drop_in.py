"""A whole model with the fused ops in the place of the plain ones, on the CPU: the same loss and gradients."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from scratchnmt import NMT
from scratchnmt.kernels import KERNELS
from scratchnmt.models import decoder, nmt
from scratchnmt.ops import linear_cross_entropy, lstm


def drop_in(monkeypatch):
    """The modules that use an op see the fused one, which takes the same arguments and gives the same cache."""
    gates, attention, embedding = KERNELS["lstm_gates"], KERNELS["attention"], KERNELS["embedding"]
    for user in lstm, decoder:
        for name in "lstm_gates_forward", "lstm_gates_backward":
            monkeypatch.setattr(user, name, getattr(gates, name))
    for name in "attention_step_forward", "attention_step_backward":
        monkeypatch.setattr(decoder, name, getattr(attention, name))
    monkeypatch.setattr(linear_cross_entropy, "_loss_and_gradient_in_place",
                        KERNELS["cross_entropy"].cross_entropy_in_place)
    everywhere = lambda dy, cache: (slice(None), embedding.embedding_backward(dy, cache).dW)
    monkeypatch.setattr(nmt, "embedding_row_gradients", everywhere)


@pytest.mark.parametrize("choices", [
    {}, {"score": "dot", "bidirectional": False, "feed": "context"},
    {"score": "concat", "layers": 2, "feed": "none"},
    {"label_smoothing": 0.1, "tie_embeddings": True, "layers": 2},
], ids=str)
def test_a_model_of_fused_ops_has_the_same_gradients(choices, on_cpu, rng, monkeypatch):
    model = NMT(11, 13, 6, 6, dtype="float64", **choices)
    src, tgt = rng.integers(4, 11, (5, 4)), rng.integers(4, 13, (6, 4))
    lengths = np.array([3, 5, 1, 4])
    for b, (s, t) in enumerate(zip(lengths, (5, 2, 6, 4))):
        src[s:, b], tgt[t:, b] = 0, 0
    loss, cache = model.forward(src, lengths, tgt)
    grads = model.backward(cache)
    assert not on_cpu.launched
    drop_in(monkeypatch)
    fused_loss, fused_cache = model.forward(src, lengths, tgt)
    fused = model.backward(fused_cache)
    expected = {"lstm_gates_forward", "lstm_gates_backward", "cross_entropy_in_place", "embedding_backward"}
    if choices.get("score") != "concat":
        expected |= {"attention_step_forward", "attention_step_backward"}
    assert {*on_cpu.launched} == expected
    assert_allclose(fused_loss, loss, rtol=1e-13)
    for name, gradient in grads.items():
        assert_allclose(fused[name], gradient, rtol=1e-11, atol=1e-13, err_msg=name)
