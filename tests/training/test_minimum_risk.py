"""Minimum risk training: what is drawn, the gradient, that the risk falls, and what a run makes of it."""

import re

import numpy as np
import pytest
import tiny_run
from tiny_run import At, by_parts_and_by_workers, essence, files, kill, metrics, run

from scratchnmt import NMT
from scratchnmt.cli import main
from scratchnmt.data.encode import encode_parallel
from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import EOS, WordVocabulary
from scratchnmt.errors import InputError
from scratchnmt.files.run_folder import RunFolder
from scratchnmt.optim import Adam
from scratchnmt.training.minimum_risk import MinimumRisk

for package in ("sacrebleu", "sentencepiece", "safetensors", "tqdm", "matplotlib"):
    pytest.importorskip(package)

DATA = tiny_run.data()
RISK = {"minimum_risk": "bleu", "risk_samples": 3, "max_steps": 5, "valid_every": 3}


def of_seed(step, part):
    return np.random.default_rng([9, step, part])


def objective(**changes):
    return MinimumRisk(**{"vocab": tiny_run.VOCAB, "metric": "bleu", "tokenize": "none", "samples": 4, "alpha": 0.5,
                          "with_reference": True, "generator": of_seed, **changes})


def drawn(model, indices=range(6), step=0, **changes):
    sources, references = zip(*(DATA.train[i] for i in indices), strict=True)
    return objective(**changes).candidates(model, sources, references, of_seed(step, 0)), references


# what is drawn

def test_the_reference_comes_first_and_nothing_twice():
    model = tiny_run.model(init="glorot")
    found, references = drawn(model, samples=40)
    for own, reference in zip(found, references, strict=True):
        assert own[0] == reference and len({tuple(y) for y in own}) == len(own)
    without, _ = drawn(model, samples=40, with_reference=False)
    assert all(list(y) in own[1:] for own, more in zip(found, without, strict=True) for y in more if list(y) != own[0])
    model.params["vocab.W"][...] = 0  # every word alike: no source has two draws in common
    assert all(len(own) > 30 for own in drawn(model, samples=40)[0])


def test_what_does_not_end_is_taken_to_end():
    model = tiny_run.model()
    model.params.flat[...] = 1.0
    model.params["vocab.W"][:, EOS] = -50.0
    found, _ = drawn(model, [0], with_reference=False)
    assert {len(y) for y in found[0]} == {2 * len(DATA.train[0][0]) + 10}


def test_scores_are_those_of_the_text():
    found, references = drawn(tiny_run.model(init="glorot"))
    risks = objective(metric="chrf").risks(found, references)
    assert all(own[0] == pytest.approx(0) for own in risks)
    assert all(0 <= one <= 1 for own in risks for one in own) and max(map(max, risks)) > 0.5


# the gradient

def loop(model, batch, **changes):
    """Risk and gradient by the equations, a translation at a time; draws as they are when as many are at hand."""
    whole, alpha, draws = objective(**changes), 0.5, of_seed(2, 1)
    risk, grads = 0.0, model.params.like()
    pairs = [(batch.src[:n, b].tolist(), batch.tgt[1:m, b].tolist())
             for b, (n, m) in enumerate(zip(batch.src_lengths, batch.tgt_lengths, strict=True))]
    for group in np.array_split(np.arange(len(pairs)), min(len(pairs), 5)):
        sources, references = zip(*(pairs[b] for b in group), strict=True)
        candidates = whole.candidates(model, sources, references, draws)
        for x, own, delta in zip(sources, candidates, whole.risks(candidates, references), strict=True):
            one = [tiny_run_batch(x, y) for y in own]
            log_p = -np.array([model.nll(*each) for each in one])
            q = np.exp(alpha * log_p) / np.exp(alpha * log_p).sum()
            mean = q @ delta
            risk += mean
            for each, weight in zip(one, alpha * q * (np.array(delta) - mean), strict=True):
                _, cache = model.forward(*each)
                grads.flat += -weight * model.backward(cache).flat
    return risk, grads


def tiny_run_batch(x, y):
    return np.array([x]).T, np.array([len(x)]), np.array([[1, *y, EOS]]).T


@pytest.mark.parametrize("sentences", [1, 3, 11])
def test_the_gradient_is_that_of_a_loop_over_translations(sentences):
    model = tiny_run.model(dtype="float64", init="glorot")
    batch, found = DATA.train.batch(range(sentences)), model.params.like()
    found.flat[...] = np.nan  # whatever is there
    risk = objective().gradient(model, batch, 2, 1, None, found)
    expected, grads = loop(model, batch)
    assert risk == pytest.approx(expected, rel=1e-12) and 0 < risk < sentences
    assert np.abs(found.flat - grads.flat).max() < 1e-11 * np.sqrt((grads.flat**2).mean())


def test_draws_are_those_of_the_step_and_the_part():
    model, batch = tiny_run.model(init="glorot"), DATA.train.batch(range(8))

    def gradient(step, part):
        out = model.params.like()
        return objective().gradient(model, batch, step, part, np.random.default_rng(3), out), out.flat.tobytes()

    assert gradient(4, 1) == gradient(4, 1)
    assert len({gradient(step, part) for step in (4, 5) for part in (0, 1)}) == 4


@pytest.mark.parametrize("sentences, samples", [(32, 4), (3, 40)])
def test_no_more_translations_at_a_time_than_a_batch_has_sentences(monkeypatch, sentences, samples):
    model, seen, losses = tiny_run.model(), [], NMT.sentence_losses

    def noting(self, src, *rest):
        seen.append(src.shape[1])
        return losses(self, src, *rest)

    monkeypatch.setattr(NMT, "sentence_losses", noting)
    objective(samples=samples).gradient(model, DATA.train.batch(range(sentences)), 0, 0, None, model.params.like())
    assert max(seen) <= max(sentences + samples, samples + 1) and sum(seen) > 2 * sentences


def test_logits_that_are_not_finite_make_no_finite_step():
    model = tiny_run.model()
    model.params["vocab.W"][...] = np.nan
    out = model.params.like()
    with np.errstate(all="ignore"):
        assert np.isnan(objective().gradient(model, DATA.train.batch(range(3)), 0, 0, None, out))
    assert np.isnan(out.flat).all()


def test_the_risk_of_an_undertrained_model_falls():
    """Of draws that it has not seen, of the sentences that it was trained on."""
    text = toy_corpus(train=16, valid=2, test=2).train
    src, tgt = (WordVocabulary.build(side, 500, 1) for side in text)
    corpus, _ = encode_parallel(*text, src, tgt)
    model, batch = NMT(len(src), len(tgt), 24, 24, init="glorot", seed=1), corpus.batch(range(16))
    optimizer, grads = Adam(model.params, 0.01), model.params.like()
    for _ in range(60):
        _, cache = model.forward(*batch[:3], out=grads)
        optimizer.step(model.backward(cache, out=grads), 1 / 16)
    risk = objective(vocab=tgt, metric="chrf", alpha=0.005, samples=6, with_reference=False)

    def mean():
        sources, references = zip(*corpus, strict=True)
        found = risk._replace(samples=30).candidates(model, sources, references, np.random.default_rng(0))
        return np.mean([np.mean(own) for own in risk.risks(found, references)])

    before, optimizer = mean(), Adam(model.params, 0.003)
    for step in range(20):
        risk.gradient(model, batch, step, 0, None, grads)
        optimizer.step(grads, 1 / 16)
    assert mean() < before - 0.02


# a run

def test_a_resumed_run_is_the_uninterrupted_one_and_its_log_says_risk(tmp_path):
    watching = At(-1, kill)
    watching.log_every = 2
    run(tmp_path / "whole", **RISK, progress=watching)
    run(tmp_path / "half", **{**RISK, "max_steps": 3})
    run(tmp_path / "half", **RISK, resume=True)
    assert essence(tmp_path / "half") == essence(tmp_path / "whole")
    for record in metrics(tmp_path / "whole"):
        assert record["train_loss"] is None and 0 < record["train_risk"] < 1
    told = watching.stream.getvalue()
    assert re.search(r"step 2: expected risk per sentence 0\.\d{3}, [\d,]+ tokens/s", told)
    assert re.search(rf"training expected risk per sentence {metrics(tmp_path / 'whole')[0]['train_risk']:.3f}, "
                     "validation perplexity", told)


def test_workers_are_the_parts_of_accumulate_bit_for_bit(tmp_path):
    pytest.importorskip("threadpoolctl")
    parts, workers = by_parts_and_by_workers(run, tmp_path, **RISK)
    assert parts == workers


def test_a_model_with_label_smoothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="label_smoothing of the model is 0.1, expected 0: minimum_risk 'bleu'"):
        run(tmp_path, **RISK, choices={"label_smoothing": 0.1}.items())


def test_a_run_that_knows_of_no_risk_has_none(tmp_path):
    """As those of earlier versions, whose options do not name it."""
    run(tmp_path, max_steps=1)
    assert "train_risk" not in metrics(tmp_path)[0]
    with pytest.raises(InputError, match="minimum_risk was none, is now bleu: the loss would be another one"):
        run(tmp_path, resume=True, **RISK)


# the command

def test_the_command(call, tmp_path):
    """It warns without --init-from; what has begun with label smoothing goes on without, and is resumed as it was."""
    text = files(tmp_path, 40)
    new = [*text, "--vocab=word", "--min-count=1", "--embed-size=8", "--hidden-size=8", "--max-steps=2"]
    risk = ["--minimum-risk=chrf", "--risk-samples=2", "--risk-candidates=samples", "--risk-alpha=0.1"]
    status, _, err = call("train", *new, *risk, "--out", tmp_path / "noise")
    assert status == 0 and err.count("warning") == err.count("--minimum-risk is to fine-tune a model that trans") == 1
    assert main(["train", *new, "--label-smoothing=0.1", "--out", str(tmp_path / "general")]) == 0
    tuned = ["--out", tmp_path / "tuned"]
    status, out, err = call("train", *text, "--init-from", tmp_path / "general", *risk, "--max-steps=2", *tuned)
    assert status == 0 and "warning" not in err and "training expected risk per sentence" in err
    assert RunFolder(tmp_path / "tuned").read().config.label_smoothing == 0
    status, _, err = call("train", *tuned, "--resume", "--max-steps=4")
    assert status == 0 and "training expected risk per sentence" in err
    status, _, err = call("train", *tuned, "--resume", "--risk-alpha=0.2", "--max-steps=4")
    assert status == 2 and "--risk-alpha is 0.2, but the run in" in err
