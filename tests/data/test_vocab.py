import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnmt.data.vocab import BOS, EOS, PAD, SPECIALS, UNK, SentencePieceVocabulary, WordVocabulary, load_vocabulary
from scratchnmt.errors import InputError

FRENCH = [
    "L'été, la forêt est belle et très calme.",
    "Où est passé le garçon ? Il n'est pas à l'école.",
    "Son cœur bat ; « ça » l'inquiète, naïf qu'il est !",
    "La fenêtre de l'hôtel donne sur un château d'eau.",
] * 3  # fmt: skip

letters = st.text("abcdéèç", min_size=1, max_size=5)


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def pieces(request):
    return SentencePieceVocabulary.train(FRENCH, size=80, model=request.param)


def test_special_ids():
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)


def test_words_by_count_then_alphabet():
    vocab = WordVocabulary.build(["b a b", "c  a\tb", "d c"], min_count=2)
    assert [vocab.token(i) for i in range(len(vocab))] == [*SPECIALS, "b", "a", "c"]
    assert vocab.encode("a d  b") == [5, UNK, 4]
    assert vocab.tokens("a d  b") == ["a", "d", "b"]


def test_size_counts_the_special_tokens():
    vocab = WordVocabulary.build(["a a a b b c"], size=6, min_count=1)
    assert len(vocab) == 6 and vocab.encode("a b c") == [4, 5, UNK]


@given(st.lists(st.lists(letters, min_size=1), min_size=1))
def test_known_words_come_back(sentences):
    lines = [" ".join(words) for words in sentences]
    vocab = WordVocabulary.build(lines, min_count=1)
    assert [vocab.decode(vocab.encode(line)) for line in lines] == lines


def test_decode_drops_specials_and_takes_arrays():
    vocab = WordVocabulary(["a", "b"])
    assert vocab.decode(np.array([BOS, 4, UNK, 5, EOS, PAD])) == "a <unk> b"


def test_an_accent_is_the_same_however_composed():
    vocab = WordVocabulary.build(["e\u0301te\u0301 été"], min_count=2)
    assert vocab.decode(vocab.encode("e\u0301te\u0301")) == "été"


def test_special_tokens_in_text_are_text(pieces):
    vocab = WordVocabulary.build(["<s> a </s> <pad>"], min_count=1)
    assert vocab.encode("<pad> <s> a </s>") == [UNK, UNK, 4, UNK]
    assert not {PAD, BOS, EOS} & set(pieces.encode("<pad> <s> a </s>"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(size=4), "size 4"),
        (dict(min_count=0), "min_count must be at least 1"),
        (dict(min_count=9), "no word occurs 9 times"),
    ],
)
def test_word_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        WordVocabulary.build(["a b a"], **arguments)


def test_pieces_give_back_raw_text(pieces):
    assert [pieces.token(i) for i in range(4)] == list(SPECIALS)
    for line in FRENCH:
        ids = pieces.encode(line)
        assert len(ids) == len(pieces.tokens(line)) and min(ids) > UNK
        assert pieces.decode(np.array([BOS, *ids, EOS, PAD])) == line
        assert [pieces.token(i) for i in ids] == pieces.tokens(line)


def test_pieces_compose_accents_and_show_the_unknown(pieces):
    assert pieces.decode(pieces.encode("e\u0301te\u0301")) == "été"
    assert pieces.decode(pieces.encode("le 漢字 passé")) == "le <unk> passé"
    assert pieces.encode("  ") == []


@cache
def few_pieces():
    return SentencePieceVocabulary.train(FRENCH, size=60)


@settings(max_examples=30)
@given(st.text(alphabet="aeé'ç. l", max_size=30))
def test_any_text_of_known_characters_comes_back(text):
    vocab = few_pieces()
    assert vocab.decode(vocab.encode(text)) == " ".join(text.split())


def test_training_is_reproducible_and_silent(capfd):
    for model in ("bpe", "unigram"):
        first, second = (SentencePieceVocabulary.train(FRENCH, size=70, model=model, seed=1) for _ in "ab")
        assert first.encode(FRENCH[0]) == second.encode(FRENCH[0])
    assert capfd.readouterr() == ("", "")


def test_a_small_text_yields_fewer_pieces():
    assert len(SentencePieceVocabulary.train(["un un deux"], size=8000)) < 50


@pytest.mark.parametrize(
    "lines, arguments, message",
    [
        (FRENCH, dict(size=10), "characters alone need"),
        (FRENCH, dict(size=-1), "size -1"),
        (FRENCH, dict(model="char"), "not 'char'"),
        (["", " "], {}, "no text"),
    ],
)
def test_piece_arguments(lines, arguments, message, capfd):
    with pytest.raises(InputError, match=message):
        SentencePieceVocabulary.train(lines, **arguments)
    assert capfd.readouterr().err == ""


def test_save_and_load(tmp_path, pieces):
    words = WordVocabulary.build(FRENCH, min_count=1)
    words.save(tmp_path / "tgt.vocab.json")
    pieces.save(tmp_path / "tgt.spm")
    for name, vocab in [("tgt.vocab.json", words), ("tgt.spm", pieces)]:
        loaded = load_vocabulary(tmp_path / name)
        assert type(loaded) is type(vocab) and len(loaded) == len(vocab)
        assert all(loaded.encode(line) == vocab.encode(line) for line in FRENCH)


def good_words(**changes):
    return json.dumps({"format": "scratchnmt words", "version": 1, "words": ["a", "b"], **changes}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"rubbish",
        good_words()[:-5],
        good_words() + b"\xff",
        good_words(format="other"),
        good_words(version=2),
        good_words(words=["a", "a"]),
        good_words(words=["a b"]),
        good_words(words=["<s>"]),
        good_words(words=["", "a"]),
        good_words(words=[1]),
        good_words(words=[]),
        good_words(words="ab"),
    ],
)
def test_a_bad_vocabulary_file_is_named(tmp_path, content, capfd):
    path = tmp_path / "src.vocab"
    path.write_bytes(content)
    with pytest.raises(InputError, match="src.vocab is not a vocabulary"):
        load_vocabulary(path)
    assert capfd.readouterr().err == ""


def test_a_newer_version_is_said(tmp_path):
    (tmp_path / "v").write_bytes(good_words(version=2))
    with pytest.raises(InputError, match="version 2, this program reads version 1"):
        load_vocabulary(tmp_path / "v")


def test_a_cut_or_foreign_piece_model_is_refused(tmp_path, pieces):
    import io

    import sentencepiece

    pieces.save(tmp_path / "m.spm")
    whole = (tmp_path / "m.spm").read_bytes()
    foreign = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(FRENCH), model_writer=foreign, vocab_size=60, minloglevel=3
    )
    for content in (whole[:30], whole[:-1], foreign.getvalue()):
        (tmp_path / "m.spm").write_bytes(content)
        with pytest.raises(InputError, match="m.spm is not a vocabulary"):
            load_vocabulary(tmp_path / "m.spm")


def test_missing_vocabulary(tmp_path):
    with pytest.raises(InputError, match="none.spm cannot be read"):
        load_vocabulary(tmp_path / "none.spm")
