"""CS224N's vocab.json: words keep their order, whatever numbers the special tokens have; other files are refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnmt.data.vocab import SPECIALS, SentencePieceVocabulary, WordVocabulary
from scratchnmt.errors import InputError
from scratchnmt.interop import read_cs224n_vocabularies, write_cs224n_vocabularies

USUAL = {token: i for i, token in enumerate(SPECIALS)}


def written(path, src=None, tgt=None):
    usual = {**USUAL, "la": 4, "casa": 5}
    content = {"src_word2id": usual if src is None else src, "tgt_word2id": usual if tgt is None else tgt}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def tokens(vocabulary):
    return [vocabulary.token(i) for i in range(len(vocabulary))]


def test_the_courses_ids_are_ours(tmp_path):
    src, tgt = read_cs224n_vocabularies(written(tmp_path / "v.json", tgt={**USUAL, "house": 5, "the": 4}))
    assert tokens(src.vocabulary) == [*SPECIALS, "la", "casa"] and tokens(tgt.vocabulary) == [*SPECIALS, "the", "house"]
    assert src.order.tolist() == list(range(6)) and not src.changed
    assert src.vocabulary.encode("la casa roja") == [4, 5, 3]


@settings(max_examples=50)
@given(order=st.permutations([*SPECIALS, "a", "b", "c"]))
def test_specials_may_have_any_numbers(order, tmp_path_factory):
    path = written(tmp_path_factory.mktemp("v") / "v.json", tgt={token: i for i, token in enumerate(order)})
    _, tgt = read_cs224n_vocabularies(path)
    assert [order[i] for i in tgt.order] == tokens(tgt.vocabulary)
    assert tokens(tgt.vocabulary)[4:] == [word for word in order if word not in SPECIALS]


def test_words_that_a_line_cannot_hold_keep_their_ids(tmp_path):
    words = ["a\u00a0b", "", "e\u0301", "\tc ", "fine"]
    path = written(tmp_path / "v.json", {**USUAL, **{word: i for i, word in enumerate(words, 4)}})
    src, _ = read_cs224n_vocabularies(path)
    assert tokens(src.vocabulary)[4:] == ["a␣b", "␣", "é", "␣c␣", "fine"]
    assert src.changed == dict(zip(words[:4], ["a␣b", "␣", "é", "␣c␣"], strict=True))
    assert src.order.tolist() == list(range(9)) and src.vocabulary.encode("e\u0301 fine") == [6, 8]


def test_both_ways(tmp_path):
    src, tgt = WordVocabulary(["é", "ü", "—", "␣", "😀"]), WordVocabulary(["a"])
    write_cs224n_vocabularies(tmp_path / "v.json", src, tgt)
    assert (tmp_path / "v.json").read_bytes().isascii()
    content = json.loads((tmp_path / "v.json").read_text())
    assert list(content) == ["src_word2id", "tgt_word2id"] and content["tgt_word2id"] == {**USUAL, "a": 4}
    back = read_cs224n_vocabularies(tmp_path / "v.json")
    assert [tokens(words.vocabulary) for words in back] == [tokens(src), tokens(tgt)]
    assert all(np.array_equal(words.order, np.arange(len(words.order))) for words in back)


def test_pieces_are_words(tmp_path):
    pytest.importorskip("sentencepiece")
    pieces = SentencePieceVocabulary.train(["ein Hund rennt", "a dog runs", "un chien court"] * 5, size=40)
    write_cs224n_vocabularies(tmp_path / "v.json", pieces, pieces)
    src, _ = read_cs224n_vocabularies(tmp_path / "v.json")
    assert tokens(src.vocabulary) == tokens(pieces) and not src.changed
    assert src.vocabulary.encode(" ".join(pieces.tokens("a dog"))) == pieces.encode("a dog")


@pytest.mark.parametrize("ids, message", [
    *(({**USUAL, "a": wrong}, "ids of 5 words") for wrong in (5, 3, -1, 4.0, "4", None, True)),
    (USUAL, "there is no word"), ({"a": 0}, "<pad> <s> </s> <unk> is missing"),
    ({"<s>": 0, "</s>": 1, "<unk>": 2, "a": 3}, "<pad> is missing"),
    ({**USUAL, "a": 4, "e\u0301": 5, "é": 6}, "one word"),
    ({**USUAL, "\t": 4, " ": 5}, "one word"), ({**USUAL, "\ud800": 4}, "no text"),
])
def test_what_is_no_vocabulary_is_refused(tmp_path, ids, message):
    with pytest.raises(InputError, match=message) as error:
        read_cs224n_vocabularies(written(tmp_path / "v.json", ids))
    assert f"{tmp_path / 'v.json'}, src_word2id" in str(error.value)


@pytest.mark.parametrize("data, message", [
    (b"", "not JSON"), (b"{", "not JSON"), (b"\xff", "not JSON"), (b"[]", "no src_word2id and tgt_word2id"),
    (b'{"src_word2id": {}}', "no src_word2id"), (b'{"src_word2id": [], "tgt_word2id": {}}', "no src_word2id"),
    (b"[" * 100_000, "not JSON"),
])
def test_a_file_of_something_else_is_refused(tmp_path, data, message):
    (tmp_path / "v.json").write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_cs224n_vocabularies(tmp_path / "v.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_cs224n_vocabularies(tmp_path / "absent.json")
