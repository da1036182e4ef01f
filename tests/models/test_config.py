import json

import pytest

from scratchnmt.errors import InputError
from scratchnmt.models.config import PRESETS, NMTConfig
from scratchnmt.models.nmt import NMT
from scratchnmt.selfcheck import MODELS

SIZES = dict(src_vocab_size=20, tgt_vocab_size=30, embed_size=6, hidden_size=4)


def test_the_weights_of_the_default_are_those_of_cs224n():
    assert NMTConfig(**SIZES).shapes() == {
        "embed.src": (20, 6), "embed.tgt": (30, 6),
        "encoder.Wx": (2, 6, 16), "encoder.Wh": (2, 4, 16), "encoder.b": (2, 16),
        "init.Wh": (8, 4), "init.Wc": (8, 4),
        "decoder.Wx": (6, 16), "decoder.Wh": (8, 16), "decoder.b": (16,),
        "attention.W": (8, 4), "combine.W": (12, 4), "vocab.W": (4, 30),
    }


@pytest.mark.parametrize("choices, expected", [
    (dict(feed="context"), {"decoder.Wh": (12, 16)}),
    (dict(feed="none"), {"decoder.Wh": (4, 16)}),
    (dict(score="concat"), {"attention.W": (12, 4), "attention.v": (4,)}),
    (dict(attention="local-m"), {"window.W": None, "attention.W": (8, 4)}),
    (dict(attention="local-p"), {"window.W": (4, 4), "window.v": (4,)}),
    (dict(attention="multi-head", feed="context"), {"attention.Wq": (4, 4), "attention.Wk": (8, 4),
                                                    "attention.Wv": (8, 4), "combine.W": (8, 4),
                                                    "decoder.Wh": (8, 16), "attention.W": None}),
    (dict(query="previous", feed="context"), {"decoder.Wh": (12, 16)}),
    (dict(score="dot"), {"encoder.Wh": (2, 2, 8), "attention.W": None, "combine.W": (8, 4)}),
    (dict(bidirectional=False), {"encoder.Wx": (1, 6, 16), "attention.W": (4, 4), "combine.W": (8, 4)}),
    (dict(tie_embeddings=True, embed_size=4), {"vocab.W": None, "embed.tgt": (30, 4)}),
    (dict(layers=2), {"encoder.1.Wx": (2, 8, 16), "encoder.1.Wh": (2, 4, 16), "decoder.1.Wx": (4, 16),
                      "decoder.1.Wh": (4, 16), "decoder.1.b": (16,), "encoder.2.Wx": None}),
])
def test_what_a_choice_changes(choices, expected):
    shapes = NMTConfig(**{**SIZES, **choices}).shapes()
    assert {name: shapes.get(name) for name in expected} == expected


@pytest.mark.parametrize("case", MODELS, ids=lambda case: case.name)
def test_through_json_and_back(case):
    config = NMTConfig(**{**SIZES, "embed_size": 4}, **case.choices)
    assert NMTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("change, message", [
    (dict(hidden_size=0), "hidden_size is 0, expected a whole number of at least 1"),
    (dict(layers=10**9), "layers is 1000000000, expected at most 100"),
    (dict(window=10**9), "window is 1000000000, expected at most 10000"),
    (dict(layers=1.5), "layers is 1.5, expected a whole number of at least 1"),
    (dict(embed_size="64"), "embed_size is '64', expected a whole number of at least 1"),
    (dict(dropout=1.0), "dropout is 1.0, expected 0 <= dropout < 1"),
    (dict(embed_dropout=-0.1), "embed_dropout is -0.1, expected 0 <= embed_dropout < 1"),
    (dict(word_dropout=1), "word_dropout is 1, expected 0 <= word_dropout < 1"),
    (dict(recurrent_dropout=1.5), "recurrent_dropout is 1.5, expected 0 <= recurrent_dropout < 1"),
    (dict(encoder_dropout=1.0), "encoder_dropout is 1.0, expected 0 <= encoder_dropout < 1"),
    (dict(encoder_dropout=0.1, score="none", feed="none", readout="state"),
     "encoder_dropout needs attention: score 'none' does not read the encoder's states"),
    (dict(label_smoothing=float("nan")), "label_smoothing is nan, expected 0 <= label_smoothing < 1"),
    (dict(r_drop=-1), "r_drop is -1, expected a number of at least 0 and below 2^63"),
    (dict(r_drop=float("inf"), dropout=0.1), "r_drop is inf, expected a number of at least 0 and below 2^63"),
    (dict(r_drop="5"), "r_drop is '5', expected a number of at least 0 and below 2^63"),
    (dict(r_drop=5), "r_drop needs dropout: without it both passes are the same; choose a dropout above 0"),
    (dict(score="cosine"), "score is 'cosine', expected one of dot, general, concat, location, none"),
    (dict(init="nope"), "init is 'nope', expected one of uniform, glorot, orthogonal"),
    (dict(tie_embeddings="false"), "tie_embeddings is 'false', expected True or False"),
    (dict(feed=None), "feed is None, expected one of output, context, start, none"),
    (dict(tie_embeddings=True), "tie_embeddings needs embed_size = hidden_size, not 6 and 4"),
    (dict(heads=0), "heads is 0, expected a whole number of at least 1"),
    (dict(attention="multi-head", heads=3), "heads is 3, expected a divisor of hidden_size, 4, with attention "
                                            "'multi-head'"),
    (dict(score="dot", hidden_size=5), "score 'dot' with two directions needs an even hidden_size, not 5"),
])
def test_a_field_out_of_range_is_named(change, message):
    with pytest.raises(InputError) as error:
        NMTConfig(**{**SIZES, **change})
    assert str(error.value) == message


def test_fields_that_are_unknown_or_missing_are_named():
    values = NMTConfig(**SIZES).to_dict()
    del values["hidden_size"], values["embed_size"]
    with pytest.raises(InputError, match="^model config: unknown depth, width; missing embed_size, hidden_size$"):
        NMTConfig.from_dict({**values, "width": 8, "depth": 2})


def test_the_config_of_an_earlier_version_has_fewer_choices():
    values = NMTConfig(**SIZES, score="dot").to_dict()
    del values["readout"], values["reverse_source"], values["heads"]
    assert NMTConfig.from_dict(values) == NMTConfig(**SIZES, score="dot")


@pytest.mark.parametrize("choices, sentence", [
    (dict(reverse_source=True), "reverse_source is for an encoder of one direction"),
    (dict(score="none", feed="context"), "feed 'context' needs attention"),
    (dict(readout="state"), "feed 'output' needs readout 'output'"),
    (dict(score="none", feed="none", attention="local-p"), "attention 'local-p' needs attention"),
    (dict(score="none", feed="none", query="previous"), "query 'previous' needs attention"),
    (dict(attention="local"), "attention is 'local', expected one of global, local-m, local-p, multi-head"),
    (dict(attention="multi-head", score="dot"), "score 'dot' is not for attention 'multi-head'"),
    (dict(attention="multi-head", score="none", feed="none"), "attention 'multi-head' needs attention"),
    (dict(window=0), "window is 0, expected a whole number of at least 1"),
    (dict(cell="lsmt"), "cell is 'lsmt', expected one of lstm, layer-norm-lstm"),
    (dict(readout="logits"), "readout is 'logits', expected one of output, state"),
])
def test_choices_that_exclude_each_other(choices, sentence):
    with pytest.raises(InputError, match=sentence):
        NMTConfig(**SIZES, **choices)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_choices_and_yields_to_others(name):
    model = NMT.preset(name, **SIZES, layers=1)
    assert model.config == NMTConfig(**SIZES, **PRESETS[name] | {"layers": 1})


def test_a_preset_of_another_name():
    known = "cs224n, context-feeding, luong, sutskever, bahdanau, cho"
    with pytest.raises(InputError, match=f"preset is 'luon', expected one of {known}; did you mean 'luong'"):
        NMT.preset("luon", **SIZES)


def test_the_first_name_of_a_preset_still_works():
    assert NMT.preset("seed", **SIZES).config == NMT.preset("context-feeding", **SIZES).config
