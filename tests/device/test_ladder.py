"""The ladder of LSTM layers as on a GPU: every version in its turn, those that are recorded as graphs."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import ladder, limits, measure
from benchmarks.clock import Seconds
from benchmarks.ladder import Size
from scratchnmt.errors import InputError
from scratchnmt.kernels import launch as launcher
from scratchnmt.kernels import lstm_cluster, lstm_persistent

NUMPY = "v0 array code, NumPy"
OPTIONS = SimpleNamespace(device="cuda", dtype="float32", matmul="float32", rounds=1, peers=["numpy"])
LIMITS = limits.Limits(sgemm=1e9, tf32=2e9, copy=1e9, launch=1e-6)


@pytest.fixture
def called(monkeypatch, machine, shim):
    """What was timed, on a clock that stands still: name, part, whether a graph was launched, and which kernels."""
    found = []

    def alternate(contestants, rounds, **options):
        for name, call in contestants.items():
            before, launched = machine.launches, len(shim.launched)
            call()
            found.append((*name, machine.launches > before, {*shim.launched[launched:]}))
        return {name: [Seconds(1e-3, 1e-3)] for name in contestants}

    monkeypatch.setattr(measure, "alternate", alternate)
    monkeypatch.setattr(measure, "device_name", lambda device: f"the {device}")
    for module in lstm_persistent, lstm_cluster:
        module.fits.cache_clear()
    return found


def test_all_versions_are_timed(called, capsys):
    size = Size("small", 3, 2, 5, layers=2, D=2, random_lengths=True)
    rows = ladder.timed(size, ladder.checked(size, OPTIONS), [], OPTIONS, LIMITS)
    assert [row.contestant for row in rows[::3]] == [*(version.name for version in ladder.VERSIONS), NUMPY]
    assert {(row.device, row.bound) for row in rows if row.contestant != NUMPY} == {("the cuda", "sgemm")}
    assert {(row.device, row.bound) for row in rows if row.contestant == NUMPY} == {("the cpu", "")}
    assert {row.what for row in rows} == {"LSTM, forward", "LSTM, backward", "LSTM, both"}
    gates, steps, persistent, cluster = ({f"{name}_{way}" for way in ("forward", "backward")}
                                         for name in ("lstm_gates", "lstm_step", "lstm_persistent", "lstm_cluster"))
    recorded = {name: graph for name, part, graph, kernels in called if part == "both"}
    assert [*recorded.values()] == [False, False, True, True, True, True, False]
    launched = [kernels for _, part, _, kernels in called if part == "both"]
    assert launched == [set(), gates, gates, steps, persistent, cluster, set()]
    assert np.all([row.gflop > 0 for row in rows]) and "v5 clusters" in capsys.readouterr().out


@pytest.mark.parametrize("room, left", [(lambda plan: plan.cluster == 1, ["v0", "v1", "v2", "v3", "v4"]),
                                        (lambda plan: False, ["v0", "v1", "v2", "v3"])])
def test_a_version_that_does_not_fit_has_no_rows(called, capsys, monkeypatch, room, left):
    """What runs in its place is the version before."""
    monkeypatch.setattr(launcher, "resident_blocks", lambda *what: (1 << 20) * room(what[-1]))
    size = Size("small", 3, 2, 5)
    options = SimpleNamespace(**{**vars(OPTIONS), "peers": []})
    rows = ladder.timed(size, ladder.checked(size, options), [], options, LIMITS)
    assert [row.contestant[:2] for row in rows[::3]] == left
    assert capsys.readouterr().out.count("does not fit on this device") == 6 - len(left)


def test_a_graph_that_leaves_a_gradient_out_is_not_timed(called, monkeypatch):
    recorded = ladder.ops.recorded

    def another(calls):
        recorded(calls)
        return [repeat_all_but_the_last(calls[0])]

    def repeat_all_but_the_last(work):
        places = work.__closure__[work.__code__.co_freevars.index("places")].cell_contents

        def repeat():
            work()
            places[-1][...] = np.nan

        return repeat

    monkeypatch.setattr(ladder.ops, "recorded", another)
    with pytest.raises(InputError, match="v2 recorded differs from itself by nan when its graph is repeated"):
        ladder.checked(Size("small", 3, 2, 5), OPTIONS)


def test_a_peer_has_rows_of_what_it_computes_in(called):
    pytest.importorskip("torch")
    from benchmarks.ladder_peers import Peer

    size, names = Size("small", 3, 2, 5), ("float32", "tf32", "float16")
    others = [(Peer(name, name, None, [], captured=True), {"forward": lambda: None}) for name in names]
    rows = {row.contestant: row for row in ladder.timed(size, ladder.checked(size, OPTIONS), others, OPTIONS, LIMITS)}
    assert [(rows[name].dtype, rows[name].bound) for name in names] == [("float32", "sgemm"), ("float32", "tf32"),
                                                                        ("float16", "")]
