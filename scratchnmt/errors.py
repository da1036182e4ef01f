"""Errors that a user can act on, and optional packages asked for by name."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class ScratchnmtError(Exception):
    """All errors of this package that tell what is wrong in a sentence."""


class InputError(ScratchnmtError, ValueError):
    """What the user gave cannot be used; the message is one sentence and the whole story."""


class MachineError(InputError):
    """What was asked for is right, but the machine could not do it; an InputError, as it was before it had a name."""


class WriteError(MachineError):
    """A file cannot be written: the disk is full, a folder vanished, or is not ours to write to."""


class OutOfMemoryError(MachineError):
    """No memory was left; in training, the last good state is still in the run's folder."""


_SHOWN = 100  # characters


def shown(value: Any) -> str:
    """A value that was given, for an error's sentence: its repr, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def sentence(error: BaseException) -> str:
    """What to tell a user of an error that is no mistake of ours."""
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


TOLD = (ScratchnmtError, FloatingPointError, MemoryError, OSError)  # in a sentence, without a traceback


def require(name: str, extra: str) -> ModuleType:
    """Import an optional package, or say how to install it.

    Raises InputError naming the package and the extra of scratchnmt that brings it.
    """
    if found := sys.modules.get(name):  # at once: this is asked at every launch
        return found
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise InputError(f"{package} is not installed: pip install 'scratchnmt[{extra}]'") from error
