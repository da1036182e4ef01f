"""Errors that a user can act on, and optional packages asked for by name."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from numbers import Integral
from types import ModuleType
from typing import Any, TypeVar

_LONGEST = 2000  # characters of a message
_SHOWN = 100  # characters of a value in it
END = 1 << 63  # above all whole numbers that are taken: larger ones fit no type of NumPy's, some cannot be printed
# halves of characters, of which byte NN of a name is \udcNN (PEP 383), and what a terminal obeys but \t and \n
_NOT_WRITTEN = re.compile("[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f]")
Thing = TypeVar("Thing")


class ScratchnmtError(Exception):
    """All errors of this package that tell what is wrong in a sentence."""


class InputError(ScratchnmtError, ValueError):
    """What the user gave cannot be used; the message is one sentence and the whole story.

    A file may hold names of any length; of a longer message the middle is left out.
    """

    def __init__(self, message: str = ""):
        message, half = encodable(message), _LONGEST // 2 - 3
        super().__init__(message if len(message) <= _LONGEST else f"{message[:half]} ... {message[-half:]}")


class ArgumentError(ScratchnmtError, ValueError):
    """A function was given an array or a number that it cannot use: a mistake of the program that calls it."""


class IdError(ArgumentError, IndexError):
    """An id lies outside a vocabulary; it is an IndexError, too."""


class MachineError(InputError):
    """What was asked for is right, but the machine could not do it; an InputError, as it was before it had a name."""


class WriteError(MachineError):
    """A file cannot be written: the disk is full, a folder vanished, or is not ours to write to.

    path: of the file, if it was to be written as a whole.  written: it is in its place, and may be lost if the machine
    crashes now.
    """

    def __init__(self, message: str = "", path: str = "", *, written: bool = False):
        super().__init__(message)
        self.path, self.written = path, written


class WorkerError(MachineError):
    """One of several processes is gone; the others were ended, too."""


class OutOfMemoryError(MachineError):
    """No memory was left; in training, the last good state is still in the run's folder."""


def shown(value: Any) -> str:
    """A value that was given, for an error's sentence: its repr, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def did_you_mean(name: object, known: Iterable[str], most: int = 1) -> str:
    """The end of a sentence about a name that is not known: "; did you mean 'adam'?", or nothing if none is near.

    Of several that are near, `most` are named; if none is spelt alike, those of which it is a part.
    """
    from difflib import get_close_matches  # only now, for an error

    if not isinstance(name, str):
        return ""
    name, known = name[:_SHOWN].lower(), list(known)
    near = get_close_matches(name, known, n=most, cutoff=0.65) or [
        one for one in known if len(name) > 2 and name in one][:most]
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def expected_one_of(value: object, known: Iterable[str]) -> str:
    """The same about a choice: "expected one of adam, sgd; did you mean 'adam'?"."""
    known = list(known)
    return f"expected one of {', '.join(known)}{did_you_mean(value, known)}"


def check_choice(name: str, value: object, known: Collection[str]) -> None:
    """InputError unless the value is one of those that are known."""
    if value not in known:
        raise InputError(f"{name} is {shown(value)}, {expected_one_of(value, known)}")


def look_up(what: str, name: object, known: Mapping[str, Thing]) -> Thing:
    """known[name]; InputError if there is none of this name."""
    if isinstance(name, str) and name in known:
        return known[name]
    raise InputError(f"{what} {shown(name)} is not known, {expected_one_of(name, known)}")


def whole_number(what: str, value: object, least: int = 1) -> int:
    """The value, a whole number of at least `least` and below 2^63; InputError otherwise."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= int(value) < END:
        below = " and below 2^63" if isinstance(value, Integral) and int(value) >= END else ""
        raise InputError(f"{what} is {shown(value)}, expected a whole number of at least {least}{below}")
    return int(value)


def unknown_names(given: Iterable[str], known: Collection[str]) -> str:
    """The names that are not known, with what the first may have been meant for; "" if all are."""
    unknown = sorted(set(given) - set(known))
    return listed(unknown) + did_you_mean(unknown[0], known) if unknown else ""


def encodable(text: str) -> str:
    """Text in which a byte of a file's name that is no UTF-8, to Python half a character, is written \\xNN.

    No encoding has halves of characters, so that to print or write them would be an error.  So are control characters,
    lest a name that a file tells moves the cursor, or worse.
    """
    def written(found: re.Match[str]) -> str:
        code = ord(found[0])
        code -= 0xDC00 if 0xDC80 <= code <= 0xDCFF else 0
        return f"\\x{code:02x}" if code < 0x80 or code != ord(found[0]) else f"\\u{code:04x}"

    return _NOT_WRITTEN.sub(written, text)


def printable(text: str) -> str:
    """Text of a file that is not trusted, for one line of a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200]) + "..." * (len(text) > 200)


def listed(names: Collection[str], most: int = 20) -> str:
    """Names of a file that is not trusted, for an error's sentence."""
    some = ", ".join(printable(name) for name in islice(names, most))
    return f"{some} and {len(names) - most:,} more" if len(names) > most else some


def sentence(error: BaseException) -> str:
    """What to tell a user of an error that is no mistake of ours."""
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return encodable(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return encodable(str(error))


TOLD = (InputError, FloatingPointError, MemoryError, OSError)  # in a sentence, without a traceback


EXTRAS = {  # of setup.cfg: what to install by name, for those who have no folder of the source
    "train": "sacrebleu sentencepiece safetensors tqdm threadpoolctl matplotlib",
    "keras": "h5py",
    "mpi": "mpi4py",
    "cuda12": "cupy-cuda12x",
    "cuda13": "cupy-cuda13x",
}


def require(name: str, extra: str) -> ModuleType:
    """Import an optional package, or say how to install it.

    Raises InputError naming the package and what brings it; if it is installed, why it cannot be imported.
    """
    if module := sys.modules.get(name):  # at once: this is asked at every launch
        return module
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except Exception as error:  # one that was built for another NumPy may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise InputError(f"{package} is not installed: {install(extra)}") from error
        reason = " ".join(str(error).split()) or "it tells no reason"
        raise InputError(f"{package} is installed, but cannot be imported ({type(error).__name__}: {reason}): bring it "
                         f"and what it needs up to date, {install(extra, '--upgrade ')}") from error


def install(extra: str, how: str = "") -> str:
    """The commands that install what an extra of setup.cfg names."""
    from_source = f"pip install {how}'.[{extra}]' in the folder of scratchnmt's source"
    return f"pip install {how}{EXTRAS[extra]}, or {from_source}" if extra in EXTRAS else from_source
