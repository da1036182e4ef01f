"""Public names of a package that are imported when they are first asked for (PEP 562).

`import scratchnmt` would otherwise import NumPy and every model, also for a program that wants none of
it: pytest, which imports our plugin at every start.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_names(package: str, names: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """(__getattr__, __dir__) for a package: {"check": "check_gradients ..."} brings these names from .check."""
    home = {name: submodule for submodule, some in names.items() for name in some.split()}

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)  # found there from now on
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home})

    return __getattr__, __dir__
