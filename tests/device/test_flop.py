"""The products that benchmarks/flops.py counts for an operation are those that the array module is asked for."""

import fake_cupy
import pytest

from benchmarks.flops import PRODUCTS, operations
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
def test_an_operation_multiplies_what_is_counted(case, products, cupy, rng):
    sizes = dict(T=3, S=4, B=2, Q=3, N=5, I=6, O=7, E=3, H=5, M=4, A=6, V=9)
    args = case.arguments(sizes, rng)
    here = placed(args, "cuda", "float64")
    result, cache = case.forward(**here)
    forward = sum(products)
    dys = [cupy.asarray(rng.standard_normal(y.shape)) for y in (result if isinstance(result, tuple) else (result,))]
    case.own_backward(*dys, cache)  # without what selfcheck adds to it
    assert (forward, sum(products) - forward) == operations(case.op, args)


def test_every_count_is_of_an_operation():
    assert set(PRODUCTS) <= {case.op for case in CASES}
