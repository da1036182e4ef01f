"""Standard input, output and error of a command, whatever it is started with, and the home folder.

    closed (`<&-`, `>&-`, `2>&-`)       as /dev/null, so that no file that is opened later takes its number
    a wrapper's or a notebook's own     what it lacks beside `write` is there
    output that cannot be written       one error, which says that it is standard output
    messages that cannot be written     are dropped: a full disk or a closed terminal ends no training run
    names that are no UTF-8             \\xNN for each byte that is none, see `encodable` of errors.py
    a home folder not to be written     libraries that keep files there for their next start do without
"""

from __future__ import annotations

import atexit
import io
import os
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cached_property
from typing import Any, TextIO, cast

from .errors import TOLD, encodable, sentence

INTERRUPTED, PIPE_CLOSED = 130, 141  # as a shell reports the signals SIGINT and SIGPIPE
_OUTPUT = "standard output"  # its name in an OSError
_MATPLOTLIB = ("~/.config/matplotlib", "~/.cache/matplotlib") if sys.platform == "linux" else ("~/.matplotlib",)
_CUPY = ("~/.cupy/kernel_cache",)


class Stream:
    """A stream with all that is asked of one here; it may be None, or have nothing but `write`."""

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        if self.stream is not None:
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        if hasattr(self.stream, "flush"):
            self.stream.flush()

    def isatty(self) -> bool:
        return hasattr(self.stream, "isatty") and self.stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Input(Stream):
    """Standard input of characters alone, as tests and notebooks put there, with the bytes that they are in a file."""

    @cached_property
    def buffer(self) -> io.BytesIO:
        return io.BytesIO(self.stream.read().encode())


class Slow(Stream):
    """A stream whose reader may take its time; meanwhile what `waiting` returns is entered."""

    def __init__(self, stream: Any, waiting: Callable[[], AbstractContextManager[None]]):
        super().__init__(stream)
        self.waiting = waiting

    def write(self, text: str) -> int:
        with self.waiting():
            return super().write(text)

    def flush(self) -> None:
        with self.waiting():
            super().flush()


class Output(Stream):
    """Standard output, whose errors have its name."""

    def write(self, text: str) -> int:
        with _named():
            return super().write(text)

    def flush(self) -> None:
        with _named():
            super().flush()


class Messages(Stream):
    """Standard error: what cannot be written is dropped, as there is nobody left to tell."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def run_command(who: str, work: Callable[[], int], worded: Callable[[str], str] = str) -> int:
    """What `work` returns, which is an exit status, or that of an error, which is told in one sentence after `who`.

    worded: that sentence in the words of the command.  Warnings are told so, too, each once.  Meanwhile sys.stdin,
    sys.stdout and sys.stderr are as the head of this file says.
    """
    told = set()

    def warn(message: Warning | str, *_: Any, **__: Any) -> None:
        if (line := f"{who}: warning: {worded(encodable(str(message)))}") not in told:
            told.add(line)
            print(line, file=sys.stderr)

    find_room()
    with _standard_streams(), warnings.catch_warnings():
        warnings.showwarning = warn
        try:
            try:
                return work()
            finally:  # also of --help, which ends in SystemExit; later nobody could tell an error
                sys.stdout.flush()
        except BrokenPipeError:
            _discard_output()
            return PIPE_CLOSED
        except KeyboardInterrupt as interrupt:
            print(f"\n{who}: {encodable(str(interrupt)) or 'interrupted'}", file=sys.stderr)
            return INTERRUPTED
        except TOLD as error:
            from .parallel.mpi import speaks_first  # only now: it imports much

            if isinstance(error, OSError) and error.filename == _OUTPUT:
                _discard_output()
            if speaks_first():
                print(f"{who}: error: {worded(sentence(error))}", file=sys.stderr)
            return 2


@contextmanager
def _standard_streams() -> Iterator[None]:
    _replace_closed()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # UTF-8 whatever the locale
    stdin = sys.stdin
    if not hasattr(stdin, "buffer"):
        sys.stdin = cast(TextIO, Input(stdin))
    try:
        with redirect_stdout(cast(TextIO, Output(sys.stdout))), redirect_stderr(cast(TextIO, Messages(sys.stderr))):
            yield
    finally:
        sys.stdin = stdin


def quoted(path: str) -> str:
    """A path as one types it in a shell, after an option; bytes that are no UTF-8 make it $'...', which POSIX has had
    since 2024."""
    if path.startswith(("-", "~")):  # which would be another option, or a home folder
        path = f"./{path}"
    if encodable(path) == path:
        return shlex.quote(path)
    escaped = path.replace("\\", r"\\").replace("'", r"\'")
    return f"$'{encodable(escaped)}'"


def _replace_closed() -> None:
    """Open the null device for each of the three that is closed: in this order each gets the number of its own."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115  for as long as the process lives
            os.set_inheritable(stream.fileno(), True)  # as the three are
            setattr(sys, name, stream)


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = _OUTPUT
        raise


def _discard_output() -> None:
    """What waits to be written would fail again at the end of the process."""
    with suppress(OSError, AttributeError):  # of a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def find_room() -> None:
    """Before CuPy or matplotlib is imported: what the environment says stays as it is.

    CuPy would end with an error when the first kernel is compiled, and matplotlib print several lines.
    """
    if "CUPY_CACHE_DIR" not in os.environ and not all(map(_can_be_written, _CUPY)):
        os.environ.setdefault("CUPY_CACHE_IN_MEMORY", "1")
    if "MPLCONFIGDIR" not in os.environ and not all(map(_can_be_written, _MATPLOTLIB)):
        with suppress(OSError):  # nor is there a folder for temporary files: matplotlib says so
            folder = os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="scratchnmt-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _can_be_written(folder: str) -> bool:
    """Whether the folder, or else the nearest one above it that is there, can be written."""
    folder = os.path.abspath(os.path.expanduser(folder))
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK)
