"""Blank pairs are left out, and each reference stays with its pair."""

import pytest
from tiny_run import VOCAB

from scratchnmt.errors import InputError
from scratchnmt.training import TrainingData


def test_blank_and_long_pairs_are_left_out_and_references_keep_their_places():
    train = (["a b", "", "c", "a b c d"], ["b a", "a", " ", "d c b a"])
    valid = (["a", " ", "b c d e f", "c"], ["a", "b", "f  e d c b", ""])
    found = TrainingData.from_text(train, valid, VOCAB, VOCAB, max_length=3)
    assert list(found.train) == [(VOCAB.encode("a b"), VOCAB.encode("b a"))]
    assert found.left_out.blank == 2 and found.left_out.too_long == 1
    assert found.valid_references == ["a", "f  e d c b"]  # raw, and long ones stay: they are what is measured
    kept = [("a", "a"), ("b c d e f", "f e d c b")]
    assert list(found.valid) == [(VOCAB.encode(src), VOCAB.encode(tgt)) for src, tgt in kept]


def test_no_line_is_encoded_twice(monkeypatch):
    seen = []
    encode = type(VOCAB).encode
    monkeypatch.setattr(type(VOCAB), "encode", lambda self, line: seen.append(line) or encode(self, line))
    TrainingData.from_text((["a"], ["b"]), (["c", " "], ["d", "e"]), VOCAB, VOCAB)
    assert seen == ["a", "b", "c", "d", " ", "e"]


def test_nothing_to_validate_with():
    with pytest.raises(InputError, match="the validation text: no sentence pair is left: of 2, 2 are blank on a side"):
        TrainingData.from_text((["a"], ["a"]), ([" ", "a"], ["a", ""]), VOCAB, VOCAB)
