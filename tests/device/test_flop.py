"""What operations state about their products is what the array module is asked to multiply."""

import fake_cupy
import pytest

from scratchnmt.selfcheck import CASES
from scratchnmt.selfcheck.case import placed


@pytest.fixture
def products(monkeypatch):
    """The operations of every product of the stand-in."""
    counted, original = [], fake_cupy.CUPY.matmul

    def matmul(a, b, out=None):
        result = original(a, b, out)
        counted.append(2 * result.size * a.shape[-1])
        return result

    monkeypatch.setattr(fake_cupy.CUPY, "matmul", matmul)
    return counted


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_operation_multiplies_what_it_states(case, products, cupy, rng):
    sizes = dict(T=3, S=4, B=2, Q=3, N=5, I=6, O=7, E=3, H=5, M=4, A=6, V=9)
    args = case.arguments(sizes, rng)
    here = placed(args, "cuda", "float64")
    result, cache = case.forward(**here)
    forward = sum(products)
    dys = [cupy.asarray(rng.standard_normal(y.shape)) for y in (result if isinstance(result, tuple) else (result,))]
    (case.sibling("backward") or case.backward)(*dys, cache)  # the operation's, without what selfcheck adds to it
    stated = case.sibling("flop")
    expected = stated(**args) if stated else (0, 0)
    assert (forward, sum(products) - forward) == expected


def test_those_with_products():
    assert {case.name.partition(",")[0] for case in CASES if case.sibling("flop")} == {
        "linear", "lstm", "lstm_cell", "attention", "attention_step", "linear_cross_entropy",
        "local_attention", "predict_place"}
