"""python -m scratchnmt.kernels NAME ...: each equation, its array code and its CUDA, side by side; needs no GPU.

The lines of both are tied to the equations by numbers in comments, `# (3)` and `// (3)`.  A number marks its own
line and those below it, up to the next number, a blank line or the end of the block; a return belongs to them,
since it may compute a result.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import NamedTuple

from ..streams import run_command
from . import KERNELS
from .launch import HEAD, source

# operations that are a kernel and products of matrices, which are cuBLAS': the kernel, and what to say of the whole
PARTS = {
    "lstm_cell": ("lstm_gates", """\
lstm_cell: z = x Wx + h_prev Wh + b are two products by cuBLAS, which adds the second to the first;
the rest of the cell is lstm_gates, one launch for all rows of a step and both directions."""),
}
_NUMBERS = re.compile(r"\((\d+)\)")
_FUNCTION = HEAD + ".*?^}}$"


class Excerpt(NamedTuple):
    """Lines of code that belong to one or several equations."""

    numbers: tuple[int, ...]
    lines: list[str]


def page(name: str) -> str:
    """The page of KERNELS[name]."""
    module = KERNELS[name]
    formulas = equations(module.EQUATIONS.__doc__)
    lines = [f"{name}: scratchnmt/kernels/{name}.cu beside {module.EQUATIONS.__name__.replace('.', '/')}.py"]
    for kernel, plain in module.TWINS.items():
        backward = kernel.endswith("backward")
        lines += ["", kernel + (", from the last equation to the first" if backward else "")]
        for number in sorted(computed(module), reverse=backward):
            codes = [(language, _code(parts, number)) for language, parts in
                     (("array", array_parts(plain)), ("CUDA", cuda_parts(name, kernel)))]
            if any(code for _, code in codes):
                lines += ["", *(f"  {line}" for line in formulas[number])]
                lines += [line for language, code in codes for line in _block(language, code)]
        if not numbers(cuda_parts(name, kernel)):  # no equation of its own: all of it
            lines += ["", *_block("CUDA", _kernel_text(name, kernel).split("\n"))]
    return "\n".join(lines)


def computed(module: ModuleType) -> set[int]:
    """The numbers of the equations that its kernels compute: of a larger operation COMPUTES says which."""
    return set(getattr(module, "COMPUTES", equations(module.EQUATIONS.__doc__)))


def equations(text: str) -> dict[int, list[str]]:
    """{number: its lines} of a docstring: those that begin with (number), or end with it, in an indented block."""
    formulas: dict[int, list[str]] = {}
    number = None
    for line in text.split("\n"):
        match = re.match(r" +\((\d+)\)|  .* \((\d+)\)$", line)
        if match:
            number = int(match[1] or match[2])
            formulas[number] = [line.strip()]
        elif number is not None and re.match(r" {6,}\S", line):
            formulas[number].append(line[4:].rstrip())
        else:
            number = None
    return formulas


def array_parts(function: Callable) -> list[Excerpt]:
    """The numbered parts of a function of NumPy's or CuPy's arrays."""
    return _parts(inspect.getsource(function).split("\n"), "#")


def cuda_parts(file: str, kernel: str) -> list[Excerpt]:
    """The numbered parts of a kernel."""
    return _parts(_kernel_text(file, kernel).split("\n"), "//")


def numbers(parts: Iterable[Excerpt]) -> set[int]:
    return {number for part in parts for number in part.numbers}


def _kernel_text(file: str, kernel: str) -> str:
    match = re.search(_FUNCTION.format(kernel), source(file), re.MULTILINE | re.DOTALL)
    if match is None:
        raise ValueError(f"{file}.cu has no kernel {kernel}")
    return match[0]


def _parts(lines: list[str], comment: str) -> list[Excerpt]:
    parts: list[Excerpt] = []
    margin = None  # of the part that goes on; None: none does
    for line in lines:
        labels, indent = _NUMBERS.findall(line.partition(comment)[2]), len(line) - len(line.lstrip())
        if labels:
            parts.append(Excerpt(tuple(map(int, labels)), []))
            margin = indent
        elif not line.strip() or margin is None or indent < margin:
            margin = None
        if margin is not None:
            parts[-1].lines.append(line)
    return parts


def _code(parts: list[Excerpt], number: int) -> list[str]:
    """The lines of the parts whose first equation is this one."""
    return [line for part in parts if part.numbers[0] == number
            for line in textwrap.dedent("\n".join(part.lines)).split("\n")]


def _block(language: str, code: list[str]) -> list[str]:
    return [f"    {language if not k else '':<6}| {line}".rstrip() for k, line in enumerate(code)]


def main(arguments: list[str]) -> int:
    """Print the pages of the kernels named; the exit status."""
    wrong = [name for name in arguments if name not in KERNELS and name not in PARTS]
    if wrong or not arguments:
        given = f"no kernel is named {wrong[0]!r}; " if wrong else ""
        print(f"{given}usage: python -m scratchnmt.kernels NAME ..., of {', '.join([*KERNELS, *PARTS])}",
              file=sys.stderr)
        return 2
    pages = [page(name) if name in KERNELS else f"{PARTS[name][1]}\n\n{page(PARTS[name][0])}" for name in arguments]
    print("\n\n".join(pages))
    return 0


if __name__ == "__main__":
    sys.exit(run_command("python -m scratchnmt.kernels", lambda: main(sys.argv[1:])))
