"""The score of a given translation: the loss negated, token by token, and what beam search calls it."""

from itertools import pairwise

import numpy as np
import pytest
from models.tiny_nmt import alone, batch, by_configuration, padded

from scratchnmt import translate
from scratchnmt.data.batches import make_batch
from scratchnmt.data.vocab import SentencePieceVocabulary, WordVocabulary, ids_of_pieces
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT
from scratchnmt.search import Ensemble, beam_search
from scratchnmt.translate import Translator

SRC = [" ".join(f"w{i % 20:02}" for i in range(n, 2 * n + 1)) for n in (4, 1, 7, 2, 3, 5, 0, 2)]
TGT = ["le chat dort .", "la", "les", "le le chat inconnu . .", "", "dort " * 9, ". .", "la"]


def translator(dtype="float64", **choices):
    src_vocab = WordVocabulary(f"w{i:02}" for i in range(20))
    tgt_vocab = WordVocabulary(["le", "la", "les", "chat", "dort", "."])
    model = NMT(len(src_vocab), len(tgt_vocab), 10, 12, dtype=dtype, seed=7, **choices)
    model.params.flat[...] *= 8
    return Translator(model, src_vocab, tgt_vocab)


def step_by_step(model, sentence, words):
    """log p of each word by the steps of a search, one at a time."""
    state, found = model.start(np.array(sentence)[:, None], np.array([len(sentence)])), []
    for before, word in pairwise([1, *words]):
        logits, _, state = model.step(state, np.array([[before]]))
        x = logits[0, 0] - logits.max()
        found.append(x[word] - np.log(np.exp(x).sum()))
    return found


@by_configuration
def test_token_log_probs_are_the_parts_of_the_loss_and_of_a_search(case):
    model = case.model("cpu", seed=2)
    src, src_lengths, tgt = batch()
    found = model.token_log_probs(src, src_lengths, tgt)
    assert found.shape == (len(tgt) - 1, len(src_lengths)) and ((found == 0) == (tgt[1:] == 0)).all()
    np.testing.assert_allclose(found.sum(), -model.nll(src, src_lengths, tgt), rtol=1e-12)
    if not model.config.label_smoothing:
        np.testing.assert_allclose(found.sum(), -model.forward(src, src_lengths, tgt)[0], rtol=1e-12)
    for b, length in enumerate((tgt[1:] != 0).sum(axis=0)):
        one, lengths, words = alone(b)
        np.testing.assert_allclose(found[:length, b], step_by_step(model, one[:, 0], words[1:, 0]), rtol=1e-10)
        np.testing.assert_allclose(found[:length, b], model.token_log_probs(one, lengths, words)[:, 0], rtol=1e-10)
    more = model.token_log_probs(*padded(3, 2))
    np.testing.assert_allclose(more[: len(found)], found, rtol=1e-10, atol=1e-14)
    assert not more[len(found) :].any()


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 1e-4)])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_every_pair_gets_the_score_that_it_has_alone(dtype, tolerance, batch_size):
    found = translator(dtype).score(SRC, TGT, batch_size=batch_size)
    exact = translator()
    for src, tgt, (score, tokens, token_scores) in zip(SRC, TGT, found, strict=True):
        ids = exact.tgt_vocab.encode(tgt)
        expected = step_by_step(exact.model, exact.src_vocab.encode(src), [*ids, 2])
        np.testing.assert_allclose(token_scores, expected, rtol=0, atol=tolerance)
        assert score == pytest.approx(sum(token_scores), abs=1e-12) and isinstance(score, float)
        assert tokens == [*("<unk>" if word == "inconnu" else word for word in tgt.split()), "</s>"]
    assert translator().score([], []) == []


@pytest.mark.parametrize("several", [False, True])
def test_the_score_of_what_beam_search_found_is_its_score(several):
    one = translator()
    if several:
        one.model = Ensemble([one.model, translator(layers=2, score="concat").model])
    batch, pairs = make_batch([one.src_vocab.encode(line) for line in SRC], [[] for _ in SRC]), []
    results = beam_search(one.model, batch.src, batch.src_lengths, beam_size=20, n_best=20)
    for line, found in zip(SRC, results, strict=True):
        for hypothesis in found:
            if len(hypothesis.attention) > len(hypothesis.value):
                pairs.append((line, one.tgt_vocab.decode(hypothesis.value), hypothesis.score))
    assert len(pairs) > 90 and max(len(text.split()) for _, text, _ in pairs) > 3
    src, tgt, scores = zip(*pairs, strict=True)
    np.testing.assert_allclose([scored.score for scored in one.score(src, tgt)], scores, rtol=0, atol=1e-10)


@pytest.fixture(scope="module")
def subwords():
    """A translator that finds pieces which SentencePiece would not have chosen, as no training has taught it which."""
    pytest.importorskip("sentencepiece")
    vocab = SentencePieceVocabulary.train([*SRC, *TGT, "chats dorment la les lesquels chatte"] * 5, size=60)
    model = NMT(len(vocab), len(vocab), 10, 12, dtype="float64", seed=3)
    return Translator(model, vocab, vocab)


def test_the_score_of_pieces_is_the_score_with_which_they_were_found(subwords):
    lines = [line for line in SRC if line] * 5
    found, texts = (list(subwords.sample(lines, max_length=60, pieces=pieces)) for pieces in (True, False))
    ended = [i for i, (pieces, _) in enumerate(found) if pieces and len(pieces.split(" ")) < 60]
    assert len(ended) > 10
    pick = lambda things: [things[i] for i in ended]
    scores = [score for _, score in pick(found)]
    by_pieces = subwords.score(pick(lines), [pieces for pieces, _ in pick(found)], pieces=True)
    np.testing.assert_allclose([one.score for one in by_pieces], scores, atol=1e-10)
    for one, (pieces, _), (text, _) in zip(by_pieces, pick(found), pick(texts), strict=True):
        assert one.tokens == [*filter(None, pieces.split(" ")), "</s>"]
        assert subwords.tgt_vocab.decode(ids_of_pieces(subwords.tgt_vocab, [pieces])[0]) == text
    by_text = subwords.score(pick(lines), [text for text, _ in pick(texts)])
    assert not np.allclose([one.score for one in by_text], scores)  # or there would be no need of pieces


def test_pieces_of_words_are_words():
    one = translator()
    assert one.score(SRC, TGT[:4] + [""] + TGT[5:]) == one.score(
        SRC, [line.replace("inconnu", "<unk>") for line in TGT], pieces=True)
    (drawn,) = one.sample(["w01"], pieces=True)
    assert one.score(["w01"], [drawn[0]], pieces=True)[0].tokens[:-1] == drawn[0].split()


@pytest.mark.parametrize("wrong", ["inconnu", "la </s>", "<s>", "<pad> la", "la\tle"])
def test_what_is_no_piece_is_told_by_its_line(wrong):
    with pytest.raises(InputError, match="^line 2: .* is no token of the target vocabulary"):
        translator().score(["w01", "w02"], ["la", wrong], pieces=True)
    with pytest.raises(InputError, match="pieces and replace_unknown exclude each other"):
        translator().translate(["w01"], pieces=True, replace_unknown=True)


@pytest.mark.parametrize("sizes, side", [((24, 11), "target"), ((25, 10), "source")])
@pytest.mark.parametrize("several", [False, True])
def test_vocabularies_of_another_model_are_noticed(sizes, side, several):
    one, other = translator(), NMT(*sizes, 4, 4)
    with pytest.raises(InputError, match=f"the {side} vocabulary has (24|10) tokens, the model was made for (25|11)"):
        Translator(Ensemble([other]) if several else other, one.src_vocab, one.tgt_vocab)


def test_blank_lines():
    scored = translator().score(["", "w01", "w02"], ["  ", "", "la"])
    assert scored[0] == (0.0, [], [])
    assert scored[1].tokens == ["</s>"] and scored[1].score == scored[1].token_scores[0] < 0
    with pytest.raises(InputError, match="^line 2 is blank in the source and not in the target"):
        translator().score(["w01", " "], ["la", "la"])


def test_what_cannot_be_scored_is_named(monkeypatch):
    one = translator()
    with pytest.raises(InputError, match="^1 source lines and 2 target lines: line n of one"):
        one.score(["w01"], ["la", "la"])
    with pytest.raises(InputError, match="batch_size must be at least 1, not 0"):
        one.score(["w01"], ["la"], batch_size=0)
    for count in (one.score, one.perplexity):
        with pytest.raises(TypeError, match="list of sentences"):
            count("w01", "la")
        with pytest.raises(InputError, match="batch_size must be at least 1, not -1"):
            count(["w01"], ["la"], batch_size=-1)
    monkeypatch.setattr(translate, "_MEMORY", 1 << 20)
    with pytest.raises(InputError, match="^line 2 has 500 source and 400 target tokens: .* 2 MB of .* limit is 1 MB"):
        one.score(["w01", "w02 " * 500], ["la", "la " * 400])

    def full(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(one.model, "token_log_probs", full)
    with pytest.raises(InputError, match=r"out of memory \(no room\) in the scores of 1 sentences .* now 64"):
        one.score(["w01"], ["la"])


def test_batches_shrink_to_fit_the_memory(monkeypatch):
    one, sizes = translator(), []
    whole, scoring = one.score(SRC, TGT), one.model.token_log_probs

    def noting(src, src_lengths, tgt):
        sizes.append(len(src) * int((tgt[1:] != 0).sum()) * 8)  # attention weights (N, S)
        return scoring(src, src_lengths, tgt)

    monkeypatch.setattr(one.model, "token_log_probs", noting)
    monkeypatch.setattr(translate, "_MEMORY", 6 * 10 * 8)
    again = one.score(SRC, TGT)
    assert len(sizes) > 3 and max(sizes) <= 6 * 10 * 8
    for a, b in zip(again, whole, strict=True):
        np.testing.assert_allclose(a.token_scores, b.token_scores, rtol=1e-10)


def test_a_batch_of_pairs_is_the_batch_of_training():
    one = translator()
    pairs = [(one.src_vocab.encode(s), one.tgt_vocab.encode(t)) for s, t in zip(SRC, TGT, strict=True)]
    made = make_batch(*zip(*pairs, strict=True))
    loss, _ = one.model.forward(made.src, made.src_lengths, made.tgt)
    assert sum(scored.score for scored in one.score(SRC, TGT)) == pytest.approx(-float(loss), rel=1e-12)
