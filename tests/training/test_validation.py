"""Validation measures each sentence with its own reference, in whatever batch it is."""

import pytest
from tiny_run import VOCAB, data, model

from scratchnmt.metrics import corpus_bleu, perplexity
from scratchnmt.search import greedy_search
from scratchnmt.training.loop import Validation


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
