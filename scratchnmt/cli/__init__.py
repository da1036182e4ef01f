"""The command line: `scratchnmt COMMAND`, one module for each command.

A command's module has HELP, one line; add_arguments(parser); and run(args), which returns the exit status.
What is heavy to import is imported in run, so that --help is quick.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module

from ..arrays import limit_threads
from ..parallel.mpi import processes
from ..streams import run_command
from .parser import Parser

_COMMANDS = ("demo", "train", "translate", "evaluate", "score", "average", "gradcheck", "microscope",
             "museum", "import-cs224n", "export-cs224n")
_IN_PROCESSES = ("train", "translate")  # those that mpirun can start
_DESCRIPTION = """\
Neural machine translation with attention, trained from scratch on your own text:
every forward pass has its hand-written, verified backward pass.

New here?  Type  scratchnmt demo  : it learns a little French in about a minute."""
_EPILOG = """\
`scratchnmt COMMAND --help` explains a command and gives an example.

exit status:  0  all went well
              1  gradcheck or demo: a gradient is wrong; museum: a bug is not caught
              2  something that was given cannot be used, or the loss overflowed;
                 one sentence on standard error says what
            130  interrupted by Ctrl-C; a training run is saved and can be resumed"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (sys.argv[1:]); the exit status.  SystemExit after --help and for options
    that do not exist."""
    return run_command("scratchnmt", lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        getattr(args, "parser", parser).refuse(unknown)
    if "run" not in args:
        parser.print_help(sys.stderr)
        return 2
    if processes() > 1 and args.run.__module__.rpartition(".")[2] not in _IN_PROCESSES:
        args.parser.error(f"it runs in one process, and mpirun started {processes()}: leave mpirun out")
    return run_command(args.parser.prog, lambda: _run_limited(args), args.parser.worded)


def _run_limited(args: Namespace) -> int:
    """With one BLAS thread in each process, unless the environment says how many: see parallel/workers.py."""
    with limit_threads():
        status: int = args.run(args)
    return status


def _parser() -> Parser:
    from .. import __version__

    parser = Parser(prog="scratchnmt", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"scratchnmt {__version__}")
    modules = {name: import_module(f".{name.replace('-', '_')}", __name__) for name in _COMMANDS}
    listed = "\n".join(f"{name:<15}{module.HELP}" for name, module in modules.items())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", description=listed,
                                     help="one of these")
    for name, module in modules.items():
        command = commands.add_parser(name, description=module.HELP, usage=module.USAGE, epilog=module.EPILOG)
        module.add_arguments(command)
        command.set_defaults(run=module.run, parser=command)
    return parser
