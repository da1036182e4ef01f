"""SIGKILL at random moments: the run that is resumed each time must end in the bytes of the uninterrupted one.

    python tests/stress/kill.py --kills 200
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from small_run import corpus, differences, finish, resume_arguments, start

from scratchnmt.files.run_folder import BEST_STATE, MODEL, STATE
from scratchnmt.files.tensors import read_tensors


def main(kills: int, seed: int = 0, longest: float = 2.0, epochs: int = 50) -> int:
    """The number of runs that came out otherwise, or of files that could not be read."""
    rng, done, runs, wrong, half_written, again = random.Random(seed), 0, 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        base = [*corpus(here / "corpus"), "--max-epochs", str(epochs), "--save-every", "3", "--valid-every", "25"]
        while done < kills:
            arguments = [*base, "--seed", str(runs)]
            whole, out = here / "whole", here / "out"
            began = time.perf_counter()
            finish(start(whole, arguments))
            took = time.perf_counter() - began
            process = start(out, arguments)
            while done < kills:
                try:
                    process.wait(timeout=rng.uniform(0, longest))
                    break
                except subprocess.TimeoutExpired:  # still running
                    process.send_signal(signal.SIGKILL)
                process.communicate()
                done += 1
                half_written += bool(list(out.glob(".*.tmp")))
                wrong += unreadable(out)
                again += not (out / "config.json").exists()
                process = start(out, resume_arguments(out, arguments))
            finish(process)
            off = differences(out, whole)
            wrong += bool(off)
            runs += 1
            print(f"run {runs}: {took:.0f} s uninterrupted, {done} kills so far, "
                  + (f"DIFFERENT: {', '.join(off)}" if off else "the same bytes"), flush=True)
            shutil.rmtree(whole)
            shutil.rmtree(out)
    print(f"{done} kills over {runs} runs, {half_written} of them while a file was being written, {again} before there "
          f"was a run; runs or files lost: {wrong}")
    return wrong


def unreadable(out: Path) -> int:
    """How many of the files that are there cannot be read."""
    count = 0
    for name in (MODEL, STATE, BEST_STATE):
        if (out / name).exists():
            try:
                read_tensors(out / name)
            except ValueError as error:
                count += 1
                print(error)
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=2.0, help="seconds until a kill, at most")
    parser.add_argument("--epochs", type=int, default=50)
    sys.exit(bool(main(**vars(parser.parse_args()))))
