"""All that makes a model better at once: resumed, by workers and in parts it is the same run, bit for bit."""

import os
from dataclasses import replace

import pytest
import tiny_run
from tiny_run import At, by_parts_and_by_workers, essence, kill, killed_and_resumed

from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import SentencePieceVocabulary
from scratchnmt.models.nmt import NMT
from scratchnmt.training import TrainingData, train

for package in ("sacrebleu", "sentencepiece", "safetensors"):
    pytest.importorskip(package)
TEXT = toy_corpus(train=100, valid=10)
SRC, TGT = (SentencePieceVocabulary.train(lines, 90, "unigram") for lines in TEXT.train)
EVERYTHING = {"cell": "layer-norm-lstm", "attention": "multi-head", "heads": 2, "layers": 2, "label_smoothing": 0.1,
              "dropout": 0.3, "embed_dropout": 0.2, "encoder_dropout": 0.2, "recurrent_dropout": 0.2,
              "word_dropout": 0.1}


def model(**choices):
    return NMT(len(SRC), len(TGT), 8, 8, **EVERYTHING, **{"seed": 5, **choices})


def run(folder, *, at=-1, resume=False, taught=False, **changes):
    """With translations of a teacher and sampled subwords; with two passes, or a teacher's distributions, too."""
    src, _ = TEXT.train
    data = TrainingData.from_text(TEXT.train, TEXT.valid, SRC, TGT, 40)
    copied = TrainingData.from_text((src, src), TEXT.valid, SRC, TGT, 40).train
    data = replace(data, distilled=(copied,), teachers=(model(seed=1),) if taught else ())
    options = tiny_run.options(**{"subword_sampling": 0.2, "distill_weight": 0.3, "average": 0.9, "schedule": "linear",
                                  "warmup": 3, "max_epochs": 1, **changes})
    return train(model(r_drop=0.0 if taught else 0.7), data, options, folder, resume=resume, progress=At(at, kill))


@pytest.mark.parametrize("taught", [False, True])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, taught):
    run(tmp_path / "whole", taught=taught)
    assert killed_and_resumed(run, tmp_path / "killed", 4, taught=taught) == essence(tmp_path / "whole")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("taught", [False, True])
def test_workers_are_the_parts_of_accumulate_bit_for_bit(tmp_path, taught):
    parts, workers = by_parts_and_by_workers(run, tmp_path, taught=taught)
    assert parts == workers
