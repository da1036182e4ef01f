"""What a program gives to fit, evaluate and predict, as arrays on the host: NumPy, CuPy, pandas, lists."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from ..arrays import to_device
from ..errors import InputError, listed, shown
from .layer import number


def host_array(what: str, given: Any) -> np.ndarray:
    """The numbers; InputError if there are others, or rows of several lengths.

    Whatever has `to_numpy`, as a DataFrame or a Series, is asked for its array.  A list of one batch is that batch,
    since Keras takes a list of inputs.
    """
    if isinstance(given, (list, tuple)) and len(given) == 1 and len(getattr(given[0], "shape", ())) > 1:
        given = given[0]
    if isinstance(given, Mapping) or hasattr(given, "__next__"):
        raise InputError(f"{what} is a {type(given).__name__}, expected an array")
    if np.ma.is_masked(given):
        raise InputError(f"{what} is an array with masked numbers, expected one without: filled(...) makes one")
    try:
        array = (given.to_numpy() if hasattr(given, "to_numpy") else to_device(given, "cpu") if hasattr(given, "dtype")
                 else np.asarray(given))
    except ValueError as error:
        raise InputError(f"{what} holds arrays or lists of several lengths, expected one array: pad them, or if they "
                         "are several inputs, join them: a network here takes one") from error
    if array.dtype.kind == "O" and array.size and all(isinstance(one, Real) for one in array.flat):
        array = array.astype("float64")  # columns of several kinds
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what} is {array.dtype} {array.shape}, expected numbers{_other_columns(given)}")
    return array


def _other_columns(table: Any) -> str:
    """The columns of a DataFrame that hold no numbers."""
    kinds = zip(getattr(table, "columns", ()), getattr(table, "dtypes", ()), strict=False)
    others = [f"{name} ({kind})" for name, kind in kinds if getattr(kind, "kind", "O") not in "fiub"]
    return f": these columns hold others: {listed(others)}" if others else ""


def class_weights(given: Any, labels: np.ndarray, classes: int) -> np.ndarray:
    """What each example, or step of it, counts: given[its class], 1 for a class that is not named."""
    if not isinstance(given, Mapping):
        raise InputError(f"class_weight is {shown(given)}, expected a dictionary of numbers, {{0: 1.0, 1: 5.0}}; "
                         "dict(enumerate(weights)) makes one of a list")
    weights = np.ones(labels.shape)
    for label, weight in given.items():
        if label not in range(classes):
            raise InputError(f"class_weight holds class {shown(label)}, expected whole numbers from 0 to {classes - 1}")
        weights[labels == label] = number(f"class_weight of class {label}", weight, lambda weight: 0 <= weight < np.inf,
                                          "a number of at least 0")
    return weights
