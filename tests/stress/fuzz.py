"""Spoilt files of every kind: one clear error, or what was there before; never a crash, a hang or another model.

    python tests/stress/fuzz.py --files 20000

Each file is loaded by a process of its own, whose end, time and memory are looked at.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from mutations import SEALED, mutate, targets

from scratchnmt.errors import InputError

REFUSED, UNCHANGED, OTHER, NOT_SEALED, STRANGE = range(10, 15)  # exit statuses of a child
NAMES = {REFUSED: "refused by one error", UNCHANGED: "read, and nothing had changed", OTHER: "SILENTLY ANOTHER",
         NOT_SEALED: "read, of a kind that carries no checksum", STRANGE: "ANOTHER EXCEPTION"}
SECONDS, MEGABYTES = 1.0, 200


def main(files: int, seed: int, keep: Path | None) -> int:
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    slowest, largest = (0.0, ""), (0, "")
    with tempfile.TemporaryDirectory() as folder:
        found = targets(Path(folder))
        right = {name: (target.path.read_bytes(), target.load()) for name, target in found.items()}
        base = child(lambda: REFUSED)[2]
        names = list(found)
        for number in range(files):
            name = names[number % len(names)]
            target, (data, expected) = found[name], right[name]
            spoilt = mutate(data, random.Random(f"{seed} {number}"))
            target.path.write_bytes(spoilt)
            ended, seconds, memory = child(partial(outcome, target.load, expected, name))
            target.path.write_bytes(data)
            slowest = max(slowest, (seconds, f"{name}, {number}"))
            largest = max(largest, (memory - base, f"{name}, {number}"))
            counts[ended] += 1
            kinds[name.partition(":")[0]] += 1
            if ended not in (NAMES[REFUSED], NAMES[UNCHANGED], NAMES[NOT_SEALED]) or seconds > SECONDS or (
                    memory - base > MEGABYTES):
                print(f"{name}, {number}: {ended}, {seconds:.1f} s, {memory - base:.0f} MB", flush=True)
                counts["WRONG"] += 1
                if keep:
                    (keep / f"{number}-{name.replace(': ', '-')}").write_bytes(spoilt)
    print(*(f"{count:7,} {name}" for name, count in counts.most_common()), sep="\n")
    print(f"of {', '.join(f'{count:,} {name}' for name, count in kinds.items())}")
    print(f"slowest {slowest[0]:.2f} s ({slowest[1]}), most memory {largest[0]:.0f} MB more than before ({largest[1]})")
    return counts["WRONG"]


def outcome(load, expected, name: str) -> int:
    try:
        got = load()
    except InputError as error:
        return REFUSED if len(str(error).splitlines()) == 1 and len(str(error)) < 2000 else STRANGE
    except Exception as error:  # noqa: BLE001  what should not be
        print(f"{name}: {type(error).__name__}: {str(error)[:200]}", flush=True)
        return STRANGE
    if got == expected:
        return UNCHANGED
    return OTHER if name.startswith(SEALED) else NOT_SEALED


def child(work) -> tuple[str, float, float]:
    """How a process that does `work` ended, its processor time in seconds, its memory in MB."""
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that were not dealt with as they should be")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    sys.exit(bool(main(options.files, options.seed, options.keep)))
