"""What it costs to read a file, in a process of its own, whose time is limited."""

import os
import sys
from functools import partial

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("each is read by a process of its own, whose time is limited", allow_module_level=True)
pytest.importorskip("safetensors")
pytest.importorskip("sentencepiece")
from test_stress import fuzz  # the script

READ = (fuzz.UNCHANGED, fuzz.NOT_SEALED)


def cost(work):
    """(what became of it, seconds, megabytes) of a process that does it, a second at most."""
    return fuzz.child(partial(fuzz.outcome, work, None, "malicious"))


def bounded(load, *paths, seconds=1.0, megabytes=150, ends=(fuzz.REFUSED,)):
    """Refused by one sentence, or as it `ends`, soon, and without much memory."""
    base = fuzz.child(lambda: fuzz.REFUSED)[2]
    for path in paths:
        ended, took, memory = cost(lambda path=path: load(path))
        right = ended in [fuzz.NAMES[one] for one in ends] and fuzz.within(seconds, took) and memory - base < megabytes
        assert right, f"{os.path.basename(path)}: {ended} after {took:.1f} s, {memory - base:.0f} MB"
