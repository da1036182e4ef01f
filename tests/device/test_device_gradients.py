"""The one model code on a GPU's arrays: every op and model checked there by complex-step, and beside the CPU."""

import numpy as np
import pytest
from models.tiny_nmt import batch, by_configuration

from scratchnmt.arrays import to_device, to_device_of
from scratchnmt.models.nmt import NMT
from scratchnmt.ops.cross_entropy import cross_entropy_forward
from scratchnmt.ops.dropout import dropout_forward
from scratchnmt.ops.embedding import embedding_backward, embedding_forward
from scratchnmt.ops.linear_cross_entropy import linear_cross_entropy_forward
from scratchnmt.selfcheck import EVERY, MODELS

by_id = {"ids": lambda case: case.name}
rounding = {"rtol": 1e-12, "atol": 1e-13}


@pytest.mark.parametrize("case", EVERY, **by_id)
def test_gradients_on_the_device(case, machine):
    report = case.report("cuda:1")
    assert report.ok, str(report)
    assert machine.waits and machine.card == 1  # it was the device's


@by_configuration
def test_the_model_gives_the_same_on_both(case, cupy):
    src, src_lengths, tgt = batch()
    results = []
    for device in ("cpu", "cuda"):
        model = case.model(device)
        loss, cache = model.forward(src, src_lengths, tgt)
        results.append((loss, model.backward(cache)))
    (loss, grads), (device_loss, device_grads) = results
    assert isinstance(device_loss, cupy.ndarray)
    np.testing.assert_allclose(float(device_loss), loss, rtol=1e-13)
    np.testing.assert_allclose(device_grads.flat.get(), grads.flat, **rounding)


def test_ids_may_be_on_the_host_or_on_the_device(cupy):
    src, src_lengths, tgt = batch()
    model = MODELS[0].model("cuda")
    losses = {float(model.forward(to_device(src, where), src_lengths, to_device(tgt, where))[0])
              for where in ("cpu", "cuda")}
    assert len(losses) == 1 and losses == {model.nll(src, to_device(src_lengths, "cuda"), tgt)}


def test_ops_take_ids_from_the_host_without_waiting_for_the_device(cupy, machine, rng):
    ids, W = rng.integers(0, 5, (4, 3)), rng.standard_normal((5, 2))
    y, cache = embedding_forward(ids, cupy.asarray(W))
    dW = embedding_backward(cupy.ones_like(y), cache).dW
    x, targets = rng.standard_normal((6, 5)), np.array([0, 1, 4, 2, 0, 3])
    losses = [cross_entropy_forward(cupy.asarray(x), targets)[0],
              linear_cross_entropy_forward(cupy.asarray(x), cupy.asarray(W @ W.T), targets)[0]]
    assert not machine.waits
    np.testing.assert_array_equal(y.get(), W[ids])
    np.testing.assert_allclose(dW.get()[:, 0], np.bincount(ids.ravel(), minlength=5))
    np.testing.assert_allclose(float(losses[0]), cross_entropy_forward(x, targets)[0])
    np.testing.assert_allclose(float(losses[1]), linear_cross_entropy_forward(x, W @ W.T, targets)[0])


def test_ids_out_of_range_do_not_wrap_around(cupy):
    W, ids = cupy.zeros((5, 2)), np.array([[0, 5]])
    for where in (ids, cupy.asarray(ids)):
        with pytest.raises(IndexError, match="ids run from 0 to 5, expected 0 to V - 1 = 4"):
            embedding_forward(where, W)
        with pytest.raises(IndexError, match="targets run from 0 to 5"):
            linear_cross_entropy_forward(W[:2], cupy.zeros((2, 5)), where[0])
    src, src_lengths, tgt = batch()
    src[0, 0] = 99
    with pytest.raises(IndexError, match="ids run from 0 to 99"):
        MODELS[0].model("cuda").forward(src, src_lengths, tgt)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_seed_gives_the_same_weights_on_both(dtype):
    for init in ("uniform", "glorot", "orthogonal"):
        on_cpu, on_device = (NMT(9, 8, 6, 4, dtype=dtype, device=device, seed=3, init=init).params
                             for device in ("cpu", "cuda:1"))
        np.testing.assert_array_equal(on_device.flat.get(), on_cpu.flat)


def test_masks_of_a_device_come_from_its_own_generator(cupy, rng):
    x = cupy.ones((3, 4))
    y, _ = dropout_forward(x, 0.5, rng=cupy.random.default_rng(1))
    assert set(y.get().ravel()) <= {0.0, 2.0}
    with pytest.raises(TypeError, match=r"float64 \(3, 4\) on cuda:0, float64 \(3, 4\) on cpu"):
        dropout_forward(x, 0.5, rng=rng)
    assert to_device_of(x, x) is x
