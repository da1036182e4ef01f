"""Weights in containers of every kind, for the tests beside it."""

import numpy as np

RNG = np.random.default_rng(0)
X, W, V = RNG.standard_normal((4, 3)), RNG.standard_normal((3, 5)), RNG.standard_normal((3, 5))
CONTAINERS = {"a list": [W, V], "a tuple": (W, V), "a dict": {"a": W, 1: V}, "nested": {"a": [W, {"b": V}]}}


def weights(tree):
    return [tree] if isinstance(tree, np.ndarray) else [
        leaf for value in (tree.values() if isinstance(tree, dict) else tree) for leaf in weights(value)]


def mapped(function, tree):
    if isinstance(tree, np.ndarray):
        return function(tree)
    if isinstance(tree, dict):
        return {key: mapped(function, value) for key, value in tree.items()}
    return type(tree)(mapped(function, value) for value in tree)


def names(report):
    return [tensor.name for tensor in report.tensors]
