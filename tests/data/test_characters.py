from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import UNK, SentencePieceVocabulary, rare_characters

IDEOGRAPHS = [chr(0x4E00 + n) for n in range(5000)]


def kept(text, size, coverage=None):
    return set("".join(text)) - {" "} - rare_characters(text, size, coverage)[0]


def test_of_few_characters_none_is_rare():
    assert rare_characters(["abc", "q"], size=10) == (set(), 0.0)
    assert rare_characters([*IDEOGRAPHS[:256]], size=100) == (set(), 0.0)
    assert rare_characters([*IDEOGRAPHS[:800]], size=8000) == (set(), 0.0)


def test_of_many_characters_those_that_occur_once_are():
    text = ["the cat sees the dog ."] * 3 + IDEOGRAPHS[:900]
    rare, share = rare_characters(text, size=8000)
    assert rare == set(IDEOGRAPHS[:900]) and share == 900 / (3 * 17 + 900)


def test_an_alphabet_of_thousands_keeps_half_of_the_vocabulary_at_most():
    text = [c * (n + 1) for n, c in enumerate(IDEOGRAPHS[:2000])]  # every number of occurrences once
    assert kept(text, size=8000) == set(IDEOGRAPHS[1:2000])
    assert kept(text, size=2000) == set(IDEOGRAPHS[1000:2000])
    assert len(kept(text, size=100)) == 256  # SentencePiece says then that the size is too small


def test_a_coverage_that_is_given_holds():
    text = ["aaaa bbb", "cc d e"]
    assert kept(text, 8000, 1) == set("abcde") and kept(text, 8000, 10 / 11) == set("abcd")
    assert kept(text, 8000, 0.5) == set("ab") and kept(text, 8000, 0.01) == {"a"}


@given(st.lists(st.text(max_size=20), min_size=1), st.floats(0.01, 1), st.sampled_from([10, 600]))
def test_a_coverage_is_reached_with_the_fewest_characters(text, coverage, size):
    counts = Counter(c for line in text for c in line if c != " ")
    rare, share = rare_characters(text, size, coverage)
    assert share <= 1 - coverage + 1e-12
    frequent = [n for c, n in counts.items() if c not in rare]
    if frequent:
        assert sum(frequent) - min(frequent) < coverage * sum(counts.values())
        assert all(counts[c] <= min(frequent) for c in rare)


@pytest.mark.parametrize("model", ["bpe", "unigram"])
def test_a_foreign_character_in_every_line_leaves_the_vocabulary_to_subwords(model):
    said = []
    lines = toy_corpus(train=2400, valid=1, test=1).train.src
    text = [f"{line} {c}" for line, c in zip(lines, IDEOGRAPHS[:2400], strict=True)]
    vocab = SentencePieceVocabulary.train(text, 2500, model, say=said.append)
    characters = sum(len(vocab.token(i)) == 1 for i in range(4, len(vocab)))
    assert characters < 40 and len(vocab) > 2 * characters
    assert said == ["2,400 rare characters, 3.75% of the text, get no piece and become <unk> "
                    "(character_coverage 1 gives each a piece)"]
    assert vocab.encode(text[0])[-1] == UNK and UNK not in vocab.encode(lines[0])
    every = SentencePieceVocabulary.train(text, 2500, model, character_coverage=1, say=said.append)
    assert every.decode(every.encode(text[9])) == text[9] and len(said) == 1


def test_a_smaller_coverage_makes_a_vocabulary_possible_that_was_too_small():
    text = ["aaaaaaaaaa bbbbbbbbbb", "cdefghijklmnopqrst"] * 3
    assert len(SentencePieceVocabulary.train(text, 20, character_coverage=0.5)) <= 20
