"""A decoder's products in one launch each with what is pointwise beside them, on the CPU: the two operations, and the
decoder made of them, against array code and by complex step through the kernels' own text."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shim import Shim

from scratchnmt.gradcheck import strategies
from scratchnmt.gradcheck.convention import cast
from scratchnmt.kernels import KERNELS, fused
from scratchnmt.kernels import decoder_step as kernels
from scratchnmt.kernels import launch as launcher
from scratchnmt.models import decoder
from scratchnmt.ops import decoder_step as plain
from scratchnmt.ops import product
from scratchnmt.ops.packing import pack_whole
from scratchnmt.selfcheck import CASES, SIZES
from scratchnmt.selfcheck.models import LAYERS

OPS = [case for case in CASES if case.forward.__module__ == plain.__name__]
DECODERS = [case for case in LAYERS if case.op == "decoder"]
RECURRENT_DROPOUT, LAYERED = (next(case for case in DECODERS if word in case.name)
                              for word in ("recurrent dropout", "two layers"))
by_op = pytest.mark.parametrize("case", OPS, ids=lambda case: case.name)
by_decoder = pytest.mark.parametrize("case", DECODERS, ids=lambda case: case.name)
by_order = pytest.mark.parametrize("backwards", [False, True], ids=["first block first", "last block first"])
BOTH_DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
LARGE = dict(N=19, I=41, H=35)  # several blocks each way, the last ones not full


def fused_op(case):
    """(forward, backward) of the kernels' twin of a case."""
    return tuple(getattr(kernels, function.__name__) for function in (case.forward, case.own_backward))


def tame(args):
    """Weights of the size that a training starts from."""
    return {name: value / 4 if name.partition(".")[2].startswith("W") or name == "W" else value
            for name, value in args.items()}


@pytest.fixture
def at_once(monkeypatch):
    """A decoder made of these kernels: what a case of `selfcheck` computes by."""
    backend = fused(decoder_step=KERNELS["decoder_step"])._replace(product=product)

    def forward(*args, **options):
        return decoder.decoder_forward(*args, **options, kernels=backend)

    def variant(case, lengths=None):
        def of_the_case(**args):
            with monkeypatch.context() as patch:
                patch.setitem(case.forward.__globals__, "decoder_forward", forward)
                return case.forward(**(args if lengths is None else {**args, "tgt_lengths": lengths}))

        return of_the_case, case.backward

    return variant


def launched(on_cpu):
    return {*on_cpu.launched} & {"lstm_step_forward", "decoder_lstm_backward", "combine_forward", "combine_backward",
                                 "tanh_dropout_forward", "tanh_dropout_backward", "lstm_gates_forward",
                                 "lstm_gates_backward"}


ALL_FOUR = {"lstm_step_forward", "decoder_lstm_backward", "combine_forward", "combine_backward"}


@by_op
@pytest.mark.parametrize("sizes", [SIZES, LARGE], ids=["small", "large"])
def test_gradients_by_complex_step_through_the_kernels_themselves(case, sizes, on_cpu, rng, gradcheck):
    args = tame(case.arguments(sizes, rng))
    report = gradcheck.assert_gradients(*fused_op(case), args, wrt=case.wrt, max_elements=24)
    assert report.rtol == 1e-12 and len({*on_cpu.launched}) == 2 and launched(on_cpu) <= ALL_FOUR


@by_op
@settings(max_examples=20, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_every_size(case, data, on_cpu, gradcheck):
    sizes = data.draw(strategies.sizes(case.letters, max_size=40))
    args = case.arguments(sizes, np.random.default_rng(data.draw(strategies.seeds())))
    on_cpu.backwards = data.draw(st.booleans())
    gradcheck.assert_variant((case.forward, case.own_backward), fused_op(case), args, wrt=case.wrt)


@by_op
@by_order
@BOTH_DTYPES
def test_several_blocks_and_tiles(dtype, backwards, case, on_cpu, rng, gradcheck):
    on_cpu.backwards = backwards
    args = cast(tame(case.arguments(LARGE, rng)), dtype)
    report = gradcheck.assert_variant((case.forward, case.own_backward), fused_op(case), args, wrt=case.wrt)
    assert report.dtype == dtype


@by_op
def test_what_every_operation_promises(case, on_cpu, rng, gradcheck):
    gradcheck.assert_contract(*fused_op(case), case.arguments(SIZES, rng), wrt=case.wrt)


@pytest.mark.parametrize("N, B", [(3, 3), (3, 21), (8, 9), (13, 13), (17, 24)])
def test_sentences_that_have_not_begun_keep_their_dc_and_dx_is_added_to(N, B, on_cpu, rng):
    H, K = 11, 13
    arrays = [rng.standard_normal(shape) for shape in ((N, 4 * H), (N, K), (K, 4 * H), (N, H))]
    _, cache = plain.decoder_lstm_forward(*arrays)
    dh, dc, dx = rng.standard_normal((N, H)), rng.standard_normal((B, H)), rng.standard_normal((N, K))
    expected = plain.decoder_lstm_backward(dh, dc, cache, dx=dx.copy())
    kept = dc.copy()
    found = kernels.decoder_lstm_backward(dh, dc, cache, dx=(given := dx.copy()))
    assert found.dx is given
    np.testing.assert_array_equal(dc, kept)
    np.testing.assert_array_equal(found.dc_prev[N:], dc[N:])
    for name in found._fields:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-11, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("case", [
    pytest.param(case, id=case.name, marks=[pytest.mark.slow] * (case not in (RECURRENT_DROPOUT, LAYERED)))
    for case in DECODERS])
def test_a_decoder_by_complex_step_through_the_kernels(case, at_once, on_cpu, rng, gradcheck):
    report = case._replace(forward=at_once(case)[0]).check(case.arguments(case.sizes, rng), gradcheck.assert_gradients)
    assert report.rtol == 1e-12 and launched(on_cpu) == ALL_FOUR


@by_decoder
@settings(max_examples=4, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_every_decoder_and_pattern_of_lengths(case, data, at_once, on_cpu, gradcheck):
    sizes = data.draw(strategies.sizes(case.letters, max_size=11))
    sizes["S"] = min(sizes["S"], 3)  # which is all that some of these attend to
    args = tame(case.arguments(sizes, np.random.default_rng(data.draw(strategies.seeds()))))
    args["tgt_lengths"] = data.draw(strategies.lengths(sizes["T"], sizes["B"]))
    on_cpu.backwards = data.draw(st.booleans())
    gradcheck.assert_variant((case.forward, case.backward), at_once(case), args, steps=sizes["T"])


@by_order
@BOTH_DTYPES
@pytest.mark.parametrize("case", [RECURRENT_DROPOUT, LAYERED], ids=lambda case: case.name)
def test_a_decoder_of_several_blocks_and_tiles(case, dtype, backwards, at_once, on_cpu, rng, gradcheck):
    on_cpu.backwards = backwards
    args = cast(tame(case.arguments(dict(T=3, S=3, B=11, E=3, H=18), rng)), dtype)
    report = gradcheck.assert_variant((case.forward, case.backward), at_once(case), args, steps=3)
    assert report.dtype == dtype


def test_padding_that_is_computed_too(at_once, on_cpu, rng, gradcheck):
    """The layout of a recorded step, every sentence at every step, of which padding reaches nothing."""
    case, sizes = DECODERS[0], dict(T=4, S=3, B=5, E=3, H=5)
    args = case.arguments(sizes, rng) | {"tgt_lengths": np.full(5, 4)}
    whole = pack_whole(args["tgt_lengths"], 4)
    gradcheck.assert_variant((case.forward, case.backward), at_once(case, whole), args, steps=4)


def test_how_many_launches(at_once, on_cpu, rng):
    """Of a step with attention and input feeding: three, where parts are five; products by cuBLAS are not counted."""
    case = DECODERS[0]
    args = case.arguments(case.sizes, rng)
    forward, backward = at_once(case)
    o, cache = forward(**args)
    assert on_cpu.launched == ["lstm_step_forward", "attention_step_forward", "combine_forward"] * case.sizes["T"]
    on_cpu.launched.clear()
    calls, counted = [], product.transposed_product
    cache[0].kernels.product.transposed_product = lambda *what, **how: calls.append(what) or counted(*what, **how)
    try:
        backward(o, cache)
    finally:
        product.transposed_product = counted
    assert on_cpu.launched == ["combine_backward", "attention_step_backward", "decoder_lstm_backward"] * case.sizes["T"]
    assert not calls


@pytest.mark.parametrize("right, wrong", [
    ("T(1) - y * y) * mask", "T(1) - y * y)"), ("*dp = do_rows.row(0, row)[j] * slope", "*dp = slope"),
    ("dc_prev_rows.row(0, row)[j] = dc;", ""), ("min(first + ROWS, B)", "min(first + ROWS - 1, B)"),
], ids=["the mask of the slope", "do in dp", "dc_prev", "sentences that have not begun"])
def test_a_slip_in_a_kernel_is_seen(right, wrong, on_cpu, rng, monkeypatch, tmp_path, gradcheck):
    text = launcher.source("decoder_step")
    assert text.count(right) == 1
    monkeypatch.setattr(launcher, "kernel", Shim(tmp_path, text=lambda file: text.replace(right, wrong)).kernel)
    with pytest.raises(AssertionError):
        test_sentences_that_have_not_begun_keep_their_dc_and_dx_is_added_to(3, 9, on_cpu, rng)
        args = OPS[-1].arguments(SIZES, rng)
        gradcheck.assert_variant((OPS[-1].forward, OPS[-1].own_backward), fused_op(OPS[-1]), args, wrt=OPS[-1].wrt)


def test_what_does_not_fit(on_cpu):
    one = np.ones
    with pytest.raises(ValueError, match=r"combine: W has shape \(4, 3\), expected \(K, H\)"):
        kernels.combine_forward(one((2, 5)), one((4, 3)))
    with pytest.raises(ValueError, match=r"decoder_lstm: z has shape \(2, 36\), expected \(N, 4H\) = \(2, 12\)"):
        kernels.decoder_lstm_forward(one((2, 36)), one((2, 5)), one((5, 12)), one((2, 3)))
    with pytest.raises(ValueError, match=r"combine: o is float32 \(2, 3\) .*, expected float64 \(2, 3\)"):
        kernels.combine_forward(one((2, 5)), one((5, 3)), o=one((2, 3), "float32"))


@pytest.mark.gpu
@by_op
@BOTH_DTYPES
@pytest.mark.parametrize("sizes", [SIZES, LARGE, dict(N=64, I=768, H=256)], ids=str)
def test_on_a_gpu(sizes, dtype, case, cupy, rng, gradcheck):
    args = {name: value if value is None else cupy.asarray(value)
            for name, value in cast(tame(case.arguments(sizes, rng)), dtype).items()}
    report = gradcheck.assert_variant((case.forward, case.own_backward), fused_op(case), args, wrt=case.wrt)
    assert report.device == "cuda"
