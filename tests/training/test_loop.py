"""The loop: what a step does, what a run writes, when it stops, and that no interruption changes anything."""

import math
from itertools import pairwise

import numpy as np
import pytest
import tiny_run
from tiny_run import PER_EPOCH, At, Killed, data, essence, kill, metrics, model, options, press_ctrl_c, run

from scratchnmt import checkpoint, optim, plots
from scratchnmt.errors import InputError
from scratchnmt.files import atomic, run_folder
from scratchnmt.files.run_folder import RunFolder
from scratchnmt.files.tensors import read_tensors, write_tensors
from scratchnmt.metrics import perplexity
from scratchnmt.training import NotFiniteError, train
from scratchnmt.training.loop import Trainer
from scratchnmt.training.plan import Plan
from scratchnmt.training.saving import Saving
from scratchnmt.training.validation import Validation

pytest.importorskip("sacrebleu")
pytest.importorskip("safetensors")


def valid_ppl(net):
    return perplexity(net, [data().valid.batch(range(20))])


def last_weights(folder):
    return read_tensors(folder / run_folder.STATE)[0]["params"]


def test_a_run_learns_and_leaves_what_is_needed_to_use_it(tmp_path, pictures):
    result = run(tmp_path, max_epochs=25, choices={"dropout": 0.0}.items(), learning_rate=0.03)
    records = metrics(tmp_path)
    assert [r["epoch"] for r in records] == list(range(1, 26)) and records[-1]["step"] == 25 * PER_EPOCH
    assert list(records[0]) == ["step", "epoch", "seconds", "tokens", "train_loss", "valid_ppl", "valid_bleu",
                                "learning_rate", "workers"]
    assert records[0]["valid_ppl"] > 5 and min(r["valid_ppl"] for r in records) < 6
    assert records[-1]["train_loss"] < 0.75 * records[0]["train_loss"]
    assert records[0]["tokens"] == data().train.lengths()[:, 1].sum()
    assert all(a["seconds"] < b["seconds"] for a, b in pairwise(records))
    best = min(records, key=lambda record: record["valid_ppl"])
    assert result.best == best and not result.interrupted and "25 epochs" in result.reason
    assert f"{best['valid_ppl']:.2f}" in str(result) and str(tmp_path / "model.safetensors") in str(result)
    saved, src_vocab, tgt_vocab = checkpoint.load_model(tmp_path)
    assert valid_ppl(saved) == pytest.approx(best["valid_ppl"], rel=1e-5)
    assert pictures == [(tmp_path / "metrics.jsonl", tmp_path / "learning-curves.png")]


def test_a_picture_that_cannot_be_drawn_is_no_reason_to_fail(tmp_path, monkeypatch):
    def no_matplotlib(*_):
        raise InputError("matplotlib is not installed")

    monkeypatch.setattr(plots, "learning_curves", no_matplotlib)
    progress = At(-1, kill)
    assert run(tmp_path, max_steps=1, progress=progress).step == 1
    assert "matplotlib is not installed" in progress.stream.getvalue()


def test_a_step_clips_and_moves_on_the_scale_of_sentences(tmp_path):
    net = model(dropout=0.0, dtype="float64")
    opts = options(optimizer="sgd", learning_rate=0.5, clip=0.02)
    batch = data().train.batch(Plan(data(), opts).batches(0)[0])
    loss, cache = net.forward(batch.src, batch.src_lengths, batch.tgt)
    gradient = net.backward(cache).flat / 16
    norm = math.sqrt((gradient**2).sum())
    assert norm > 0.02
    run(tmp_path, optimizer="sgd", learning_rate=0.5, clip=0.02, max_steps=1,
        choices={"dropout": 0.0, "dtype": "float64"}.items())
    expected = net.params.flat - 0.5 * gradient * 0.02 / (norm + 1e-6)
    np.testing.assert_allclose(last_weights(tmp_path), expected, rtol=1e-10, atol=1e-13)
    assert metrics(tmp_path)[0]["train_loss"] == pytest.approx(float(loss) / batch.tgt_lengths.sum())


def test_the_same_seed_gives_the_same_run_and_another_does_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tmp_path / name, seed=seed)
    assert essence(tmp_path / "a") == essence(tmp_path / "b") != essence(tmp_path / "c")


VARIANTS = [
    {"save_every": 1},
    {"optimizer": "sgd", "learning_rate": 0.5, "momentum": 0.9, "schedule": "luong", "halve_after": 1},
    {"average": 0.9, "valid_every": 4, "metric": "bleu", "save_every": 3},
    {"batch_by": "tokens", "batch_size": 60, "schedule": "cosine", "warmup": 5},
    {"choices": {"r_drop": 0.7}, "save_every": 4},
    {"learning_rate": 0.3, "valid_every": 2, "patience": 1, "trials": 9, "save_every": 1},  # too fast: trials end
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path, changes):
    run(tmp_path / "whole", **changes)
    for number, step in enumerate((2, 9, 10, 16)):
        with pytest.raises(Killed):
            run(tmp_path / "cut", progress=At(step, kill), resume=number > 0, **changes)
    run(tmp_path / "cut", resume=True, **changes)
    assert essence(tmp_path / "cut") == essence(tmp_path / "whole")
    assert np.array_equal(last_weights(tmp_path / "cut"), last_weights(tmp_path / "whole"))


def test_the_patient_variant_really_reloads(tmp_path):
    run(tmp_path, **VARIANTS[-1])
    rates = [record["learning_rate"] for record in metrics(tmp_path)]
    assert rates[-1] < rates[0] / 4


@pytest.mark.parametrize("step", [3, PER_EPOCH])  # in the middle of an epoch; just before a validation
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, step):
    run(tmp_path / "whole")
    result = run(tmp_path / "cut", progress=At(step, press_ctrl_c))
    assert result.interrupted and result.step == step and "--resume" in str(result)
    result = run(tmp_path / "cut", resume=True)
    assert not result.interrupted
    assert essence(tmp_path / "cut") == essence(tmp_path / "whole")


def test_ctrl_c_in_the_middle_of_a_validation(tmp_path, monkeypatch):
    run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Validation, "bleu", lambda self, net: [press_ctrl_c(), self.check()])
        result = run(tmp_path / "cut")
    assert result.interrupted and result.step == PER_EPOCH and result.best is None
    run(tmp_path / "cut", resume=True)
    assert essence(tmp_path / "cut") == essence(tmp_path / "whole")


def test_a_finished_run_goes_on_with_a_new_limit_and_its_clock(tmp_path):
    run(tmp_path, max_epochs=1)
    before = metrics(tmp_path)
    result = run(tmp_path, resume=True, max_epochs=1)
    assert result.step == PER_EPOCH and metrics(tmp_path) == before
    assert run(tmp_path, resume=True, max_epochs=2).step == 2 * PER_EPOCH
    assert metrics(tmp_path)[0] == before[0] and metrics(tmp_path)[1]["seconds"] > before[0]["seconds"]
    assert RunFolder(tmp_path).read().training["max_epochs"] == 2


@pytest.mark.parametrize("changes, message", [
    ({"batch_size": 8}, "batch_size was 16, is now 8"), ({"seed": 1}, "seed"),
    ({"metric": "bleu"}, "metric was ppl, is now bleu"), ({"optimizer": "sgd"}, "optimizer|fit"),
    ({"choices": {"layers": 2}.items()}, "another model"), ({"choices": {"dtype": "float64"}.items()}, "float64"),
])
def test_a_resumed_run_must_be_the_same_run(tmp_path, changes, message):
    run(tmp_path, max_steps=1)
    with pytest.raises(InputError, match=message):
        run(tmp_path, resume=True, **changes)


def test_other_text_is_noticed(tmp_path, monkeypatch):
    run(tmp_path, max_steps=1)
    monkeypatch.setattr(tiny_run, "PER_EPOCH", 9)
    with pytest.raises(InputError, match="training text"):
        run(tmp_path, resume=True)


def test_a_run_is_replaced_only_on_demand(tmp_path):
    run(tmp_path, max_steps=1)
    old = essence(tmp_path)
    with pytest.raises(InputError, match="holds a run already"):
        run(tmp_path, max_steps=2)
    assert essence(tmp_path) == old
    run(tmp_path, max_steps=2, overwrite=True)
    assert metrics(tmp_path)[0]["step"] == 2
    with pytest.raises(InputError, match="no run to resume"):
        run(tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_number_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path, monkeypatch, what):
    net = model()
    forward, backward, steps = net.forward, net.backward, []

    def broken_forward(*args, **kwargs):
        steps.append(1)
        loss, cache = forward(*args, **kwargs)
        return (loss * np.nan if what == "loss" and len(steps) == 11 else loss), cache

    def broken_backward(cache, out):
        grads = backward(cache, out=out)
        if len(steps) == 11:  # the one besides was at the save
            grads.flat[3] = np.inf
        return grads

    net.forward, net.backward = broken_forward, broken_backward
    with pytest.raises(NotFiniteError, match=rf"the {what}.* at step 10, epoch 2.*{tmp_path}, of step {PER_EPOCH}, "
                       rf"the best model is that of step {PER_EPOCH}; resume it with a lower learning_rate or clip"):
        train(net, data(), options(), tmp_path, progress=At(-1, kill))
    assert np.isfinite(net.params.flat).all()
    assert np.isfinite(last_weights(tmp_path)).all() and metrics(tmp_path)[-1]["step"] == PER_EPOCH
    checkpoint.load_model(tmp_path)
    assert run(tmp_path, resume=True, learning_rate=0.005, clip=1.0).step == 3 * PER_EPOCH
    assert metrics(tmp_path)[-1]["learning_rate"] == 0.005
    assert RunFolder(tmp_path).read().training["clip"] == 1.0


def scripted(monkeypatch, scores, bleu=None):
    """Validations as they are told: perplexities, and BLEU if it is given."""
    scores = iter(scores)
    monkeypatch.setattr(Validation, "perplexity", lambda self, net: next(scores))
    if bleu is not None:
        of_bleu = iter(bleu)
        monkeypatch.setattr(Validation, "bleu", lambda self, net: next(of_bleu))


def test_patience_decays_reloads_and_gives_up(tmp_path, monkeypatch):
    scripted(monkeypatch, [50, 40, 41, 42, 39, 43, 44, 45, 46, 47])
    seen = []
    load = Saving.load

    def noted(self, name):
        seen.append(name)
        return load(self, name)

    monkeypatch.setattr(Saving, "load", noted)
    result = run(tmp_path, valid_every=1, patience=2, trials=3, lr_decay=0.5, max_epochs=None)
    rates = [record["learning_rate"] / 0.01 for record in metrics(tmp_path)]
    assert rates == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]  # misses: 41 42 | 43 44 | 45 46 and the end
    assert seen == [run_folder.BEST_STATE] * 2
    assert result.step == 9 and result.best["step"] == 5
    assert result.reason == "3 trials ended without a better validation"


def test_a_run_killed_before_it_kept_its_best_state_keeps_it_when_resumed(tmp_path, monkeypatch):
    changes = {"valid_every": 1, "patience": 2, "trials": 2, "max_steps": 4}
    scripted(monkeypatch, [50, 51, 52, 53])
    run(tmp_path / "whole", **changes)
    scripted(monkeypatch, [50, 51, 52, 53])

    def killed(path, to):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "copy_file", killed)
        with pytest.raises(Killed):
            run(tmp_path / "cut", **changes)
    run(tmp_path / "cut", resume=True, **changes)
    assert np.array_equal(last_weights(tmp_path / "cut"), last_weights(tmp_path / "whole"))


def test_going_back_restores_weights_and_optimizer(tmp_path, monkeypatch):
    scripted(monkeypatch, [50, 51, 52, 53])
    before, step = [], Trainer.step

    def noted(self):
        optimizer = self.optimizer
        before.append({"params": self.model.params.flat.copy(), "m": optimizer.m.copy(), "v": optimizer.v.copy(),
                       "steps": optimizer.step_count})
        step(self)

    monkeypatch.setattr(Trainer, "step", noted)
    run(tmp_path, valid_every=1, patience=1, trials=9, max_steps=3)
    best, info = read_tensors(tmp_path / run_folder.BEST_STATE)
    assert info["state"]["step"] == 1 and len(before) == 3
    for restored in (before[1], before[2]):  # after one step; after another that was a miss, too
        assert all(np.array_equal(best[name], restored[name]) for name in ("params", "m", "v"))
        assert restored["steps"] == 1


def test_without_patience_it_goes_on(tmp_path, monkeypatch):
    scripted(monkeypatch, range(50, 99))
    result = run(tmp_path, valid_every=1, patience=0, max_steps=20)
    assert result.step == 20 and result.best["step"] == 1


def test_bleu_can_decide(tmp_path, monkeypatch):
    scripted(monkeypatch, [50, 40, 60], [1.0, 3.0, 2.0])
    assert run(tmp_path, metric="bleu").best["epoch"] == 2


@pytest.mark.parametrize("bleu", [0.0, 0.004, 31.4])
def test_of_equal_bleu_the_lower_perplexity_is_better(tmp_path, monkeypatch, bleu):
    """Best, misses, decay and what is gone back to: all by the one comparison."""
    scripted(monkeypatch, [50, 40, 30, 35, 36, 37], [bleu] * 6)
    result = run(tmp_path, metric="bleu", valid_every=1, patience=2, trials=9, max_steps=6)
    assert result.best["step"] == 3 and result.best["valid_ppl"] == 30
    assert [record["learning_rate"] for record in metrics(tmp_path)] == [0.01] * 5 + [0.005]  # after misses 4 and 5
    _, state = read_tensors(tmp_path / run_folder.STATE)
    assert state["state"]["decay"] == 0.5 and state["state"]["step"] == 6
    _, kept = read_tensors(tmp_path / run_folder.BEST_STATE)
    assert kept["state"]["step"] == 3


@pytest.mark.parametrize("metric, best", [("bleu", 2), ("ppl", 3)])
def test_perplexity_decides_between_equal_bleu_alone(tmp_path, monkeypatch, metric, best):
    scripted(monkeypatch, [50, 40, 20, 45], [1.0, 3.0, 2.99, 3.001])  # 3.00 and 3.001 read the same
    assert run(tmp_path, metric=metric, valid_every=1, max_steps=4).best["step"] == best


def test_a_run_of_an_earlier_version_goes_on_from_its_best(tmp_path, monkeypatch):
    """It noted the best figure alone: here BLEU of 0.00 at step 1, of which the perplexity is in its record."""
    scripted(monkeypatch, [50, 40], [0.0] * 2)
    run(tmp_path, metric="bleu", valid_every=1, max_steps=1)
    tensors, info = read_tensors(tmp_path / run_folder.STATE)
    info["state"]["best_score"] = 0.0
    write_tensors(tmp_path / run_folder.STATE, tensors, info)
    assert run(tmp_path, metric="bleu", valid_every=1, max_steps=2, resume=True).best["step"] == 2


@pytest.mark.parametrize("changes, step", [({"max_steps": 5}, 5), ({"max_epochs": 1}, PER_EPOCH),
                                           ({"max_minutes": 1e-9}, 0)])
def test_a_limit_ends_the_run_after_a_validation(tmp_path, changes, step):
    result = run(tmp_path, **changes)
    assert result.step == step
    assert [record["step"] for record in metrics(tmp_path)] == [step]


def test_the_average_is_validated_and_saved(tmp_path):
    result = run(tmp_path, average=0.9, max_steps=30, max_epochs=None, patience=0, valid_every=30)
    state, info = read_tensors(tmp_path / run_folder.STATE)
    saved = checkpoint.load_model(tmp_path).model
    assert np.array_equal(saved.params.flat, state["average"]) and info["state"]["average_updates"] == 3
    assert not np.array_equal(state["average"], state["params"])
    assert valid_ppl(saved) == pytest.approx(result.best["valid_ppl"], rel=1e-5)


def test_a_disk_that_is_full_stops_the_run_and_leaves_the_last_state(tmp_path, monkeypatch):
    write = atomic.flush_to_disk

    def full(path):
        if path.is_file() and (tmp_path / "metrics.jsonl").exists() and len(metrics(tmp_path)) == 2:
            raise OSError(28, "No space left on device")
        write(path)

    monkeypatch.setattr(atomic, "flush_to_disk", full)
    with pytest.raises(InputError, match="cannot be written.*No space left"):
        run(tmp_path, save_every=1)
    assert last_weights(tmp_path).size
    checkpoint.load_model(tmp_path)


def test_the_training_loss_is_the_mean_over_the_tokens_since_the_last_validation(tmp_path):
    run(tmp_path, max_steps=4, valid_every=2, optimizer="sgd", learning_rate=1e-9, choices={"dropout": 0.0}.items())
    net, batches = model(dropout=0.0), Plan(data(), options()).batches(0)  # the weights hardly move
    for record, indices in zip(metrics(tmp_path), (batches[:2], batches[2:4]), strict=True):
        found = [data().train.batch(i) for i in indices]
        nats = sum(net.nll(batch.src, batch.src_lengths, batch.tgt) for batch in found)
        assert record["train_loss"] == pytest.approx(nats / sum(batch.tgt_lengths.sum() for batch in found), rel=1e-5)


def test_with_r_drop_the_training_loss_is_the_total_and_validation_is_one_pass(tmp_path):
    run(tmp_path, max_steps=2, valid_every=2, optimizer="sgd", learning_rate=1e-9, choices={"r_drop": 3.0})
    net, plan, nats, tokens = model(r_drop=3.0), Plan(data(), options()), 0.0, 0
    for step, indices in enumerate(plan.batches(0)[:2]):
        batch = data().train.batch(indices)
        nats += float(net.forward(batch.src, batch.src_lengths, batch.tgt, plan.recipe(np).generator(step, 0))[0])
        tokens += batch.tgt_lengths.sum()
    (record,) = metrics(tmp_path)
    assert record["train_loss"] == pytest.approx(nats / tokens, rel=1e-5)
    assert record["valid_ppl"] == pytest.approx(valid_ppl(model(dropout=0.0)), rel=1e-5)


def test_the_loop_uses_the_optimizers():
    for name, kind in (("adam", optim.Adam), ("sgd", optim.SGD)):
        assert type(Trainer(model(), data(), options(optimizer=name), RunFolder("no folder")).optimizer) is kind


def test_sources_that_the_model_has_no_places_for_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="a source of 5 tokens, but score 'location' knows 4 positions"):
        run(tmp_path / "run", choices={"score": "location", "max_source": 4})
    assert not (tmp_path / "run").exists()
    run(tmp_path / "run", choices={"score": "location", "max_source": 5}, max_epochs=1)
