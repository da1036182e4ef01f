"""The fused step of attention: against the plain op, against complex-step through itself, on slices and masks."""

import numpy as np
import pytest

from scratchnmt.kernels.attention import attention_step_backward, attention_step_forward
from scratchnmt.ops import attention as plain

SIZES = [(1, 1, 1, 1, 1), (2, 1, 5, 3, 4), (3, 2, 33, 40, 7), (2, 1, 600, 3, 5), (1, 2, 3, 530, 520)]  # B Q S A M
by_size = pytest.mark.parametrize("sizes", SIZES, ids=str)


def whole(step_backward):
    """backward with what a loop over time leaves to one product at its end."""
    def backward(dcontext, cache):
        dquery, dscore, _, _ = step_backward(dcontext, cache)
        return {"query": dquery, "keys": dscore.transpose(0, 2, 1) @ cache.query,
                "values": cache.weights.transpose(0, 2, 1) @ dcontext}
    return backward


FUSED = attention_step_forward, whole(attention_step_backward)
PLAIN = plain.attention_step_forward, whole(plain.attention_step_backward)


def arguments(rng, sizes, dtype="float64"):
    B, Q, S, A, M = sizes
    mask = rng.random((B, S)) < 0.7
    mask[-1:, 1:] = False  # one sentence of a single token
    mask[:, 0] = True
    shapes = {"query": (B, Q, A), "keys": (B, S, A), "values": (B, S, M)}
    drawn = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    drawn["query"] /= A**0.5  # scores of size 1: the exponentials of large ones magnify their rounding
    return {**{name: value.astype(dtype) for name, value in drawn.items()}, "mask": mask}


@by_size
def test_gradients_by_complex_step_through_the_kernel_itself(sizes, on_cpu, rng, gradcheck):
    gradcheck.assert_gradients(*FUSED, arguments(rng, sizes), max_elements=25)
    assert {*on_cpu.launched} == {"attention_step_forward", "attention_step_backward"}


@by_size
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_plain_op(sizes, dtype, on_cpu, rng, gradcheck):
    gradcheck.assert_variant(PLAIN, FUSED, arguments(rng, sizes, dtype))


def test_a_sentence_of_padding_alone_gives_zeros(on_cpu, rng):
    args = arguments(rng, (2, 2, 4, 3, 5))
    args["mask"][0] = False
    context, cache = attention_step_forward(**args)
    dquery, dscore, _, _ = attention_step_backward(np.ones_like(context), cache)
    assert not context[0].any() and not cache.weights[0].any() and not dscore[0].any() and not dquery[0].any()
    assert context[1].all()


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_only_differences_of_scores_matter(shift, on_cpu, rng):
    args = arguments(rng, (1, 1, 6, 1, 2))
    args["query"][:] = 1
    weights = attention_step_forward(**args)[1].weights
    shifted = attention_step_forward(**{**args, "keys": args["keys"] + shift})[1].weights
    np.testing.assert_allclose(shifted, weights, rtol=1e-10)


def test_slices_are_read_where_they_lie(on_cpu, rng):
    """As a decoder calls it: queries are columns of wider rows, sentences the first n, the mask transposed."""
    args = arguments(rng, (5, 1, 7, 4, 6))
    wide = np.concatenate([rng.standard_normal((5, 6)), args["query"][:, 0]], axis=1)
    query, mask = wide[:3, 6:][:, None], np.ascontiguousarray(args["mask"].T).T[:3]
    keys, values = args["keys"][:3], args["values"].transpose(1, 0, 2).copy().transpose(1, 0, 2)[:3]
    assert not query.flags.c_contiguous and not mask.flags.c_contiguous and not values.flags.c_contiguous
    context, cache = attention_step_forward(query, keys, values, mask)
    plain_context, plain_cache = plain.attention_step_forward(query, keys, values, mask)
    dcontext = rng.standard_normal((3, 9))[:, 2:8][:, None]
    expected = [plain_context, plain_cache.weights, *plain.attention_step_backward(dcontext, plain_cache)[:2]]
    found = [context, cache.weights, *attention_step_backward(dcontext, cache)[:2]]
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-12, atol=1e-14)


def test_the_order_of_the_threads_changes_no_bit(on_cpu, rng):
    args = arguments(rng, (2, 2, 70, 40, 50))
    dcontext = rng.standard_normal((2, 2, 50))
    results = []
    for on_cpu.backwards in False, True:
        context, cache = attention_step_forward(**args)
        results.append([context, cache.weights, *attention_step_backward(dcontext, cache)[:2]])
    for forwards, backwards in zip(*results, strict=True):
        np.testing.assert_array_equal(forwards, backwards)


def test_the_concat_score_is_left_to_the_plain_op(on_cpu, rng):
    args = {**arguments(rng, (2, 1, 3, 4, 5)), "v": rng.standard_normal(4)}
    context, cache = attention_step_forward(**args)
    grads = attention_step_backward(np.ones_like(context), cache)
    np.testing.assert_array_equal(context, plain.attention_step_forward(**args)[0])
    assert grads.dv is not None and not on_cpu.launched


@pytest.mark.parametrize("name, shape, message", [
    ("keys", (2, 3, 5), r"_step: keys has shape \(2, 3, 5\), expected \(B, S, A\) = \(2, 3, 4\), where"),
    ("values", (2, 4, 5), r"_step: values has shape \(2, 4, 5\), expected \(B, S, M\) = \(2, 3, 5\), where"),
    ("mask", (3, 2), r"attention_step: mask has shape \(3, 2\), expected \(B, S\) = \(2, 3\), where"),
])
def test_what_does_not_fit(name, shape, message, on_cpu, rng):
    args = {**arguments(rng, (2, 1, 3, 4, 5)), name: np.ones(shape)}
    with pytest.raises(ValueError, match=message):
        attention_step_forward(**args)


@pytest.mark.gpu
@by_size
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_on_a_gpu(sizes, dtype, cupy, rng, gradcheck):
    args = {name: cupy.asarray(value) for name, value in arguments(rng, sizes, dtype).items()}
    assert gradcheck.assert_variant(PLAIN, FUSED, args).device == "cuda"
