"""A whole model of fused ops on the CPU, with NumPy for cuBLAS: the same loss and gradients."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from scratchnmt import NMT
from scratchnmt.kernels import fused
from scratchnmt.ops import product


@pytest.mark.parametrize("choices", [
    {}, {"score": "dot", "bidirectional": False, "feed": "context"},
    {"score": "concat", "layers": 2, "feed": "none"},
    {"label_smoothing": 0.1, "tie_embeddings": True, "layers": 2}, {"recurrent_dropout": 0.3, "encoder_dropout": 0.3},
    {"cell": "layer-norm-lstm", "layers": 2}, {"attention": "multi-head", "heads": 3},
    {"r_drop": 0.7, "dropout": 0.3},
], ids=str)
def test_a_model_of_fused_ops_has_the_same_gradients(choices, on_cpu, rng):
    model = NMT(11, 13, 6, 6, dtype="float64", **choices)
    src, tgt = rng.integers(4, 11, (5, 4)), rng.integers(4, 13, (6, 4))
    lengths = np.array([3, 5, 1, 4])
    for b, (s, t) in enumerate(zip(lengths, (5, 2, 6, 4), strict=True)):
        src[s:, b], tgt[t:, b] = 0, 0
    loss, cache = model.forward(src, lengths, tgt, np.random.default_rng(1))
    grads = model.backward(cache)
    assert not on_cpu.launched
    model.kernels = fused()._replace(product=product)
    fused_loss, fused_cache = model.forward(src, lengths, tgt, np.random.default_rng(1))
    found = model.backward(fused_cache)
    expected = {"lstm_gates_forward", "lstm_gates_backward", "cross_entropy_in_place", "embedding_backward",
                "tanh_dropout_forward", "tanh_dropout_backward"}
    if "cell" in choices:  # which has its own
        expected -= {"lstm_gates_forward", "lstm_gates_backward"}
        expected |= {"layer_norm_gates_forward", "layer_norm_gates_backward"}
    if "r_drop" in choices:  # so is its loss
        expected -= {"cross_entropy_in_place"}
    if choices.get("score") != "concat":
        expected |= {"attention_step_forward", "attention_step_backward"}
    assert {*on_cpu.launched} == expected
    assert_allclose(fused_loss, loss, rtol=1e-13)
    for name, gradient in grads.items():
        assert_allclose(found[name], gradient, rtol=1e-11, atol=1e-13, err_msg=name)
