"""`scratchnmt gradcheck`: the table, the names, and an op out of somebody's own file."""

import json
import re
import sys

import pytest

from scratchnmt import selfcheck
from scratchnmt.cli import main

OP = """\
import numpy as np


def layer_forward(x, W):
    y = np.tanh(x @ W)
    return y, (x, W, y)


def layer_backward(dy, cache):
    x, W, y = cache
    dz = dy * (1 - y * y)
    return {"dx": dz @ W.T, "dW": x.T @ dz}
"""
ARGS = "def args(rng):\n    return {'x': rng.standard_normal((3, 4)), 'W': rng.standard_normal((4, 2))}\n"
BOTH = ":layer_forward,layer_backward"


@pytest.fixture
def call(capsys, monkeypatch):
    """main(["gradcheck", ...]): exit status, standard output, standard error."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # the folder of a checked file is added to it

    def run(*arguments, terminal=False):
        capsys.readouterr()
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        try:
            status = main(["gradcheck", *map(str, arguments)])
        except SystemExit as exit:
            status = exit.code
        return (status, *capsys.readouterr())

    return run


@pytest.fixture
def own(call, tmp_path):
    """The same for an op in a file of its own: own(text of the file, names of the functions, options)."""
    def run(text, names="", *options):
        path = tmp_path / "my_op.py"
        path.write_text(text, encoding="utf-8")
        return call("--module", f"{path}{names}", *options)

    return run


def refused(result, *parts):
    """One clear sentence on standard error, exit status 2, nothing else."""
    status, out, err = result
    assert status == 2 and out == ""
    assert err.startswith("scratchnmt gradcheck: error: ") and err.count("\n") == 1, err
    for part in parts:
        assert part in err, err


def break_tanh(monkeypatch):
    [right] = [case for case in selfcheck.CASES if case.name == "tanh"]

    def backward(dy, cache):
        grads = right.backward(dy, cache)
        return grads._replace(dx=grads.dx * 1.001)

    sigmoid = [case for case in selfcheck.CASES if case.name == "sigmoid"]
    monkeypatch.setattr(selfcheck, "EVERY", (right._replace(backward=backward), *sigmoid))


# the table


def test_a_table_with_a_summary(call):
    status, out, err = call("lstm_cell", "softmax, masked")
    header, *lines, blank, summary = out.splitlines()
    assert status == 0 and err == "" and blank == ""
    assert header.split() == ["name", "gradients", "elements", "largest", "error", "tolerance", "seconds"]
    assert [line.split("  ")[1] for line in lines] == ["softmax, masked", "lstm_cell"]
    assert all(" 1.0e-12  ok " in line and len(line) == len(header) for line in lines)
    assert re.fullmatch(r"  2 of 2 right in [\d.]+ seconds; the smallest margin is \d+ \(.+\)", summary)


def test_a_line_is_printed_as_its_check_ends(call, monkeypatch, capsys):
    seen, report = [], selfcheck.Case.report

    def looking(*args):
        seen.append(capsys.readouterr().out)
        return report(*args)

    monkeypatch.setattr(selfcheck.Case, "report", looking)
    call("sigmoid", "linear", "lstm_cell")
    assert seen[0].startswith("  name ") and seen[1].split()[0] == "sigmoid" and len(seen) > 3


def test_no_error_at_all_is_no_infinite_margin(call, monkeypatch):
    same = selfcheck.Case("same", lambda x: (x, None), lambda dy, _: dy.copy(), "B",
                          lambda sizes, rng: {"x": rng.standard_normal(3)})
    monkeypatch.setattr(selfcheck, "EVERY", (same,))
    assert call("same")[1].endswith("seconds; all exact\n")


def test_list_names_what_can_be_checked(call):
    every = [case.name for case in selfcheck.EVERY]
    assert call("--list")[1].splitlines() == every
    assert call("--list", "lstm gates")[1] == "lstm_gates\n"
    assert "holds all of these words, or parts of words" in " ".join(call("--help")[1].split())
    assert call("--list", "two directions")[1].splitlines() == [n for n in every if "two directions" in n]


def test_options_of_the_table(call):
    assert call("tanh", "--dtype", "float32")[0] == 0
    status, out, _ = call("softmax", "encoder, one direction", "--verbose", "--seed", 3)
    assert status == 0 and out.count("gradient check ok") == 3 and out.count("seed=3") == 3
    assert "dencoder.Wx  (1, 3, 8)" in out
    refused(call("lsmt"), "'lsmt'", "did you mean 'lstm'")
    refused(call(""), "nothing to check is named ''", "expected words")
    refused(call("tanh", "--device", "tpu"), "tpu")
    refused(call("tanh", "--seed", -1), "seed is -1")
    refused(call("tanh", "--arg", "x=3"), "--arg is for an op of your own", "--module")


def test_a_wrong_gradient_is_reported_with_exit_status_1(call, monkeypatch):
    break_tanh(monkeypatch)
    status, out, _ = call("tanh", "sigmoid")
    assert status == 1 and "WRONG" in out and "1 of 2 right" in out and "wrong: tanh\n" in out
    assert out.count("gradient check FAILED") == 1 and "worst elements of dx" in out
    assert "gradient check ok" not in out
    assert "\033" not in out


def test_colours_on_a_terminal_only_and_never_with_no_color(call, monkeypatch):
    break_tanh(monkeypatch)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    plain, colored = call("tanh")[1], call("tanh", terminal=True)[1]
    assert "\033[31mWRONG" in colored and "\033" not in plain
    seconds = re.compile(r"[\d.]+$|[\d.]+ seconds", re.MULTILINE)
    assert seconds.sub("", re.sub(r"\033\[[\d;]*m", "", colored)) == seconds.sub("", plain)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in call("tanh", terminal=True)[1]


# an op of one's own


def test_a_right_op_with_arguments_made_here(own):
    status, out, err = own(OP, BOTH, "--arg", "x=3,4", "--arg", "W=4,2")
    assert status == 0 and err == "" and "gradient check ok: 2 gradients" in out
    assert "dx        (3, 4)       12" in out and "dW        (4, 2)        8" in out


def test_the_files_own_arguments_and_default_names(own):
    text = OP.replace("layer_", "") + ARGS
    assert own(text)[0] == 0
    assert own(text.replace("def args(rng):\n    return", "rng = np.random.default_rng(0)\nargs ="))[0] == 0
    out = own(text, "", "--wrt", "W", "--method", "central", "--seed", 5)[1]
    assert "1 gradient, " in out and "method=central" in out and "seed=5" in out
    assert "float32 on cpu" in own(text, "", "--dtype", "float32")[1]


def test_a_wrong_op_exits_with_1_and_names_the_gradient(own):
    status, out, _ = own(OP.replace("1 - y * y", "1 - y"), BOTH, "--arg", "x=3,4", "--arg", "W=4,2")
    assert status == 1 and "2 of 2 gradients are wrong" in out and "worst elements of dW" in out


def test_dy_is_not_drawn_from_the_stream_of_the_arguments(own):
    """Else dy = x, for which the gradient of a normalization is zero, and this backward would pass."""
    text = ("import numpy as np\ndef forward(x):\n    c = x - x.mean(-1, keepdims=True)\n"
            "    return c / np.sqrt((c * c).mean(-1, keepdims=True)), x\n"
            "def backward(dy, x):\n    return 0 * dy\n")
    for seed in (0, 1):
        status, out, _ = own(text, "", "--arg", "x=3,4", "--seed", seed)
        assert status == 1 and "dx is zero everywhere" in out


def test_whole_numbers_are_arguments_too(own):
    text = ("import numpy as np\ndef forward(table, ids):\n    return table[ids], (table.shape, ids)\n"
            "def backward(dy, cache):\n    d = np.zeros(cache[0])\n    np.add.at(d, cache[1], dy)\n    return d\n")
    assert own(text, "", "--arg", "table=5,2", "--arg", "ids=int:4,3<5")[0] == 0
    status, out, _ = own(text.replace("np.add.at(d, cache[1], dy)", "d[cache[1]] += dy"), "",
                         "--arg", "table=5,2", "--arg", "ids=int: 4, 3 < 5")
    assert status == 1 and "WRONG" in out  # rows that occur twice


def test_what_it_imports_may_lie_beside_it_and_it_may_hold_dataclasses(own, tmp_path):
    (tmp_path / "beside_my_op.py").write_text("HALF = 0.5\n")
    text = ("from dataclasses import dataclass\nimport numpy as np\nfrom beside_my_op import HALF\n\n"
            "@dataclass\nclass Cache:\n    x: np.ndarray\n\n"
            "def forward(x):\n    return HALF * x * x, Cache(x)\n\n"
            "def backward(dy, cache):\n    return cache.x * dy\n")
    assert own(text, "", "--arg", "x=3")[0] == 0


@pytest.mark.parametrize("text, names, options, parts", [
    (OP, "", ["--arg", "x=3"], ["could be checked: layer: no argument for W of layer_forward(x, W)"]),
    (OP, "", [], ["no arguments for what is in it", "--arg x=3,4", "define args"]),
    (OP, ":layerforward,layer_backward", [],
     ["no function 'layerforward'", "did you mean 'layer_forward'", "it has layer_forward, layer_backward"]),
    (OP, ":layer_forward", [], ["layer_forward has no backward: expected a layer, or FORWARD,BACKWARD"]),
    (OP, ":a,b,c", [], ["expected FILE.py, FILE.py:FORWARD,BACKWARD or FILE.py:LAYER"]),
    (OP, ":np,layer_backward", [], ["no function 'np'"]),
    (OP, BOTH, [], ["no arguments for layer_forward(x, W)", "--arg NAME=SHAPE", "define args"]),
    (OP, BOTH, ["--arg", "x=3,4"], ["given x (3, 4), raised TypeError", "'W'"]),
    (OP, BOTH, ["--arg", "x=3,4", "--arg", "W=3,2"], ["W (3, 2), raised ValueError on line 5: matmul"]),
    (OP, BOTH, ["--arg", "x=3,four"], ["--arg x=3,four: expected NAME=SHAPE"]),
    (OP, BOTH, ["--arg", "x=int:3"], ["--arg x=int:3: expected"]),
    (OP, BOTH, ["--arg", "x=int:3<0"], ["--arg x=int:3<0: expected"]),
    (OP, BOTH, ["--arg", "x=0,4", "--arg", "W=4,2"], ["argument x is empty"]),
    (OP, BOTH, ["--arg", "x=3,4", "--arg", "W=4,2", "--wrt", "V"], ["'V'", "x, W"]),
    (OP + "args = [1, 2]\n", BOTH, [], ["args is a list, expected a dict"]),
    (OP + ARGS.replace("normal", "nomal"), BOTH, [], ["args(rng) raised AttributeError on line 14"]),
    (OP + "import nowhere_at_all\n", BOTH, [], ["cannot be loaded: it raised ModuleNotFoundError on line 13"]),
    (OP + "np.zeros(\n", BOTH, [], ["cannot be loaded: it raised SyntaxError on line 13"]),
    (OP + "raise SystemExit(3)\n", BOTH, [], ["cannot be loaded: it raised SystemExit on line 13"]),
    (OP.replace("    y = np", "    raise SystemExit(0)\n    y = np"), BOTH, ["--arg", "x=3,4", "--arg", "W=4,2"],
     ["forward, given x (3, 4), W (4, 2), raised RuntimeError on line 5: sys.exit(0)"]),
    (OP.replace("    dz =", "    exit()\n    dz ="), BOTH, ["--arg", "x=3,4", "--arg", "W=4,2"],
     ["backward raised RuntimeError on line 11: sys.exit()"]),
    (OP + "def args(rng): raise SystemExit('no')\n", BOTH, [], ["args(rng) raised RuntimeError on line 13", "'no'"]),
    (OP.replace("= cache", "= cach"), BOTH, ["--arg", "x=3,4", "--arg", "W=4,2"],
     ["backward raised NameError on line 10: name 'cach'"]),
    (OP.replace("return y, (x, W, y)", "return y"), BOTH, ["--arg", "x=3,4", "--arg", "W=4,2"],
     ["forward must return (y, cache)"]),
    (OP.replace('"dx"', '"dX"'), BOTH, ["--arg", "x=3,4", "--arg", "W=4,2"],
     ["'dX'", "matches no argument: x, W"]),
    (OP.replace("np.tanh(x @ W)", "np.abs(x @ W)"), BOTH, ["--arg", "x=3,4", "--arg", "W=4,2", "--method", "complex"],
     ["abs", "--method "]),
    (OP.replace("np.tanh(x @ W)", "np.tanh(x @ W) if x.dtype == float else {}[1]"), BOTH,
     ["--arg", "x=3,4", "--arg", "W=4,2", "--method", "complex"],
     ["my_op.py, line 5: the forward pass refuses complex numbers"]),
    (OP.replace("np.tanh(x @ W)", "np.tanh(x @ W) if x.dtype == np.float32 else {}[1]"), BOTH,
     ["--arg", "x=3,4", "--arg", "W=4,2", "--dtype", "float32", "--method", "central"],
     ["forward raised KeyError on line 5"]),
])
def test_what_keeps_an_op_from_being_checked_is_one_sentence(own, text, names, options, parts):
    refused(own(text, names, *options), "my_op.py" if "--arg" not in parts[0] else "", *parts)


def test_a_file_that_is_not_there_or_no_python(call, tmp_path):
    refused(call("--module", tmp_path / "absent.py"), "there is no file", "absent.py")
    (tmp_path / "op.txt").write_text(OP)
    refused(call("--module", f"{tmp_path / 'op.txt'}{BOTH}"), "is no Python file")
    refused(call("--module", ""), "expected a path")
    refused(call("--module", ":f,g", "--arg", "x=3"), "expected FILE.py")
    refused(call("--module", "op.py", "lstm"), "NAME is for the package's own operations, not for --module")


LAYER = """
import numpy as np
from .sizes import WIDTH

class Scale:
    def __init__(self):
        self.W = np.linspace(1, 2, WIDTH)

    def forward(self, x):
        self.x = x
        return x * self.W

    def backward(self, dy):
        self.dW = (dy * self.x).sum(axis=0)
        return dy * self.W

class Wide:
    def __init__(self, width): pass
    def forward(self, x): pass
    def backward(self, dy): pass

class Times:
    def __init__(self, by): self.by = by
    def forward(self, x): return self.by * x
    def backward(self, dy): return self.by * dy

twice = Times(2)

def square_forward(x):
    return x * x, x

def square_backward(dy, x):
    return 2 * x * dy

def other_forward(q):
    return q, q

def other_backward(dy, cache):
    return dy
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a relative import, in the current folder."""
    folder = tmp_path / "lib_of_layers"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "sizes.py").write_text("WIDTH = 3\n")
    (folder / "layers.py").write_text(LAYER)
    monkeypatch.chdir(tmp_path)
    yield "lib_of_layers"
    for name in [name for name in sys.modules if name.startswith("lib_of_layers")]:
        del sys.modules[name]


@pytest.mark.parametrize("place", ["{}.layers:Scale", "{}/layers.py:Scale", "{}.layers:square_forward,square_backward"])
def test_a_layer_or_a_pair_of_a_package(call, package, place):
    status, out, err = call("--module", place.format(package), "--arg", "x=4,3")
    assert status == 0 and err == "" and "gradient check ok" in out and "dx" in out
    assert ("dW" in out) == ("Scale" in place)


def test_a_whole_file_and_json(call, package):
    status, out, _ = call("--module", f"{package}/layers.py", "--arg", "x=4,3")
    assert status == 0 and "square: gradient check ok" in out and "Scale: gradient check ok" in out
    assert "other: skipped, no argument for q of other_forward(q)" in out
    assert "Wide: skipped, its constructor wants width" in out
    assert "twice: gradient check ok" in out and "Times" not in out
    status, out, _ = call("--module", f"{package}/layers.py", "--arg", "x=4,3", "--json")
    found = {one["name"]: one for one in json.loads(out)}
    assert status == 0 and found["Scale"]["ok"] and "skipped" in found["other"]
    refused(call("--module", f"{package}.layers:Wide", "--arg", "x=4,3"), "Wide wants width: define an instance")
