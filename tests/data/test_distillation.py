"""Each sentence has the reference or the teacher's translation, drawn from the seeds and the pair alone."""

import numpy as np
import pytest

from scratchnmt.data.batches import epoch_batches
from scratchnmt.data.corpus import Corpus, Epoch
from scratchnmt.data.distillation import Distillation
from scratchnmt.data.subword_sampling import Sampler
from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import SentencePieceVocabulary

N = 400
LINES = np.arange(1, N + 1)
SRC = [[4 + n % 50] * (1 + n % 5) for n in range(N)]
REFERENCES = [[1000 + n] * (2 + n % 3) for n in range(N)]
TEACHERS = [[3000 + n] * (1 + n % 7) for n in range(N)]
MISSING = {0, 7, 399}  # pairs whose translation by the teacher was left out
KEPT = [n for n in range(N) if n not in MISSING]


@pytest.fixture
def distillation():
    teacher = Corpus.of([SRC[n] for n in KEPT], [TEACHERS[n] for n in KEPT], [n + 1 for n in KEPT])
    return lambda weight=0.5: Distillation(Corpus.of(SRC, REFERENCES, LINES), [teacher], [weight])


def targets(sentences, indices):
    batch = sentences.batch(indices)
    assert [batch.src[:length, k].tolist() for k, length in enumerate(batch.src_lengths)] == [SRC[n] for n in indices]
    return [batch.tgt[1:length, k].tolist() for k, length in enumerate(batch.tgt_lengths)]


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_a_sentence_has_one_of_the_two_by_weight(distillation, weight):
    found = targets(distillation(weight).epoch([1, 4, 0]), range(N))
    assert all(one in (REFERENCES[n], TEACHERS[n]) for n, one in enumerate(found))
    assert all(found[n] == REFERENCES[n] for n in MISSING)
    share = np.mean([found[n] == TEACHERS[n] for n in KEPT])
    assert abs(share - weight) < 5 * np.sqrt(weight * (1 - weight) / N)


def test_of_several_teachers_each_has_its_share(distillation):
    """The first as often, and for the same sentences, as alone."""
    corpus, second = Corpus.of(SRC, REFERENCES, LINES), [[5000 + n] * (1 + n % 4) for n in range(N)]
    one = distillation(0.3)
    two = Distillation(corpus, [*one.teachers, Corpus.of(SRC, second, LINES)], [0.3, 0.5])
    alone, found = (targets(made.epoch([1, 4, 0]), range(N)) for made in (one, two))
    firsts, seconds = ([y == theirs[n] for n, y in enumerate(found)] for theirs in (TEACHERS, second))
    assert firsts == [y == TEACHERS[n] for n, y in enumerate(alone)] and abs(np.mean(seconds) - 0.5) < 0.13
    assert all(a or b or y == REFERENCES[n] for n, (a, b, y) in enumerate(zip(firsts, seconds, found, strict=True)))
    lengths, batch = two.epoch([1, 4, 0]).lengths(np.arange(N)), two.epoch([1, 4, 0]).batch(range(N))
    np.testing.assert_array_equal(lengths, np.stack([batch.src_lengths, batch.tgt_lengths], axis=1))
    everything = targets(Distillation(corpus, two.teachers, [0.3, 0.7]).epoch([1, 4, 0]), range(N))
    assert {n for n, y in enumerate(everything) if y == REFERENCES[n]} <= MISSING


def test_what_is_drawn_depends_on_the_seeds_and_the_pair_alone(distillation):
    first, again, next_one = (distillation().epoch(seeds) for seeds in ([1, 4, 0], [1, 4, 0], [1, 4, 1]))
    whole = targets(first, range(N))
    some = np.random.default_rng(0).permutation(N)[:37].tolist()
    assert targets(again, some) == [whole[n] for n in some]
    changed = np.mean([a != b for a, b in zip(whole, targets(next_one, range(N)), strict=True)])
    assert 0.4 < changed < 0.6


def test_lengths_and_sides_are_those_of_the_batch(distillation):
    sentences, indices = distillation().epoch([3]), np.array([5, 0, 7, 300, 299, 12])
    batch = sentences.batch(indices)
    np.testing.assert_array_equal(sentences.lengths(indices), np.stack([batch.src_lengths, batch.tgt_lengths], axis=1))
    (src, src_lengths), (tgt, tgt_lengths) = sentences.sides(indices)
    assert src.tolist() == [id for n in indices for id in SRC[n]]
    assert src_lengths.tolist() == [len(SRC[n]) for n in indices]
    assert tgt.tolist() == [id for one in targets(sentences, indices) for id in one]
    assert tgt_lengths.tolist() == (batch.tgt_lengths - 1).tolist()


def test_batches_are_laid_out_by_the_lengths_that_were_drawn(distillation):
    made = distillation()
    sentences = made.epoch([3])
    epoch, without = (Epoch(made.corpus, 60, "tokens", 10, [1, 1, 0], text) for text in (sentences, None))
    expected = epoch_batches(sentences.lengths(np.arange(N)), 60, "tokens", np.random.default_rng([1, 1, 0]), 10)
    assert [batch.tolist() for batch in epoch] == [batch.tolist() for batch in expected]
    assert [batch.tolist() for batch in epoch] != [batch.tolist() for batch in without]


def test_what_was_drawn_is_cut_anew_by_subword_sampling():
    pytest.importorskip("sentencepiece")
    src, references = toy_corpus(train=60).train
    teachers = references[::-1]
    vocab = SentencePieceVocabulary.train(references, 90, "unigram")
    ids = [[vocab.encode(line) for line in lines] for lines in (references, teachers)]
    corpus = Corpus.of(ids[0], ids[0])
    distilled = Distillation(corpus, [Corpus.of(ids[0], ids[1])], [0.5]).epoch([1])
    cut = Sampler(corpus, (vocab, vocab), 0.2).epoch([2], distilled).batch(range(60))
    plain = distilled.batch(range(60))
    text = lambda batch: [vocab.decode(batch.tgt[1:length, k].tolist()) for k, length in enumerate(batch.tgt_lengths)]
    assert text(cut) == text(plain) and (cut.tgt_lengths != plain.tgt_lengths).any()
    assert text(plain) not in (references, teachers)
