"""The fused layer-normalised gates on the CPU: by complex step through themselves, against the plain op, in a layer."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_lstm_gates_kernel import wide

from scratchnmt.gradcheck import strategies
from scratchnmt.gradcheck.convention import cast
from scratchnmt.kernels import fused
from scratchnmt.kernels.layer_norm_gates import layer_norm_gates_backward, layer_norm_gates_forward
from scratchnmt.ops import layer_norm_gates as plain
from scratchnmt.ops import product
from scratchnmt.ops.layer_norm_lstm import layer_norm_lstm_backward, layer_norm_lstm_forward
from scratchnmt.ops.packing import pack_whole
from scratchnmt.selfcheck import CASES, SIZES


def with_gains(backward):
    """With what a loop over time leaves to its end, of one direction or of two."""
    def whole(dh, dc, cache):
        dz, dc_prev = backward(dh, dc, cache)
        dg, db = plain.layer_norm_gains(*map(np.atleast_2d, (dh, dz, cache.z, cache.kept)))
        H = dh.shape[-1]
        return {"z": dz, "c_prev": dc_prev, "g": dg.reshape(cache.g.shape),
                "b_c": db[..., 4 * H :].reshape(*cache.g.shape[:-1], H)}

    return whole


PLAIN = plain.layer_norm_gates_forward, with_gains(plain.layer_norm_gates_backward)
FUSED = layer_norm_gates_forward, with_gains(layer_norm_gates_backward)
BOTH = {"layer_norm_gates_forward", "layer_norm_gates_backward"}
SIZES_ALONE = [(7,), (1, 2), (3, 5), (2, 33), (2, 600), (1, 1, 2), (2, 3, 33)]  # (..., H), some beyond a warp, a block
by_size = pytest.mark.parametrize("shape", SIZES_ALONE, ids=str)
by_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
SEQUENCES = [case for case in CASES if case.forward is layer_norm_lstm_forward]
by_case = pytest.mark.parametrize("case", SEQUENCES, ids=lambda case: case.name)


def arguments(rng, shape, dtype="float64"):
    """Gains of all rows, or of each direction."""
    *leading, H = shape
    own = (leading[0], 1) if len(leading) == 2 else ()
    shapes = {"z": (*leading, 12 * H), "c_prev": shape, "g": (*own, 9 * H), "b_c": (*own, H)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


@by_size
def test_gradients_by_complex_step_through_the_kernel_itself(shape, on_cpu, rng, gradcheck):
    report = gradcheck.assert_gradients(*FUSED, arguments(rng, shape), max_elements=60)
    assert report.rtol == 1e-12 and {*on_cpu.launched} == BOTH


@by_size
@by_dtype
def test_it_is_the_plain_op(shape, dtype, on_cpu, rng, gradcheck):
    gradcheck.assert_variant(PLAIN, FUSED, arguments(rng, shape, dtype))


def test_rows_of_larger_arrays_are_read_and_written_where_they_lie(on_cpu, rng):
    D, N, H = 2, 3, 5
    args = arguments(rng, (D, N, H))
    g, b_c = args.pop("g"), args.pop("b_c")
    (h, c), cache = plain.layer_norm_gates_forward(**args, g=g, b_c=b_c)
    dh, dc = rng.standard_normal((2, D, N, H))
    expected = [h, c, *cache[:3], *plain.layer_norm_gates_backward(dh, dc, cache)]
    empty = [np.full((D, N, columns), np.nan) for columns in (H, H, 3 * H + 3, 12 * H)]
    wholes, views = zip(*(wide(array, k) for k, array in enumerate([*args.values(), *empty, dh, dc])), strict=True)
    z, c_prev, h, c, kept, dz, dh, dc = views
    _, cache = layer_norm_gates_forward(z, c_prev, g, b_c, h=h, c=c, kept=kept, overwrite=True)
    assert cache.z is z and cache.kept is kept
    grads = layer_norm_gates_backward(dh, dc, cache, dz=dz, dc_prev=dc)
    assert grads.dz is dz and grads.dc_prev is dc
    for e, found in zip(expected, [h, c, *cache[:3], *grads], strict=True):
        np.testing.assert_allclose(found, e, rtol=1e-12, atol=1e-14)
    for whole, view in zip(wholes, views, strict=True):
        view[...] = 7
        assert (whole == 7).all()


def test_padding_that_is_shut_carries_c_through(on_cpu, rng):
    args = arguments(rng, (3, 6))
    args["z"][:, 48:] = np.repeat([-1e4, 1e4, 0, -1e4], 6)
    (h, c), cache = layer_norm_gates_forward(**args)
    dc = rng.standard_normal(c.shape)
    grads = layer_norm_gates_backward(np.zeros_like(dc), dc, cache)
    np.testing.assert_array_equal(c, args["c_prev"])
    np.testing.assert_array_equal(grads.dc_prev, dc)
    assert not h.any() and not grads.dz.any()


def test_the_order_of_the_threads_changes_no_bit(on_cpu, rng):
    results = []
    args, dh, dc = arguments(rng, (2, 3, 700)), *rng.standard_normal((2, 2, 3, 700))
    for on_cpu.backwards in False, True:
        hc, cache = layer_norm_gates_forward(**args)
        results.append([*hc, *cache, *layer_norm_gates_backward(dh, dc, cache)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_rows_launch_nothing(on_cpu):
    z, g = np.empty((2, 0, 36)), np.ones((2, 1, 27))
    (h, _), cache = layer_norm_gates_forward(z, np.empty((2, 0, 3)), g, np.zeros((2, 1, 3)))
    assert h.shape == (2, 0, 3) and layer_norm_gates_backward(h, h, cache).dz.shape == z.shape and not on_cpu.launched


@pytest.mark.parametrize("changes, message", [
    ({"z": (3, 8)}, r"layer_norm_gates: z has shape \(3, 8\), expected \(B, 12H\) = \(3, 24\), .* c_prev "),
    ({"c_prev": (1, 1, 3, 2)}, r"c_prev has shape .*, expected \(H\), \(B, H\) or \(D, B, H\)"),
    ({"g": (16,)}, r"g has shape \(16,\), expected \(3, 18\), or fewer rows for all"),
    ({"g": (2, 18)}, r"g has shape \(2, 18\), expected \(3, 18\), or fewer rows for all"),
    ({"b_c": (1,)}, r"b_c has shape \(1,\), expected \(3, 2\), or fewer rows for all"),
    ({"h": (3, 3)}, r"h is float64 \(3, 3\) .*, expected float64 \(3, 2\)"),
    ({"kept": (3, 6)}, r"kept is float64 \(3, 6\) .*, expected float64 \(3, 9\)"),
])
def test_what_does_not_fit(changes, message, on_cpu):
    shapes = {"z": (3, 24), "c_prev": (3, 2), "g": (18,), "b_c": (2,)} | changes
    with pytest.raises(ValueError, match=message):
        layer_norm_gates_forward(**{name: np.zeros(shape) for name, shape in shapes.items()})
    assert not on_cpu.launched


def layer(lengths=None):
    """(forward, backward) of a layer with the kernel; lengths: a layout instead of those given."""
    kernels = fused()._replace(product=product)

    def forward(**args):
        return layer_norm_lstm_forward(**(args if lengths is None else {**args, "lengths": lengths}), kernels=kernels)

    return forward, layer_norm_lstm_backward


@by_case
@settings(max_examples=12, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_layer_of_any_sizes_and_lengths(case, data, on_cpu, gradcheck):
    sizes = data.draw(strategies.sizes(case.letters, max_size=11))
    sizes["H"] += 1  # a row of one number, normalised, is 0 and no more
    args = case.arguments(sizes, np.random.default_rng(data.draw(strategies.seeds())))
    args["lengths"] = data.draw(strategies.lengths(sizes["T"], sizes["B"]))
    on_cpu.backwards = data.draw(st.booleans())
    on_cpu.launched.clear()
    plain_layer = layer_norm_lstm_forward, layer_norm_lstm_backward
    gradcheck.assert_variant(plain_layer, layer(), args, wrt=case.wrt, steps=sizes["T"])
    assert {*on_cpu.launched} == BOTH


@by_case
def test_a_layer_by_complex_step(case, on_cpu, rng, gradcheck):
    report = gradcheck.assert_gradients(*layer(), case.arguments(SIZES, rng), wrt=case.wrt, max_elements=12)
    assert report.rtol == 1e-12


def test_a_layer_in_float32(on_cpu, rng, gradcheck):
    case = SEQUENCES[-1]
    args = cast(case.arguments(dict(T=5, B=7, I=3, H=35), rng), "float32")
    plain_layer = layer_norm_lstm_forward, layer_norm_lstm_backward
    assert gradcheck.assert_variant(plain_layer, layer(), args, wrt=case.wrt, steps=5).dtype == "float32"


def test_padding_that_is_computed_too(on_cpu, rng, gradcheck):
    """The layout of a recorded step, every sentence at every step."""
    args = SEQUENCES[-1].arguments(SIZES, rng)
    whole, plain_layer = pack_whole(args["lengths"], SIZES["T"]), (layer_norm_lstm_forward, layer_norm_lstm_backward)
    gradcheck.assert_variant(plain_layer, layer(whole), args, wrt=SEQUENCES[-1].wrt, steps=SIZES["T"])


@by_case
def test_what_every_operation_promises(case, on_cpu, rng, gradcheck):
    gradcheck.assert_contract(*layer(), case.arguments(SIZES, rng), wrt=case.wrt)


@pytest.mark.gpu
@by_size
@by_dtype
def test_on_a_gpu(shape, dtype, cupy, rng, gradcheck):
    args = {name: cupy.asarray(value) for name, value in arguments(rng, shape, dtype).items()}
    plain_gates = plain.layer_norm_gates_forward, plain.layer_norm_gates_backward
    fused_gates = layer_norm_gates_forward, layer_norm_gates_backward
    assert gradcheck.assert_variant(plain_gates, fused_gates, args, wrt=("z", "c_prev")).device == "cuda"
