"""Validation measures each sentence with its own reference, in whatever batch it is."""

import numpy as np
import pytest
from tiny_run import PER_EPOCH, VOCAB, At, data, essence, kill, metrics, model, options, pairs

from scratchnmt.errors import InputError
from scratchnmt.files.run_folder import STATE
from scratchnmt.files.tensors import read_tensors, write_tensors
from scratchnmt.metrics import corpus_bleu, perplexity
from scratchnmt.search import greedy_search
from scratchnmt.training import OutOfMemoryError, TrainingData, train
from scratchnmt.training import validation as module
from scratchnmt.training.validation import Validation


@pytest.mark.parametrize("batch_size", [1, 6, 128])
def test_the_same_figures_from_any_batches(batch_size):
    net, d = model(dtype="float64", seed=2), data()
    net.params.flat[...] *= 15  # different sentences, different translations
    lines = []
    for i in range(len(d.valid)):
        batch = d.valid.batch([i])
        (hypothesis,) = greedy_search(net, batch.src, batch.src_lengths, max_steps=2 * int(batch.src_lengths[0]) + 10)
        lines.append(VOCAB.decode(hypothesis.value))
    assert len(set(lines)) > 3
    validation = Validation(d, batch_size, lambda: None)
    assert validation.bleu(net) == pytest.approx(corpus_bleu(lines, d.valid_references).score)
    assert validation.perplexity(net) == pytest.approx(perplexity(net, [d.valid.batch(range(20))]), rel=1e-12)


def test_it_can_be_stopped_between_batches():
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Validation(data(), 5, check).perplexity(model())


# what is too long

def with_lines(*lengths):
    """The data, with validation lines of so many tokens at the places 2, 3, ... of the text."""
    src, tgt = pairs(20, 1)
    src[1:1], tgt[1:1] = [" ".join(["a"] * n) for n in lengths], [" ".join(["b"] * n) for n in lengths]
    return TrainingData.from_text(pairs(PER_EPOCH * 16 - 3, 0), (src, tgt), VOCAB, VOCAB)


def in_little_memory(monkeypatch, name, most):
    """A batch of more than `most` tokens, padding included, is too large for the memory; the sizes that were asked."""
    asked, function = [], getattr(module, name)

    def limited(model, *rest, **options):
        src = rest[0] if name == "greedy_search" else rest[0].src
        asked.append(src.shape)
        if src.size > most:
            raise MemoryError("Unable to allocate 1 GiB")
        return function(model, *rest, **options)

    monkeypatch.setattr(module, name, limited)
    return asked


@pytest.mark.parametrize("name", ["loss", "greedy_search"])
def test_a_batch_that_is_too_large_for_the_memory_is_halved(monkeypatch, name):
    net = model(dtype="float64", seed=2)
    whole = Validation(data(), 128, lambda: None)
    expected = whole.perplexity(net), whole.bleu(net)
    asked = in_little_memory(monkeypatch, name, 40)
    validation = Validation(data(), 128, lambda: None)
    assert (validation.perplexity(net), validation.bleu(net)) == (pytest.approx(expected[0], rel=1e-12), expected[1])
    assert len(asked) > 2 and not validation.left_out and not validation.news()


@pytest.mark.parametrize("name", ["loss", "greedy_search"])
def test_a_line_that_does_not_fit_is_left_out_by_name_of_both_figures(monkeypatch, tmp_path, name):
    whole = train(model(), data(), options(max_epochs=2), tmp_path / "whole", progress=At(-1, kill)).best
    in_little_memory(monkeypatch, name, 80)
    progress = At(-1, kill)
    found = train(model(), with_lines(100, 90), options(max_epochs=2, valid_batch_size=4), tmp_path / "run",
                  progress=progress).best
    told = progress.stream.getvalue()
    for line, tokens in ((2, "100 and 101"), (3, "90 and 91")):
        sentence = f"line {line} of the validation text, of {tokens} tokens, is left out: it does not fit into memory"
        assert told.count(sentence) == 1, told
    assert found["valid_ppl"] == pytest.approx(whole["valid_ppl"], rel=1e-5)
    assert found["valid_bleu"] == pytest.approx(whole["valid_bleu"])
    assert read_tensors(tmp_path / "run" / STATE)[1]["state"]["left_out"] == [1, 2]
    monkeypatch.undo()  # a run that goes on measures the same lines, wherever there is more memory
    train(model(), with_lines(100, 90), options(max_epochs=3), tmp_path / "run", resume=True, progress=At(-1, kill))
    train(model(), data(), options(max_epochs=3), tmp_path / "whole", resume=True, progress=At(-1, kill))
    ppl = [metrics(tmp_path / which)[2]["valid_ppl"] for which in ("run", "whole")]
    assert ppl[0] == pytest.approx(ppl[1], rel=1e-5)


def test_a_line_longer_than_the_model_knows_is_left_out_by_name(tmp_path):
    choices, progress = {"score": "location", "max_source": 6}, At(-1, kill)
    train(model(**choices), with_lines(7), options(max_epochs=2), tmp_path / "run", progress=progress)
    assert progress.stream.getvalue().count("line 2 of the validation text, of 7 and 8 tokens, is left out: the score "
                                            "'location' knows 6 positions") == 1
    with pytest.raises(InputError, match="no validation pair is left: line 1 of"):
        Validation(data(), 8, lambda: None, longest=2)


def test_a_state_that_leaves_out_all_that_is_not_too_long_is_refused(tmp_path):
    def go(resume):
        return train(net, with_lines(7), options(max_steps=2), tmp_path, resume=resume, progress=At(-1, kill))

    net = model(score="location", max_source=6)
    go(resume=False)
    tensors, info = read_tensors(tmp_path / STATE)
    info["state"] |= {"left_out": [0, *range(2, 21)], "validated_step": 0}
    write_tensors(tmp_path / STATE, tensors, info)
    before, net.params.flat[...] = {path: path.read_bytes() for path in tmp_path.iterdir()}, 0
    with pytest.raises(InputError, match=f"{STATE} is damaged: its left_out is .*, expected some, not all, of the "):
        go(resume=True)
    assert not net.params.flat.any() and {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_batch_of_long_lines_is_cut_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(module, "_WEIGHTS", 60 * 61 * 2)
    validation = Validation(with_lines(60, 60, 60, 60, 99), 128, lambda: None)
    assert "line 6 of the validation text, of 99 and 100 tokens, is left out" in validation.news()[0]
    lengths = validation.lengths[:, 0]
    assert sorted(np.concatenate(validation.indices)) == [0, 1, 2, 3, 4, *range(6, 25)]
    assert [len(part) for part in validation.indices if 60 in lengths[part]] == [2, 2]
    assert [len(part) for part in Validation(data(), 8, lambda: None).indices] == [8, 8, 4]


def test_no_attention_is_kept_that_nobody_reads(monkeypatch):
    found, search = [], module.greedy_search

    def noted(*args, **options):
        found.extend(search(*args, **options))
        return found[-args[1].shape[1]:]

    monkeypatch.setattr(module, "greedy_search", noted)
    Validation(data(), 128, lambda: None).bleu(model())
    assert len(found) == 20 and all(hypothesis.attention is None for hypothesis in found)


@pytest.mark.parametrize("name", ["loss", "greedy_search"])
def test_a_validation_for_which_memory_is_too_small_costs_no_step(monkeypatch, tmp_path, name):
    whole = tmp_path / "whole"
    train(model(), data(), options(max_epochs=2), whole, progress=At(-1, kill))
    with monkeypatch.context() as patch:
        in_little_memory(patch, name, 0)
        with pytest.raises(OutOfMemoryError, match="resume it where more memory is free.* of step 7"):
            train(model(), data(), options(max_epochs=2), tmp_path / "run", progress=At(-1, kill))
    train(model(), data(), options(max_epochs=2), tmp_path / "run", resume=True, progress=At(-1, kill))
    assert essence(tmp_path / "run") == essence(whole)
