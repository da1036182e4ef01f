"""The command line in several processes by mpirun, each of which leaves its number in a folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

needs_mpi = pytest.mark.skipif(shutil.which("mpirun") is None,
                               reason="mpirun is not there (pip install '.[mpi]' mpich)")
_ROOT = Path(__file__).parents[1]
_SCRIPT = """
import os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
rank = os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or "0"
(folder / f"rank{rank}").write_text(str(os.getpid()))
from scratchnmt.cli import main
from scratchnmt.parallel import machine, mpi
for option in [one for one in sys.argv if one.startswith(("--machines=", "--memory="))]:
    sys.argv.remove(option)
    own = int(option.partition("=")[2][int(rank)])
    if option.startswith("--machines"):
        mpi.Mpi.of_machine = lambda self, own=own: mpi.Mpi(self.comm.Split(own))
    else:
        reserve, left = machine._reserve, [True] * own
        machine._reserve = lambda *given, left=left: reserve(*given) if left and left.pop() else None
other = sys.argv[2:].index("--else") + 2 if "--else" in sys.argv else len(sys.argv)
arguments, more = sys.argv[2:other], sys.argv[other + 1:] if rank == "1" else []
if more[:1] == ["--out"]:  # another one, not a second
    arguments[arguments.index("--out") + 1], more = more[1], []
sys.exit(main(arguments + more))
"""


def is_open_mpi():
    return shutil.which("ompi_info") is not None


def start(folder, count, *arguments, program=None):
    """`scratchnmt ARGUMENTS` by so many ranks.

    A digit for each rank, --machines=001: on which machine it is as if; --memory=02: how often it can have memory to
    share, first for the weights, then for gradients.  What is behind --else is rank 1's.
    program: in the place of that one, what Python runs with the arguments.
    """
    program = program or ["-c", _SCRIPT, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = ["mpirun", "-n", str(count)] * (count > 1)
    return subprocess.Popen([*command, sys.executable, *program, *map(str, arguments)], env=environment,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            encoding="utf-8")


def finished(folder, count, *arguments, text="", program=None):
    """Exit status, output, errors."""
    process = start(folder, count, *arguments, program=program)
    try:
        out, error = process.communicate(text, timeout=60)
    finally:
        process.terminate()  # ranks that wait for each other would do so for ever
    return process.returncode, out, error
