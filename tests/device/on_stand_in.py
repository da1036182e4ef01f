"""The command line on CuPy's stand-in, a process of its own: on_stand_in.py KERNELS OPTIONS ARGUMENTS...

KERNELS: a folder of kernels that g++ has compiled (see tests/kernels/shim.py).  OPTIONS: --without-nccl; --cards=N;
--tell, to print after which step the results of which came.
"""

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import fake_cupy  # noqa: E402
from fake_cupy import nccl  # noqa: E402
from fake_cupy.cublas import DLL  # noqa: E402
from fake_cupy.recording import recorded  # noqa: E402
from kernels.shim import Shim  # noqa: E402

from scratchnmt.cli import main  # noqa: E402
from scratchnmt.kernels import launch as launcher  # noqa: E402
from scratchnmt.kernels import product  # noqa: E402
from scratchnmt.training.loop import Trainer  # noqa: E402

shim, arguments = Shim(Path(sys.argv[1])), sys.argv[2:]
launcher.kernel = lambda *what: recorded(shim.kernel(*what))
product._loaded = lambda major: DLL()
with fake_cupy.installed() as cupy:
    if "--without-nccl" in arguments:
        arguments.remove("--without-nccl")
    else:
        cupy.cuda.nccl, sys.modules["cupy.cuda"] = nccl, cupy.cuda
    if arguments[0].startswith("--cards="):
        fake_cupy.MACHINE.cards = int(arguments.pop(0).partition("=")[2])
    if "--tell" in arguments:
        arguments.remove("--tell")
        note = Trainer._note_results

        def tell(trainer: Trainer, wait: bool = False) -> None:
            results = trainer.steps.results(wait)
            for result in results:
                line = f"rank {trainer.ranks.rank}: after step {trainer.state.step} of {result.place.step}\n"
                os.write(2, line.encode())  # at once: lines of two ranks are not to be mixed
            trainer.steps.results, usual = lambda wait: results, trainer.steps.results
            try:
                note(trainer, wait)
            finally:
                trainer.steps.results = usual

        Trainer._note_results = tell
    status = main(arguments)
    print(f"{fake_cupy.MACHINE.launches} graphs launched", file=sys.stderr)
sys.exit(status)
