"""Libraries keep files for their next start in the home folder; where they cannot, they are told to do without.

CuPy ends with an error there, when the first kernel is compiled, and matplotlib prints several lines.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from contextlib import suppress

_MATPLOTLIB = ("~/.config/matplotlib", "~/.cache/matplotlib") if sys.platform == "linux" else ("~/.matplotlib",)
_CUPY = ("~/.cupy/kernel_cache",)


def find_room() -> None:
    """Before either is imported: what the environment says stays as it is."""
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
