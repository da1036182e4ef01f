"""The whole system on a card, held to the CPU: gradients, training, search, memory, the same bits."""

import numpy as np
import pytest
from models.tiny_nmt import batch, by_configuration
from training.tiny_run import VOCAB, At, Killed, essence, kill, metrics, model, pairs, run

from scratchnmt import NMT, Translator
from scratchnmt.arrays import to_device
from scratchnmt.checkpoint import save_model
from scratchnmt.data.batches import make_batch
from scratchnmt.errors import InputError
from scratchnmt.files.run_folder import STATE
from scratchnmt.files.tensors import read_tensors
from scratchnmt.kernels import choose
from scratchnmt.kernels.product import Products
from scratchnmt.ops import product as plain
from scratchnmt.selfcheck import EVERY
from scratchnmt.training import OutOfMemoryError
from scratchnmt.training.step import Part, Place, Recipe, make_steps

by_kernels = pytest.mark.parametrize("kernels", ["plain", "fused", "persistent"])
by_recorded_kernels = pytest.mark.parametrize("kernels", ["fused", "persistent"])
by_id = {"ids": lambda case: case.name}
FUSED = {"device": "cuda", "embed_dropout": 0.2}


@pytest.mark.parametrize("case", EVERY, **by_id)
def test_plain_gradients_by_complex_step_on_the_card(case):
    report = case.report("cuda")
    assert report.ok, str(report)


@by_kernels
@by_configuration
def test_the_model_gives_the_same_on_both(case, kernels):
    if kernels == "persistent" and case.choices.get("cell") == "layer-norm-lstm":
        pytest.skip("persistent kernels are of the plain cell")
    src, src_lengths, tgt = batch()
    results = []
    for on_device, how in (("cpu", "plain"), ("cuda", kernels)):
        made = case.model(on_device, kernels=how)
        loss, cache = made.forward(src, src_lengths, tgt)
        results.append((float(loss), {n: to_device(g, "cpu") for n, g in made.backward(cache).items()}))
    (loss, grads), (device_loss, device_grads) = results
    assert device_loss == pytest.approx(loss, rel=1e-12)
    for name, gradient in grads.items():
        np.testing.assert_allclose(device_grads[name], gradient, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("dtype, rtol", [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("shape_a, shape_b", [((5, 7), (7, 3)), ((2, 33, 65), (2, 65, 129)), ((300, 20), (20, 1))])
def test_products_by_cublas(shape_a, shape_b, dtype, rtol, cupy, rng):
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in (shape_a, shape_b))
    there_a, there_b = cupy.asarray(a), cupy.asarray(np.ascontiguousarray(b.swapaxes(-1, -2)))
    expected = a.astype(float) @ b.astype(float)
    found = Products().transposed_product(there_a, there_b)
    np.testing.assert_allclose(found.get(), expected, rtol=rtol, atol=rtol * np.abs(expected).max())
    Products().product(there_a, there_b.swapaxes(-1, -2), out=found, add=True)
    np.testing.assert_allclose(found.get(), 2 * expected, rtol=rtol, atol=2 * rtol * np.abs(expected).max())
    columns = cupy.zeros((*shape_a[:-1], 2 * shape_b[-1]), dtype)[..., shape_b[-1] :]
    Products().product(there_a, cupy.asarray(b), out=columns)
    np.testing.assert_allclose(columns.get(), expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def test_tf32_is_near_and_not_float32(cupy, rng):
    a, b = (rng.standard_normal((256, 256)).astype("float32") for _ in range(2))
    exact = plain.product(a.astype(float), b.astype(float))
    errors = [np.abs(choose(None, matmul, "cuda", "float32").product.product(cupy.asarray(a), cupy.asarray(b)).get()
                     - exact).max() for matmul in ("float32", "tf32")]
    if int(cupy.cuda.Device().compute_capability) < 80:
        pytest.skip("this card has no tf32")
    assert errors[0] < 1e-4 < 10 * errors[0] < errors[1] < 0.2


@by_kernels
def test_two_hundred_steps_stay_together(tmp_path, kernels):
    """Float32, from the same weights over the same batches, without dropout, which each draws in its own way."""
    changes = {"max_steps": 200, "max_epochs": None, "valid_every": 50, "learning_rate": 0.003}
    run(tmp_path / "cpu", choices={"dropout": 0.0}, **changes)
    run(tmp_path / "cuda", choices={"dropout": 0.0, "device": "cuda", "kernels": kernels}, **changes)
    for here, there in zip(metrics(tmp_path / "cpu"), metrics(tmp_path / "cuda"), strict=True):
        assert there["train_loss"] == pytest.approx(here["train_loss"], rel=2e-3)
        assert there["valid_ppl"] == pytest.approx(here["valid_ppl"], rel=2e-3)


@by_recorded_kernels
def test_recorded_or_not_resumed_or_not_the_bits_are_the_same(tmp_path, kernels):
    choices = FUSED | {"kernels": kernels}
    run(tmp_path / "recorded", choices=choices)
    run(tmp_path / "again", choices=choices)
    run(tmp_path / "one by one", choices=choices, graphs=0)
    with pytest.raises(Killed):
        run(tmp_path / "resumed", choices=choices, progress=At(11, kill), save_every=4)
    run(tmp_path / "resumed", choices=choices, resume=True, save_every=4)
    expected = essence(tmp_path / "recorded")
    assert essence(tmp_path / "again") == expected
    assert essence(tmp_path / "one by one") == expected
    assert essence(tmp_path / "resumed") == expected


@by_recorded_kernels
def test_branches_that_a_card_has_time_to_mix_up_give_the_same_bits(kernels):
    expected, *others = (weights_after(6, V=4000, H=256, B=64, graphs=graphs, kernels=kernels) for graphs in (0, 1, 1))
    assert np.isfinite(expected).all()
    for found in others:
        np.testing.assert_array_equal(found, expected)


def weights_after(count, V, H, B, graphs, kernels):
    """The weights after some steps along the same batch, of 20 source and target words."""
    rng = np.random.default_rng(0)
    made = NMT(V, V, H, H, dropout=0.2, seed=1, device="cuda", kernels=kernels)
    steps = make_steps(made, lambda module: module.Adam(made.params),
                       Recipe(clip=5.0, seed=1, graphs=graphs, generator=None))
    one = make_batch(*rng.integers(4, V, (2, B, 20)).tolist())
    for number in range(1, count + 1):
        steps.take([Part(0, one)], B, Place(number, 1, 20 * B), 1e-3)
    steps.drain()
    steps.close()
    return to_device(made.params.flat, "cpu")


def test_a_large_layer_again_after_a_smaller_one():
    """Each wants another limit of shared memory of the same kernel."""
    src, src_lengths, tgt = batch()
    for H in 256, 128, 256:
        losses = [float(NMT(12, 12, H, H, seed=1, device=device, kernels=kernels).forward(src, src_lengths, tgt)[0])
                  for device, kernels in (("cpu", None), ("cuda", "persistent"))]
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@by_recorded_kernels
def test_steps_are_recorded_without_a_warning(tmp_path, recwarn, kernels):
    from scratchnmt.kernels.graph import Graphs

    recorded, original = [], Graphs._record
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Graphs, "_record", lambda self, key, work: (recorded.append(key), original(self, key, work)))
        run(tmp_path / "run", choices=FUSED | {"kernels": kernels})
    assert recorded and not [w for w in recwarn if "recorded" in str(w.message)]


@by_kernels
@pytest.mark.parametrize("constraints", [{}, {"min_length": 4, "no_repeat_ngram_size": 2}], ids=str)
@pytest.mark.parametrize("beam_size", [1, 5])
def test_translations_are_the_same_on_both(tmp_path, kernels, beam_size, constraints):
    saved = model(seed=1, dtype="float64")
    saved.params.flat[...] *= 20  # so that words differ
    save_model(tmp_path, saved, VOCAB, VOCAB)
    lines = pairs(30, 3, (1, 9))[0]
    options = {"beam_size": beam_size, "n_best": beam_size, "batch_size": 8, **constraints}
    expected = Translator.load(tmp_path).translate(lines, **options)
    found = Translator.load(tmp_path, "cuda", kernels=kernels).translate(lines, **options)
    assert [[text for text, _ in some] for some in found] == [[text for text, _ in some] for some in expected]
    np.testing.assert_allclose([s for some in found for _, s in some], [s for some in expected for _, s in some],
                               rtol=1e-10)


def test_out_of_memory_says_how_much_was_asked(cupy):
    pool = cupy.get_default_memory_pool()
    pool.set_limit(size=8 << 20)
    try:
        with pytest.raises(InputError, match=r"out of memory on cuda for the model's weights \(Out of memory"):
            NMT(20000, 20000, 256, 256, device="cuda")
    finally:
        pool.set_limit(size=0)


def test_out_of_memory_in_a_step_leaves_the_save_good(tmp_path, cupy, monkeypatch):
    def no_room(self, size):
        raise cupy.cuda.memory.OutOfMemoryError(size, 0)

    monkeypatch.setattr("scratchnmt.kernels.graph.Graphs._allocate", no_room)
    with pytest.raises(OutOfMemoryError, match="out of memory .*; resume it with a larger --accumulate"):
        run(tmp_path / "run", choices=FUSED)
    _, info = read_tensors(tmp_path / "run" / STATE)
    assert info["state"]["step"] == 0
