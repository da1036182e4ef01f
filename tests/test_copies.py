"""copy, deepcopy and pickle of models, optimizers and networks: independent, and still views of one vector."""

import copy
import pickle

import numpy as np
import pytest

from scratchnmt import NMT, Translator, optim
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.models.attention import ATTENTIONS
from scratchnmt.ops.plain import PLAIN
from scratchnmt.search.model import Ensemble
from scratchnmt.sequential import LSTM, Bidirectional, Dense, Dropout, Embedding, Sequential

DEEP = {"deepcopy": copy.deepcopy, "pickle": lambda thing: pickle.loads(pickle.dumps(thing))}
BATCH = np.array([[4, 5], [6, 0]]), np.array([2, 1]), np.array([[1, 1], [7, 5], [2, 4], [0, 2]])
OPTIMIZERS = [lambda p: optim.Adam(p, 0.1), lambda p: optim.SGD(p, 0.1), lambda p: optim.SGD(p, 0.1, 0.9),
              lambda p: optim.RMSprop(p, 0.1)]


def is_one_vector(params):
    """Whether the vector and the views are the same memory: each shows what is written to the other."""
    before = params.flat.copy()
    params.flat += 1
    seen = np.concatenate([view.ravel() for view in params.values()])
    right = np.array_equal(seen, params.flat) and not np.array_equal(seen, before)
    params.flat[...] = before
    return right


def step(model, optimizer):
    loss, cache = model.forward(*BATCH)
    optimizer.step(model.backward(cache))
    return loss


@pytest.mark.parametrize("how", DEEP)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_model(how, attention):
    model = NMT(9, 9, 4, 4, attention=attention, seed=3)
    other = DEEP[how](model)
    assert is_one_vector(other.params) and other.config == model.config and other.kernels is PLAIN
    assert other.forward(*BATCH)[0] == model.forward(*BATCH)[0]
    other.params.flat[...] = 0
    assert model.params.flat.any() and other.forward(*BATCH)[0] != model.forward(*BATCH)[0]


@pytest.mark.parametrize("how", DEEP)
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_model_and_its_optimizer_copied_together_train_as_they_did(how, make):
    model = NMT(9, 9, 4, 4, seed=3)
    optimizer = make(model.params)
    step(model, optimizer)
    other, others = DEEP[how]((model, optimizer))
    assert others.params is other.params and is_one_vector(others.params)
    assert [step(other, others) for _ in range(3)] == [step(model, optimizer) for _ in range(3)]
    assert np.array_equal(other.params.flat, model.params.flat)
    step(other, others)
    assert not np.array_equal(other.params.flat, model.params.flat)


@pytest.mark.parametrize("how", DEEP)
def test_an_optimizer_or_an_average_by_itself_has_weights_of_its_own(how):
    model = NMT(9, 9, 4, 4)
    for thing in (*(make(model.params) for make in OPTIMIZERS), optim.Average(model.params, 0.9)):
        other = DEEP[how](thing)
        assert is_one_vector(other.params) and not np.shares_memory(other.params.flat, model.params.flat)


def test_a_shallow_copy_shares_its_weights():
    model = NMT(9, 9, 4, 4)
    for other in (copy.copy(model), copy.copy(model.params), copy.copy(optim.Adam(model.params))):
        params = getattr(other, "params", other)
        assert np.shares_memory(params.flat, model.params.flat) and is_one_vector(params)


@pytest.mark.parametrize("how", DEEP)
def test_a_network(how, rng):
    network = Sequential([Embedding(7, 3, mask_zero=True, input_shape=(5,)), Bidirectional(LSTM(3)), Dropout(0.5),
                          Dense(2)])
    network.compile(loss="mse", optimizer="adam")
    x, y = rng.integers(1, 7, (8, 5)), rng.standard_normal((8, 2))
    network.fit(x, y, verbose=0)
    other = DEEP[how](network)
    assert is_one_vector(other.params) and other.optimizer.params is other.params
    assert all(layer.owner is other for layer in other.layers)
    for one in (network, other):
        one.fit(x, y, epochs=2, verbose=0)  # the same shuffling, the same dropout
    assert np.array_equal(other.params.flat, network.params.flat)
    other.fit(x, y, verbose=0)
    assert not np.array_equal(other.params.flat, network.params.flat)


@pytest.mark.parametrize("how", DEEP)
def test_what_holds_models(how):
    words = WordVocabulary.build(["a b c d e"], min_count=1)
    models = [NMT(len(words), len(words), 4, 4, seed=seed) for seed in (1, 2)]
    for model in (models[0], Ensemble(models)):
        translator = Translator(model, words, words)
        assert DEEP[how](translator).translate(["a b", "c"]) == translator.translate(["a b", "c"])


@pytest.mark.parametrize("how", DEEP)
def test_gradients_and_what_a_forward_pass_keeps(how):
    model = NMT(9, 9, 4, 4, dtype="float64")
    _, cache = model.forward(*BATCH)
    grads = model.backward(cache)
    again = model.backward(DEEP[how](cache))
    assert np.array_equal(again.flat, grads.flat) and is_one_vector(DEEP[how](grads))
