"""`python -m benchmarks ladder --device cuda` on the stand-in: whatever it times there, it writes a row of."""

from types import SimpleNamespace

import pytest

from benchmarks import ladder, limits, measure
from benchmarks.clock import Seconds


@pytest.fixture
def rows(monkeypatch):
    """rows(size) -> the rows of a size, every time a second."""
    def alternate(contestants, *_, **options):
        for call in contestants.values():
            call()
        return {name: [Seconds(1, 1)] for name in contestants}

    monkeypatch.setattr(measure, "alternate", alternate)
    monkeypatch.setattr(measure, "device_name", lambda device: f"the {device}")
    options = SimpleNamespace(device="cuda", dtype="float32", matmul="float32", rounds=1)
    bounds = limits.Limits(1e9, 1e9, 1e9, 1e-6)
    return lambda size, others=(): ladder.timed(size, ladder.checked(size, options), others, options, bounds)


def test_every_version_and_numpy_have_a_row(rows):
    found = rows(ladder.Size("small", 5, 3, 8, layers=2))
    names = dict.fromkeys(row.contestant for row in found)
    assert list(names) == [*(version.name for version in ladder.VERSIONS), "v0 array code, NumPy"]
    assert [row.what for row in found] == ["LSTM, forward", "LSTM, backward", "LSTM, both"] * len(names)
    assert {row.device for row in found if row.contestant.endswith("NumPy")} == {"the cpu"}
    assert all(row.share and row.device == "the cuda" for row in found if not row.contestant.endswith("NumPy"))


def test_a_peer_has_rows_of_its_own_precision(rows):
    pytest.importorskip("torch")
    from benchmarks.ladder_peers import Peer

    others = [(Peer(name, name, None, [], True), {"forward": lambda: None}) for name in ("float32", "tf32", "float16")]
    found = {row.contestant: row for row in rows(ladder.Size("small", 5, 3, 8), others)}
    assert [found[name].dtype for name in ("float32", "tf32", "float16")] == ["float32", "float32", "float16"]
    assert found["tf32"].bound and not found["float16"].bound
