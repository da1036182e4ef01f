"""Bugs in ops of a stranger's file: each is a change of its source, each is caught, named and often explained."""

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import strangers

from scratchnmt.gradcheck import GradcheckError, NotAnalyticError, assert_gradients, check_gradients, gate_labels
from scratchnmt.gradcheck.report import raise_if_wrong

SOURCE = Path(strangers.__file__).read_text(encoding="utf-8")
SHAPES = {
    "layer_norm": {"x": (4, 6), "gamma": (6,), "beta": (6,)},
    "gru": {"x": (4, 3, 2), "h0": (3, 5), "W": (2, 15), "U": (5, 15), "b": (15,)},
    "conv2d": {"x": (2, 2, 5, 5), "K": (2, 2, 3, 3), "b": (2,), "stride": 2},
    "smooth": {"signal": (9,), "w": (4,)},
}
CARRIED = "dx is right at the last index of axis 0 only: if that is time, is dh_next carried as it should be?"
GATES = {name: gate_labels(5, "rzn") for name in "WUb"}


class Mutant(NamedTuple):
    op: str
    right: str
    wrong: str
    gradients: str  # all those that are wrong, and no other
    hint: str = ""
    promise: str = ""


MUTANTS = {
    "the mean's term is missing": Mutant("layer_norm", "dxhat - mean - xhat", "dxhat - xhat", "dx"),
    "the variance's term is missing": Mutant("layer_norm", " - xhat * slope)", ")", "dx"),
    "eps is forgotten in the backward pass": Mutant(
        "layer_norm", "(xhat, rstd, gamma)\n\n", "(xhat, 1.0 / np.sqrt(var), gamma)\n\n", "dx",
        hint="nearly everywhere: is an eps, or a rounded constant, in one of the two passes only?"),
    "1 / (N - 1) for 1 / N": Mutant(
        "layer_norm", "(dxhat * xhat).mean(axis=-1, keepdims=True)",
        "(dxhat * xhat).sum(axis=-1, keepdims=True) / (dy.shape[-1] - 1)", "dx"),
    "gamma is forgotten": Mutant("layer_norm", "dxhat = dy * gamma", "dxhat = dy", "dx"),
    "a mean over the batch for the sum": Mutant(
        "layer_norm", "(dy * xhat).sum(axis=0)", "(dy * xhat).mean(axis=0)", "dgamma",
        hint="dgamma is the reference times 1/4, and 4 is the size of x's axis 0: a mean for a sum?"),
    "summed over the features": Mutant(
        "layer_norm", '"dbeta": dy.sum(axis=0)', '"dbeta": dy.sum(axis=1)', "dbeta",
        promise="dbeta has shape (4,), but beta has (6,)"),
    "one element of many": Mutant(
        "layer_norm", '"dgamma": (dy * xhat).sum(axis=0)', '"dgamma": (dy * xhat).sum(axis=0) '
        "- 1e-9 * np.eye(6)[3] * (dy * xhat).sum(axis=0)", "dgamma"),
    "the gates in another order": Mutant(
        "gru", "da = np.concatenate([da_r, da_z, da_n]", "da = np.concatenate([da_z, da_r, da_n]", "dx dW db",
        hint="dW has its blocks in another order: gate r has that of gate z, gate z has that of gate r"),
    "the reset gate before the product": Mutant(
        "gru", "[da_r, da_z, da_n * r]", "[da_r, da_z, da_n]", "dx dh0 dW dU db", hint=CARRIED),
    "the state's gradient is not carried": Mutant(
        "gru", "dh = dh * z + dm @ U.T", "dh = 0 * dh", "dx dh0 dW dU db",
        hint=CARRIED),
    "carried through the weights only": Mutant(
        "gru", "dh = dh * z + dm @ U.T", "dh = dm @ U.T", "dx dh0 dW dU db", hint=CARRIED),
    "the first step is dropped": Mutant(
        "gru", "reversed(range(len(x)))", "reversed(range(1, len(x)))", "dx dh0 dW dU db",
        hint="dx is wrong at the first index of axis 0 only, and zero there: is that step left out?"),
    "the slope of sigmoid for tanh": Mutant(
        "gru", "(1 - n * n)", "n * (1 - n)", "dx dh0 dW dU db"),
    "the gradient before the reset gate": Mutant(
        "gru", "dU += h_prev.T @ dm", "dU += h_prev.T @ da", "dU",
        hint="dU: gates r, z are right, gate n is wrong"),
    "overwritten at every step": Mutant("gru", "dU += h_prev.T @ dm", "dU = h_prev.T @ dm", "dU"),
    "added into the caller's dy": Mutant(
        "gru", "dh = dh + dhs[t]", "dhs[t] += dh\n        dh = dhs[t]", "", promise="backward writes into dys: 0"),
    "the cache is overwritten": Mutant(
        "gru", "da_z = dh * (h_prev - n)", "np.subtract(h_prev, n, out=h_prev)\n        da_z = dh * h_prev", "dU",
        promise="backward writes into cache: 3."),
    "the bias averaged": Mutant(
        "gru", "db += da.sum(axis=0)", "db += da.mean(axis=0)", "db",
        hint="db is the reference times 1/3, and 3 is the size of x's axis 1 and h0's axis 0: a mean for a sum?"),
    "the stride is ignored": Mutant(
        "conv2d", "at = np.s_[:, :, i * stride:i * stride + k, j * stride:j * stride + k]",
        "at = np.s_[:, :, i:i + k, j:j + k]", "dx dK"),
    "the first windows are dropped": Mutant(
        "conv2d", "for i in range(dy.shape[2])", "for i in range(1, dy.shape[2])", "dx dK"),
    "written where windows overlap": Mutant("conv2d", "dx[at] +=", "dx[at] =", "dx"),
    "the bias summed over the wrong axis": Mutant(
        "conv2d", "dy.sum(axis=(0, 2, 3))", "dy.sum(axis=(1, 2, 3))", "db"),
    "the kernel's gradient turned": Mutant(
        "conv2d", "bo,bcuv->ocuv", "bo,bcuv->ocvu", "dK", hint="dK is the transpose of what it should be"),
    "the kernel is not turned": Mutant("smooth", "np.convolve(dy, w[::-1],", "np.convolve(dy, w,", "dsignal"),
    "the kernel's gradient is turned round": Mutant("smooth", "signal[::-1], dy", "signal, dy[::-1]", "dw"),
    "the last sample has no gradient": Mutant(
        "smooth", 'w[::-1], "full")', 'w[::-1], "full") * (np.arange(len(signal)) < len(signal) - 1)', "dsignal"),
    "never written": Mutant(
        "smooth", '"dw": dw', '"dw": 0 * dw', "dw", hint="dw is zero everywhere: is it ever written?"),
}


def pair_of(op, source=SOURCE):
    module = ModuleType("strangers")
    exec(source, vars(module))  # noqa: S102
    return getattr(module, f"{op}_forward"), getattr(module, f"{op}_backward")


def arguments(op, seed):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape) if isinstance(shape, tuple) else shape
            for name, shape in SHAPES[op].items()}


@pytest.mark.parametrize("op", SHAPES)
@pytest.mark.parametrize("method", ["complex", "central", "richardson"])
def test_the_right_ones_pass_with_room(op, method):
    for seed in range(2):
        report = assert_gradients(*pair_of(op), arguments(op, seed), method=method, seed=seed)
        assert report.margin > 10 and not report.hints and not report.notes and not report.kinks


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_mutant_is_caught_and_named(name, seed):
    mutant = MUTANTS[name]
    assert SOURCE.count(mutant.right) == 1
    broken = pair_of(mutant.op, SOURCE.replace(mutant.right, mutant.wrong))
    labels = GATES if mutant.op == "gru" else None
    report = check_gradients(*broken, arguments(mutant.op, seed), labels=labels, seed=seed, allow=())
    assert not report.ok and report.wrong == tuple(mutant.gradients.split()), report
    assert any(hint.endswith(mutant.hint) for hint in report.hints) or not mutant.hint, report
    assert any(mutant.promise in promise for promise in report.broken_promises) or not mutant.promise, report
    with pytest.raises(GradcheckError, match=mutant.gradients.partition(" ")[0] or mutant.promise):
        raise_if_wrong(report)


@pytest.mark.parametrize("name", [name for name in MUTANTS if not MUTANTS[name].hint])
def test_what_no_hint_explains_gets_none(name):
    mutant = MUTANTS[name]
    broken = pair_of(mutant.op, SOURCE.replace(mutant.right, mutant.wrong))
    for seed in range(2, 4):
        args = arguments(mutant.op, seed)
        assert check_gradients(*broken, args, labels=GATES if mutant.op == "gru" else None, seed=seed).hints == ()


def test_a_layer_norm_by_var_is_not_analytic_and_said_to_be():
    source = SOURCE.replace("var = (centred * centred).mean(axis=-1, keepdims=True)",
                            "var = x.var(axis=-1, keepdims=True)")
    with pytest.raises(NotAnalyticError, match="not complex-analytic"):
        check_gradients(*pair_of("layer_norm", source), arguments("layer_norm", 0), method="complex")
    assert_gradients(*pair_of("layer_norm", source), arguments("layer_norm", 0), method="central")
