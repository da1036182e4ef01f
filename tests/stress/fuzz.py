"""Spoilt and malicious files of every kind: one clear error, or what was there before; never a crash, a hang or
another model.

    python tests/stress/fuzz.py --files 20000

Each file is loaded by a process of its own, whose end, time and memory are looked at.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickletools
import random
import resource
import sys
import tempfile
import time
import timeit
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from malicious import KINDS
from mutations import SEALED, mutate, targets

from scratchnmt.errors import InputError

REFUSED, UNCHANGED, OTHER, NOT_SEALED, STRANGE = range(10, 15)  # exit statuses of a child
NAMES = {REFUSED: "refused by one error", UNCHANGED: "read, and nothing had changed", OTHER: "SILENTLY ANOTHER",
         NOT_SEALED: "read, of a kind that carries no checksum", STRANGE: "ANOTHER EXCEPTION"}
SECONDS, MEGABYTES = 1.0, 200  # and as much again for each of so many bytes of the file:
EACH = 1_000_000


def within(allowed: float, seconds: float) -> bool:
    """Whether `seconds` of this core are at most `allowed`, which are of one that goes through 30,000 steps of a pickle
    in 10 ms.

    The core is measured at once, since what else runs slows it down for a while, and only where it matters.
    """
    if seconds <= allowed:
        return True
    steps = b")" + b"\x85" * 30_000 + b"."
    return seconds <= allowed * min(timeit.repeat(lambda: list(pickletools.genops(steps)), number=1, repeat=5)) / 0.01


class Case(NamedTuple):
    """A kind of file: where it lies, how it is read, how one is drawn, and what the right one gives."""

    path: Path
    load: Callable[[], Any]
    draw: Callable[[random.Random], bytes]
    right: bytes = b""
    expected: Any = None


def cases(folder: Path) -> dict[str, Case]:
    """Name -> case, of files that are written to the folder."""
    found = {}
    for name, (path, load) in targets(folder).items():
        found[name] = Case(path, load, partial(mutate, path.read_bytes()), path.read_bytes(), load())
    for name, kind in KINDS.items():
        path = folder / "malicious"
        found[name] = Case(path, partial(kind.load, path), kind.make)
    return found


def main(files: int, seed: int, keep: Path | None) -> int:
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    slowest, largest = (0.0, ""), (0, "")
    with tempfile.TemporaryDirectory() as folder:
        found = cases(Path(folder))
        base = child(lambda: REFUSED)[2]
        names = list(found)
        for number in range(files):
            name = names[number % len(names)]
            case = found[name]
            drawn = case.draw(random.Random(f"{seed} {number}"))
            case.path.write_bytes(drawn)
            ended, seconds, memory = child(partial(outcome, case.load, case.expected, name))
            case.path.write_bytes(case.right)
            slowest = max(slowest, (seconds, f"{name}, {number}, {len(drawn):,} bytes"))
            largest = max(largest, (memory - base, f"{name}, {number}, {len(drawn):,} bytes"))
            counts[ended] += 1
            kinds[name.partition(":")[0]] += 1
            share = 1 + len(drawn) / EACH
            if (ended not in (NAMES[REFUSED], NAMES[UNCHANGED], NAMES[NOT_SEALED])
                    or not within(SECONDS * share, seconds) or memory - base > MEGABYTES * share):
                print(f"{name}, {number}: {ended}, {seconds:.1f} s, {memory - base:.0f} MB", flush=True)
                counts["WRONG"] += 1
                if keep:
                    (keep / f"{number}-{name.replace(': ', '-')}").write_bytes(drawn)
    print(*(f"{count:7,} {name}" for name, count in counts.most_common()), sep="\n")
    print(f"of {', '.join(f'{count:,} {name}' for name, count in kinds.items())}")
    print(f"slowest {slowest[0]:.2f} s ({slowest[1]}), most memory {largest[0]:.0f} MB more than before ({largest[1]})")
    return counts["WRONG"]


def outcome(load, expected, name: str) -> int:
    try:
        got = load()
    except InputError as error:
        return REFUSED if len(str(error).splitlines()) == 1 and len(str(error)) <= 2000 else STRANGE
    except Exception as error:  # noqa: BLE001  what should not be
        print(f"{name}: {type(error).__name__}: {str(error)[:200]}", flush=True)
        return STRANGE
    if got == expected:
        return UNCHANGED
    return OTHER if name.startswith(SEALED) else NOT_SEALED


def address_space() -> int:
    """Bytes of addresses that this process has, used or not."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def child(work) -> tuple[str, float, float]:
    """How a process that does `work` ended, its processor time in seconds, its memory in MB."""
    pid = os.fork()
    if pid == 0:
        gc.freeze()  # or each collection would go through all that this process has made before
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
        limit = address_space() + (4 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        status = STRANGE
        try:
            status = work()
        finally:
            os._exit(status)
    deadline = time.monotonic() + 30
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline:
            os.kill(pid, 9)
        time.sleep(0.0005)
    name = NAMES.get(os.waitstatus_to_exitcode(status), f"ENDED WITH {os.waitstatus_to_exitcode(status)}")
    return name, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=" ".join(__doc__.splitlines()[:2]))
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that were not dealt with as they should be")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    sys.exit(bool(main(options.files, options.seed, options.keep)))
