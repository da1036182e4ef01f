"""cupy.ndarray made of a numpy.ndarray that nobody else can reach; each difference says where CuPy says so.

Paths are those of the repository cupy/cupy at v14.2.0.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np

from .cuda import MACHINE, Device
from .indexing import assign, pick
from .recording import recorded

SCALARS = (bool, int, float, complex, np.generic)  # cupy/_core/_scalar.pyx, scalar_type_set


class ndarray:
    """cupy/_core/core.pyx.  Lies on the card that was current when it was made."""

    __slots__ = ("_array", "_card", "__weakref__")
    __hash__ = None
    __array_priority__ = 100

    def __init__(self, *_: Any):
        raise AssertionError("arrays of the stand-in come from its functions")

    # What NumPy's own functions get: CuPy's function of the same name, or TypeError

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:  # core.pyx, __array__
        raise TypeError("Implicit conversion to a NumPy array is not allowed. "
                        "Please use `.get()` to construct a NumPy array explicitly.")

    def __array_ufunc__(self, function: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:  # core.pyx
        found = getattr(sys.modules["cupy"], function.__name__, None)
        if found is None or (method != "__call__" and not hasattr(found, method)):
            return NotImplemented
        if "out" in kwargs:  # NumPy hands it on as a tuple
            (kwargs["out"],) = kwargs["out"]
        return (found if method == "__call__" else getattr(found, method))(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:  # core.pyx
        found = getattr(sys.modules["cupy"], function.__name__, None)
        if found is None or found is function or not all(issubclass(t, ndarray) for t in types):
            return NotImplemented
        return found(*args, **kwargs)

    # To the host: each of these waits for the card

    def get(self, stream: Any = None, order: str = "C", out: np.ndarray | None = None,
            blocking: bool = True) -> np.ndarray:
        if blocking:
            MACHINE.wait("get")
        MACHINE.refuse_while_recording("get")
        if out is None:
            return self._array.copy()
        if self.dtype != out.dtype or self.shape != out.shape:
            raise TypeError(f"{self.dtype} {self.shape} cannot be obtained from {out.dtype} {out.shape}")
        out[...] = self._array
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        MACHINE.upload("set")
        if self.dtype != arr.dtype or self.shape != arr.shape:
            raise TypeError(f"{arr.dtype} {arr.shape} cannot be set to {self.dtype} {self.shape}")
        self._array[...] = arr
        MACHINE.in_flight.append((arr, arr.copy()))

    def _number(self, what: str) -> np.ndarray:
        MACHINE.wait(what)
        return self._array

    def item(self) -> Any:
        return self._number("item").item()

    def tolist(self) -> Any:
        return self._number("tolist").tolist()

    def __bool__(self) -> bool:
        if self.size != 1:  # core.pyx, __nonzero__
            raise ValueError("The truth value of an array with more than one element is ambiguous.")
        return bool(self._number("bool"))

    def __int__(self) -> int:
        return int(self._number("int"))

    def __float__(self) -> float:
        return float(self._number("float"))

    def __complex__(self) -> complex:
        return complex(self._number("complex"))

    def __repr__(self) -> str:
        return repr(self._number("repr"))

    def __format__(self, spec: str) -> str:
        return format(self._number("format"), spec)

    # there is no __index__: a slice or a range by an array is a TypeError

    # Shape

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    strides = property(lambda self: self._array.strides)
    data = property(lambda self: SimpleNamespace(ptr=self._array.ctypes.data, device_id=self._card))  # memory.pxd
    itemsize = property(lambda self: self._array.itemsize)
    nbytes = property(lambda self: self._array.nbytes)
    device = property(lambda self: Device(self._card))
    T = property(lambda self: self.transpose())

    @property
    def flags(self) -> SimpleNamespace:
        flags = self._array.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous)

    @property
    def real(self) -> ndarray:  # _routines_math.pyx: a view, and of real numbers the array itself
        return view(self._array.real, self) if self.dtype.kind == "c" else self

    @property
    def imag(self) -> ndarray:  # _routines_math.pyx: a view, of real numbers new zeros
        return view(self._array.imag, self) if self.dtype.kind == "c" else new(np.zeros_like(self._array))

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Any:  # core.pyx, __iter__
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def reshape(self, *shape: Any) -> ndarray:
        return view(self._array.reshape(*shape), self)

    def view(self, dtype: Any) -> ndarray:
        return view(self._array.view(dtype), self)

    def ravel(self) -> ndarray:
        return view(self._array.ravel(), self)

    def transpose(self, *axes: Any) -> ndarray:
        return view(self._array.transpose(*axes), self)

    def swapaxes(self, axis1: int, axis2: int) -> ndarray:
        return view(self._array.swapaxes(axis1, axis2), self)

    def astype(self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None,
               copy: bool = True) -> ndarray:
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        return new(on_this_card(self).astype(dtype, order=order))

    def take(self, indices: ndarray, axis: int | None = None) -> ndarray:  # _routines_indexing.pyx, _ndarray_take
        return new(on_this_card(self).take(on_this_card(indices), axis))

    def repeat(self, repeats: int, axis: int | None = None) -> ndarray:  # _routines_manipulation.pyx, _repeat
        return new(on_this_card(self).repeat(repeats, axis))

    def copy(self, order: str = "C") -> ndarray:  # core.pyx, copy: to the current card, wherever it lies
        return new(self._array.copy(order=order))

    def fill(self, value: Any) -> None:
        self[...] = value

    # Indexing

    def __getitem__(self, index: Any) -> ndarray:
        on_this_card(self)
        result = pick(self._array, *_host(index))
        return view(result, self) if np.may_share_memory(result, self._array) else new(result)

    def __setitem__(self, index: Any, value: Any) -> None:
        on_this_card(self)
        parts, arrays = _host(index)
        assign(self._array, parts, arrays, on_this_card(value) if isinstance(value, ndarray) else value,
               from_host=not isinstance(value, (ndarray, *SCALARS)))

    # Reductions: the result of every one is an array on the card, of no dimensions too
    # (docs/source/user_guide/difference.rst, "Reduction methods")

    def _reduce(self, name: str, axis: Any, out: Any, **options: Any) -> ndarray:
        if out is not None:
            getattr(on_this_card(self), name)(axis=axis, out=on_this_card(out), **options)
            return out
        return new(getattr(on_this_card(self), name)(axis=axis, **options))

    def sum(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduce("sum", axis, out, dtype=dtype, keepdims=keepdims)

    def mean(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduce("mean", axis, out, dtype=dtype, keepdims=keepdims)

    def max(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduce("max", axis, out, keepdims=keepdims)

    def min(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduce("min", axis, out, keepdims=keepdims)

    def all(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduce("all", axis, out, keepdims=keepdims)

    def any(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduce("any", axis, out, keepdims=keepdims)

    def argmax(self, axis: Any = None, out: Any = None, dtype: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduce("argmax", axis, out, keepdims=keepdims)

    def argsort(self, axis: int = -1, *, kind: str | None = None) -> ndarray:
        if kind not in (None, "stable"):  # cupy/_sorting/sort.py, argsort
            raise ValueError(f"{kind} is not supported: a sort is always stable")
        return new(on_this_card(self).argsort(axis=axis, kind="stable"))

    def nonzero(self) -> tuple[ndarray, ...]:
        MACHINE.wait("nonzero")  # _routines_indexing.pyx, _ndarray_argwhere: "synchronize!"
        return tuple(new(a) for a in on_this_card(self).nonzero())


for _name in ("reshape", "ravel", "astype", "copy", "fill", "__getitem__", "__setitem__", "_reduce", "argsort"):
    setattr(ndarray, _name, recorded(getattr(ndarray, _name)))


def new(values: Any) -> ndarray:
    """A new array on the current card; takes its memory."""
    values = np.asarray(values)
    if values.dtype.kind not in "biufc":  # docs/source/user_guide/difference.rst, "Data types"
        raise ValueError(f"Unsupported dtype {values.dtype}")
    MACHINE.allocate(values.nbytes)
    values = values if values.flags.owndata else values.copy()
    if MACHINE.recording is not None:
        MACHINE.recording.make(values)
    return _made(values, MACHINE.card)


def view(values: np.ndarray, of: ndarray) -> ndarray:
    return _made(values, of._card) if np.may_share_memory(values, of._array) or not values.size else new(values)


def _made(values: np.ndarray, card: int) -> ndarray:
    array = object.__new__(ndarray)
    array._array, array._card = values, card
    if MACHINE.recording is not None:
        MACHINE.recording.watch(array)
    return array


def again(array: ndarray) -> ndarray:
    """Another look at it, that nobody watches (see recording.py)."""
    other = object.__new__(ndarray)
    other._array, other._card = array._array, array._card
    return other


def on_this_card(array: Any) -> np.ndarray:
    """What is behind it; CuPy's refusals otherwise (_kernel.pyx, _check_peer_access, between cards without it)."""
    if not isinstance(array, ndarray):
        raise TypeError(f"Unsupported type {type(array)}")
    if array._card != MACHINE.card:
        raise ValueError(f"The device where the array resides ({array._card}) is different from the current "
                         f"device ({MACHINE.card}). Peer access is unavailable between these devices.")
    return array._array


def _host(index: Any) -> tuple[list, list]:
    """The parts of an index with CuPy's arrays as NumPy's, and which of them are arrays."""
    parts = list(index) if isinstance(index, tuple) else [index]
    arrays = [isinstance(p, (ndarray, np.ndarray, list)) for p in parts]
    for i, p in enumerate(parts):
        if isinstance(p, ndarray):
            parts[i] = on_this_card(p)
            if p.dtype.kind == "b":
                MACHINE.wait("boolean index")  # _routines_indexing.pyx: n_true = int(mask_scanned[-1])
        elif arrays[i]:
            parts[i] = np.asarray(p, dtype=None if len(p) else int)
            MACHINE.upload("index")  # _prepare_slice_list: arrays of NumPy and lists are copied to the card
    return parts, arrays
