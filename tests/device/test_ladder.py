"""The ladder of LSTM layers as on a GPU: every version in its turn, those that are recorded as graphs."""

from types import SimpleNamespace

import numpy as np

from benchmarks import ladder, measure
from benchmarks.clock import Seconds
from benchmarks.ladder import Size
from scratchnmt.kernels import lstm_cluster, lstm_persistent


def test_all_versions_are_timed(monkeypatch, machine, shim, capsys):
    called = []

    def alternate(contestants, rounds, **options):
        for name, call in contestants.items():
            before, launched = machine.launches, len(shim.launched)
            call()
            called.append((*name, machine.launches > before, {*shim.launched[launched:]}))
        return {name: [Seconds(1e-3, 1e-3)] for name in contestants}

    monkeypatch.setattr(measure, "alternate", alternate)
    monkeypatch.setattr(measure, "device_name", lambda device: "a card")
    for module in lstm_persistent, lstm_cluster:
        module.fits.cache_clear()
    options = SimpleNamespace(device="cuda", dtype="float32", matmul="float32", rounds=1)
    size = Size("small", 3, 2, 5, layers=2, D=2, random_lengths=True)
    rows = ladder.timed(size, ladder.checked(size, options), options, None)
    assert [row.contestant for row in rows[::3]] == [version.name for version in ladder.VERSIONS]
    assert {row.what for row in rows} == {"LSTM, forward", "LSTM, backward", "LSTM, both"}
    gates, steps, persistent, cluster = ({f"{name}_{way}" for way in ("forward", "backward")}
                                         for name in ("lstm_gates", "lstm_step", "lstm_persistent", "lstm_cluster"))
    recorded = {name: graph for name, part, graph, kernels in called if part == "both"}
    assert [*recorded.values()] == [False, False, True, True, True, True]
    launched = [kernels for _, part, _, kernels in called if part == "both"]
    assert launched == [set(), gates, gates, steps, persistent, cluster]
    assert np.all([row.gflop > 0 for row in rows]) and "v5 clusters" in capsys.readouterr().out
