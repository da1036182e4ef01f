"""Arrays inside whatever a cache is made of."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from scratchnmt.gradcheck.trees import arrays, changed, same_bits, snapshot


@dataclass
class Box:
    kept: np.ndarray
    count: int


class Pair(NamedTuple):
    a: np.ndarray
    b: object


A, B = np.arange(3.0), np.zeros((2, 2))


def test_every_kind_of_tree():
    tree = {"x": A, "list": [Box(B, 3), None], "pair": Pair(A, SimpleNamespace(inner=(B,), f=np.tanh, module=np))}
    assert [path for path, _ in arrays(tree)] == ["x", "list.0.kept", "pair.a", "pair.b.inner.0"]
    assert [path for path, _ in arrays(A)] == [""] and arrays(3) == []


def test_an_object_that_holds_itself():
    node = SimpleNamespace(value=A)
    node.parent = node
    assert [path for path, _ in arrays(node)] == ["value"]


def test_what_was_changed():
    tree = {"x": A.copy(), "y": [B.copy()]}
    before = snapshot(tree)
    assert changed(before, tree) == []
    tree["y"][0][1, 1] = -0.0
    assert changed(before, tree) == ["y.0"], "the sign of a zero is a bit"
    tree["x"] = A[:2]
    assert changed(before, tree) == ["x", "y.0"]


def test_same_bits():
    assert same_bits([A, np.nan], [A.copy(), np.nan]) and not same_bits([A], [A.astype("float32")])
    assert not same_bits([A], [A, A]) and not same_bits([A], [None])
