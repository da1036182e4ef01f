import bz2
import gzip
import io
import json
import lzma
import os
import re
from functools import cache

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scratchnmt.data import vocab as vocab_module
from scratchnmt.data.vocab import (
    BOS,
    EOS,
    PAD,
    SPECIALS,
    UNK,
    SentencePieceVocabulary,
    WordVocabulary,
    load_vocabulary,
    read_vocabulary,
)
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


@pytest.mark.parametrize("line, read", [
    ("son\u00a0cœur\u3000bat\tici", "son cœur bat ici"), ("ｃａｌｍｅ", "calme"), ("c\u0327a bat", "ça bat"),
    ("ﬁn ²", "fin <unk>"), ("pas\u00adsé l'e\u0301te\u0301 漢", "pas<unk>sé l'été <unk>"),
    ("a\u0301\u0302b", "<unk>b"), ("\0 ▅", "<unk> <unk>"), ("a\x1fb", "ab"),
], ids=ascii)
def test_a_character_without_a_piece_is_read_in_its_compatible_form(line, read):
    vocab = few_pieces()
    assert vocab.decode(vocab.encode(line)) == read
    assert [vocab.token(i) for i in vocab.encode(read)] == vocab.tokens(read)
    if UNK not in vocab.encode(line):
        assert vocab.encode(line) == vocab.encode(read) and vocab.tokens(line) == vocab.tokens(read)


def test_a_character_with_a_piece_stays_as_it_is_beside_one_without():
    vocab = SentencePieceVocabulary.train(["5 m² ｆ ½ été e\u0301te\u0301"])
    line = "m² ½ e\u0301 é ｆ"
    assert vocab.decode(vocab.encode(f"{line} ２ 漢\u00a0{line}")) == f"{line} <unk> <unk> {line}"


@cache
def few_pieces():
    return SentencePieceVocabulary.train(FRENCH, size=60)


LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0\x1f\u2585")
FRAGMENTS = [
    *SPECIALS, "<unk", "unk>", "▁", "▁<s>", " ", "  ", "\t", "\u00a0", "\u3000", "\u200c", "\u200d", "\ufeff", "\u202e",
    "m²", "½", "ﬁ", "，", "１２", "e\u0301", "é", "\u0301\u0302", "\u0340", "\u212b", "각", "\u1100\u1161", "İ",
    "👩\u200d👧", "\ufffd", "\uffff", "\x85", "\u2028", "\x1c", "\r", "%s", "\\n", ",", '"', "##a", "@@ ",
]
hostile = st.lists(st.text(LETTERS, max_size=8) | st.sampled_from(FRAGMENTS), max_size=6).map("".join)


def with_single_spaces(line):
    """Without spaces at the start and the end, of a run of them one; tabs and ends of lines are spaces, as is ▁."""
    return re.sub("[ \t\r\n▁]+", " ", line).strip(" ")


@settings(max_examples=150)
@given(st.lists(hostile.filter(str.strip), min_size=1, max_size=5), st.sampled_from(["bpe", "unigram"]),
       st.lists(st.sampled_from(["<num>", "<2de>", "a,b", '"', "m²", "e\u0301"]), unique=True))
def test_hostile_text_that_was_learned_from_comes_back(lines, model, user_symbols):
    vocab = SentencePieceVocabulary.train(["x", *lines], model=model, user_symbols=user_symbols)
    for line in (*lines, " ".join(lines), "".join(SPECIALS), "x".join(user_symbols)):
        ids = vocab.encode(line)
        assert not {PAD, BOS, EOS, UNK} & set(ids)
        assert [vocab.token(i) for i in ids] == vocab.tokens(line)
        back = vocab.decode(ids)
        assert (with_single_spaces(back) if "▁" in line else back) == with_single_spaces(line)


@settings(max_examples=30)
@given(st.text(alphabet="aeé'ç. l", max_size=30))
def test_any_text_of_known_characters_comes_back(text):
    vocab = few_pieces()
    assert vocab.decode(vocab.encode(text)) == " ".join(text.split())


@settings(max_examples=100)
@given(hostile)
@example("passe\x01\u0301")  # in its compatible form "passe\u0301", which would be read as "passé"
def test_a_vocabulary_made_before_keeps_its_pieces(line):
    """They normalized by nmt_nfkc, and a character without a piece was unknown."""
    before = made_before()
    vocab = SentencePieceVocabulary(before.serialized_model_proto())
    assert vocab.encode(line) == before.encode(line) and vocab.tokens(line) == before.encode(line, out_type=str)
    assert vocab.decode(vocab.encode(line)) == before.decode(before.encode(line))


@cache
def made_before():
    model = io.BytesIO()
    pad, bos, eos, unk = SPECIALS
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(FRENCH), model_writer=model, vocab_size=80, character_coverage=1.0, minloglevel=3,
        hard_vocab_limit=False, pad_id=PAD, bos_id=BOS, eos_id=EOS, unk_id=UNK,
        pad_piece=pad, bos_piece=bos, eos_piece=eos, unk_piece=unk, unk_surface=unk)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.mark.parametrize("model", ["bpe", "unigram"])
def test_special_symbols_in_text_are_spelled_though_their_characters_are_nowhere(model):
    vocab = SentencePieceVocabulary.train(["le chat voit"], model=model)
    for line in (*SPECIALS, "le <unk> voit</s>", "<s><pad>"):
        assert UNK not in vocab.encode(line) and vocab.decode(vocab.encode(line)) == line


@pytest.mark.parametrize("rule, read", [
    ("identity", "É m² ½"), ("nfkc", "É m2 1⁄2"), ("nmt_nfkc", "É m2 1⁄2"), ("nfkc_cf", "é m2 1⁄2"),
    ("nmt_nfkc_cf", "é m2 1⁄2"),
])
def test_text_is_normalized_by_the_rule_it_was_learned_with(tmp_path, rule, read):
    SentencePieceVocabulary.train(["É m² ½", "é m2 1⁄2"], normalization=rule).save(tmp_path / "v.spm")
    vocab = load_vocabulary(tmp_path / "v.spm")
    assert vocab.decode(vocab.encode("É m² ½")) == read
    assert UNK not in vocab.encode("m²\u00a0½\tm²")


def test_a_user_symbol_is_one_piece_wherever_it_stands():
    vocab = SentencePieceVocabulary.train(FRENCH, size=80, user_symbols=["<num>", "été", "a,b"])
    assert [vocab.token(i) for i in (4, 5, 6)] == ["<num>", "été", "a,b"]
    assert [token for token in vocab.tokens("x<num>passétéa,b") if len(token) > 2][-2:] == ["été", "a,b"]
    assert vocab.decode(vocab.encode("<num>été <num> a,b.")) == "<num>été <num> a,b."


def test_lines_with_what_sentencepiece_reserves_are_learned_from():
    for reserved in "\0\t\r\n\x1f▅":
        vocab = SentencePieceVocabulary.train(["le chat", f"zut{reserved}wagon"])
        assert UNK not in vocab.encode("zut wagon")


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
        (FRENCH, dict(size=10), "characters alone need 50: choose a larger vocab_size or a smaller character_cov"),
        (FRENCH, dict(size=20, user_symbols=["<a>"]), "its characters and the user symbols need 51"),
        (FRENCH, dict(character_coverage=0.0), "character_coverage is 0.0, expected a share"),
        (FRENCH, dict(character_coverage=1.1), "character_coverage is 1.1, expected a share"),
        (FRENCH, dict(normalization="nfc"), "normalization is 'nfc', expected one of identity, nmt_nfkc"),
        (FRENCH, dict(user_symbols=["a b"]), "user symbol 'a b' cannot be a piece"),
        (FRENCH, dict(user_symbols=["x", ""]), "user symbol '' cannot be a piece"),
        (FRENCH, dict(user_symbols=["▁x"]), "user symbol '▁x' cannot be a piece"),
        (FRENCH, dict(user_symbols=["<unk>"]), "user symbol '<unk>' cannot be a piece"),
        (FRENCH, dict(user_symbols=["<x>", "<x>"]), "given twice"),
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
        good_words().replace(b'"a"', b'"a\\ud800"'),
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


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_a_packed_list_of_words_is_read(tmp_path, pack):
    (tmp_path / "words").write_bytes(pack("".join(f"word{n}\n" for n in range(500)).encode()))
    assert len(read_vocabulary(tmp_path / "words")) == 504


def test_a_vocabulary_from_elsewhere_is_a_file_and_no_larger_unpacked_than_one_of_ours(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is not a regular file"):
        read_vocabulary(tmp_path / "pipe")
    monkeypatch.setattr(vocab_module, "VOCABULARY_LIMIT", 10_000)
    (tmp_path / "words").write_bytes(gzip.compress(b"cat\ndog\n" * 1000))
    assert len(read_vocabulary(tmp_path / "words")) == 6
    (tmp_path / "words").write_bytes(gzip.compress(b"cat\ndog\n" * 2000))
    with pytest.raises(InputError, match="words has more than 10,000 characters"):
        read_vocabulary(tmp_path / "words")


@pytest.mark.parametrize("spoil", [gzip.compress, lambda data: b"\xef\xbb\xbf" + data, lambda data: b"\n" + data,
                                   lambda _: b'["the",\n"of"]\n', lambda _: b'[\n "the",\n "of"\n]\n'])
def test_json_that_is_packed_or_has_something_before_it_is_no_list_of_words(tmp_path, spoil):
    WordVocabulary(["a", "b"]).save(tmp_path / "v.json")
    (tmp_path / "f").write_bytes(spoil((tmp_path / "v.json").read_bytes()))
    with pytest.raises(InputError, match="f is JSON, which is packed or has something before it, and no list of words"):
        read_vocabulary(tmp_path / "f")
    for words in ('[\n"\n{\nthe\n', '{\n"\n[\nthe\n', '{\nthe\n}\nof\n'):
        (tmp_path / "words").write_text(words)
        assert len(read_vocabulary(tmp_path / "words")) == 8
