"""Element-wise functions as CuPy's: of its own arrays and of numbers, nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np

from .array import SCALARS, ndarray, new, on_this_card
from .recording import recorded


class ufunc:
    """cupy/_core/_kernel.pyx, class ufunc."""

    def __init__(self, name: str):
        self.__name__ = self.name = name
        self._numpy = getattr(np, name)

    @recorded
    def __call__(self, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind",
                 **kwargs: Any) -> Any:
        if kwargs:  # `where` among them: ufunc.__call__, "Wrong arguments"
            raise TypeError(f"Wrong arguments {kwargs}")
        if len(args) > self._numpy.nin:  # an output in its place
            *args, out = args
        values = [_value(a) for a in args]
        out = out[0] if isinstance(out, tuple) else out
        if out is not None and not isinstance(out, ndarray):
            raise TypeError(f"Unsupported type {type(out)}")
        if out is None:
            return new(self._numpy(*values, dtype=dtype, casting=casting))
        self._numpy(*values, out=on_this_card(out), dtype=dtype, casting=casting)
        return out

    @recorded
    def reduceat(self, array: ndarray, indices: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> ndarray:
        """For add alone, as differences of running sums (_routines_indexing.pyx, _add_reduceat)."""
        if self.name != "add":
            raise NotImplementedError(f"`cupy_{self.name}.reduceat` is not supported yet")
        if out is not None or axis:
            raise AssertionError("the stand-in knows reduceat along axis 0 alone, without out")
        starts = np.append(on_this_card(indices), len(array))
        sums = np.cumsum(on_this_card(array), axis=0, dtype=dtype)
        sums = np.concatenate([np.zeros_like(sums[:1]), sums])
        rows = np.where((starts[:-1] >= starts[1:]).reshape(-1, *[1] * (array.ndim - 1)),
                        on_this_card(array)[starts[:-1]], sums[starts[1:]] - sums[starts[:-1]])
        return new(rows)


def _value(argument: Any) -> Any:
    """_kernel.pyx, _preprocess_args; _scalar.pyx, CScalar: an array of CuPy's or a number."""
    if isinstance(argument, ndarray):
        return on_this_card(argument)
    if isinstance(argument, SCALARS):
        return argument
    raise TypeError(f"Unsupported type {type(argument)}")


NAMES = ["add", "subtract", "multiply", "divide", "true_divide", "power", "negative", "absolute", "sqrt", "exp", "log",
         "tanh", "maximum", "minimum", "isfinite", "isnan", "equal", "not_equal", "less", "less_equal", "greater",
         "greater_equal", "logical_and", "logical_or", "logical_not", "bitwise_and", "bitwise_or", "invert",
         "floor_divide", "remainder", "sign", "square", "rint"]
UFUNCS = {name: ufunc(name) for name in NAMES}
