"""Work on the bytes of a file in a process of its own, with limits to its memory and its time.

For libraries in C, which a file can be made to harm: what they take is bounded, and where they crash, they crash alone.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE

from ..errors import InputError, printable

_PACKAGE = str(Path(__file__).parents[1] / "__init__.py")  # this one, however it was found
_START = """
import importlib.util, json, sys
sys.path[:] = json.loads(sys.argv[1])
spec = importlib.util.spec_from_file_location("scratchnmt", sys.argv[2])
sys.modules["scratchnmt"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from scratchnmt.files import sandbox
sandbox.serve(*sys.argv[3:])
"""
# how an answer ends: where SIGCHLD is ignored, Python tells no exit status
_DONE, _REFUSED, _NO_MEMORY = b"<done>", b"<refused>", b"<no memory>"
_PATIENCE = 30  # seconds of the clock for each of a processor, where it is busy; a process that sleeps takes none


def run_limited(work: Callable[[bytes], bytes], data: bytes, memory: int, seconds: int) -> bytes:
    """work(data), where `work` is a function of a module, in a process of its own.

    memory: bytes that it may take, beyond those of Python and of `data`; seconds: of a processor.  The system sees to
    it: Linux to both, macOS to the seconds, Windows to neither.  Raises InputError, which does not name the file, if
    the function does, if it needs more, or if the process ends in another way.
    """
    try:
        path = json.dumps([os.path.abspath(folder) for folder in sys.path])
        command = [sys.executable or "", "-I", "-c", _START, path, _PACKAGE, work.__module__, work.__name__,
                   str(memory), str(seconds)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # each thread would take addresses
        process = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment)
    except OSError as error:
        raise InputError(f"no process could be started to read it ({error})") from error
    with process:
        answer, errors = _communicate(process, data, seconds)
    if answer.endswith(_REFUSED):
        raise InputError(answer.removesuffix(_REFUSED).decode())
    if answer == _NO_MEMORY:
        raise InputError(f"reading it takes more memory than is allowed, {memory:,} bytes at most: it may be damaged")
    if process.returncode or not answer.endswith(_DONE):
        raise InputError(_how_it_ended(process.returncode, seconds, errors.decode(errors="replace").strip()))
    return answer.removesuffix(_DONE)


def _communicate(process: subprocess.Popen[bytes], data: bytes, seconds: int) -> tuple[bytes, bytes]:
    """What it writes, to its two streams; it is killed where that takes too long, or at Ctrl-C.

    The time is counted in short turns: while both are stopped, as by Ctrl-Z, the clock goes on, and one turn is lost.
    """
    over, late = threading.Event(), threading.Event()

    def wait() -> None:
        if not any(over.wait(seconds) for _ in range(_PATIENCE)):
            late.set()
            process.kill()

    try:
        threading.Thread(target=wait, daemon=True, name="scratchnmt-patience").start()
        answer = process.communicate(data)
    except RuntimeError as error:  # the system allows no more threads
        raise InputError(f"nobody could be made to wait for the process that reads it ({error})") from error
    finally:
        over.set()
        process.kill()  # which does nothing where it has ended
    if late.is_set():
        raise InputError(f"reading it takes more than {_PATIENCE * seconds:,} s: it may be damaged")
    return answer


def _how_it_ended(status: int, seconds: int, errors: str) -> str:
    if status == 0:
        return "the process that read it ended without an answer: it may be damaged"
    if status > 0:
        return f"the process that read it ended with exit status {status}: {printable(errors.rpartition(chr(10))[2])}"
    name = signal.Signals(-status).name
    if name == "SIGXCPU":
        return f"reading it takes a processor longer than is allowed, {seconds:,} s at most: it may be damaged"
    return f"the process that read it was ended by {name}: it may be damaged, or the system be out of memory"


def serve(module: str, name: str, memory: str, seconds: str) -> None:
    """The process: bytes from standard input, the answer, or the sentence of an InputError, to standard output."""
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # what a library prints is no answer
        data = sys.stdin.buffer.read()
        work = getattr(importlib.import_module(module), name)
        _limit(int(memory), int(seconds))
        try:
            answer.write(work(data))
            answer.write(_DONE)
        except InputError as error:
            answer.write(str(error).encode() + _REFUSED)
        except MemoryError:
            answer.write(_NO_MEMORY)


def _limit(memory: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return

    def limit(kind: int, value: int) -> None:
        soft, hard = resource.getrlimit(kind)
        stand = [one for one in (soft, hard) if one != resource.RLIM_INFINITY]  # limits that are there already
        with suppress(OSError, ValueError):  # a system without this one
            resource.setrlimit(kind, (min([value, *stand]), hard))

    signal.signal(signal.SIGXCPU, signal.SIG_DFL)  # whoever started the program may have ignored it
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_CPU, seconds + 1)  # the first one is for what was imported
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)
