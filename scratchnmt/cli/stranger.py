"""Somebody's own op for `scratchnmt gradcheck --module FILE.py:FORWARD,BACKWARD`: found, called, checked."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import InputError
from ..gradcheck import GradcheckError, NotAnalyticError, Report, check_gradients
from ..gradcheck.convention import call

_MODULE = "scratchnmt_checked_file"
_ARGUMENT = re.compile(r"(?P<name>[^\W\d][\w.]*)=(?P<integer>int:)?(?P<shape>\d+(?:,\d+)*)(?:<(?P<upper>\d+))?")


def check_file(place: str, argument_texts: Sequence[str], prepare: Callable[[dict], dict], *, seed: int = 0,
               **options: Any) -> Report:
    """`check_gradients` of the two functions that "FILE.py:FORWARD,BACKWARD" names; options are its own.

    The arguments are those of `argument_texts`, "x=3,4" or "ids=int:3,4<10", or, if there are none, those
    of the file's `args`; `prepare` may change them.  InputError for whatever keeps it from being checked.
    """
    path, names = _split(place)
    module = _load(path)
    forward, backward = (_function(module, name, path) for name in names)
    args = prepare(_arguments(module, forward, argument_texts, path, np.random.default_rng(seed)))
    _try(forward, args, path)
    try:
        return check_gradients(forward, backward, args, seed=seed, **options)
    except GradcheckError as error:
        raise InputError(_raised(f"{path}: backward", error.__cause__ or error, path)) from error
    except NotAnalyticError as error:
        line = _line(error.__cause__ or error, path)
        advice = re.sub(r"method='(\w+)'", r"--method \1", str(error))
        raise InputError(f"{path}{f', line {line}' if line else ''}: {advice}") from error
    except Exception as error:
        said = _raised(f"{path}: forward", error, path) if _line(error, path) else f"{path}: {error}"
        raise InputError(said) from error


def _split(place: str) -> tuple[Path, Sequence[str]]:
    """The file and the names of its two functions, forward and backward where none are given."""
    file, colon, names = place.rpartition(":") if not place.endswith(".py") else (place, "", "")
    chosen = names.split(",") if colon else ["forward", "backward"]
    if not file or len(chosen) != 2 or not all(name.isidentifier() for name in chosen):
        raise InputError(f"--module {place}: expected FILE.py, or FILE.py:FORWARD,BACKWARD")
    if not Path(file).is_file():
        raise InputError(f"--module {place}: there is no file {file}")
    return Path(file), chosen


def _load(path: Path) -> ModuleType:
    """Run the file as `python FILE` would, under a name of its own; what it imports may lie beside it."""
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


def _function(module: ModuleType, name: str, path: Path) -> Callable:
    found = getattr(module, name, None)
    if callable(found):
        return _staying(found)
    functions = [n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__]
    near = get_close_matches(name, functions, n=1)
    asked = f", did you mean {near[0]!r}?" if near else ""
    raise InputError(f"{path} has no function {name!r}{asked} (it has {', '.join(functions) or 'none'})")


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


def _arguments(module: ModuleType, forward: Callable, texts: Sequence[str], path: Path,
               rng: np.random.Generator) -> dict[str, Any]:
    if texts:
        found = [_argument(text, rng) for text in texts]
        names = [name for name, _ in found]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"--arg {twice[0]}=... is given twice: each argument has one shape")
        return dict(found)
    if not hasattr(module, "args"):
        raise InputError(f"{path}: no arguments for {_signature(forward)}: give each by --arg "
                         "NAME=SHAPE, such as --arg x=3,4, or define args in the file, a dict or a function "
                         "args(rng) that returns one")
    try:
        found = _staying(module.args)(rng) if callable(module.args) else module.args
    except Exception as error:
        raise InputError(_raised(f"{path}: args(rng)", error, path)) from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: args is a {type(found).__name__}, expected a dict of arguments or a function "
                         "args(rng) that returns one")
    return dict(found)


def _argument(text: str, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    found = _ARGUMENT.fullmatch(text.replace(" ", ""))
    if not found or bool(found["integer"]) != bool(found["upper"]) or found["upper"] == "0":
        raise InputError(f"--arg {text}: expected NAME=SHAPE for normal values, such as x=3,4, or "
                         "NAME=int:SHAPE<N for whole numbers below N, such as 'ids=int:3,4<10'")
    shape = [int(size) for size in found["shape"].split(",")]
    values = rng.integers(0, int(found["upper"]), shape) if found["integer"] else rng.standard_normal(shape)
    return found["name"], values


def _try(forward: Callable, args: dict[str, Any], path: Path) -> None:
    """InputError if forward does not take these arguments: before anything is checked."""
    shown = ", ".join(f"{name} {value.shape}" if hasattr(value, "shape") else name for name, value in args.items())
    try:
        call(forward, args)
    except Exception as error:
        raise InputError(_raised(f"{path}: forward, given {shown},", error, path)) from error


def _signature(function: Callable) -> str:
    """"gelu(x, W)", or the name alone of what does not tell its arguments."""
    name = getattr(function, "__name__", "forward")
    try:
        return f"{name}({', '.join(inspect.signature(function).parameters)})"
    except (TypeError, ValueError):
        return name


def _raised(who: str, error: BaseException, path: Path) -> str:
    """One line: who raised what, and on which line of the file."""
    line = error.lineno if isinstance(error, SyntaxError) else _line(error, path)
    reason = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"{who} raised {type(error).__name__}{f' on line {line}' if line else ''}: {reason}"


def _line(error: BaseException, path: Path) -> int | None:
    """The last line of the file on the way to the error."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
             if Path(frame.filename).resolve() == path.resolve()]
    return lines[-1] if lines else None
