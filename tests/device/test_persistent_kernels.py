"""A model whose encoder takes all steps in one launch, and its decoder a step in three: by option, recorded or not, and
where it does not fit."""

import numpy as np
import pytest
from test_device_training import EXACT, trained
from test_recorded_steps import FUSED, trainer
from training.tiny_run import essence, model, run

from scratchnmt.errors import InputError
from scratchnmt.kernels import choose, lstm_cluster
from scratchnmt.kernels import launch as launcher
from scratchnmt.kernels import lstm_persistent as persistent
from scratchnmt.models.nmt import NMT

PERSISTENT = FUSED | {"kernels": "persistent"}


@pytest.fixture(autouse=True)
def asked_anew(cupy):
    for module in persistent, lstm_cluster:
        module.fits.cache_clear()


def test_the_same_losses_as_on_a_cpu(tmp_path, shim):
    changes = {"max_steps": 4, "valid_every": 4}
    expected = trained(tmp_path / "cpu", "cpu", **changes)
    shim.launched.clear()
    np.testing.assert_allclose(trained(tmp_path / "cuda", "cuda", "persistent", **changes), expected, rtol=1e-10)
    assert {"lstm_cluster_forward", "lstm_cluster_backward", "lstm_step_forward", "decoder_lstm_backward",
            "combine_forward", "combine_backward"} <= {*shim.launched}


def test_a_card_without_clusters_has_all_blocks_wait_for_each_other(monkeypatch, tmp_path, shim):
    monkeypatch.setattr(launcher, "resident_blocks", lambda *what: 1 << 20 if what[-1].cooperative else 0)
    changes = {"max_steps": 2, "valid_every": 2}
    expected = trained(tmp_path / "cpu", "cpu", **changes)
    shim.launched.clear()
    np.testing.assert_allclose(trained(tmp_path / "cuda", "cuda", "persistent", **changes), expected, rtol=1e-10)
    assert {"lstm_persistent_forward", "lstm_persistent_backward"} <= {*shim.launched}
    assert "lstm_cluster_forward" not in shim.launched


@pytest.mark.slow
def test_recorded_or_not_the_bits_are_the_same(tmp_path, machine):
    found, launches = [], []
    for graphs in (64, 0):
        before = machine.launches
        run(tmp_path / str(graphs), choices=PERSISTENT, graphs=graphs, max_steps=12, valid_every=12)
        found.append(essence(tmp_path / str(graphs)))
        launches.append(machine.launches - before)
    assert found[0] == found[1] and launches[0] > launches[1] == 0


def test_a_recorded_step_copies_only_its_batch(machine):
    made = trainer({"kernels": "persistent"})
    for _ in range(12):
        made.step()
    machine.uploads.clear()
    for _ in range(5):
        made.step()
    assert len(machine.uploads) == 5, "\n".join(machine.uploads)


def test_an_encoder_that_does_not_fit_goes_on_by_steps(monkeypatch, shim, rng, cupy):
    monkeypatch.setattr(launcher, "resident_blocks", lambda *what: 1)
    src, tgt = rng.integers(4, 12, (2, 4, 3))
    tgt = np.concatenate([np.full((1, 3), 1), tgt])
    losses = [float(model(**EXACT, **choices).forward(src, [4, 2, 3], tgt)[0]) for choices in ({}, {"device": "cuda"})]
    shim.launched.clear()
    with pytest.warns(RuntimeWarning, match="of which cuda:0 holds 1 at once: its steps go on one launch each"):
        loss, _ = model(**EXACT, device="cuda", kernels="persistent").forward(src, [4, 2, 3], tgt)
    np.testing.assert_allclose([float(loss), losses[1]], losses[0], rtol=1e-13)
    launched = {*shim.launched}
    assert "lstm_step_forward" in launched and not {"lstm_persistent_forward", "lstm_cluster_forward"} & launched


def test_what_a_model_says_of_it(cupy):
    assert NMT(9, 9, 4, 4, device="cuda", kernels="persistent").computing == (
        "cuda:0, persistent kernels, products in float32")
    assert choose("fused", "float32", "cuda", "float32").lstm_steps is None


@pytest.mark.parametrize("choices, message", [
    ({"kernels": "persistent"}, 'kernels "persistent" needs a GPU: choose device "cuda", or kernels "plain"'),
    ({"device": "cuda", "kernels": "persistent", "matmul": "tf32"},
     'matmul "tf32" is of kernels "fused" in float32 alone, not of persistent in float32'),
    ({"device": "cuda", "kernels": "persistent", "cell": "layer-norm-lstm"},
     'kernels "persistent" is for cell "lstm": of "layer-norm-lstm" it has no kernels, choose kernels "fused"'),
])
def test_what_does_not_go_together(choices, message, cupy):
    with pytest.raises(InputError, match=message):
        NMT(9, 9, 4, 4, **choices)
