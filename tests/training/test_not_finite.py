"""Numbers that are not finite: named, skipped, and not made of the smallest batches: see docs/trust.md."""

import json

import numpy as np
import pytest
import tiny_run
from tiny_run import PER_EPOCH, At, kill, metrics, model, run

from scratchnmt.files.tensors import read_tensors
from scratchnmt.training import NotFiniteError, train

pytest.importorskip("safetensors")
pytest.importorskip("sacrebleu")


def test_the_step_the_tensor_and_the_sentences_are_named(tmp_path):
    net, data = model(), tiny_run.data()
    net.params["vocab.W"][:, 5] = np.nan  # the word "b"
    with np.errstate(all="ignore"), pytest.raises(NotFiniteError) as error:
        train(net, data, tiny_run.options(valid_every=1000), tmp_path, progress=At(-1, kill))
    sentence = str(error.value)
    assert "the loss is nan at step 1, epoch 1; not finite are the weights in vocab.W" in sentence
    assert "of the training text" in sentence and "training stopped; the last good state is kept" in sentence
    (record,) = map(json.loads, (tmp_path / "not-finite.jsonl").read_text().splitlines())
    assert record["step"] == 1 and record["loss"] == "nan" and record["weights"] == ["vocab.W"]
    assert "encoder.Wx" in record["tensors"] and len(record["sentences"]) == 16
    lines = tiny_run.pairs(PER_EPOCH * 16 - 3, 0)
    for found in record["sentences"]:
        assert (lines[0][found["line"] - 1], lines[1][found["line"] - 1]) == (found["source"], found["target"])


def test_a_gradient_alone_is_named_with_its_tensor(tmp_path, monkeypatch):
    net = model()
    backward, calls = net.backward, []

    def broken(cache, out):
        grads = backward(cache, out=out)
        calls.append(1)
        if len(calls) >= 3:
            grads["attention.W"][1, 2] = np.nan
        return grads

    net.backward = broken
    before = []
    with pytest.raises(NotFiniteError, match=r"gradient's norm is nan at step 3, epoch 1; not finite is the gradient "
                       r"of attention.W; it is of the \d+ sentence pairs of its batch, among them line \d+ of the "
                       r"training text, '"):
        train(net, tiny_run.data(), tiny_run.options(), tmp_path,
              progress=At(2, lambda: before.append(net.params.flat.copy())))
    assert np.array_equal(net.params.flat, before[0])  # nothing was moved by it


def test_steps_that_are_not_finite_can_be_skipped(tmp_path):
    net = model()
    forward, calls = net.forward, []

    def broken(src, lengths, tgt, rng=None, **rest):
        loss, cache = forward(src, lengths, tgt, rng, **rest)
        if rng is not None and int(src[0, 0]) == 4:  # batches that begin with "a"
            calls.append(1)
            return loss * np.nan, cache
        return loss, cache

    net.forward = broken
    said = []
    progress = At(-1, kill)
    progress.say = said.append
    options = tiny_run.options(on_nonfinite="skip", max_epochs=2)
    result = train(net, tiny_run.data(), options, tmp_path, progress=progress)
    records = [json.loads(line) for line in (tmp_path / "not-finite.jsonl").read_text().splitlines()]
    assert result.step == 2 * PER_EPOCH and 0 < len(records) < 2 * PER_EPOCH and len(calls) == 2 * len(records)
    skips = [line for line in said if "skipped" in line]
    assert len(skips) == len(records) and skips[-1].endswith(f"skipped, {len(records)} so far")
    assert np.isfinite(net.params.flat).all() and np.isfinite(metrics(tmp_path)[-1]["train_loss"])
    _, info = read_tensors(tmp_path / "training-state.safetensors")
    assert info["state"]["skipped"] == len(records) and info["optimizer"]["step"] == result.step


@pytest.mark.parametrize("choices", [{}, {"attention": "local-p", "window": 2}, {"attention": "local-m"},
                                     {"score": "concat", "query": "previous"}], ids=str)
def test_a_run_that_diverges_says_so_whatever_the_model(tmp_path, choices):
    with np.errstate(all="ignore"), pytest.raises(NotFiniteError, match="at step [2-9], epoch 1"):
        run(tmp_path, choices=choices, optimizer="sgd", learning_rate=1e30, clip=0.0)


def test_an_epoch_of_skipped_steps_has_no_training_loss(tmp_path, draws):
    net = model()
    forward = net.forward

    def broken(src, lengths, tgt, rng=None, **rest):
        loss, cache = forward(src, lengths, tgt, rng, **rest)
        return loss * np.nan, cache

    net.forward = broken
    train(net, tiny_run.data(), tiny_run.options(on_nonfinite="skip", max_epochs=1), tmp_path, progress=At(-1, kill))
    assert metrics(tmp_path)[0]["train_loss"] is None and (tmp_path / "learning-curves.png").exists()


def test_skipping_ends_when_nothing_else_is_left(tmp_path):
    net = model()
    net.params["vocab.W"][...] = np.nan
    with np.errstate(all="ignore"), pytest.raises(NotFiniteError, match="at step 20, .*, the last of 20 in a row"):
        train(net, tiny_run.data(), tiny_run.options(on_nonfinite="skip", valid_every=1000, max_epochs=10), tmp_path,
              progress=At(-1, kill))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("src, tgt", [
    ([[4]], [[5]]), ([[3]], [[3]]), ([[3, 3, 3], [3]], [[3], [3, 3]]), ([[4]], [[]]), ([[4], [5, 6, 7]], [[], [4]]),
], ids=["one token each", "unknown", "all unknown", "empty target", "one empty target"])
def test_the_smallest_batches(src, tgt, dtype):
    from scratchnmt.data.batches import make_batch

    net, batch = model(dtype=dtype), make_batch(src, tgt)
    loss, cache = net.forward(batch.src, batch.src_lengths, batch.tgt)
    grads = net.backward(cache)
    assert np.isfinite(loss) and np.isfinite(grads.flat).all() and grads.flat.any()
    assert net.beam_search(src[0])[0].value is not None


def test_perplexity_is_the_same_in_float32_and_float64():
    from scratchnmt.metrics import perplexity

    batch = tiny_run.data().train.batch(range(100))
    single, double = (model(dtype=dtype) for dtype in ("float32", "float64"))
    for net in (single, double):
        net.params.flat *= 20  # far from uniform
    assert perplexity(single, [batch]) == pytest.approx(perplexity(double, [batch]), rel=1e-5)
