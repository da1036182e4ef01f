"""Everything that a training step computes passes through the model's backend, so that whoever wraps it sees all."""

from types import SimpleNamespace

import numpy as np
import pytest
from tiny_nmt import batch

from scratchnmt.ops.plain import PLAIN, Kernels
from scratchnmt.selfcheck.models import MODELS


class Ledger:
    """The memory that the operations of a backend have seen, as they left it."""

    def __init__(self, *known):
        self.memory = {}  # id of an array that owns its memory -> it and a copy
        self.calls = 0
        self.refresh(known)

    def wrapped(self):
        """The plain operations, which look before and after themselves whether others have computed."""
        def watch(name, function):
            def call(*args, **options):
                self.calls += 1
                self.examine([args, options], name)
                result = function(*args, **options)
                self.refresh([args, options, result])
                return result
            return call

        return Kernels(*(SimpleNamespace(**{key: watch(key, value) for key, value in vars(module).items()
                                            if callable(value) and key.islower()}) for module in PLAIN if module))

    def examine(self, values, name):
        for array in owners(values):
            owner, copy = self.memory.get(id(array), (array, np.zeros_like(array)))
            changed = (owner != copy) & ~np.isnan(owner)  # memory of `empty` is NaN here
            assert not changed.any(), f"{name} reads {int(changed.sum())} numbers that no operation has made"

    def refresh(self, values):
        self.memory.update({id(array): (array, array.copy()) for array in owners(values)})


def owners(value):
    """The arrays of floating numbers in nested values, or those whose memory they look at."""
    if isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):
            value = value.base
        return [value] if value.dtype.kind == "f" else []
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [array for part in values for array in owners(part)]


@pytest.fixture(autouse=True)
def empty_is_nan(monkeypatch):
    def filled(function):
        def make(*args, **options):
            array = function(*args, **options)
            if array.dtype.kind == "f":
                array[...] = np.nan
            return array
        return make

    for name in ("empty", "empty_like"):
        monkeypatch.setattr(np, name, filled(getattr(np, name)))


@pytest.mark.parametrize("case", MODELS, ids=lambda case: case.name)
def test_a_step_computes_nothing_beside_its_backend(case):
    model = case.model()
    ledger = Ledger([model.params.flat])
    model.kernels = ledger.wrapped()
    loss, cache = model.forward(*batch(), rng=np.random.default_rng(1))
    grads = model.backward(cache)
    assert ledger.calls > 30
    ledger.examine([loss, grads.flat], "the result")
