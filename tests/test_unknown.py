"""Unknown words of a translation, replaced by the source word that the attention was on."""

import gzip
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from fake_model import FakeModel, padded, some_sentences
from test_cli import refused

from scratchnmt.checkpoint import save_model
from scratchnmt.data.vocab import UNK, SentencePieceVocabulary, WordVocabulary
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT
from scratchnmt.search import Ensemble, Hypothesis, beam_search
from scratchnmt.translate import Translator
from scratchnmt.unknown import read_dictionary, replaced

EOS = 2
SRC = WordVocabulary(["the", "dog", "sees", "Rex", "Ada"])
TGT = WordVocabulary(["le", "chien", "voit"])  # the first three of SRC have the ids of these
LINES = ["Rex sees the dog", "", "Ada sees Rex", "Zoë sees Bob", "the dog sees Ada sees Bob", "  ", "Rex"]
MIRRORED = ["chien le voit Rex", "", "Rex voit Ada", "Bob voit Zoë", "Bob voit Ada voit chien le", "", "Rex"]


class MirrorState(NamedTuple):
    src: np.ndarray  # (B, S)
    lengths: np.ndarray  # (B,)
    step: int = 0

    def select(self, sentences, beams):
        return MirrorState(self.src[sentences], self.lengths[sentences], self.step)


class Mirror:
    """Translates from the last word to the first, each by the word of its id, or by <unk> if there is none.

    Step t looks at word S - 1 - t with weight 0.4, at each other one with less; of padding it thinks highly, but
    gives it no weight.
    """

    params = SimpleNamespace(flat=np.zeros(1))
    towards = 0.4

    def start(self, src, src_lengths):
        return MirrorState(src.T, src_lengths)

    def step(self, state, y_prev):
        B, K = y_prev.shape
        place = state.lengths - 1 - state.step
        word = state.src[np.arange(B), np.maximum(place, 0)]
        says = np.where(place < 0, EOS, np.where(word < len(TGT), word, UNK))
        logits = np.where(np.arange(len(TGT)) == says[:, None], 5.0, 0.0)
        weights = (np.arange(state.src.shape[1]) < state.lengths[:, None]) * 0.05
        weights[np.arange(B), np.maximum(place, 0)] = self.towards
        repeat = lambda x: np.repeat(x[:, None], K, axis=1)
        return repeat(logits), repeat(weights), state._replace(step=state.step + 1)


@pytest.fixture
def mirror():
    return Translator(Mirror(), SRC, TGT)


@pytest.mark.parametrize("options", [{}, dict(batch_size=1), dict(batch_size=2, window=3), dict(beam_size=1)], ids=str)
def test_an_unknown_word_becomes_the_source_word_that_was_looked_at(mirror, options):
    assert mirror.translate(LINES, **options)[0] == "chien le voit <unk>"
    assert mirror.translate(LINES, replace_unknown=True, **options) == MIRRORED


def test_the_dictionary_comes_first(mirror):
    dictionary = {"Ada": "Adèle", "Bob": "petit Robert", "dog": "never asked", "sees": "never asked"}
    found = mirror.translate(LINES, replace_unknown=True, dictionary=dictionary)
    assert found == [line.replace("Ada", "Adèle").replace("Bob", "petit Robert") for line in MIRRORED]


def test_scores_are_those_of_the_unknown_words(mirror):
    plain, found = (mirror.translate(LINES, n_best=3, replace_unknown=replace) for replace in (False, True))
    assert [[score for _, score in some] for some in found] == [[score for _, score in some] for some in plain]
    assert [some[0][0] for some in found] == MIRRORED and found[1] == [("", 0.0)]


def by_hand(model, sentence, words, value):
    """The translation of one sentence, each <unk> by the attention of its own step, found one history at a time."""
    looked = [words[model.log_p(sentence, value[:t])[1].argmax()] for t in range(len(value))]
    return " ".join(word if i == UNK else f"t{i}" for i, word in zip(value, looked, strict=True))


@pytest.mark.parametrize("ends, length_penalty", [(-60.0, 0.0), (0.0, 1.5)])
def test_each_of_the_n_best_has_its_own_attention(ends, length_penalty):
    sentences = some_sentences(12)
    vocabularies = [WordVocabulary(f"{side}{i}" for i in range(4, n)) for side, n in (("s", 60), ("t", 8))]
    model = FakeModel(8, seed=5, favour={UNK: 2.0, EOS: ends})
    words = [[f"s{i}" if i > UNK else f"x{n}" for n, i in enumerate(sentence)] for sentence in sentences]
    options = dict(beam_size=4, n_best=4, length_penalty=length_penalty)
    lines = [" ".join(some) for some in words]
    found = Translator(model, *vocabularies).translate(lines, replace_unknown=True, max_length=9, **options)
    expected = beam_search(model, *padded(sentences), max_steps=9, **options)
    assert found == [[(by_hand(model, ids, line, value), score) for value, score in hypotheses]
                     for ids, line, hypotheses in zip(sentences, words, expected, strict=True)]
    unknown = [value for hypotheses in expected for value, _ in hypotheses if UNK in value]
    assert len(unknown) > 20 and any(text.count("s") > 1 and "t" in text for some in found for text, _ in some)


def test_drawn_translations_are_replaced_too(mirror):
    drawn = mirror.sample(LINES, top_k=1, replace_unknown=True, dictionary={"Rex": "Roi"})
    assert [text for text, _ in drawn] == [line.replace("Rex", "Roi") for line in MIRRORED]


def test_an_ensemble_looks_where_its_models_look_on_average():
    class Forward(Mirror):
        """Says the same and looks the other way."""

        def step(self, state, y_prev):
            logits, weights, state = super().step(state, y_prev)
            return logits, self.towards * (weights[:, :, ::-1] > 0.1), state

    second = Forward()
    second.towards = 0.3
    found = [Translator(Ensemble(models), SRC, TGT).translate(["Rex sees Ada"], replace_unknown=True)
             for models in ([Mirror()], [second], [Mirror(), second], [Mirror(), second, second])]
    assert found == [["Ada voit Rex"], ["Rex voit Ada"], ["Ada voit Rex"], ["Rex voit Ada"]]


def test_where_nothing_was_attended_to_nothing_is_replaced():
    class Gone(Mirror):
        def step(self, state, y_prev):
            logits, weights, state = super().step(state, y_prev)
            return logits, weights * (state.step <= 1), state

    assert Translator(Gone(), SRC, TGT).translate(["Rex sees Ada"], replace_unknown=True) == ["Ada voit <unk>"]


def model_of(score):
    return NMT(len(SRC), len(TGT), 6, 6, score=score, feed="start", readout="state")


def test_a_translation_without_attention_has_no_word_to_take():
    with pytest.raises(ValueError, match="no attention"):
        replaced(Hypothesis([UNK], 0.0), ["Rex"], TGT, {})
    assert replaced(Hypothesis([4], 0.0), ["Rex"], TGT, {}) == [TGT.token(4)]


def test_a_model_without_attention_is_refused_before_a_line_is_read():
    def lines():
        raise AssertionError("a line was read")
        yield

    blind, seeing = model_of("none"), model_of("general")
    for model in (blind, Ensemble([blind, blind])):
        for find in (Translator(model, SRC, TGT).stream, Translator(model, SRC, TGT).sample):
            with pytest.raises(InputError, match="needs a model with attention"):
                find(lines(), replace_unknown=True)
    for model in (seeing, Ensemble([blind, seeing])):
        assert "<unk>" not in " ".join(Translator(model, SRC, TGT).translate(LINES, replace_unknown=True))


def test_pieces_and_a_dictionary_without_use_are_refused(mirror):
    with pytest.raises(InputError, match="dictionary needs replace_unknown"):
        mirror.translate(LINES, dictionary={})
    pytest.importorskip("sentencepiece")
    pieces = SentencePieceVocabulary.train(LINES, size=40)
    for vocabularies in ((pieces, TGT), (SRC, pieces)):
        with pytest.raises(InputError, match="needs vocabularies of words"):
            Translator(Mirror(), *vocabularies).translate(LINES, replace_unknown=True)


def test_a_dictionary_is_read_from_a_file(tmp_path):
    text = "Ada\tAdèle\r\nBob\t petit  Robert \nAda\tsecond\nZoe\u0308\tZoé\n"
    (tmp_path / "plain").write_bytes(text.encode())
    (tmp_path / "packed.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("plain", "packed.gz"):
        assert read_dictionary(tmp_path / name) == {"Ada": "Adèle", "Bob": "petit Robert", "Zo\u00eb": "Zoé"}


@pytest.mark.parametrize("line", ["Bob", "Bob Robert", "Bob\t", "\tRobert", "Bob\tRobert\t0.5", "big Bob\tRobert", ""])
def test_a_malformed_line_of_a_dictionary_is_named(tmp_path, line):
    (tmp_path / "words").write_text(f"Ada\tAdèle\n{line}\nRex\tRoi\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"words, line 2: expected one source word, a tab and its translation, not '"):
        read_dictionary(tmp_path / "words")


@pytest.fixture
def run(tmp_path):
    """Folders of two models, of which the first says <unk> for some words, and two files of text."""
    model = NMT(len(SRC), len(TGT), 8, 8, seed=39, dtype="float64")
    model.params.flat[...] *= 20
    save_model(tmp_path / "run", model, SRC, TGT)
    save_model(tmp_path / "blind", model_of("none"), SRC, TGT)
    (tmp_path / "src").write_text("".join(line + "\n" for line in LINES), encoding="utf-8")
    known = ["the", "dog", "sees", "Rex", "Bob"]
    (tmp_path / "words").write_text("".join(f"{word}\t{word.upper()}!\n" for word in known))
    return tmp_path


def test_the_command_line_replaces_what_the_library_does(call, run):
    translate = ["translate", "--model", run / "run", "--input", run / "src"]
    translator, dictionary = Translator.load(run / "run"), read_dictionary(run / "words")
    plain = call(*translate)[1]
    for more, options in ([], {}), (["--dictionary", run / "words"], {"dictionary": dictionary}):
        status, out, err = call(*translate, "--replace-unknown", *more)
        assert status == 0 and err.count("\n") == 1
        assert err.startswith("scratchnmt translate: warning: 17.65 % of the words of ")
        assert "<unk>" in plain and "<unk>" not in out
        assert out.splitlines() == translator.translate(LINES, replace_unknown=True, **options)
        assert ("!" in out) == bool(more)
        drawn = call(*translate, "--sample", "--replace-unknown", *more)[1]
        assert drawn.splitlines() == [t for t, _ in translator.sample(LINES, replace_unknown=True, **options)]


def test_evaluate_scores_what_was_replaced(call, run):
    pytest.importorskip("sacrebleu")
    replace = ["--replace-unknown", "--dictionary", run / "words"]
    expected = call("translate", "--model", run / "run", "--input", run / "src", *replace)[1]
    (run / "ref").write_text("".join(f"{line}\n" for line in expected.splitlines()), encoding="utf-8")
    evaluate = ["evaluate", "--model", run / "run", "--src", run / "src", "--ref", run / "ref", "--json"]
    out = [call(*evaluate, *more, "--output", run / "found")[1] for more in ([], replace)]
    assert (run / "found").read_text(encoding="utf-8") == expected
    assert '"replace_unknown": false' in out[0] and '"chrf": 100.0' not in out[0]
    assert '"replace_unknown": true' in out[1] and '"chrf": 100.0' in out[1]


def test_the_command_line_refuses_what_it_cannot_replace(call, run):
    translate = ["translate", "--input", run / "src", "--model"]
    refused(call(*translate, run / "run", "--dictionary", run / "words"), "--dictionary needs --replace-unknown")
    refused(call(*translate, run / "blind", "--replace-unknown"), "--replace-unknown needs a model with attention")
    refused(call(*translate, run / "blind", "--attention", run / "map.png"), "this model has no attention to show")
    assert not (run / "map.png").exists()
    replace = [*translate, run / "run", "--replace-unknown", "--dictionary"]
    refused(call(*replace, run / "none"), "none does not exist")
    refused(call(*replace, run / "src"), "src, line 1: expected one source word, a tab and its translation")
