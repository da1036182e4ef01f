"""Layer objects as pairs of functions: check_layer(layer, x) for y = layer.forward(x), dx = layer.backward(dy).

A layer is copied for every call, with the weights of that call in place of its own, wherever they lie.  Where the
gradients are is found by one run:

    by name      W and dW, params and grads, weight.data and weight.grad, grads["W"], what backward returns as "dW"
    by order     backward's tuple, for the inputs and then the weights; a list of gradients, for the weights

A weight is an array of floats on which the outputs depend.  One without a gradient is an error, but not what forward
itself changes (a state), running statistics, and numbers: these are named as not checked.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .api import check_gradients
from .convention import (
    by_position,
    every_dy,
    global_seed,
    is_array,
    is_float_array,
    is_number,
    kind,
    moved,
    outputs,
    required,
)
from .report import Report, raise_if_wrong
from .trees import (
    copy_object,
    each_once,
    is_container,
    leaves,
    members,
    object_leaves,
    rebuilt,
    same_bits,
    scaled,
    with_values,
)

_LISTS = {"params": ("grads", "dparams"), "parameters": ("gradients", "grads"), "weights": ("gradients", "dweights"),
          "trainable_weights": ("gradients",), "_params": ("_grads",), "p": ("g", "dp")}
_OPTIONS = frozenset(inspect.signature(check_gradients).parameters)
_STATISTICS = re.compile(r"(.*\.)?(running|moving)_\w+")
_GRADIENTS = r"_?grad(s|ients?)?"  # where a layer keeps all of them
_TARGET = re.compile(r"t|(y_?)?true|targets?|labels?|truth|gt|ground_truth|actual|expected|wanted|real|desired")
_RETURNED = "backward()"


def check_layer(layer: Any, *inputs: Any, wrt: Sequence[str] | str | None = None, update: float | None = None,
                **options: Any) -> Report:
    """Check an object with forward(*inputs), or called with them, and backward(*dys), or backward(*dys, cache).

    Every input and every weight of floats is differentiated, or those in `wrt`, by their names in the report.
    update: the learning rate, for a layer that moves its weights inside backward by -update times their gradient.
    options: those of `check_gradients`; others are forward's.
    ValueError: the layer has no backward, or the gradient of an input or a weight is not found.
    """
    if not callable(getattr(layer, "backward", None)):
        raise ValueError(f"{kind(layer)} has no method backward: a layer has forward(x), or is called, and "
                         "backward(dy); what brings its own gradient, a module of torch, goes to gradcheck(module, x)")
    settings = {name: options.pop(name) for name in list(options) if name not in _OPTIONS}
    held = Layer(layer, inputs, settings, wrt, update)
    if update is not None:
        options = {"rtol": 1e-8, **options}  # a difference of weights has lost digits
    report = check_gradients(held.forward, held.backward, held.args, wrt=held.names, **options)
    return replace(report, unchecked=held.unchecked)


def assert_layer(*args: Any, **options: Any) -> Report:
    """`check_layer`, raising GradcheckError with the report if anything is wrong."""
    __tracebackhide__ = True
    return raise_if_wrong(check_layer(*args, **options))


class Layer:
    """A layer object whose inputs and weights are the arguments of a pair of functions.

    args: all of them; names: those that are differentiated; unchecked: what else the outputs depend on.
    """

    def __init__(self, layer: Any, inputs: tuple[Any, ...], settings: Mapping[str, Any],
                 wrt: Sequence[str] | str | None, update: float | None):
        self._settings, self._update = settings, update
        self._inputs = by_position(layer.forward if hasattr(layer, "forward") else layer, inputs)
        self._layer = layer = self._built(layer)
        self._own = object_leaves(layer)
        self._sources: dict[str, str] = {}
        chosen = [wrt] if isinstance(wrt, str) else wrt
        search = self._searched(chosen)
        self._sources = search.sources
        self._weights = [path for path in self._own if path in self._sources and path not in self._inputs]
        self.args = {**self._inputs, **{path: self._own[path] for path in self._weights}}
        self.names = [name for name in self.args if name in self._sources] if chosen is None else list(chosen)
        self.unchecked: tuple[str, ...] = ()
        if chosen is None:
            search.check_complete(kind(layer), self.names)
            self.unchecked = search.unchecked()

    def forward(self, **values: Any) -> tuple[Any, Any]:
        weights = {path: values[path] for path in self._weights}
        layer, inputs = self._copy(weights), [values[name] for name in self._inputs]
        y, cache = self._run(layer, inputs)
        return y, (layer, {path: np.array(value) for path, value in weights.items()}, inputs, y, cache)

    def backward(self, *dys_and_cache: Any) -> dict[str, Any]:
        *dys, kept = dys_and_cache
        layer, before, inputs, y, cache = copy_object(kept)
        given, scale = self._back_arguments(layer, [np.array(dy) for dy in dys], inputs, y, cache)
        found = _found(layer, layer.backward(*given))
        gradients = {name: scaled(found[where], scale) for name, where in self._sources.items()}
        if self._update is not None:
            gradients |= {path: (old - found[path]) / self._update for path, old in before.items()}
        return {f"d{name}" if f"d{name}" not in gradients else name: g if is_container(g) else np.array(g)
                for name, g in gradients.items()}

    def _built(self, layer: Any) -> Any:
        """The layer, or a copy with the weights that it makes when it first runs: what later runs keep is no cache."""
        own, running = object_leaves(layer), copy_object(layer)
        self._run_on_copies(running)
        after, built = object_leaves(running), copy_object(running)
        made = {path: value for path, value in after.items() if path not in own and is_array(value)}
        if made:
            self._run_on_copies(running)
            after = object_leaves(running)
        return with_values(built, own) if any(after.get(path) is value for path, value in made.items()) else layer

    def _run_on_copies(self, layer: Any) -> None:
        with global_seed():
            self._run(layer, copy.deepcopy(list(self._inputs.values())))

    def _copy(self, weights: Mapping[str, Any]) -> Any:
        """The layer with these weights, and zeros where it keeps their gradients."""
        changed = dict(weights)
        for path in self._sources.values():
            if path in self._own and path not in weights:
                changed[path] = np.zeros(np.shape(self._own[path]), np.result_type(float, *weights.values()))
        if self._update is not None:  # they are moved where they are
            changed = {path: np.array(value) for path, value in changed.items()}
        return with_values(self._layer, changed)

    def _run(self, layer: Any, inputs: Sequence[Any]) -> tuple[Any, Any]:
        """(y, cache); a layer that returns nothing keeps its `output`."""
        result = (layer.forward if hasattr(layer, "forward") else layer)(*inputs, **self._settings)
        result = getattr(layer, "output", None) if result is None else result
        if result is None:
            raise ValueError(f"forward of {kind(layer)} returns None: is a return missing?")
        if not _has_cache(result, layer.backward, self._update is not None):
            return result, None
        return result[0] if len(result) == 2 else result[:-1], result[-1]

    def _back_arguments(self, layer: Any, dys: list[Any], inputs: list[Any], y: Any,
                        cache: Any) -> tuple[list[Any], Any]:
        """(what backward is called with, by what its results are multiplied, where it has no place for dy)"""
        count, is_loss = required(layer.backward), np.size(outputs(y)[0]) == 1
        if not _most(layer.backward):
            if not is_loss:
                raise ValueError(f"backward of {kind(layer)} takes no gradient, but forward returns {kind(y)}: only a "
                                 "loss, which is a number, needs none")
            return [], dys[0].sum()
        if cache is None and self._update is None and count > (len(y) if isinstance(y, tuple) else 1):
            if count == len(inputs) + len(dys):  # backward(x, dy)
                return [*inputs, *dys], 1.0
            if count == len(inputs) and is_loss:  # backward(prediction, target)
                return inputs, dys[0].sum()
        more = [cache] if cache is not None and _most(layer.backward) > len(dys) else []
        if self._update is not None and count > len(dys) + len(more):
            more.append(self._update)
        return [*every_dy(layer.backward, y, dys, len(more)), *more], 1.0

    def _searched(self, chosen: Sequence[str] | None) -> Search:
        """One run, and where it leaves its gradients."""
        layer = copy_object(self._layer)
        before = object_leaves(layer)
        inputs = copy.deepcopy(list(self._inputs.values()))
        with global_seed():
            y, cache = self._run(layer, inputs)
            after = object_leaves(layer)
            state = {path for path, value in self._own.items() if not same_bits([value], [after.get(path)])
                     or (is_array(value) and after[path] is not before[path])}
            ones = [np.ones(np.shape(v)) for v in outputs(y)]
            returned = layer.backward(*self._back_arguments(layer, ones, inputs, y, cache)[0])
        search = Search(self._inputs, self._own, state, returned, _found(layer, returned), self._matters,
                        is_loss=[np.ndim(v) for v in outputs(y)] == [0])
        if self._update is not None:
            moving = object_leaves(layer)
            search.sources = {path: path for path in search.own if path not in state
                              and not same_bits([self._own[path]], [moving[path]])}
        else:
            search.by_name()
            search.by_methods(self._layer)
        search.by_return(chosen)
        search.by_lists()
        return search

    def _matters(self, name: str) -> bool:
        """Do the outputs change where this input, or this array or number of the layer, is another?"""
        values = list(self._inputs.values())
        changed = {name: moved(self._own[name])} if name not in self._inputs else {}

        def ran(layer: Any, inputs: Sequence[Any]) -> list[Any]:
            with global_seed(), np.errstate(all="ignore"):
                return list(outputs(self._run(layer, copy.deepcopy(inputs))[0]))
        before = ran(copy_object(self._layer), values)
        if name in self._inputs:
            flat = {path: moved(leaf) if is_float_array(leaf) or is_number(leaf) else leaf
                    for path, leaf in leaves(self._inputs[name], name).items()}
            values = [rebuilt(value, key, flat) if key == name else value for key, value in self._inputs.items()]
        try:
            return not same_bits(before, ran(with_values(self._layer, changed), values))
        except Exception:  # noqa: BLE001  a rate above 1, for example
            return True


class Search:
    """Looks for the gradients of a layer's inputs and weights after one run.

    sources: input or weight -> where its gradient lies, a key of `found`.  own: the layer's floats by path, each once.
    """

    def __init__(self, inputs: Mapping[str, Any], own: Mapping[str, Any], state: set[str], returned: Any,
                 found: Mapping[str, Any], matters: Callable[[str], bool], *, is_loss: bool):
        self.inputs, self.own, self.state = inputs, each_once(own), state
        self.returned, self.found, self._does_matter, self._is_loss = returned, found, matters, is_loss
        self.sources: dict[str, str] = {}
        self._none: set[str] = set()  # inputs for which None was returned
        self._known: dict[str, bool] = {}

    def by_name(self) -> None:
        for path, weight in self.own.items():
            places = [where for where in self._places(path) if where != path and _is_value(self.found.get(where))
                      and where not in self.sources.values()]
            fitting = [where for where in places if np.shape(self.found[where]) == np.shape(weight)]
            if (fitting and path not in self.state) or (places and self._is_weight(path)):
                self.sources[path] = (fitting or places)[0]

    def by_methods(self, layer: Any) -> None:
        """The weights of params() and the gradients of grads(), in their order."""
        for weights, gradients in (("params", "grads"), ("parameters", "gradients")):
            for key, weight in _called(layer, weights):
                for path in [path for path, own in self.own.items() if own is weight and path not in self.sources]:
                    where = f"{gradients}()[{key}]"
                    if where in self.found and np.shape(self.found[where]) == np.shape(weight):
                        self.sources[path] = where

    def by_return(self, chosen: Sequence[str] | None) -> None:
        """Of a dict by name; of a tuple by order: the inputs, then the weights."""
        if self.returned is None or isinstance(self.returned, Mapping) or hasattr(self.returned, "_asdict"):
            for name in self.inputs:
                kept = _attributes(name) if self.returned is None else ()
                places = [f"{_RETURNED}.d{name}", f"{_RETURNED}.{name}", *kept]
                if where := next((where for where in places if where in self.found), None):
                    self.sources[name] = where
            return
        floats = [name for name, value in self.inputs.items() if _has_floats(value)]
        if len(floats) == 1 and is_container(self.inputs[floats[0]]):
            self.sources[floats[0]] = _RETURNED
            return
        items = dict(_in_order(self.returned, _RETURNED))
        for names in self._orders(floats, chosen):
            if len(names) == len(items):
                for name, where in self._paired(names, items):
                    if items[where] is None:
                        self._none.add(name)
                    elif name not in self.sources:
                        self.sources[name] = where
                return

    def by_lists(self) -> None:
        """Lists of gradients, in the order of the weights beside them."""
        lists: dict[str, list[str]] = {}
        for key in self.found:
            if match := re.fullmatch(rf"((.*\.)?{_GRADIENTS})\.\d+", key):
                lists.setdefault(match[1], []).append(key)
        for place, keys in lists.items():
            beside = place.rpartition(".")[0]
            free = [key for key in keys if key not in self.sources.values()]
            names = [path for path in self._unplaced() if path.startswith(beside)]
            if len(free) == len(names):
                self.sources |= dict(self._paired(names, {key: self.found[key] for key in free}))

    def check_complete(self, whose: str, found: Sequence[str]) -> None:
        """ValueError unless every weight, and every input of floats, has a gradient."""
        missing = [name for name, value in self.inputs.items() if name not in self.sources and name not in self._none
                   and any(map(is_float_array, leaves(value, name).values())) and self._matters(name)]
        missing = [] if self._is_loss and set(self.inputs) & set(self.sources) else missing  # the rest is its data
        missing += self._unplaced()
        if missing:
            raise ValueError(
                f"no gradient was found for {', '.join(missing)} of {whose}: backward returns {kind(self.returned)}; "
                "it may return one for each input and then for each weight, or keep that of W in dW or grads['W']; "
                f"what has none is left out by wrt={list(found) or '[...], the names of the others'}")

    def unchecked(self) -> tuple[str, ...]:
        """Inputs, arrays and numbers without a gradient on which the outputs depend."""
        inputs = [name for name, value in self.inputs.items() if name not in self.sources and _has_floats(value)]
        return tuple(name for name in (*inputs, *self.own) if name not in self.sources and self._matters(name))

    def _orders(self, floats: list[str], chosen: Sequence[str] | None) -> Iterator[list[str]]:
        """What a tuple of gradients may be for."""
        yield floats
        yield list(self.inputs)
        if chosen is not None:
            yield [name for name in floats if name in chosen]
        unplaced = self._unplaced()
        weights = [path for path in self.own if path in self.sources or path in unplaced]
        for some in (unplaced, weights):
            yield floats + some
            yield list(self.inputs) + some
        if not floats:
            yield unplaced
        if self._is_loss and floats:
            yield [_predicted(floats)]

    def _paired(self, names: Sequence[str], items: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """In order; by shape where the order does not fit, and every shape is there once."""
        values = {**self.own, **self.inputs}
        shapes = [np.shape(values[name]) for name in names]
        others = {np.shape(g): where for where, g in items.items()}
        in_order = [np.shape(g) for g in items.values()] == shapes
        if in_order or len(set(shapes)) < len(shapes) or set(shapes) != set(others):
            return zip(names, items, strict=True)
        return zip(names, (others[shape] for shape in shapes), strict=True)

    def _unplaced(self) -> list[str]:
        """The weights whose gradients are yet to be found."""
        return [path for path in self.own if path not in self.sources and self._is_weight(path)]

    def _is_weight(self, path: str) -> bool:
        return (is_float_array(self.own[path]) and path not in self.state and not _STATISTICS.fullmatch(path)
                and self._matters(path))

    def _matters(self, name: str) -> bool:
        if name not in self._known:
            self._known[name] = self._does_matter(name)
        return self._known[name]

    def _places(self, path: str) -> Iterator[str]:
        """Where the gradient of the weight at this path may be, by its name."""
        parts = path.split(".")
        for i, part in enumerate(parts):
            if part in _LISTS:
                for place in _LISTS[part]:
                    for last in (parts[i + 1:], [*parts[i + 1:-1], f"d{parts[-1]}"]):
                        yield ".".join([*parts[:i], place, *last])
        yield from _attributes(path)
        *above, name = parts
        for i in () if name.isdigit() else range(len(parts)):
            tail = "".join(re.escape(f"{part}.") for part in parts[i:-1]) + f"d?{re.escape(name)}"
            beside = f"({re.escape('.'.join(above))}\\.)?{_GRADIENTS}"
            pattern = re.compile(rf"({re.escape(_RETURNED)}(\.\w+)?|{beside})\.{tail}")
            yield from filter(pattern.fullmatch, self.found)


def _attributes(path: str) -> Iterator[str]:
    """Names of the gradient beside the value itself."""
    parts = path.split(".")
    if parts[-1] in ("data", "value"):
        yield ".".join([*parts[:-1], "grad"])
        return
    for i, name in reversed(list(enumerate(parts))):  # Ws.0 has dWs.0
        if not re.fullmatch(r"d?grad\w*|\d+", name):
            for other in (f"d{name}", f"grad_{name}", f"{name}_grad", f"d_{name}", f"g{name}", f"{name}_gradient",
                          f"grad{name}"):
                yield ".".join([*parts[:i], other, *parts[i + 1:]])


def _predicted(names: Sequence[str]) -> str:
    """Which input of a loss has a gradient, if one has: by its name, else the first that is not named as the target."""
    others = [name for name in names if not _TARGET.fullmatch(name)] or names
    return next((name for name in others if re.search("pred|hat|logit|score|out", name)), others[0])


def _has_cache(result: Any, backward: Callable[..., Any], moves: bool) -> bool:
    """Is the last of what forward returned a cache: no array, or an array that backward wants under such a name?"""
    if not isinstance(result, tuple) or len(result) < 2 or hasattr(result, "_fields"):
        return False
    *ys, last = result
    if not (is_array(last) or is_number(last)):
        return True
    wanted = required(backward) - moves
    with_cache = len(outputs(ys[0] if len(ys) == 1 else tuple(ys))) + 1
    if wanted != with_cache:
        return False
    names = list(inspect.signature(backward).parameters)
    return wanted != len(outputs(result)) or not re.match(r"d|g|up", names[with_cache - 1])


def _most(function: Callable[..., Any]) -> float:
    """How many arguments it takes by position."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return float("inf")
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _found(layer: Any, returned: Any) -> dict[str, Any]:
    """All that may be a gradient after backward, by where it lies."""
    called = {f"{name}()[{key}]": g for name in ("grads", "gradients") for key, g in _called(layer, name)}
    return object_leaves(layer) | called | dict(_nodes(returned, _RETURNED))


def _nodes(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, value) of a container and all inside of it."""
    yield path, tree
    for key, value in members(tree) if is_container(tree) else ():
        yield from _nodes(value, f"{path}.{key}")


def _in_order(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, value) of what lies in tuples and lists, but not in dicts: these have names."""
    if isinstance(tree, (tuple, list)):
        for i, value in enumerate(tree):
            yield from _in_order(value, f"{path}.{i}")
    elif not isinstance(tree, Mapping):
        yield path, tree


def _called(layer: Any, name: str) -> list[tuple[Any, Any]]:
    """(key, value) of what a method returns, a dict, or anything that can be looped over."""
    method = getattr(layer, name, None)
    values: Any = method() if callable(method) else ()
    return [*(values.items() if isinstance(values, Mapping) else enumerate(values))]


def _is_value(value: Any) -> bool:
    return is_array(value) or is_number(value)


def _has_floats(value: Any) -> bool:
    return any(is_float_array(leaf) or is_number(leaf) for leaf in leaves(value, "").values())
