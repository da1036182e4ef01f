"""The operators of the stand-in's arrays: each is a function of the module (cupy/_core/core.pyx, __add__ ...)."""

from __future__ import annotations

import sys
from typing import Any

from .array import ndarray


def _operator(name: str, reflected: bool = False, in_place: bool = False) -> Any:
    def operate(self: ndarray, other: Any = None) -> Any:
        function = getattr(sys.modules["cupy"], name)
        if name in ("negative", "absolute", "invert"):
            return function(self)
        if in_place:  # core.pyx, __iadd__: the result must fit the array itself
            return function(self, other, out=self)
        return function(other, self) if reflected else function(self, other)
    return operate


for _name, _function in dict(add="add", sub="subtract", mul="multiply", truediv="true_divide", pow="power",
                             floordiv="floor_divide", mod="remainder", matmul="matmul", and_="bitwise_and",
                             or_="bitwise_or").items():
    _name = _name.strip("_")
    setattr(ndarray, f"__{_name}__", _operator(_function))
    setattr(ndarray, f"__r{_name}__", _operator(_function, reflected=True))
    if _name != "matmul":
        setattr(ndarray, f"__i{_name}__", _operator(_function, in_place=True))
for _name, _function in dict(eq="equal", ne="not_equal", lt="less", le="less_equal", gt="greater",
                             ge="greater_equal", neg="negative", abs="absolute", invert="invert").items():
    setattr(ndarray, f"__{_name}__", _operator(_function))
