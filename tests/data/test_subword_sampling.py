"""Draws of segmentations have the distribution of the equation, and depend on seed, epoch, pair and side alone."""

import io
import struct
from collections import Counter
from math import exp, inf

import numpy as np
import pytest

from scratchnmt.data import subword_sampling
from scratchnmt.data.corpus import Corpus
from scratchnmt.data.encode import encode_parallel, open_or_build
from scratchnmt.data.subword_sampling import Flat, Lattices, Sampler, nth_random
from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import SPECIALS, UNK, SentencePieceVocabulary, WordVocabulary
from scratchnmt.errors import InputError

sentencepiece = pytest.importorskip("sentencepiece")
LINES, OTHERS = toy_corpus(train=400, valid=3).train
VOCAB = SentencePieceVocabulary.train(LINES, 200, "unigram", user_symbols=["<2de>"])
TARGET = SentencePieceVocabulary.train(OTHERS, 200, "unigram")


def across_spaces():
    """A vocabulary of which some pieces hold several words."""
    out = io.BytesIO()
    pad, bos, eos, unk = SPECIALS
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=out, vocab_size=400, model_type="unigram",
        split_by_whitespace=False,
        normalization_rule_name="identity", pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece=pad, bos_piece=bos,
        eos_piece=eos, unk_piece=unk, hard_vocab_limit=False, minloglevel=3)
    return SentencePieceVocabulary(out.getvalue())


def segmentations(text, pieces):
    """All of them, each as ids with log P."""
    if not text:
        return [((), 0.0)]
    return [((id, *rest), log_p + log_rest) for piece, (id, log_p) in pieces.items() if text.startswith(piece)
            for rest, log_rest in segmentations(text[len(piece):], pieces)]


def drawn(vocab, line, alpha, count=30000):
    """How often each segmentation of a line is drawn."""
    ids = np.array(vocab.encode(line))
    found = Lattices(vocab, alpha).draw(Flat(np.tile(ids, count), np.full(count, len(ids))),
                                        nth_random(np.full(1, 7, np.uint64), np.arange(count)))
    return Counter(tuple(part.tolist()) for part in np.split(found.ids, np.cumsum(found.lengths)[:-1]))


@pytest.mark.parametrize("alpha", [0.2, 1.0])
@pytest.mark.parametrize("line, spaces", [("father", False), ("the men often", False), ("sees aunt", True)])
def test_draws_have_the_distribution_of_the_equation(line, spaces, alpha):
    """Of whole sentences, by a chi-square test: so that words are drawn one by one makes no difference."""
    vocab, count = across_spaces() if spaces else VOCAB, 30000
    exact = dict(segmentations("\u2581" + line.replace(" ", "\u2581"), vocab.unigrams()))
    if spaces:
        crosses = lambda ids: any("\u2581" in vocab.token(id)[1:] for id in ids)
        assert not crosses(vocab.encode(line)) and any(map(crosses, exact))
    total = sum(exp(alpha * log_p) for log_p in exact.values())
    expected = {ids: count * exp(alpha * log_p) / total for ids, log_p in exact.items()}
    found = drawn(vocab, line, alpha, count)
    assert len(exact) > 10 and found.keys() <= exact.keys()
    often = [ids for ids, n in expected.items() if n >= 5]
    cells = [(found[ids], expected[ids]) for ids in often]
    cells.append((count - sum(n for n, _ in cells), count - sum(n for _, n in cells)))
    chi_square, freedom = sum((n - e) ** 2 / e for n, e in cells if e > 1), len(cells) - 1
    assert abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5, (chi_square, freedom)


def test_all_segmentations_are_those_of_sentencepiece():
    """Which lists them best first: an independent witness of pieces and probabilities."""
    text = "\u2581father"
    exact = dict(segmentations(text, VOCAB.unigrams()))
    listed = [tuple(ids) for ids in VOCAB._processor.nbest_encode("father", nbest_size=512)]
    assert set(listed) == exact.keys() and len(listed) == len(exact)
    scores = [exact[ids] for ids in listed]
    np.testing.assert_allclose(scores, sorted(scores, reverse=True), rtol=1e-6)
    assert drawn(VOCAB, "father", 9.0).most_common(1)[0][0] == tuple(VOCAB.encode("father"))


def corpus(**options):
    return encode_parallel(LINES, OTHERS, VOCAB, TARGET, **options)[0]


def sampled(seeds=(1, 3, 0), alpha=0.2, text=None, **limits):
    return Sampler(text or corpus(), (VOCAB, TARGET), alpha, **limits).epoch(list(seeds))


def rows(side, lengths):
    return [column[:length].tolist() for column, length in zip(side.T, lengths, strict=True)]


def pairs(text, indices):
    batch = text.batch(indices)
    return list(zip(rows(batch.src, batch.src_lengths), rows(batch.tgt, batch.tgt_lengths + 1), strict=True))


def field(key, data):
    """A part of a SentencePiece .model file, of at most 16,383 bytes."""
    return bytes([key, len(data) & 127 | 128, len(data) >> 7]) + data


def with_piece(text):
    """VOCAB with one more piece."""
    score = b"\x15" + struct.pack("<f", -1.0)
    return SentencePieceVocabulary(VOCAB.to_bytes() + field(0x0A, field(0x0A, text.encode()) + score))


def without_probabilities():
    data = VOCAB.to_bytes()
    for _, score in VOCAB.unigrams().values():
        data = data.replace(b"\x15" + struct.pack("<f", score), b"\x15" + struct.pack("<f", 0.0))
    return SentencePieceVocabulary(data)


def test_the_cost_of_a_lattice_is_that_of_the_lengths_of_pieces():
    """Not of all lengths up to the longest piece."""
    many, some = with_piece("a" * 512), [0]

    class Counted(dict):
        def get(self, text):
            some[0] += 1
            return super().get(text)

    lattices = Lattices(many, 0.5)
    lattices.pieces = Counted(lattices.pieces)
    lattices._lattice("a" * 3000)
    assert some[0] < 3000 * 40


@pytest.mark.parametrize("make, words", [
    (lambda: with_piece("a" * 513), "pieces of more than 512 characters, which SentencePiece does not make"),
    (without_probabilities, "pieces without probabilities")])
def test_a_unigram_model_that_cannot_be_drawn_by_is_refused(make, words):
    text = corpus()
    for vocabularies in ((make(), TARGET), (TARGET, make())):
        with pytest.raises(InputError, match=f"vocabulary is one of {words}: choose a vocabulary of --vocab unigram"):
            Sampler(text, vocabularies, 0.5)


def test_a_draw_says_what_the_sentence_says():
    text, everything = corpus(), np.arange(400)
    epochs = [pairs(sampled((1, 3, epoch)), everything) for epoch in range(2)]
    best = pairs(text, everything)
    for number, (src, tgt) in enumerate(epochs[0]):
        assert VOCAB.decode(src) == LINES[number] and TARGET.decode(tgt) == OTHERS[number]
    for other in (epochs[1], best):
        assert sum(a != b for a, b in zip(epochs[0], other, strict=True)) > 300
    np.testing.assert_array_equal(sampled().lengths(everything),
                                  [[len(src), len(tgt) - 1] for src, tgt in epochs[0]])
    assert sampled().lengths(everything[:0]).shape == (0, 2)


def test_a_draw_depends_on_seeds_pair_and_side_alone(monkeypatch):
    """Not on the other sentences, on those before, or on what is remembered of the words."""
    expected = dict(enumerate(pairs(sampled(), range(400))))
    order = np.random.default_rng(0).permutation(400)[:50]
    assert pairs(sampled(), order) == [expected[i] for i in order.tolist()]
    monkeypatch.setattr(subword_sampling, "_MOST", 0)
    monkeypatch.setattr(subword_sampling, "_AT_ONCE", 7)
    text = sampled()
    for numbers in np.array_split(order, 7):
        assert pairs(text, numbers) == [expected[i] for i in numbers.tolist()]
    np.testing.assert_array_equal(text.lengths(order),
                                  [[len(expected[i][0]), len(expected[i][1]) - 1] for i in order.tolist()])
    for seeds in ((2, 3, 0), (1, 3, 1)):
        assert pairs(sampled(seeds), order) != pairs(sampled(), order)
    same = Corpus.of(*[[VOCAB.encode(line) for line in LINES]] * 2)
    batch = Sampler(same, (VOCAB, VOCAB), 0.2).epoch([1]).batch(order)  # the sides differ, too
    assert rows(batch.src, batch.src_lengths) != [row[1:] for row in rows(batch.tgt, batch.tgt_lengths)]


def test_on_the_disk_and_in_memory(tmp_path):
    (tmp_path / "src").write_text("\n".join(LINES) + "\n")
    (tmp_path / "tgt").write_text("\n".join(OTHERS) + "\n")
    for _ in range(2):  # made, and found again
        found, _ = open_or_build(tmp_path / "corpus", str(tmp_path / "src"), str(tmp_path / "tgt"), VOCAB, TARGET,
                                 max_length=30)
        assert found.max_length == 30
        assert pairs(sampled(text=found), range(400)) == pairs(sampled(), range(400))


def test_what_is_no_piece_of_the_model_stays():
    line = "<2de>my father \u732b<2de>water\u732b"
    ids = VOCAB.encode(line)
    found = drawn(VOCAB, line, 0.1, 500)
    assert len(found) > 100 and ids.count(UNK) == 2
    symbol = ids[1]
    assert VOCAB.token(symbol) == "<2de>"
    for other in found:
        assert [id for id in other if id in (UNK, symbol)] == [symbol, UNK, symbol, UNK]
        assert VOCAB.decode(other) == VOCAB.decode(ids)


def test_a_draw_that_is_too_long_gives_way_to_the_best_segmentation():
    best, free = pairs(corpus(), range(400)), pairs(sampled(alpha=0.1), range(400))
    limited = pairs(sampled(alpha=0.1, limits=(20, inf)), range(400))
    long = [len(src) > 20 for src, _ in free]
    assert 50 < sum(long) < 350
    for is_long, (src, tgt), unlimited, one in zip(long, limited, free, best, strict=True):
        assert src == (one if is_long else unlimited)[0] and tgt == unlimited[1]


def test_the_random_numbers_are_those_of_splitmix64():
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert nth_random(np.full(1, 1234567, np.uint64), np.arange(4)).tolist() == expected


def test_a_vocabulary_without_probabilities_is_refused():
    bpe, words = SentencePieceVocabulary.train(LINES, 90, "bpe"), WordVocabulary(["a"])
    for vocabularies, what in (((bpe, TARGET), "the source vocabulary is one of BPE"),
                               ((VOCAB, words), "the target vocabulary is one of words")):
        with pytest.raises(InputError, match=f"subword_sampling draws by the probabilities.*{what}"):
            Sampler(corpus(), vocabularies, 0.2)
