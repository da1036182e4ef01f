"""A bug, and a second copy of the package that has it, living beside the right one.

The copy is imported from the same files under another name.  Imports inside the package are relative, so
all of the copy's modules see the wrong place, and the package itself is never touched.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import decode_source, find_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

from ..errors import InputError


class Bug(NamedTuple):
    """One wrong change to our own code, and the check that sees it."""

    name: str  # "dc-overwritten"
    title: str  # one line
    origin: str  # "MXNet, issue 4057"; "a classic" where it is not one project's
    file: str  # "ops/lstm_gates.py", below the package
    right: str  # whole lines of the file, without the last one's end; they stand in it exactly once
    wrong: str  # what they are replaced by; "" takes them out
    check: str  # a line of `scratchnmt gradcheck`, or a function of scratchnmt.museum.invariants
    caught: str  # the gradient that the check must name, or words of its sentence
    story: str  # what happened there, and why no test saw it


PACKAGE = __name__.partition(".")[0]


@contextmanager
def patched(bug: Bug) -> Iterator[ModuleType]:
    """A copy of the package that has the bug, for the length of the `with` block.

    Whatever else is needed of it is imported inside the block: part(package, "ops.lstm"); its selfcheck is
    there already.  InputError if the bug's right lines are not in their file exactly once.
    """
    name = f"{PACKAGE}_museum_{bug.name.replace('-', '_')}"
    if name in sys.modules:
        raise RuntimeError(f"the copy of {PACKAGE} with the bug {bug.name} is in use already")
    finder = _Finder(name, bug)
    sys.meta_path.insert(0, finder)
    try:
        package = import_module(name)
        part(package, "selfcheck")
        yield package
    finally:
        sys.meta_path.remove(finder)
        for module in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
            del sys.modules[module]


def part(package: ModuleType, name: str) -> ModuleType:
    """A module of the package, or of a copy of it: "ops.lstm"."""
    return import_module(f"{package.__name__}.{name}")


def line_number(bug: Bug) -> int:
    """The line, from 1, at which the right lines begin; InputError if they are not there exactly once."""
    path, lines = _source(bug)
    wanted = bug.right.split("\n")
    places = [i for i in range(len(lines)) if lines[i : i + len(wanted)] == wanted]
    if len(places) != 1:
        raise InputError(f"museum: the patch {bug.name} does not fit: {path} holds these lines {len(places)} "
                         f"times, expected exactly once; if our code has changed, so must the patch:\n{bug.right}")
    return places[0] + 1


def broken_source(bug: Bug) -> str:
    """The text of the file with the right lines replaced by the wrong ones."""
    first = line_number(bug) - 1
    lines = _source(bug)[1]
    lines[first : first + bug.right.count("\n") + 1] = bug.wrong.split("\n") if bug.wrong else []
    return "\n".join(lines)


def _source(bug: Bug) -> tuple[str, list[str]]:
    """The file's path and its lines."""
    path = _path(f"{PACKAGE}.{_module(bug)}")
    return path, decode_source(Path(path).read_bytes()).split("\n")


def _path(name: str) -> str:
    """The file of a module of the package; InputError if there is none."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise InputError(f"museum: there is no module {name}; if our code has changed, so must the patch")
    return spec.origin


def _module(bug: Bug) -> str:
    return bug.file.removesuffix(".py").replace("/", ".")


class _Finder(MetaPathFinder):
    """Finds the copy's root and its wrong module; all else is found beside them in the usual way."""

    def __init__(self, name: str, bug: Bug):
        root, right = _path(PACKAGE), _path(f"{PACKAGE}.{_module(bug)}")
        wrong = f"{name}.{_module(bug)}"
        loader = _Loader(wrong, right, broken_source(bug))
        folders = list(sys.modules[PACKAGE].__path__)
        self.specs = {name: spec_from_file_location(name, root, submodule_search_locations=folders),
                      wrong: spec_from_file_location(wrong, right, loader=loader)}

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return self.specs.get(fullname)


class _Loader(SourceFileLoader):
    """Compiles the text that it was given; a cached .pyc is neither read nor written."""

    def __init__(self, fullname: str, path: str, text: str):
        super().__init__(fullname, path)
        self.text = text

    def get_source(self, fullname: str) -> str:
        return self.text

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.text, self.path)
