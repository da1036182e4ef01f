"""pytest run on small test files, for the tests of our plugin."""

import json
from importlib import import_module

import pytest

import scratchnmt.gradcheck

# imported here, not inside a run whose imports are forgotten after it
import_module("scratchnmt.gradcheck.api")
for _name in scratchnmt.gradcheck.__all__:
    getattr(scratchnmt.gradcheck, _name)

OP = """
    import numpy as np
    calls = []

    def forward(x, W):
        calls.append(1)
        y = np.tanh(x @ W)
        return y, (x, W, y)

    def backward(dy, cache):
        x, W, y = cache
        dz = dy * (1 - y * y)
        return {"x": dz @ W.T, "W": x.T @ dz}

    def wrong(dy, cache):
        found = backward(dy, cache)
        return {**found, "W": 2 * found["W"]}

    def args(rng=np.random.default_rng(0)):
        return {"x": rng.standard_normal((3, 4)), "W": rng.standard_normal((4, 5))}
"""


@pytest.fixture
def run(pytester):
    """run(text of a test file, options): pytest's result; the operation of OP stands beside the file."""
    def run(text, *options):
        pytester.makepyfile(op=OP)
        pytester.makepyfile(text)
        pytester.syspathinsert()
        return pytester.runpytest("-p", "no:cacheprovider", *options)

    return run


@pytest.fixture
def written(pytester):
    """written(name): the JSON file, read by a reader that takes no NaN and no Infinity."""
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    def written(name="report.json"):
        return json.loads((pytester.path / name).read_text(encoding="utf-8"), parse_constant=refuse)

    return written
