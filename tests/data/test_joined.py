"""Words that were cut into parts before training are whole again in what is written."""

import json

import numpy as np
import pytest

from scratchnmt.checkpoint import save_model
from scratchnmt.data.vocab import SentencePieceVocabulary, WordVocabulary, joined_by_begin, joined_by_end, joiner
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT
from scratchnmt.translate import Translator

PARTS = {"@@": ["low@@", "er", "c@@", "ost", "."], "\u2581": ["\u2581low", "er", "\u2581c", "ost", "\u2581."]}
by_mark = pytest.mark.parametrize("mark", PARTS, ids=["subword-nmt", "SentencePiece"])


@pytest.mark.parametrize("text, joined", [
    ("low@@ er c@@ ost", "lower cost"), ("a b", "a b"), ("", ""), ("l@@ o@@ w", "low"), ("cut@@", "cut"),
    ("mail@@host x@@ y", "mail@@host xy"), ("@@ a", "a"), ("two  spaces", "two  spaces"),
])
def test_marks_of_subword_nmt(text, joined):
    assert joined_by_end(text) == joined


@pytest.mark.parametrize("text, joined", [
    ("\u2581low er \u2581c ost", "lower cost"), ("low er \u2581c", "lower c"), ("", ""), ("\u2581", ""),
    ("\u2581a \u2581 \u2581b", "a  b"),
])
def test_marks_of_sentencepiece(text, joined):
    assert joined_by_begin(text) == joined


@by_mark
def test_the_vocabulary_tells_which_marks_there_are(mark):
    assert joiner(WordVocabulary(PARTS[mark]))(" ".join(PARTS[mark])) == "lower cost ."


def test_a_vocabulary_without_parts_is_refused():
    with pytest.raises(InputError, match='no word of the target vocabulary ends in "@@"'):
        joiner(WordVocabulary(["a", "b@@c"]))
    pytest.importorskip("sentencepiece")
    with pytest.raises(InputError, match="train --vocab word"):
        joiner(SentencePieceVocabulary.train(["a b c d"] * 20, 20))


@pytest.fixture
def run(tmp_path, request):
    pytest.importorskip("safetensors")
    vocab = WordVocabulary(PARTS[request.param])
    model = NMT(len(vocab), len(vocab), 8, 8, dtype="float64", seed=5)
    model.params.flat[...] = np.random.default_rng(4).standard_normal(model.params.flat.size)
    save_model(tmp_path / "run", model, vocab, vocab)
    (tmp_path / "src").write_text("\n".join([" ".join(PARTS[request.param])] + PARTS[request.param]) + "\n")
    return tmp_path


@pytest.mark.parametrize("run", PARTS, indirect=True, ids=["subword-nmt", "SentencePiece"])
def test_commands_write_whole_words(call, run):
    translator = Translator.load(run / "run")
    join, lines = joiner(translator.tgt_vocab), (run / "src").read_text().split("\n")[:-1]
    whole = [join(text) for text in translator.translate(lines)]
    assert whole != translator.translate(lines) and translator.translate(lines, remove_bpe=True) == whole
    command = ["translate", "--model", run / "run", "--input", run / "src", "--remove-bpe"]
    assert call(*command) == (0, "".join(line + "\n" for line in whole), "")
    rows = call(*command, "--n-best", 2)[1].splitlines()
    assert [row.split("\t")[2] for row in rows if row.split("\t")[0] == "1"][0] == whole[0]
    sampled = call(*command, "--sample")[1].splitlines()
    assert sampled == [join(text) for text, _ in translator.sample(lines)]
    assert "exclude each other" in call(*command, "--pieces")[2]
    pytest.importorskip("sacrebleu")
    found = translator.translate(lines)
    results = []
    for name, references in ("cut", found), ("whole", whole):  # references may be whole already
        (run / name).write_text("".join(line + "\n" for line in references))
        status, out, _ = call("evaluate", "--model", run / "run", "--src", run / "src", "--ref", run / name,
                              "--remove-bpe", "--json", "--output", run / "out")
        results.append(json.loads(out))
        assert status == 0 and (run / "out").read_text().split("\n")[:-1] == whole
    assert results[0]["chrf"] == results[1]["chrf"] == pytest.approx(100)
