"""A name that was mistyped is answered with the one that was meant, wherever names are given."""

import pytest

from scratchnmt import NMT
from scratchnmt.cli import main
from scratchnmt.errors import InputError, did_you_mean
from scratchnmt.models.config import NMTConfig
from scratchnmt.selfcheck import choose
from scratchnmt.sequential import LSTM, Dense, Sequential
from scratchnmt.training import TrainingOptions


def network():
    return Sequential([LSTM(3, input_shape=(5, 2)), Dense(4)])


@pytest.mark.parametrize("call, meant", [
    (lambda: NMT(9, 9, 4, 4, scroe="dot"), "score"),
    (lambda: NMT(9, 9, 4, 4, score="genral"), "general"),
    (lambda: NMT(9, 9, 4, 4, attention="globall"), "global"),
    (lambda: NMT(9, 9, 4, 4, kernels="fussed"), "fused"),
    (lambda: NMT.preset("lung", 9, 9, 4, 4), "luong"),
    (lambda: NMTConfig.from_dict({"src_vocab_size": 9, "tgt_vocab_size": 9, "embed_size": 4, "hiden_size": 4}),
     "hidden_size"),
    (lambda: TrainingOptions(optimizer="adan"), "adam"),
    (lambda: TrainingOptions.from_dict({"batchsize": 3}), "batch_size"),
    (lambda: choose(["lsmt_cell"]), "lstm_cell"),
    (lambda: Dense(3, activation="rleu"), "relu"),
    (lambda: network().compile(optimizer="adm", loss="mse"), "adam"),
    (lambda: network().compile(loss="categorical_crossentropie"), "categorical_crossentropy"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_in_python(call, meant):
    with pytest.raises((InputError, TypeError), match=f"did you mean '{meant}'"):
        call()


@pytest.mark.parametrize("words, meant", [
    ("trian --out x", "train"),
    ("train --out x --learning-rat 0.1", "--learning-rate"),
    ("train --out x --learning-rat=0.1", "--learning-rate"),
    ("train --out x --score genral", "general"),
    ("translate --model x --beams 3", "--beam"),
    ("evaluate --model x --src a --ref b --jsn", "--json"),
    ("gradcheck lsmt_gates", "lstm_gates"),
    ("museum tanh-of-tanhh", "tanh-of-tanh"),
], ids=lambda value: value)
def test_on_the_command_line(words, meant, capsys):
    try:
        status = main(words.split())
    except SystemExit as exit:
        status = exit.code
    error = capsys.readouterr().err
    assert status == 2 and "did you mean" in error and meant in error.partition("did you mean")[2], error


def test_what_is_near_nothing_is_not_guessed():
    assert did_you_mean("xyz", ["adam", "sgd"]) == ""
