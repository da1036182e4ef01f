import numpy as np
import pytest
from fake_model import FakeModel, padded

from scratchnmt import translate
from scratchnmt.checkpoint import save_model
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT
from scratchnmt.search import beam_search
from scratchnmt.translate import Translator

WORDS = [f"w{i:02}" for i in range(30)]
LINES = ["w01 w02 w03 w04 w05", "w07", "", "w11 w12", "w13 nowhere", "  ", "w20 w21 w22", "w08 w09", "w07"]


@pytest.fixture
def translator():
    src_vocab, tgt_vocab = WordVocabulary(WORDS), WordVocabulary(["le", "la", "les", "chat", "dort", "."])
    return Translator(FakeModel(len(tgt_vocab), seed=9, favour={2: -1.0}), src_vocab, tgt_vocab)


def expected(translator, line, **options):
    """What the search gives for one line alone: a list of (text, score)."""
    ids = translator.src_vocab.encode(line)
    options = {"max_steps": 2 * len(ids) + 10, **options}
    (hypotheses,) = beam_search(translator.model, *padded([ids]), **options)
    return [(translator.tgt_vocab.decode(h.value), h.score) for h in hypotheses]


@pytest.mark.parametrize("batch_size, window", [(64, None), (2, None), (2, 3), (1, 1)])
def test_lines_keep_their_order_and_blank_ones_stay_blank(translator, batch_size, window):
    result = translator.translate(LINES, batch_size=batch_size, window=window)
    assert result == [expected(translator, line)[0][0] if line.strip() else "" for line in LINES]
    assert len(set(result)) > 4
    assert translator.translate([]) == []


def test_n_best_gives_texts_with_scores(translator):
    translator.model.table[..., 2] += 4.0
    result = translator.translate(LINES, beam_size=4, n_best=3, length_penalty=0.5)
    assert [len(r) for r in result] == [3, 3, 1, 3, 3, 1, 3, 3, 3]
    assert result[2] == [("", 0.0)]
    assert result[0] == expected(translator, LINES[0], beam_size=4, n_best=3, length_penalty=0.5)
    assert isinstance(result[0][0][1], float)


def test_options_reach_the_search(translator):
    assert translator.translate(LINES[:1], 1) == [expected(translator, LINES[0], beam_size=1)[0][0]]
    translator.model.table[..., 2] = -60.0  # never ends
    assert len(translator.translate(["w01"])[0].split()) == 12  # twice the source, and 10
    assert len(translator.translate(["w01"], max_length=4)[0].split()) == 4


def test_constraints_reach_search_sampling_and_attention(translator):
    translator.model.table[..., 2] += 4.0
    options = dict(min_length=3, no_repeat_ngram_size=1)
    found = translator.translate(LINES, n_best=3, **options)
    drawn = list(translator.sample(LINES, **options))
    assert [text for ((text, _), *_) in found] == [
        " ".join(translator.translate_with_attention(line, **options).text.split()) for line in LINES]
    for line, some, one in zip(LINES, found, drawn, strict=True):
        for text, _ in (*some, one):
            words = text.split()
            assert len(words) == len(set(words)) >= 3 if line.strip() else text == ""
    assert min(len(text.split()) for text, line in zip(translator.translate(LINES), LINES, strict=True) if line) < 3


def test_the_usual_limit_leaves_room_for_the_minimum(translator):
    translator.model.table[..., 2] = 60.0  # ends at once
    for S, least in (1, 0), (1, 20), (9, 3):
        (text,) = translator.translate(["w01 " * S], min_length=least)
        assert len(text.split()) == least
    translator.model.table[..., 2] = -60.0  # never ends
    for S, least, most in (1, 20, 30), (9, 3, 28), (1, 2, 12):
        (text,) = translator.translate(["w01 " * S], min_length=least)
        assert len(text.split()) == most
    with pytest.raises(InputError, match="max_length 100,000,000,000,000,000,010 may keep"):
        translator.translate(["w01"], min_length=10**20)


def test_stream_reads_no_more_than_a_window_ahead(translator):
    read = []

    def lines():
        for line in LINES:
            read.append(line)
            yield line

    stream = translator.stream(lines(), window=3)
    assert read == []
    results = [next(stream)]
    assert len(read) == 3
    results += [next(stream), next(stream)]
    assert len(read) == 3
    assert results + list(stream) == translator.translate(LINES)
    read.clear()
    for i, _ in enumerate(translator.stream(lines(), window=1), start=1):
        assert len(read) == i


def test_attention_comes_with_the_tokens_it_is_about(translator):
    text, src_tokens, tgt_tokens, attention = translator.translate_with_attention("w01 nowhere w03")
    assert text == translator.translate(["w01 nowhere w03"])[0]
    assert src_tokens == ["w01", "nowhere", "w03"]
    assert tgt_tokens == [*text.split(), "</s>"]
    assert attention.shape == (len(tgt_tokens), 3)
    np.testing.assert_allclose(attention.sum(axis=1), 1.0)
    translator.model.table[..., 2] = -60.0
    cut = translator.translate_with_attention("w01", max_length=3)
    assert len(cut.tgt_tokens) == len(cut.attention) == 3
    blank = translator.translate_with_attention(" ")
    assert blank[:3] == ("", [], []) and blank.attention.shape == (0, 0)


@pytest.mark.parametrize(
    "options, name",
    [
        (dict(batch_size=0), "batch_size"),
        (dict(window=0), "window"),
        (dict(max_length=0), "max_length"),
        (dict(beam_size=0), "beam_size"),
        (dict(n_best=0), "n_best"),
        (dict(n_best=6), "n_best"),
        (dict(length_penalty=-1.0), "length_penalty"),
        (dict(min_length=-1), "min_length must be at least 0"),
        (dict(min_length=4, max_length=4), "min_length must be below max_length, 4, which counts </s>, not 4"),
        (dict(no_repeat_ngram_size=-1), "no_repeat_ngram_size must be at least 0"),
    ],
)
def test_bad_options_are_named_before_a_line_is_read(translator, options, name):
    def lines():
        raise AssertionError("a line was read")
        yield

    with pytest.raises(InputError, match=name):
        translator.stream(lines(), **options)


def test_batches_shrink_to_fit_the_memory(translator, monkeypatch):
    whole = translator.translate(LINES)
    starts = translator.model.starts
    largest = 5 * 5 * (2 * 5 + 10) * 8  # beams, source tokens, steps, bytes
    monkeypatch.setattr(translate, "_MEMORY", largest)
    assert translator.translate(LINES) == whole
    assert translator.model.starts - starts == 4  # of sentences of 1, 1, 2 | 2, 2 | 3 | 5 tokens
    assert list(translate._batches([2, 0, 1, 3], [300, 400, 100, 1000], 64)) == [[2, 0, 1, 3]]
    monkeypatch.setattr(translate, "_MEMORY", 1200)
    assert list(translate._batches([2, 0, 1, 3], [300, 400, 100, 1000], 64)) == [[2, 0, 1], [3]]


def test_a_line_too_long_for_the_memory_is_named(translator, monkeypatch):
    monkeypatch.setattr(translate, "_MEMORY", 1 << 20)
    lines = ["w01", "w02"] * 3 + ["w03 " * 200]
    for window in (1, 3, None):
        with pytest.raises(InputError, match="^line 7 has 200 tokens: .*beam_size 5 and max_length 410 .*"
                                             "limit is 1 MB"):
            translator.translate(lines, window=window)
    assert len(translator.translate(lines, 1, max_length=3)) == 7
    with pytest.raises(InputError, match="^the sentence has 200 tokens"):
        translator.translate_with_attention(lines[-1])


def test_one_string_is_not_a_list_of_lines(translator):
    with pytest.raises(TypeError, match="list"):
        translator.translate("A dog .")


def test_load_gives_the_translator_that_was_saved(translator, tmp_path):
    pytest.importorskip("safetensors")
    src_vocab, tgt_vocab = translator.src_vocab, translator.tgt_vocab
    model = NMT(len(src_vocab), len(tgt_vocab), 8, 8, seed=3)
    save_model(tmp_path, model, src_vocab, tgt_vocab)
    found = Translator.load(tmp_path).translate(LINES, n_best=2)
    assert found == Translator(model, src_vocab, tgt_vocab).translate(LINES, n_best=2)
    assert len({score for _, score in sum(found, [])}) > 6
    with pytest.raises(InputError, match="nothing_here"):
        Translator.load(tmp_path / "nothing_here")
