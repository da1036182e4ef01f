"""Equations, array code and CUDA are tied together by numbers: the same sets everywhere, and nothing is lost."""

import ast
import inspect
import re
import subprocess
import sys
import textwrap

import pytest

from scratchnmt.kernels import KERNELS
from scratchnmt.kernels import launch as launcher
from scratchnmt.kernels.__main__ import array_parts, computed, cuda_parts, equations, main, numbers, page

TWINS = [(file, kernel, plain) for file in KERNELS for kernel, plain in KERNELS[file].TWINS.items()]
by_twin = pytest.mark.parametrize("file, kernel, plain", TWINS, ids=[kernel for _, kernel, _ in TWINS])
by_kernel = pytest.mark.parametrize("file", KERNELS)


@by_kernel
def test_every_kernel_has_a_twin(file):
    assert list(KERNELS[file].TWINS) == launcher.names(file)


@by_twin
def test_cuda_and_array_code_carry_the_same_numbers(file, kernel, plain):
    assert numbers(cuda_parts(file, kernel)) == numbers(array_parts(plain)) & computed(KERNELS[file])


@by_kernel
def test_every_equation_is_computed_and_its_text_is_that_of_the_plain_op(file):
    formulas = {number: lines for number, lines in equations(KERNELS[file].EQUATIONS.__doc__).items()
                if number in computed(KERNELS[file])}
    found = [number for kernel in launcher.names(file) for number in numbers(cuda_parts(file, kernel))]
    assert set(found) == set(formulas) and formulas
    header = re.sub(r"^// ?", "", launcher.read(f"{file}.cu").partition("\n\n")[0], flags=re.MULTILINE)
    assert equations(header) == formulas


@by_twin
def test_the_page_shows_every_numbered_line(file, kernel, plain):
    text = page(file)
    parts = array_parts(plain) + cuda_parts(file, kernel)
    for part in (part for part in parts if part.numbers[0] in computed(KERNELS[file])):
        for line in part.lines:
            assert line.strip() in text
    assert all(len(line) <= 125 for line in text.split("\n"))


@pytest.mark.parametrize("file, kernel, plain", [twin for twin in TWINS if not hasattr(KERNELS[twin[0]], "COMPUTES")],
                         ids=lambda value: value if isinstance(value, str) else "")
def test_no_computing_line_is_left_out(file, kernel, plain):
    """From the first number on; what stands above it takes arguments apart.  Of operations that are a kernel whole."""
    parts = array_parts(plain)
    shown = {line.strip() for part in parts for line in part.lines}
    lines = textwrap.dedent(inspect.getsource(plain)).split("\n")
    first = next((n for n, line in enumerate(lines, 1) if re.search(r"# .*\(\d\)", line)), len(lines))
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.Return)) and node.lineno >= first and computes(node):
            for line in lines[node.lineno - 1 : node.end_lineno]:
                assert line.strip() in shown, f"the page of {file} leaves out a line of {kernel}: {line.strip()}"


def computes(statement):
    """Whether there is arithmetic in it, or a call, other than of a class that holds values it is given."""
    return isinstance(statement, ast.AugAssign) or any(
        isinstance(node, ast.BinOp) or isinstance(node, ast.Call) and not ast.unparse(node.func)[0].isupper()
        for node in ast.walk(statement))


def test_the_gradient_through_time_is_on_the_page():
    assert "dc_prev=np.multiply(dc, f, out=dc_prev)" in page("lstm_gates")


@by_kernel
def test_functions_take_the_arguments_of_their_twins(file):
    module = KERNELS[file]
    for plain in {plain for plain in module.TWINS.values() if hasattr(module, plain.__name__)}:
        assert arguments(getattr(module, plain.__name__)) == arguments(plain)


def arguments(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_equations_of_a_docstring():
    text = """Title (see 3).

    (1)  y = x
         in two lines
    (2)  z = y

Prose (4) of the page.

    a = b        (3)
"""
    assert equations(text) == {1: ["(1)  y = x", "     in two lines"], 2: ["(2)  z = y"], 3: ["a = b        (3)"]}


def numbered(x):
    y = x  # (1)
    y += 1
    if y:
        # (2), (3) both
        y += 2

    y += 4
    z = y  # (3)
    return z + 1


def test_a_number_marks_the_lines_below_it_too():
    parts = [(part.numbers, [line.strip() for line in part.lines]) for part in array_parts(numbered)]
    assert parts == [((1,), ["y = x  # (1)", "y += 1", "if y:"]), ((2, 3), ["# (2), (3) both", "y += 2"]),
                     ((3,), ["z = y  # (3)", "return z + 1"])]


def test_the_command(capsys):
    assert main(["lstm_gates"]) == 0
    printed = capsys.readouterr().out
    assert "array | i, f, g, o = (gates[" in printed and "      | const T f = sigmoid(z[H]);" in printed
    assert main(["lstm_cell"]) == 0
    assert capsys.readouterr().out.endswith("lstm_gates, one launch for all rows of a step and both directions.\n\n"
                                            + printed)
    assert main(["lstm_cells"]) == 2 and main([]) == 2
    assert "no kernel is named 'lstm_cells'; usage: " in capsys.readouterr().err


def test_a_reader_that_has_seen_enough():
    command = f"{sys.executable} -m scratchnmt.kernels {' '.join(KERNELS)} | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("lstm_gates: ") and done.returncode in (0, 141) and done.stderr == ""


def test_the_command_needs_no_cupy():
    code = ("import sys; sys.modules['cupy'] = None; sys.argv[1:] = ['lstm_gates'];"
            "import runpy; runpy.run_module('scratchnmt.kernels', run_name='__main__')")
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "lstm_gates_backward" in printed
