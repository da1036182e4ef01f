"""Measure scratchnmt, on a CPU and a GPU, beside its peers and the machine's limits (see benchmarks/README.md)."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

COMMANDS = ("ops", "step", "memory", "train", "profile", "tricks", "scaling", "decode", "fit", "systems", "quality",
            "local", "ranks", "busy", "timeline", "ladder", "report", "compare", "gradcheck", "gradients",
            "fingerprint", "calls")
OUT = "write rows as CSV there (default: benchmarks/results on a GPU, else nowhere)"


def main(arguments: list[str] | None = None) -> int:
    fix_threads(common_options([]).parse_known_args(arguments)[0].threads)

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"benchmarks.{name}")
        command = commands.add_parser(name, parents=[common_options(getattr(module, "PEERS", []),
                                                              getattr(module, "OUT", OUT))],
                                      help=module.__doc__.splitlines()[0], description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    from scratchnmt.errors import InputError

    try:
        return options.run(options)
    except InputError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2


def common_options(peers: list[str], out: str = OUT) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--threads", type=int, default=2, help="threads of each contestant (default 2)")
    common.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda or cuda:N (default cpu)")
    common.add_argument("--kernels", choices=["plain", "fused", "persistent"], help="(default: fused on a GPU)")
    common.add_argument("--matmul", choices=["float32", "tf32"], default="float32",
                        help="precision of fused products (default float32)")
    common.add_argument("--out", metavar="DIR", help=out)
    if peers:
        common.add_argument("--peers", type=lambda text: [name for name in text.split(",") if name], default=peers,
                            help=f"who runs beside us (default {','.join(peers)}; '' for nobody)")
    return common


def fix_threads(count: int) -> None:
    """Must come before NumPy is loaded: OpenBLAS reads these once."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(count)


if __name__ == "__main__":
    sys.exit(main())
