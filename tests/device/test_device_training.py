"""Training on a GPU's arrays: the same losses, no waiting inside a step, runs that move, memory that runs out."""

import io
import re

import numpy as np
import pytest
from training import tiny_run
from training.tiny_run import At, metrics, model, options, run

from scratchnmt import Translator
from scratchnmt.checkpoint import load_model
from scratchnmt.cli import main
from scratchnmt.data.batches import make_batch
from scratchnmt.errors import InputError
from scratchnmt.files.run_folder import STATE, RunFolder
from scratchnmt.files.tensors import read_tensors
from scratchnmt.models.nmt import NMT
from scratchnmt.search import greedy_search
from scratchnmt.training import OutOfMemoryError, Progress, validation
from scratchnmt.training.loop import Trainer

EXACT = {"dtype": "float64", "dropout": 0.0}
by_kernels = pytest.mark.parametrize("kernels", ["plain", "fused"])


class Losses(Progress):
    """Remembers the loss of every step."""

    def __init__(self):
        super().__init__(total_steps=None, stream=io.StringIO())
        self.nats_of_steps = []

    def update(self, step, epoch, nats, *rest):
        self.nats_of_steps.append(nats)


def trained(folder, device, kernels=None, cell="lstm", **changes):
    progress = Losses()
    run(folder, progress=progress, choices=EXACT | {"device": device, "kernels": kernels, "cell": cell}, **changes)
    return progress.nats_of_steps


@pytest.mark.parametrize("changes", [
    {"average": 0.9, "clip": 1.0}, {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1, "clip": 0.5},
    {"optimizer": "sgd", "clip": 0.0, "schedule": "cosine", "batch_by": "tokens", "batch_size": 90},
], ids=["adam", "sgd, momentum", "sgd"])
@by_kernels
def test_the_same_losses_on_both(tmp_path, changes, kernels):
    changes = {"max_steps": 12, "valid_every": 5, **changes}
    losses = [trained(tmp_path / "cpu", "cpu", **changes), trained(tmp_path / "cuda", "cuda", kernels, **changes)]
    assert len(losses[0]) == 12
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-10)
    on_cpu, on_device = (metrics(tmp_path / device) for device in ("cpu", "cuda"))
    for a, b in zip(on_cpu, on_device, strict=True):
        assert a["valid_bleu"] == b["valid_bleu"]
        np.testing.assert_allclose(a["valid_ppl"], b["valid_ppl"], rtol=1e-10)
    weights = [load_model(tmp_path / device).model.params.flat for device in ("cpu", "cuda")]
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-9, atol=1e-12)


@by_kernels
def test_the_same_losses_of_a_cell_with_layer_normalisation(tmp_path, kernels, shim):
    changes = {"max_steps": 4, "valid_every": 4, "cell": "layer-norm-lstm"}
    shim.launched.clear()
    losses = [trained(tmp_path / "cpu", "cpu", **changes), trained(tmp_path / "cuda", "cuda", kernels, **changes)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-10)
    launched = {name for name in shim.launched if "gates" in name}
    assert launched == ({"layer_norm_gates_forward", "layer_norm_gates_backward"} if kernels == "fused" else set())


@by_kernels
def test_the_same_expected_risk_on_both(tmp_path, kernels):
    changes = {"max_steps": 4, "minimum_risk": "chrf", "risk_samples": 3}
    risks = [trained(tmp_path / "cpu", "cpu", **changes), trained(tmp_path / "cuda", "cuda", kernels, **changes)]
    assert len(risks[0]) == 4
    np.testing.assert_allclose(risks[1], risks[0], rtol=1e-10)


@pytest.mark.parametrize("first, then", [("cpu", "cuda:1"), ("cuda", "cpu"), ("cuda", "cuda:1")])
def test_a_run_moves_between_devices(tmp_path, first, then):
    whole = trained(tmp_path / "whole", "cpu", max_steps=10, average=0.9)
    begun = trained(tmp_path / "moved", first, max_steps=4, average=0.9)
    rest = Losses()
    run(tmp_path / "moved", progress=rest, resume=True, choices=EXACT | {"device": then}, max_steps=10,
        average=0.9)
    np.testing.assert_allclose(begun + rest.nats_of_steps, whole, rtol=1e-10)
    line = tiny_run.LETTERS[0]
    assert Translator.load(tmp_path / "moved", then).translate([line]) == \
        Translator.load(tmp_path / "moved", first).translate([line])


@pytest.mark.parametrize("choices", [
    {}, {"layers": 2, "score": "concat", "feed": "context", "embed_dropout": 0.2, "label_smoothing": 0.1},
    {"tie_embeddings": True, "score": "dot", "feed": "none"},
], ids=["default", "two layers, concat, context", "tied, dot, none"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_step_waits_for_the_device_only_to_read_loss_and_norm(machine, choices, optimizer):
    trainer = Trainer(model(device="cuda", kernels="plain", **choices), tiny_run.data(),
                       options(optimizer=optimizer, average=0.9), RunFolder("no folder"))
    trainer.progress = Losses()
    for _ in range(9):  # the tenth takes the average too
        trainer.step()
    machine.waits.clear()
    trainer.step()
    assert [wait.partition(":")[0] for wait in machine.waits] == ["float"] * 2, "\n".join(machine.waits)
    loss, norm = machine.waits
    assert "training/step.py, _add_up" in loss and "optim.py, norm_by_parts" in norm


@by_kernels
def test_forward_and_backward_do_not_wait_at_all(cupy, machine, kernels):
    on_device, batch = model(device="cuda", kernels=kernels), make_batch([[5, 4], [6]], [[4], [5, 6, 7]])
    _, cache = on_device.forward(batch.src, batch.src_lengths, batch.tgt, cupy.random.default_rng(0))
    on_device.backward(cache)
    assert not machine.waits


@by_kernels
def test_nothing_is_copied_to_the_device_inside_the_loops_over_time(cupy, machine, kernels):
    on_device, uploads = model(device="cuda", kernels=kernels, layers=2), []
    for steps in (4, 4, 9):  # the first makes what is kept
        src, _, tgt = make_batch([[5] * steps] * 3, [[5] * steps] * 3)[:3]
        machine.uploads.clear()
        _, cache = on_device.forward(src, np.full(3, steps), tgt, cupy.random.default_rng(0))
        on_device.backward(cache)
        uploads.append(machine.uploads[:])
    assert uploads[1] == uploads[2] and len(uploads[1]) <= 24, "\n".join(uploads[2])


@by_kernels
def test_the_same_seed_gives_the_same_run(tmp_path, kernels):
    losses = []
    for name in "ab":
        progress = Losses()
        run(tmp_path / name, progress=progress, choices={"device": "cuda", "kernels": kernels}, max_steps=5)
        losses.append(progress.nats_of_steps)
    assert losses[0] == losses[1]


def at(machine, step, most):
    """Memory becomes so small once the step is done."""
    def shrink():
        machine.most = most
    return At(step, shrink)


@by_kernels
def test_out_of_memory_in_a_step(tmp_path, machine, kernels):
    with pytest.raises(OutOfMemoryError) as error:
        run(tmp_path / "run", progress=at(machine, 9, 2000), choices={"device": "cuda", "kernels": kernels},
            valid_every=4, graphs=0)
    text = str(error.value)
    assert text.startswith("out of memory (Out of memory allocating ")
    assert " bytes (allocated so far: " in text and ", in " in text
    assert re.search(r"; resume it with a larger --accumulate, now 1: 1\d sentences of up to \d and \d tokens ", text)
    assert text.endswith(f"the last good state is kept in {tmp_path / 'run'}, of step 8, "
                         f"the best model is that of step {metrics(tmp_path / 'run')[-1]['step']}")
    _, info = read_tensors(tmp_path / "run" / STATE)  # whole, with its checksum
    assert info["state"]["step"] == 8
    machine.most = None
    result = run(tmp_path / "run", resume=True, choices={"device": "cuda"}, valid_every=4, max_steps=12)
    assert result.step == 12


def test_out_of_memory_in_a_validation(tmp_path, machine, monkeypatch):
    def in_little_memory(*args, **kwargs):
        most, machine.most = machine.most, 100
        try:
            return greedy_search(*args, **kwargs)
        finally:
            machine.most = most

    monkeypatch.setattr(validation, "greedy_search", in_little_memory)
    with pytest.raises(OutOfMemoryError, match="no pair of the validation fits: resume it where more memory is free, "
                                               "such as --device cpu; the last good state is kept in .*, of step 3"):
        run(tmp_path / "run", choices={"device": "cuda"}, max_steps=3)


def test_out_of_memory_before_the_first_step_leaves_the_folder_alone(tmp_path, machine):
    large = model(device="cuda")
    machine.most = large.params.flat.nbytes - 1
    with pytest.raises(OutOfMemoryError, match="in .*: .*; lower hidden_size, .*; no step was taken"):
        tiny_run.train(large, tiny_run.data(), options(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_out_of_memory_for_the_weights(machine):
    machine.most = 1000
    message = r"out of memory on cuda:1 for the model's weights \(Out of memory allocating .*\): lower hidden_size"
    with pytest.raises(InputError, match=message):
        model(device="cuda:1")


def test_out_of_memory_on_the_host(tmp_path, monkeypatch):
    monkeypatch.setattr(NMT, "backward", lambda *_, **__: np.empty(1 << 55))
    with pytest.raises(OutOfMemoryError, match=r"Unable to allocate .* in .*; resume it with a larger --accumulate"):
        run(tmp_path / "run")


def test_the_command_line_trains_and_translates_on_a_device(tmp_path, capsys, machine):
    for name, (src, tgt) in {"train": tiny_run.pairs(60, 0), "valid": tiny_run.pairs(10, 1)}.items():
        (tmp_path / f"{name}.src").write_text("\n".join(src) + "\n")
        (tmp_path / f"{name}.tgt").write_text("\n".join(tgt) + "\n")
    files = [part for name in ("train", "valid") for side in ("src", "tgt")
             for part in (f"--{name}-{side}", str(tmp_path / f"{name}.{side}"))]
    sizes = ["--embed-size", "6", "--hidden-size", "6", "--max-steps", "4", "--batch-size", "16"]
    folder = str(tmp_path / "run")
    assert main(["train", *files, *sizes, "--out", folder, "--device", "cuda:1"]) in (0, None)
    assert machine.card == 1 and machine.uploads
    assert "100 at a time sorted by length" in capsys.readouterr().out
    assert main(["train", "--out", folder, "--resume", "--max-steps", "5"]) in (0, None)  # wherever it goes on
    assert RunFolder(folder).read().training["pool"] == 100
    assert main(["train", *files, *sizes, "--out", f"{folder}-1", "--device", "cuda", "--pool", "1"]) in (0, None)
    assert RunFolder(f"{folder}-1").read().training["pool"] == 1
    found = []
    for device in ("cpu", "cuda"):
        output = tmp_path / f"{device}.txt"
        main(["translate", "--model", folder, "--input", str(tmp_path / "valid.src"), "--output", str(output),
              "--device", device])
        found.append(output.read_text())
    assert found[0] == found[1]
