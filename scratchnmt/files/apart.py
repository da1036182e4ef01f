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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import InputError, printable

_START = ("import json, sys; sys.path[:] = json.loads(sys.argv[1]); from scratchnmt.files import apart; "
          "apart.serve(*sys.argv[2:])")
_REFUSED, _NO_MEMORY = 3, 4  # exit statuses


def apart(work: Callable[[bytes], bytes], data: bytes, memory: int, seconds: int) -> bytes:
    """work(data), where `work` is a function of a module, in a process of its own.

    memory: bytes that it may take, beyond those of Python and of `data`; seconds: of a processor.  The system sees to
    it: Linux to both, macOS to the seconds, Windows to neither.  Raises InputError, which does not name the file, if
    the function does, if it needs more, or if the process ends in another way.
    """
    path = json.dumps([os.path.abspath(folder) for folder in sys.path])
    command = [sys.executable, "-I", "-c", _START, path, work.__module__, work.__name__, str(memory), str(seconds)]
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # each thread would take addresses
    try:
        ended = subprocess.run(command, input=data, capture_output=True, env=alone, check=False)
    except OSError as error:
        raise InputError(f"no process could be started to read it ({error})") from error
    if ended.returncode == _REFUSED:
        raise InputError(ended.stdout.decode())
    if ended.returncode == _NO_MEMORY:
        raise InputError(f"to read it takes more than {memory:,} bytes of memory, so that it may be damaged")
    if ended.returncode == -getattr(signal, "SIGXCPU", 0):
        raise InputError(f"to read it takes a processor more than {seconds:,} s, so that it may be damaged")
    if ended.returncode:
        last = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise InputError("it may be damaged: the process that was to read it ended with exit status "
                         f"{ended.returncode}: {printable(last)}")
    return ended.stdout


def serve(module: str, name: str, memory: str, seconds: str) -> None:
    """The process: bytes from standard input, the answer, or the sentence of an InputError, to standard output."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    data = sys.stdin.buffer.read()
    work = getattr(importlib.import_module(module), name)
    _limit(int(memory), int(seconds))
    with answer:
        try:
            answer.write(work(data))
        except InputError as error:
            answer.write(str(error).encode())
            sys.exit(_REFUSED)
        except MemoryError:
            sys.exit(_NO_MEMORY)


def _limit(memory: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return

    def limit(kind: int, value: int) -> None:
        with suppress(OSError, ValueError):  # a system without this one, or a lower one that stands already
            resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))

    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_CPU, seconds + 1)  # the first one is for what was imported
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)
