from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchnmt.data.batches import epoch_batches, make_batch
from scratchnmt.data.corpus import LeftOut
from scratchnmt.data.encode import encode_parallel
from scratchnmt.data.vocab import BOS, EOS, PAD, WordVocabulary
from scratchnmt.errors import InputError

VOCAB = WordVocabulary("abcdefgh")

sentences = st.lists(st.integers(4, 30), min_size=1, max_size=9)
length_pairs = st.lists(st.tuples(st.integers(1, 40), st.integers(2, 40)), min_size=1, max_size=300)


def test_a_batch_written_out():
    batch = make_batch([[5, 6, 7], [8]], [[9], [10, 11]])
    assert batch.src.T.tolist() == [[5, 6, 7], [8, PAD, PAD]]
    assert batch.tgt.T.tolist() == [[BOS, 9, EOS, PAD], [BOS, 10, 11, EOS]]
    assert batch.src_lengths.tolist() == [3, 1] and batch.tgt_lengths.tolist() == [2, 3]
    assert {array.dtype for array in batch} == {np.dtype("int64")}
    assert batch.src.flags.c_contiguous and batch.tgt.flags.c_contiguous


@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=6))
def test_a_batch_holds_its_sentences(pairs):
    src, tgt = zip(*pairs, strict=True)
    batch = make_batch(src, tgt)
    for b, (s, t) in enumerate(pairs):
        assert batch.src[: batch.src_lengths[b], b].tolist() == s
        assert batch.tgt[: batch.tgt_lengths[b] + 1, b].tolist() == [BOS, *t, EOS]
        assert not batch.src[len(s) :, b].any() and not batch.tgt[len(t) + 2 :, b].any()
    assert len(batch.src) == max(map(len, src)) and len(batch.tgt) == max(map(len, tgt)) + 2


@pytest.mark.parametrize(
    "src, tgt, message",
    [
        ([[4], []], [[4], [5]], "sentence 1 of 2 is empty"),
        ([], [], "no sentences"),
        ([[4]], [[4], [5]], "1 source sentences and 2"),
    ],
)
def test_what_is_not_a_batch(src, tgt, message):
    with pytest.raises(ValueError, match=message):
        make_batch(src, tgt)


def test_encoding_counts_what_it_leaves_out():
    src, tgt = ["a b", "", "a b c d", "c", "e e"], ["b", "a", "b", "a b c d", " "]
    examples, left_out = encode_parallel(src, tgt, VOCAB, VOCAB, max_length=3)
    assert list(examples) == [([4, 5], [5])] and left_out == LeftOut(blank=2, too_long=2)
    examples, left_out = encode_parallel(src, tgt, VOCAB, VOCAB)
    assert left_out == LeftOut(blank=2, too_long=0)
    assert examples.lengths().tolist() == [[2, 2], [4, 2], [1, 5]]
    batch = examples.batch(np.array([2, 0]))
    assert np.array_equal(np.stack([batch.src_lengths, batch.tgt_lengths], 1), examples.lengths([2, 0]))


def test_nothing_left_is_an_error():
    with pytest.raises(InputError, match="of 2, 1 are blank on a side, 1 longer than 1 tokens"):
        encode_parallel(["a b", ""], ["a", "b"], VOCAB, VOCAB, max_length=1)
    with pytest.raises(InputError, match="max_length must be at least 1"):
        encode_parallel(["a"], ["a"], VOCAB, VOCAB, max_length=0)


@given(
    length_pairs, st.integers(1, 60), st.sampled_from(["sentences", "tokens"]), st.sampled_from([None, 0, 1])
)
def test_every_example_once_within_the_size(lengths, batch_size, by, seed):
    lengths = np.array(lengths)
    rng = None if seed is None else np.random.default_rng(seed)
    batches = epoch_batches(lengths, batch_size, by, rng)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for members in batches:
        cost = len(members) if by == "sentences" else len(members) * lengths[members, 1].max()
        assert cost <= batch_size or len(members) == 1
    if by == "sentences":
        assert len(batches) == -(-len(lengths) // batch_size)


def random_lengths(count, seed=0):
    return np.random.default_rng(seed).integers(2, 40, (count, 2))


@pytest.mark.parametrize("by, batch_size", [("sentences", 16), ("tokens", 300)])
def test_batches_follow_the_seed_and_are_shuffled(by, batch_size):
    lengths = random_lengths(5000)
    first, again, other = (
        epoch_batches(lengths, batch_size, by, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert {tuple(sorted(a)) for a in first}.isdisjoint(tuple(sorted(a)) for a in other)
    longest = [lengths[members, 1].max() for members in first[:50]]  # of one pool or several
    assert sum(a > b for a, b in pairwise(longest)) > 10


@pytest.mark.parametrize("by, batch_size", [("sentences", 16), ("tokens", 300)])
def test_like_lengths_are_together(by, batch_size):
    lengths = random_lengths(5000)
    for rng in (np.random.default_rng(0), None):
        batches = epoch_batches(lengths, batch_size, by, rng, pool=100)
        padded = sum(len(members) * lengths[members, 1].max() for members in batches)
        assert padded < 1.06 * lengths[:, 1].sum()  # unsorted batches of 16: about 1.8 times


@pytest.mark.parametrize("by, batch_size", [("sentences", 16), ("tokens", 300)])
def test_a_small_pool_leaves_lengths_to_chance(by, batch_size):
    lengths = random_lengths(5000)

    def padded(pool):
        batches = epoch_batches(lengths, batch_size, by, np.random.default_rng(0), pool)
        assert sorted(np.concatenate(batches)) == list(range(5000))
        return sum(len(members) * lengths[members, 1].max() for members in batches)

    assert padded(1) > 1.2 * padded(10) > 1.2 * 1.02 * padded(100)


def test_equal_lengths_are_grouped_at_random():
    lengths = np.full((64, 2), 5)
    batches = epoch_batches(lengths, 8, rng=np.random.default_rng(0))
    assert any(np.ptp(members) > 8 for members in batches)


def test_bad_arguments():
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        epoch_batches(random_lengths(3), 0)
    with pytest.raises(InputError, match="pool must be at least 1"):
        epoch_batches(random_lengths(3), 1, pool=0)
    with pytest.raises(InputError, match="'words'"):
        epoch_batches(random_lengths(3), 1, by="words")
