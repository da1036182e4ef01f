"""Training with subword sampling: resumed, by workers and in parts it is the same run, bit for bit."""

import json
import os

import numpy as np
import pytest
import tiny_run
from tiny_run import At, by_parts_and_by_workers, essence, kill, killed_and_resumed, metrics

from scratchnmt.data.subword_sampling import Sampled
from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import SentencePieceVocabulary
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT
from scratchnmt.training import TrainingData, train
from scratchnmt.training.plan import Plan

for package in ("sacrebleu", "sentencepiece", "safetensors"):
    pytest.importorskip(package)
TEXT = toy_corpus(train=100, valid=10)
SRC, TGT = (SentencePieceVocabulary.train(lines, 90, "unigram") for lines in TEXT.train)


def data(max_length=40):
    return TrainingData.from_text(TEXT.train, TEXT.valid, SRC, TGT, max_length)


def options(**changes):
    return tiny_run.options(**{"subword_sampling": 0.2, "max_epochs": 2, **changes})


def run(folder, *, at=-1, resume=False, choices=(), **changes):
    model = NMT(len(SRC), len(TGT), 8, 8, **{"dropout": 0.3, "seed": 5, **dict(choices)})
    return train(model, data(), options(**changes), folder, resume=resume, progress=At(at, kill))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder, max_epochs=3)
    return essence(folder)


@pytest.mark.parametrize("killed", [3, 7, 17])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, whole, killed):
    assert killed_and_resumed(run, tmp_path, killed, max_epochs=3) == whole


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("batch_by", ["sentences", "tokens"])
def test_workers_are_the_parts_of_accumulate_bit_for_bit(tmp_path, batch_by):
    size = {"batch_by": batch_by, "batch_size": 16 if batch_by == "sentences" else 300}
    parts, workers = by_parts_and_by_workers(run, tmp_path, **size)
    assert parts == workers


def test_batches_are_laid_out_by_the_lengths_of_their_epoch():
    plan = Plan(data(), options(batch_by="tokens", batch_size=300))
    tokens, lengths = [], []
    for number in range(2):
        epoch = plan.batches(number)
        assert isinstance(epoch.sentences, Sampled)
        batches = [epoch.sentences.batch(indices) for indices in epoch]
        assert all(batch.tgt_lengths.max() * len(batch.tgt_lengths) <= 300 for batch in batches)
        assert sorted(np.concatenate(list(epoch)).tolist()) == list(range(len(data().train)))
        tokens.append(np.concatenate([batch.tgt_lengths for batch in batches]).sum())
        lengths.append(epoch.sentences.lengths(np.arange(len(data().train)))[:, 1])
        assert tokens[-1] == lengths[-1].sum() > data().train.lengths()[:, 1].sum()
    assert np.any(lengths[0] != lengths[1])


def test_it_counts_the_tokens_that_were_drawn_and_validates_the_best_segmentation(tmp_path, whole):
    plan, everything = Plan(data(), options()), np.arange(len(data().train))
    epochs = [int(plan.batches(number).sentences.lengths(everything)[:, 1].sum()) for number in range(3)]
    assert [record["tokens"] for record in whole[1]] == np.cumsum(epochs).tolist()
    run(tmp_path / "none", subword_sampling=0.0, learning_rate=1e-9)
    run(tmp_path / "some", learning_rate=1e-9)
    none, some = (metrics(tmp_path / name)[0]["valid_ppl"] for name in ("none", "some"))
    assert some == pytest.approx(none, rel=1e-5)


def test_no_draw_is_longer_than_the_text_may_be_or_the_model_knows(tmp_path):
    longest = data().train.longest_source()
    for known, most in ((1000, 40), (longest, longest)):
        plan = Plan(data(), options(subword_sampling=0.01), known)
        lengths = plan.batches(0).sentences.lengths(np.arange(len(data().train)))
        assert lengths[:, 0].max() <= most and lengths[:, 1].max() <= 40 + 1
    run(tmp_path, max_epochs=1, choices={"score": "location", "max_source": longest}.items())


def test_another_alpha_is_refused_when_it_is_resumed(tmp_path):
    run(tmp_path, max_steps=1)
    with pytest.raises(InputError, match="subword_sampling was 0.2, is now 0.5: an epoch is laid out by it"):
        run(tmp_path, resume=True, subword_sampling=0.5)


def test_a_step_that_is_not_finite_is_told_of_the_sentences_that_were_drawn(tmp_path):
    with np.errstate(all="ignore"), pytest.raises(InputError, match="not finite (is the gradient of|are the weights)"):
        run(tmp_path, learning_rate=1e30, on_nonfinite="stop", clip=0)
    report = json.loads((tmp_path / "not-finite.jsonl").read_text())
    assert report["sentences"][0]["source"] in TEXT.train[0]


@pytest.mark.parametrize("alpha", [-0.1, 10, float("nan"), True, "0.2"])
def test_what_alpha_may_be(alpha):
    with pytest.raises(InputError, match="subword_sampling is .*, expected a number of at least 0 and below 10"):
        options(subword_sampling=alpha)
