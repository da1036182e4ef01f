"""The benchmark of gradient checkers: each one accepts what is right and sees what is plainly wrong."""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple

import numpy as np
import pytest

from benchmarks.gradcheck import PEERS
from benchmarks.gradcheck.bugs import broken_ops, outcome
from benchmarks.gradcheck.checkers import Checker, load
from benchmarks.gradcheck.checkers.ours import directional, every_element
from benchmarks.gradcheck.op import Op, op_of
from benchmarks.gradcheck.sensitivity import median_element, smallest_error, with_error
from benchmarks.gradcheck.tables import Printer
from scratchnmt.errors import InputError
from scratchnmt.selfcheck import CASES

SMALL = {"T": 2, "B": 2, "I": 2, "H": 2}
MIDDLE = {"T": 3, "B": 2, "I": 2, "H": 8}


class Gradients(NamedTuple):
    dx: np.ndarray
    dW: np.ndarray


def forward(x, W):
    """Two outputs, one of them a number."""
    return (x @ W, (x**2).sum()), (x, W)


def backward(dy, ds, cache):
    x, W = cache
    return Gradients(dx=dy @ W.T + 2 * ds * x, dW=x.T @ dy)


def negative(dy, ds, cache):
    return Gradients(*(-g for g in backward(dy, ds, cache)))


def two_outputs() -> Op:
    rng = np.random.default_rng(0)
    return Op("two outputs", forward, backward, {n: rng.standard_normal((3, 3)) for n in ("x", "W")})


def op_named(name: str, **sizes: int) -> Op:
    return op_of(next(case for case in CASES if case.name == name), **sizes)


@pytest.fixture(scope="module", params=["ours", "cs231n", *PEERS])
def checkers(request) -> tuple[Checker, ...]:
    if request.param in PEERS:
        pytest.importorskip(request.param)
    return importlib.import_module(f"benchmarks.gradcheck.checkers.{request.param}").CHECKERS


@pytest.mark.parametrize("op", [two_outputs(), op_named("cross_entropy"), op_named("dropout, a generator"),
                                op_named("lstm, initial states", **SMALL)], ids=lambda op: op.name)
def test_accepts_a_right_op(checkers, op):
    assert not any(checker.check(op, seed) for checker in checkers for seed in (0, 1))


def test_sees_a_gross_bug(checkers):
    op = two_outputs()._replace(backward=negative)
    assert all(checker.check(op, seed) for checker in checkers for seed in (0, 1))


def test_outputs_times_a_number(checkers):
    right = op_named("linear").times(0.5)
    x, W, b = right.inputs()
    assert np.allclose(right.run(x, W, b)[0][0], 0.5 * (x @ W + b))
    assert not any(checker.check(right, 0) for checker in checkers)


def test_leaves_the_arguments_alone(checkers):
    op = two_outputs()
    before = {name: value.copy() for name, value in op.args.items()}
    for checker in checkers:
        checker.check(op, 0)
    assert all(np.array_equal(value, before[name]) for name, value in op.args.items())


def test_other_errors_pass_through(checkers):
    def raises(*args):
        raise OverflowError("a bug")

    for checker in checkers:
        with pytest.raises(Exception, match="a bug"):
            checker.check(two_outputs()._replace(backward=raises), 0)


def test_bugs_of_the_museum_come_as_ops():
    bug, op = next(broken_ops())
    assert op.name in {case.name for case in CASES}
    assert every_element(op, 0), f"{bug} should be seen"


def test_an_error_that_the_right_op_raises_too_is_no_catch():
    broken = {"a": "wrong", "b": "right", "c": "ValueError: shapes", "d": "ImportError: of the tool"}
    right = {"op": "right", "other": "ImportError: of the tool"}
    missed, unfit = outcome(broken, right, {"a": "op", "b": "op", "c": "op", "d": "other"})
    assert (missed, unfit) == (["b"], ["d"])


def test_our_sensitivity():
    assert smallest_error(Checker("ours", every_element), 0, MIDDLE) < 1e-11
    assert smallest_error(Checker("ours", directional), 0, MIDDLE) < 1e-8


def test_the_bisection_finds_a_threshold():
    clean = op_named("lstm", **SMALL)
    index = median_element(clean, "Wh", 0)

    def error(op: Op) -> float:
        first, second = (o.recomputed(o.inputs(), o.draw_dys(0))[o.names.index("Wh")][index] for o in (op, clean))
        return first / second - 1

    assert error(with_error(clean, "Wh", index, 0.25)) == pytest.approx(0.25)
    found = smallest_error(Checker("3e-4", lambda op, seed: error(op) > 3e-4), 0, SMALL)
    assert 3e-4 <= found <= 3.4e-4
    assert smallest_error(Checker("blind", lambda op, seed: False), 0, SMALL) == np.inf


def test_a_peer_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "autograd", None)
    monkeypatch.delitem(sys.modules, "benchmarks.gradcheck.checkers.autograd", raising=False)
    found, skipped = load(["autograd"])
    assert len(found) == 3
    assert "autograd is left out" in skipped[0]
    with pytest.raises(InputError, match="peer 'chainer' is not known: expected torch, jax, autograd or scipy"):
        load(["chainer"])


def test_markdown(capsys):
    Printer(markdown=True).table(["", "bugs"], [["ours", "3"]])
    assert capsys.readouterr().out == "\n|  | bugs |\n| :-- | --: |\n| ours | 3 |\n"
