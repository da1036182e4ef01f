"""Somebody's own op for `scratchnmt gradcheck --module FILE.py:FORWARD,BACKWARD`: found, called, checked."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError, did_you_mean
from ..gradcheck import GradcheckError, NotAnalyticError, Report, check_gradients, check_layer
from ..gradcheck.convention import call

_MODULE = "scratchnmt_checked_file"
_ARGUMENT = re.compile(r"(?P<name>[^\W\d][\w.]*)=(?P<integer>int:)?(?P<shape>\d+(?:,\d+)*)(?:<(?P<upper>\d+))?")


class Checked(NamedTuple):
    """A pair of functions, or a layer, of somebody's file, and what its check said."""

    name: str  # "affine", of affine_forward and affine_backward; "Linear"
    report: Report | None
    skipped: str = ""  # why it was not checked


def check_file(place: str, argument_texts: Sequence[str], prepare: Callable[[dict], dict], *, seed: int = 0,
               **options: Any) -> list[Checked]:
    """Check what "FILE.py:FORWARD,BACKWARD", "FILE.py:LAYER" or "FILE.py" names; options are `check_gradients`'s own.

    FILE.py may be a file of a package, or a module, pkg.mod.  Without names these are its forward and backward or, if
    it has none, every pair X_forward, X_backward, every layer and every layer class for which there are arguments.
    The arguments are those of `argument_texts`, "x=3,4" or "ids=int:3,4<10", or, if there are none, those
    of the file's `args`; `prepare` may change them.  InputError for whatever keeps it from being checked.
    """
    path, module, names = _found(place)
    rng = np.random.default_rng(seed)
    options["seed"] = seed
    if names is None and not hasattr(module, "forward") and (checkable := _everything(module)):
        values = _arguments(module, None, argument_texts, path, rng)
        return [_one_of_many(name, parts, values, prepare, path, options) for name, parts in checkable.items()]
    if names is not None and len(names) == 1:
        layer = _instance(module, names[0], path)
        args = prepare(_arguments(module, getattr(layer, "forward", layer), argument_texts, path, rng))
        return [Checked(names[0], _reported(path, lambda: check_layer(layer, *args.values(), **_of_layers(options))))]
    forward, backward = (_function(module, name, path) for name in names or ("forward", "backward"))
    args = prepare(_arguments(module, forward, argument_texts, path, rng))
    _try(forward, args, path)
    return [Checked(place, _reported(path, lambda: check_gradients(forward, backward, args, **options)))]


def _everything(module: ModuleType) -> dict[str, tuple[Any, ...]]:
    """{name: (forward, backward), (layer,) or (layer class,)} of what the module itself defines."""
    own = {name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    pairs = {name.removesuffix("_forward"): (value, own[f"{name.removesuffix('_forward')}_backward"])
             for name, value in own.items() if name.endswith("_forward")
             and callable(own.get(f"{name.removesuffix('_forward')}_backward"))}
    objects = {name: (value,) for name, value in vars(module).items() if not isinstance(value, type)
               and callable(getattr(value, "forward", None)) and callable(getattr(value, "backward", None))}
    made = {type(layer) for layer, in objects.values()}
    layers = {name: (value,) for name, value in own.items() if isinstance(value, type) and value not in made
              and hasattr(value, "forward") and hasattr(value, "backward")}
    return {**pairs, **layers, **objects}


def _one_of_many(name: str, parts: tuple[Any, ...], values: dict[str, Any], prepare: Callable[[dict], dict], path: Path,
                 options: dict[str, Any]) -> Checked:
    """The check of one pair or class with those of the arguments that it names; skipped if one is missing."""
    layer = parts[0] if len(parts) == 1 else None
    if isinstance(layer, type):
        if _required(layer):
            return Checked(name, None, f"its constructor wants {', '.join(_required(layer))}: define an instance")
        layer = layer()
    forward = parts[0] if layer is None else layer.forward
    wanted = [n for n in inspect.signature(forward).parameters if n in values]
    if missing := [n for n in _required(forward) if n not in values]:
        return Checked(name, None, f"no argument for {', '.join(missing)} of {_signature(forward, name)}")
    args = prepare({n: values[n] for n in wanted})
    try:
        if layer is None:
            _try(forward, args, path)
            return Checked(name, _reported(path, lambda: check_gradients(parts[0], parts[1], args, **options)))
        return Checked(name, _reported(path, lambda: check_layer(layer, *args.values(), **_of_layers(options))))
    except InputError as error:
        return Checked(name, None, str(error))


def _required(function: Any) -> list[str]:
    return [name for name, p in inspect.signature(function).parameters.items()
            if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _of_layers(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "wrt" or value}


def _instance(module: ModuleType, name: str, path: Path) -> Any:
    """The layer of that name, made without arguments if it is a class."""
    layer = getattr(module, name, None)
    if layer is None:
        raise InputError(f"{path} has no {name!r}")
    if isinstance(layer, type):
        if _required(layer):
            raise InputError(f"{path}: {name} wants {', '.join(_required(layer))}: define an instance in the file, "
                             f"such as layer = {name}(...), and name that")
        layer = layer()
    if not hasattr(layer, "backward"):
        raise InputError(f"{path}: {name} has no backward: expected a layer, or FORWARD,BACKWARD")
    return layer


def _reported(path: Path, check: Callable[[], Report]) -> Report:
    try:
        return check()
    except GradcheckError as error:
        raise InputError(_raised(f"{path}: backward", error.__cause__ or error, path)) from error
    except NotAnalyticError as error:
        line = _line(error.__cause__ or error, path)
        raise InputError(f"{path}{f', line {line}' if line else ''}: {error}") from error
    except Exception as error:
        said = _raised(f"{path}: forward", error, path) if _line(error, path) else f"{path}: {error}"
        raise InputError(said) from error


def _found(place: str) -> tuple[Path, ModuleType, list[str] | None]:
    """(the file, its module, the names behind the colon)"""
    file, colon, after = place.rpartition(":") if not place.endswith(".py") else (place, "", "")
    if not colon:
        file = place
    names = after.split(",") if colon else None
    if not file or (names is not None and (len(names) > 2 or not all(name.isidentifier() for name in names))):
        raise InputError(f"--module {place}: expected FILE.py, FILE.py:FORWARD,BACKWARD or FILE.py:LAYER")
    if re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", file) and not file.endswith(".py") and not Path(file).exists():
        module = _imported(file, Path.cwd(), Path(file))
        return Path(module.__file__ or file), module, names
    if not Path(file).is_file():
        raise InputError(f"--module {place}: there is no file {file}")
    return Path(file), _load(Path(file)), names


def _load(path: Path) -> ModuleType:
    """The file as a module: of its package, or under a name of its own; what it imports may lie beside it."""
    folder, parts = path.resolve().parent, [path.stem]
    while (folder / "__init__.py").is_file():
        folder, parts = folder.parent, [folder.name, *parts]
    if len(parts) > 1 and path.suffix == ".py":
        return _imported(".".join(parts), folder, path)
    spec = spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file: its name must end in .py")
    module = sys.modules[_MODULE] = module_from_spec(spec)  # dataclasses look for their module there
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(_raised(f"{path} cannot be loaded: it", error, path)) from error
    return module


def _imported(name: str, folder: Path, path: Path) -> ModuleType:
    sys.path.insert(0, str(folder))
    try:
        return import_module(name)
    except (Exception, SystemExit) as error:
        raise InputError(_raised(f"{path} cannot be loaded: it", error, path)) from error


def _function(module: ModuleType, name: str, path: Path) -> Callable:
    function = getattr(module, name, None)
    if callable(function):
        return _staying(function)
    functions = [n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__]
    raise InputError(f"{path} has no function {name!r} (it has {', '.join(functions) or 'none'})"
                     f"{did_you_mean(name, functions)}")


def _staying(function: Callable) -> Callable:
    """The function, whose sys.exit() is an error like any other and not the silent end of the check."""
    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except SystemExit as error:
            code = "" if error.code is None else repr(error.code)
            raise RuntimeError(f"sys.exit({code})").with_traceback(error.__traceback__) from None
    return called


def _arguments(module: ModuleType, forward: Callable | None, texts: Sequence[str], path: Path,
               rng: np.random.Generator) -> dict[str, Any]:
    if texts:
        pairs = [_argument(text, rng) for text in texts]
        names = [name for name, _ in pairs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"--arg {twice[0]}=... is given twice: each argument has one shape")
        return dict(pairs)
    if not hasattr(module, "args"):
        raise InputError(f"{path}: no arguments for {_signature(forward) if forward else 'what is in it'}: give each "
                         "by --arg NAME=SHAPE, such as --arg x=3,4, or define args in the file, a dict or a function "
                         "args(rng) that returns one")
    try:
        args = _staying(module.args)(rng) if callable(module.args) else module.args
    except Exception as error:
        raise InputError(_raised(f"{path}: args(rng)", error, path)) from error
    if not isinstance(args, dict):
        raise InputError(f"{path}: args is a {type(args).__name__}, expected a dict of arguments or a function "
                         "args(rng) that returns one")
    return dict(args)


def _argument(text: str, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    match = _ARGUMENT.fullmatch(text.replace(" ", ""))
    if not match or bool(match["integer"]) != bool(match["upper"]) or match["upper"] == "0":
        raise InputError(f"--arg {text}: expected NAME=SHAPE for normal values, such as x=3,4, or "
                         "NAME=int:SHAPE<N for whole numbers below N, such as 'ids=int:3,4<10'")
    shape = [int(size) for size in match["shape"].split(",")]
    values = rng.integers(0, int(match["upper"]), shape) if match["integer"] else rng.standard_normal(shape)
    return match["name"], values


def _try(forward: Callable, args: dict[str, Any], path: Path) -> None:
    """InputError if forward does not take these arguments: before anything is checked."""
    shown = ", ".join(f"{name} {value.shape}" if hasattr(value, "shape") else name for name, value in args.items())
    try:
        call(forward, args)
    except Exception as error:
        raise InputError(_raised(f"{path}: forward, given {shown},", error, path)) from error


def _signature(function: Callable, layer: str = "") -> str:
    """"gelu(x, W)", "Linear.forward(x)", or the name alone of what does not tell its arguments."""
    name = getattr(function, "__name__", "forward")
    name = f"{layer}.{name}" if layer and inspect.ismethod(function) else name
    try:
        return f"{name}({', '.join(inspect.signature(function).parameters)})"
    except (TypeError, ValueError):
        return name


def _raised(who: str, error: BaseException, path: Path) -> str:
    """One line: who raised what, and on which line of the file."""
    line = error.lineno if isinstance(error, SyntaxError) else _line(error, path)
    reason = error.msg if isinstance(error, SyntaxError) else " ".join(re.sub(r"\x1b\[[\d;]*m", "", str(error)).split())
    return f"{who} raised {type(error).__name__}{f' on line {line}' if line else ''}: {reason}"


def _line(error: BaseException, path: Path) -> int | None:
    """The last line of the file on the way to the error."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
             if Path(frame.filename).resolve() == path.resolve()]
    return lines[-1] if lines else None
