"""What a command writes line by line, to a file or to standard output; whatever happens, what is done is not lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from ..errors import TOLD, InputError, sentence
from ..files.atomic import NAME, replace_file


def check_output(path: str | None) -> None:
    """InputError if the file cannot be written, as far as this can be told beforehand."""
    if path is not None and Path(path).is_dir():
        raise InputError(f"{path} is a directory, expected a file to write to")
    if path is not None and not Path(path).parent.is_dir():
        raise InputError(f"{path} cannot be written: {Path(path).parent} is not a folder")
    if path is not None and _is_of_a_run(file := Path(os.path.realpath(path))):
        raise InputError(f"{path} would replace {file.name} of the model in {file.parent}: choose another name")


def _is_of_a_run(path: Path) -> bool:
    """Whether a model would be lost if the file were written."""
    from ..files.run_folder import RUN_FILES, RunFolder  # only now: it takes the model with it

    if path.name not in RUN_FILES or not path.exists():
        return False
    try:
        return bool(RunFolder(path.parent).digest())
    except InputError:  # perhaps of a newer version
        return path.suffix == ".safetensors"


def write_lines(path: str | None, lines: Iterable[str]) -> None:
    """Write lines as they come, to standard output if there is no path.

    The file appears when all are there.  After an error or an interruption, of which a signal to end is one, those so
    far are in `path`.partial, or beside it where no file can have that name; what is raised says how many, and where.
    """
    if path is None:
        with _telling() as kept:
            for line in lines:
                print(line, flush=True)
                kept.count += 1
        return
    file = os.path.realpath(path) if os.path.islink(path) else path
    with (_telling() as kept, replace_file(path, salvage=lambda new: kept.move(new, file)) as new,
          open(new, "wb") as output):
        for line in lines:
            output.write((line + "\n").encode())
            output.flush()
            kept.count += 1


class _Kept:
    """How many lines are written, and where they are."""

    def __init__(self) -> None:
        self.count, self.place = 0, ""

    def move(self, path: Path, file: str) -> None:
        """To `file`.partial; to a name of its own where that is too long for a name, or that of a folder."""
        if not self.count:
            return
        folder, name = os.path.split(file)
        for place in (f"{file}.partial", os.path.join(folder, f"{name[:NAME]}.{os.getpid()}.partial")):
            with suppress(OSError):
                os.replace(path, place)
                self.place = place
                return
        self.count = 0  # say nothing that is not so

    def __str__(self) -> str:
        lines = "the first line is" if self.count == 1 else f"the first {self.count:,} lines are"
        return f"; {lines} {'in ' + self.place if self.place else 'written'}" if self.count else ""


@contextmanager
def _telling() -> Iterator[_Kept]:
    """Inside `with`, an error or an interruption also says what is kept."""
    kept = _Kept()
    try:
        with _signals_interrupt():
            yield kept
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"{str(interrupt) or 'interrupted'}{kept}") from None
    except TOLD as error:
        if kept.count:
            raise InputError(f"{sentence(error)}{kept}") from error
        raise


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Inside `with`, a signal that would end the program at once interrupts it as Ctrl-C does."""
    def interrupt(number: int, _: Any) -> NoReturn:
        raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [number for name in names if signal.getsignal(number := getattr(signal, name)) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    try:
        for number in ours:
            signal.signal(number, interrupt)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
