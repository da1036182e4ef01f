"""What a vocabulary does not know of a text is counted as it is encoded, and told of text that is not what it seems."""

import json

import numpy as np
import pytest

from scratchnmt.data.corpus import HEADER, Corpus
from scratchnmt.data.coverage import Coverage, coverage_of, doubt, looks_swapped, read_coverage
from scratchnmt.data.encode import encode_parallel, open_or_build
from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import UNK, SentencePieceVocabulary, WordVocabulary
from scratchnmt.files.reading import CHECKSUM, bytes_with_checksum

WORDS = WordVocabulary(["a", "dog", "runs", "."])


@pytest.fixture(scope="module")
def toy():
    return toy_corpus(train=400, valid=60, test=10)


@pytest.fixture(scope="module", params=["word", "unigram", "bpe"])
def vocabularies(request, toy):
    pytest.importorskip("sentencepiece")

    def build(lines):
        if request.param == "word":
            return WordVocabulary.build(lines, min_count=1)
        return SentencePieceVocabulary.train(lines, 200, request.param)

    return build(toy.train.src), build(toy.train.tgt)


def test_words_are_counted():
    assert coverage_of(["a dog runs .", "A dog ran .", "  ", "<unk>"], WORDS) == Coverage(3, 9, 9)
    assert coverage_of([], WORDS).share == coverage_of([], WORDS).cut == 0
    assert str(coverage_of(["a", "b", "c"], WORDS)) == "66.67 %"


@pytest.mark.parametrize("model", ["unigram", "bpe"])
def test_every_unknown_character_of_subwords_is_counted(model):
    pytest.importorskip("sentencepiece")
    vocabulary = SentencePieceVocabulary.train(["a dog runs on snow", "a cat sees a dog"] * 20, 40, model)
    lines = ["a dog", "a ЖЖЖ dog", "Жa", "狗 狗", "", "  a  "]
    expected = [(0, 4), (3, 7), (1, 2), (2, 2), (0, 0), (0, 1)]
    assert [coverage_of([line], vocabulary)[:2] for line in lines] == expected
    assert vocabulary.encode(lines[1]).count(UNK) == 1  # of three characters
    assert coverage_of(lines, vocabulary).tokens == sum(len(vocabulary.encode(line)) for line in lines)


def test_a_character_that_becomes_many_is_one():
    pytest.importorskip("sentencepiece")
    vocabulary = SentencePieceVocabulary.train(["a dog runs on snow"] * 20, 30)
    unknown, total = coverage_of(["\ufdfa"], vocabulary)[:2]  # a ligature of 18 letters, where they are taken apart
    assert (unknown, total) == (1, 1)


def test_it_is_of_the_pairs_that_are_kept():
    corpus, left_out = encode_parallel(["a cat", "a a a a a", ""], ["dog", "b", "b"], WORDS, WORDS, max_length=4)
    assert left_out == (1, 1) and corpus.coverage == (Coverage(1, 2, 2), Coverage(0, 1, 1))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_folder_keeps_it_whoever_encodes(tmp_path, monkeypatch, vocabularies, toy, processes):
    monkeypatch.setattr("scratchnmt.data.encode.CHUNK", 150)
    src, tgt = [line.replace("a", "ж", 1) for line in toy.train.src], toy.train.tgt
    for name, lines in ("src", src), ("tgt", tgt):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    corpus, _ = open_or_build(tmp_path / "corpus", str(tmp_path / "src"), str(tmp_path / "tgt"), *vocabularies,
                              processes=processes)
    expected = coverage_of(src, vocabularies[0]), coverage_of(tgt, vocabularies[1])
    assert corpus.coverage == Corpus.open(tmp_path / "corpus").coverage == expected
    assert expected[0].unknown and not expected[1].unknown
    assert corpus.tokens == (expected[0].tokens, expected[1].tokens)


def test_a_folder_of_an_earlier_version_does_not_tell(tmp_path):
    (tmp_path / "text").write_text("a dog\n")
    names = [str(tmp_path / "text")] * 2
    open_or_build(tmp_path / "corpus", *names, WORDS, WORDS)
    content = json.loads((tmp_path / "corpus" / HEADER).read_bytes())
    del content["coverage"], content[CHECKSUM]
    (tmp_path / "corpus" / HEADER).write_bytes(bytes_with_checksum(content))
    corpus, _ = open_or_build(tmp_path / "corpus", *names, WORDS, WORDS, may_build=False)
    assert corpus.coverage is None and corpus[0] == ([4, 5], [4, 5])


@pytest.mark.parametrize("stored", [5, [], [[1, 2, 3]], [[1, 2, 3], [1, 2]], [["1", 2, 3], [1, 2, 3]], {"a": 1},
                                    [[10**400, 1, 1], [1, 1, 1]], [[1, 2, 3], [1, -2, 3]]])
def test_what_is_no_coverage_is_refused(stored):
    with pytest.raises((TypeError, ValueError)):
        read_coverage(stored)


def upper(line):
    return line.upper()


def not_tokenised(line):
    return line.replace(" .", ".").replace(" ", "-", 1)


def test_text_like_that_of_training_is_not_doubted(vocabularies, toy):
    usual = coverage_of(toy.train.src, vocabularies[0])
    for lines in toy.train.src, toy.valid.src, toy.test.src, toy.valid.src[:1]:
        assert doubt(coverage_of(lines, vocabularies[0]), vocabularies[0], "f", "source", usual) is None


@pytest.mark.parametrize("lines", [60, 1])
def test_upper_case_and_another_language_are_doubted(vocabularies, toy, lines):
    vocabulary, usual = vocabularies[0], coverage_of(toy.train.src, vocabularies[0])
    for text in (map(upper, toy.valid.src[:lines]), ["狗在雪地上跑得很快"] * lines):
        told = doubt(coverage_of(text, vocabulary), vocabulary, "the file", "source", usual)
        assert f" of the {vocabulary.UNIT} of the file are unknown to the source vocabulary" in told
        assert told.endswith("in training 0.00 %)")


def test_text_that_is_not_tokenised_is_doubted():
    toy = toy_corpus(train=400, valid=60, test=10)
    vocabulary = WordVocabulary.build(toy.train.src, min_count=1)
    told = doubt(coverage_of(map(not_tokenised, toy.valid.src), vocabulary), vocabulary, "f", "source")
    assert "of the words of f are unknown to the source vocabulary" in told and "training" not in told


def test_subwords_that_know_all_characters_tell_by_the_number_of_pieces():
    """Where letters of both cases, or of both languages, occur in training, no character is unknown."""
    pytest.importorskip("sentencepiece")
    toy = toy_corpus(train=400, valid=60, test=10)
    lines = [*toy.train.src, "".join(sorted({*"".join([*map(upper, toy.train.src), *toy.train.tgt])}))]
    vocabulary = SentencePieceVocabulary.train(lines, 300)
    usual = coverage_of(toy.train.src, vocabulary)
    for text in (map(upper, toy.valid.src), toy.valid.tgt):
        found = coverage_of(text, vocabulary)
        assert found.share < 0.01
        assert doubt(found, vocabulary, "f", "source", usual) == (
            f"f is cut into {found.cut / usual.cut:.1f} times as many source tokens a character as the training text")
        assert doubt(found, vocabulary, "f", "source") is None  # nobody knows how many there should be
    assert doubt(coverage_of(toy.valid.src, vocabulary), vocabulary, "f", "source", usual) is None


def test_a_word_or_two_say_nothing_and_what_is_usual_is_not_doubted():
    assert doubt(Coverage(0, 0, 0), WORDS, "f", "source") is doubt(Coverage(2, 3, 3), WORDS, "f", "source") is None
    for many in 1, 2, 3:
        assert f"100.00 % of the words of f are unknown to the source vocabulary ({many} of {many})" == doubt(
            Coverage(many, many, many), WORDS, "f", "source")
    assert doubt(Coverage(50, 1000, 1000), WORDS, "f", "source") is None
    assert doubt(Coverage(53, 1000, 1000), WORDS, "f", "source") is not None
    usual = Coverage(100, 1000, 1000)
    assert doubt(Coverage(140, 1000, 1000), WORDS, "f", "source", usual) is None
    assert doubt(Coverage(160, 1000, 1000), WORDS, "f", "source", usual) is not None


def test_files_in_each_others_place_are_told(vocabularies, toy):
    src, tgt = toy.valid
    assert looks_swapped(tgt, src, *vocabularies) and not looks_swapped(src, tgt, *vocabularies)
    assert looks_swapped(tgt[:2], src[:2], *vocabularies) and not looks_swapped(src[:2], tgt[:2], *vocabularies)
    for one in vocabularies:  # a joint vocabulary, and a language to itself
        assert not looks_swapped(src, tgt, one, one) and not looks_swapped(tgt, src, one, one)
    assert not looks_swapped(src, src, *vocabularies) and not looks_swapped([], [], *vocabularies)


def test_only_the_first_pairs_are_looked_at(monkeypatch):
    seen = []
    monkeypatch.setattr(WordVocabulary, "encode", lambda self, line: seen.append(line) or [4])
    lines = [str(number) for number in np.arange(5000)]
    looks_swapped(lines, lines, WORDS, WORDS)
    assert len(seen) == 4000
