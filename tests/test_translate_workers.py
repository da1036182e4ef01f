"""Translations and scores by workers: the same lines whatever their number."""

import os
import signal

import numpy as np
import pytest

from scratchnmt import NMT, translate
from scratchnmt.checkpoint import save_new_model
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.errors import InputError, WorkerError
from scratchnmt.parallel.team import Team
from scratchnmt.translate import Translator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
RNG = np.random.default_rng(0)
LINES = [" ".join(RNG.choice(list("abcdefgh"), RNG.integers(0, 9))) for _ in range(150)]  # some are blank
VOCAB = WordVocabulary(list("abcdefgh"))


@pytest.fixture(scope="module")
def model():
    model = NMT(len(VOCAB), len(VOCAB), 8, 8, seed=3)
    model.params.flat[...] *= 8
    return model


@pytest.fixture
def shared(monkeypatch):
    """Everything is worth another process; what was done by which."""
    monkeypatch.setattr(translate, "_PAYS", 1.0)


def everything(translator):
    by_beam = translator.translate(LINES, n_best=3, batch_size=4)
    drawn = list(translator.sample(LINES, seed=4, batch_size=4))
    best = [some[0][0] for some in by_beam]
    scored = translator.score(LINES, best, batch_size=4)
    return by_beam, drawn, scored, translator.perplexity(LINES, best, batch_size=4)


def test_lines_and_scores_are_the_same_bits(model, shared):
    expected = everything(Translator(model, VOCAB, VOCAB))
    assert len({text for text, _ in expected[1]}) > 20
    for workers in (2, 3):
        assert everything(Translator(model, VOCAB, VOCAB, workers=workers)) == expected


@pytest.mark.parametrize("size, processes", [(1.0, 3), (1e9, 1)])
def test_little_work_is_done_by_one(model, monkeypatch, size, processes):
    monkeypatch.setattr(translate, "_PAYS", size)
    translator = Translator(model, VOCAB, VOCAB, workers=3)
    assert len(set(translator._each(list(range(9)), lambda item: os.getpid(), 1000))) == processes


def test_what_goes_wrong_in_a_worker(model, shared, monkeypatch):
    translator, parent = Translator(model, VOCAB, VOCAB, workers=2), os.getpid()

    def die(error):
        def search(*_, **__):
            if os.getpid() == parent:
                return [[] for _ in range(4)]
            if error is None:
                os.kill(os.getpid(), signal.SIGKILL)
            raise error
        return search

    monkeypatch.setattr(translate, "beam_search", die(MemoryError("1 GB")))
    with pytest.raises(InputError, match=r"out of memory \(1 GB\) in the search of . sentences .*lower batch_size"):
        translator.translate(["a b c"] * 9, batch_size=4)
    monkeypatch.setattr(translate, "beam_search", die(None))
    with pytest.raises(WorkerError, match=r"worker 2 of 2 \(process \d+\) died; translation stopped$"):
        translator.translate(["a b c"] * 9, batch_size=4)


def test_the_commands(call, model, shared, tmp_path, monkeypatch):
    for package in ("safetensors", "sacrebleu"):
        pytest.importorskip(package)
    save_new_model(tmp_path / "model", model, VOCAB, VOCAB)
    text = tmp_path / "text"
    text.write_text("\n".join(LINES) + "\n")
    started = []
    monkeypatch.setattr(Team, "fork", lambda self, work, real=Team.fork: started.append(self.size) or real(self, work))
    outputs = []
    for workers in (1, 3):
        common = "--model", tmp_path / "model", "--batch-size", 4, "--workers", workers
        outputs.append([call("translate", *common, "--input", text),
                        call("score", *common, "--src", text, "--tgt", text),
                        call("evaluate", *common, "--src", text, "--ref", text)[1].partition("speed")[0]])
        assert bool(started) == (workers > 1) and set(started) <= {3}
    assert outputs[0] == outputs[1] and outputs[0][0][0] == 0 and "BLEU" in outputs[0][2]
    status, _, error = call("translate", "--model", tmp_path / "model", "--workers", 0, "--input", text)
    assert status == 2 and "--workers is 0, expected a whole number of at least 1" in error
