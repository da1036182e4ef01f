"""A recording backend: every operation of a training step, with who called it, what it read and what it wrote.

    recorder = Recorder(model)
    cache = recorder.forward(batch)         # model.forward, each operation written down
    grads = recorder.backward(cache)
    recorder.calls                          # in the order in which they ran

A model calls its operations through `kernels` (ops/plain.py), so that a backend which passes each call on sees the
whole step, and the model's own code runs unchanged.

On the way back the summands of every gradient are kept apart.  An array of gradients is added to by one operation after
another; what each adds is noted under the line that called it, its *path*.  Where an array is copied, or multiplied by
a mask of dropout, the paths of its elements go along.  So the paths of a gradient add up to it by construction,
whatever the model's configuration.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ..models.nmt import NMT, NMTCache
from ..ops.plain import Kernels
from ..parameters import Parameters

ROOT = Path(__file__).parents[1]  # the package
# the arguments that an operation writes; of all others, those that can be given by keyword alone
WRITTEN = {"lstm_gates_forward": ("z", "h", "c", "tanh_c"), "cross_entropy_in_place": ("z", "losses"),
           "r_drop_in_place": ("z", "losses"), "soft_cross_entropy_in_place": ("z", "teacher_logits", "losses"),
           "put": ("out",), "add": ("out",), "add_rows": ("out",),
           "dropout_forward": (), "embedding_forward": ()}
ADDING = ("add", "add_rows", "embedding_backward")
LARGEST = 1 << 21  # numbers of an array whose summands are kept apart: more are gradients of weights


class Site(NamedTuple):
    """A line of the package's code."""

    file: str  # "models/decoder.py"
    function: str  # "step_forward"
    line: int


class GradientPath(NamedTuple):
    """One way by which a gradient comes: the line that added it, and the weight that it went through, if any."""

    site: Site
    op: str
    weight: str  # "decoder.Wh", or ""
    part: str  # what tells two uses of one line apart: "direction 1"


Paths = dict[GradientPath, np.ndarray]


class Write(NamedTuple):
    """What a call has written."""

    name: str  # of its argument, or "result", "result 1"
    owner: int  # the array whose memory it is
    elements: np.ndarray  # which numbers of that memory, in the shape of what was written
    added: bool  # to what was there


class Call:
    """One operation that ran."""

    def __init__(self, number: int, op: str, phase: str, site: Site, inner: Site,
                 arguments: dict[str, Any]):
        self.number, self.op, self.phase, self.site, self.arguments = number, op, phase, site, arguments
        self.inner = inner  # where the operation itself begins
        self.before: dict[str, np.ndarray] = {}  # copies of what is wanted, as the call found it
        self.after: dict[str, np.ndarray] = {}
        self.paths: dict[str, Paths] = {}  # of gradients that it found
        self.writes: list[Write] = []
        self.outputs: dict[str, np.ndarray] = {}  # copies of all that it has written, if they are wanted
        self.weight, self.first_row = "", 0  # that it multiplied by, and from which of its rows on

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """Its arguments that are arrays of numbers, records of them taken apart: "cache.gates"."""
        return named_arrays(self.arguments)


Wanted = Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]  # op -> names to be copied before and after
Hook = Callable[[Call, bool], None]  # called before each call, and after it with True; it may change arrays


class Recorder:
    """Runs a model's step and keeps what each operation did; float64, or complex for derivatives."""

    def __init__(self, model: NMT, wanted: Wanted | None = None, *, hook: Hook | None = None, paths: bool = True,
                 outputs: bool = False):
        self.model = model.with_params(model.params)  # its backend is replaced, the caller's is not
        self.wanted, self.hook, self.keeps_paths, self.keeps_outputs = wanted or {}, hook, paths, outputs
        self.calls: list[Call] = []
        self.phase = "forward"
        self.weights = {name: _interval(array) for name, array in model.params.items()}
        self.memory: dict[int, np.ndarray] = {}  # id -> the array that owns the memory, kept so that ids stay unique
        self.ledgers: dict[int, Paths] = {}  # of each array of gradients: what every path has added, flat
        self.model.kernels = Kernels(**{name: self._wrapped(part) for name, part in model.kernels._asdict().items()
                                        if part})

    def forward(self, src: np.ndarray, src_lengths: np.ndarray, tgt: np.ndarray, rng: Any = None
                ) -> tuple[float | complex, NMTCache]:
        self.phase = "forward"
        loss, cache = self.model.forward(src, src_lengths, tgt, rng=rng)
        return loss[()], cache

    def backward(self, cache: NMTCache) -> Parameters:
        self.phase = "backward"
        return self.model.backward(cache)

    def _wrapped(self, part: Any) -> SimpleNamespace:
        functions = {name: function for name, function in vars(part).items()
                     if inspect.isfunction(function) and Path(function.__code__.co_filename).is_relative_to(ROOT)}
        return SimpleNamespace(**{name: self._watched(name, function) for name, function in functions.items()})

    def _watched(self, op: str, function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)
        written = WRITTEN.get(op, tuple(name for name, parameter in signature.parameters.items()
                                        if parameter.kind is parameter.KEYWORD_ONLY))

        code = function.__code__
        inner = Site(_file(code), code.co_name, code.co_firstlineno)

        def call(*args: Any, **options: Any) -> Any:
            frame = sys._getframe(1)
            this = Call(len(self.calls), op, self.phase, _site(frame), inner,
                        signature.bind(*args, **options).arguments)
            self.calls.append(this)
            return self._run(this, function, written, args, options)

        return call

    def _run(self, call: Call, function: Callable[..., Any], written: tuple[str, ...], args: Any, options: Any) -> Any:
        before, after = self.wanted.get(call.op, ((), ()))
        call.weight, call.first_row = self._weight(call)
        if self.hook:
            self.hook(call, False)
        for name in before:
            self._keep(call, name, call.before)
        outputs: dict[str, np.ndarray] = {name: call.arguments[name] for name in written
                                          if _is_numbers(call.arguments.get(name))}
        found = {name: array.copy() for name, array in outputs.items() if self.keeps_paths and array.size <= LARGEST}
        result = function(*args, **options)
        new = dict(_results(result, call))
        outputs |= new
        call.arguments |= new
        if self.hook:
            self.hook(call, True)
        for name, array in outputs.items():
            self._note(call, name, array)
        if self.keeps_outputs:
            call.outputs = {name: np.array(self._written(call, name, array)) for name, array in outputs.items()
                            if array.size <= LARGEST}
        if self.keeps_paths:
            for write in call.writes:
                self._add_to_ledger(call, write, found.get(write.name), outputs[write.name])
        for name in after:
            self._keep(call, name, call.after)
        return result

    def _keep(self, call: Call, name: str, where: dict[str, np.ndarray]) -> None:
        array = call.arguments.get(name)
        if not isinstance(array, np.ndarray):
            return
        where[name] = array.copy()
        if self.keeps_paths and where is call.before:
            owner = owner_of(array)
            if id(owner) in self.ledgers:
                at = elements_of(array)
                call.paths[name] = {path: flat[at] for path, flat in self.ledgers[id(owner)].items()}

    @staticmethod
    def _written(call: Call, name: str, array: np.ndarray) -> np.ndarray:
        """The part of an argument that a call writes."""
        return array[call.arguments["index"]] if name == "out" and "index" in call.arguments else array

    def _weight(self, call: Call) -> tuple[str, int]:
        """The weight that a product multiplies by, and the first of its rows."""
        array = call.arguments.get("b")
        if isinstance(array, np.ndarray):
            start = _start(array)
            for name, (first, end) in self.weights.items():
                if first <= start < end:
                    row_bytes = self.model.params[name].strides[-2]
                    return name, (start - first) // row_bytes
        return "", 0

    def _note(self, call: Call, name: str, array: np.ndarray) -> None:
        owner = owner_of(array)
        self.memory[id(owner)] = owner
        elements = self._written(call, name, elements_of(array))
        call.writes.append(Write(name, id(owner), elements, _adds(call, name)))

    def _add_to_ledger(self, call: Call, write: Write, found: np.ndarray | None, array: np.ndarray) -> None:
        owner = self.memory[write.owner]
        if owner.size > LARGEST:
            return
        ledger = self.ledgers.setdefault(write.owner, {})
        if not write.added:
            for flat in ledger.values():
                flat[write.elements] = 0
        for path, summand in self._summands(call, write, found, array).items():
            flat = ledger.setdefault(path, np.zeros(owner.size, owner.dtype))
            flat[write.elements] += summand

    def _summands(self, call: Call, write: Write, found: np.ndarray | None, array: np.ndarray) -> Paths:
        """What the call has added to the elements, path by path: those of what it copies, or its own."""
        x, factor = _copied(call)
        if x is not None and id_of(x) in self.ledgers:
            at, part = elements_of(x), _part(call, x)
            if call.op == "take":
                at = at[call.arguments["index"]]
            return {path._replace(part=part or path.part): flat[at] * factor
                    for path, flat in self.ledgers[id_of(x)].items() if flat[at].any()}
        own = self._written(call, write.name, array)
        if write.added and found is not None:
            own = own - self._written(call, write.name, found)
        return {GradientPath(call.site, call.op, call.weight, ""): own}


def _part(call: Call, x: np.ndarray) -> str:
    """Rows of one direction, out of an array of both, that are added to those of the other."""
    owner = owner_of(x)
    if call.op != "add_rows" or x.ndim != owner.ndim - 1:
        return ""
    return f"direction {(_start(x) - _start(owner)) // owner.strides[0]}"


def _copied(call: Call) -> tuple[np.ndarray | None, Any]:
    """What a call copies, or multiplies number by number, and the factor."""
    x = call.arguments.get("x")
    if call.op == "multiply":
        return x, call.arguments["mask"]
    if call.op == "dropout_backward":
        return call.arguments["dy"], call.arguments["cache"].mask
    if call.op in ("put", "add", "add_rows", "take", "contiguous") and _is_numbers(x):
        return x, 1
    return None, 1


def _adds(call: Call, name: str) -> bool:
    return call.op in ADDING or bool(call.arguments.get("add")) or name == "dquery"


def _results(result: Any, call: Call) -> Iterator[tuple[str, np.ndarray]]:
    """What a function has returned in memory of its own."""
    given = {id_of(array) for _, array in call.arrays()}
    for name, array in named_arrays({"result": result}):
        if id_of(array) not in given:
            yield name, array


def named_arrays(values: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of numbers in nested records, with a name for each."""
    for name, value in values.items():
        if _is_numbers(value):
            yield name, value
        elif hasattr(value, "_asdict"):
            yield from ((f"{name}.{inner}", array) for inner, array in named_arrays(value._asdict()))
        elif isinstance(value, tuple):
            yield from named_arrays({f"{name}.{k}": part for k, part in enumerate(value)})


def _is_numbers(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fc"


def owner_of(array: np.ndarray) -> np.ndarray:
    """The array whose memory this one looks at."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def id_of(array: np.ndarray) -> int:
    """Of the array that owns the memory."""
    return id(owner_of(array))


def elements_of(array: np.ndarray) -> np.ndarray:
    """Which numbers of the owner's memory an array looks at, in the array's shape."""
    owner = owner_of(array)
    elements = np.array((_start(array) - _start(owner)) // array.itemsize)
    for axis, (size, stride) in enumerate(zip(array.shape, array.strides, strict=True)):
        steps = np.arange(size) * (stride // array.itemsize)
        elements = elements[..., None] + steps if axis else elements + steps
    return elements


def _start(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _interval(array: np.ndarray) -> tuple[int, int]:
    """Where the memory of a weight begins and ends; weights are contiguous."""
    return _start(array), _start(array) + array.nbytes


def _site(frame: Any) -> Site:
    return Site(_file(frame.f_code), frame.f_code.co_name, frame.f_lineno)


@lru_cache(maxsize=1000)
def _file(code: CodeType) -> str:
    return Path(code.co_filename).relative_to(ROOT).as_posix()
