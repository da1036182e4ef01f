"""One sentence for each thing that does not fit, before anything is trained."""

import zipfile

import numpy as np
import pytest

from scratchnmt.errors import InputError
from scratchnmt.sequential import (
    LSTM,
    SGD,
    Activation,
    Adam,
    Bidirectional,
    Dense,
    Dropout,
    EarlyStopping,
    Embedding,
    Input,
    ModelCheckpoint,
    RepeatVector,
    RMSprop,
    Sequential,
    TimeDistributed,
    load_model,
)


def small(loss="categorical_crossentropy", **compiled):
    model = Sequential([LSTM(3, input_shape=(4, 2)), Dense(3, activation="softmax")])
    model.compile(loss=loss, **compiled)
    return model


X, Y, LABELS = np.ones((5, 4, 2)), np.eye(3)[[0, 1, 2, 0, 1]], np.array([0, 1, 2, 0, 1])


@pytest.mark.parametrize("make, parts", [
    (lambda: Sequential([LSTM(3, input_shape=(4, 2)), LSTM(3)]),
     ['layer "lstm_1" (LSTM) got input of shape (None, 3)', "(batch, time, features)", "return_sequences=True",
      '"lstm" (LSTM) before it returns (None, 3)']),
    (lambda: Sequential([LSTM(3, input_shape=(4, 2), return_sequences=True), RepeatVector(2)]),
     ['"repeat_vector" (RepeatVector) got input of shape (None, 4, 3)', '"lstm" (LSTM) before it']),
    (lambda: Sequential([Dense(3, input_shape=(2,)), TimeDistributed(Dense(2))]),
     ["(TimeDistributed) got input of shape (None, 3)", "RepeatVector"]),
    (lambda: Sequential([LSTM(3, input_shape=(4, 2), return_state=True)]), ["returns its states too"]),
    (lambda: Sequential([Dense(3, name="a", input_shape=(2,)), Dense(3, name="a")]), ["have the same name: 'a'"]),
    (lambda: Sequential([3]), ["add got a int, expected a layer"]),
    (lambda: Sequential([Input(None), Dense(3)]).build((2,)), ["Input: shape is None", "without the batch"]),
    (lambda: Sequential(dtype="float16"), ["dtype 'float16'", "float32, float64"]),
    (lambda: Dense(0), ["Dense: units is 0, expected a whole number of at least 1"]),
    (lambda: Dense(3, activation="sofmax"), ["activation 'sofmax' is not known", "did you mean 'softmax'?"]),
    (lambda: Activation("gelu"), ["activation 'gelu' is not known", "tanh"]),
    (lambda: LSTM(3, activation="relu"), ["LSTM: activation 'relu' is not known, expected one of tanh"]),
    (lambda: LSTM(3, return_sequence=True), ["LSTM: option 'return_sequence'", "did you mean 'return_sequences'?"]),
    (lambda: Dropout(1.0), ["Dropout: rate is 1.0"]),
    (lambda: Bidirectional(Dense(3)), ["Bidirectional got a Dense, expected an LSTM"]),
    (lambda: Bidirectional(LSTM(3), merge_mode="mul"), ["merge_mode 'mul'", "concat, sum"]),
    (lambda: EarlyStopping(mode="best"), ["mode 'best'", "auto, min, max"]),
    (lambda: Sequential([LSTM(3)]).summary(), ["does not know what comes in", "input_shape"]),
    (lambda: Sequential().build((3,)), ["no layers"]),
    (lambda: Sequential([LSTM(3, input_shape=(4, 2))]).fit(X, Y), ["fit before compile"]),
    (lambda: small(loss="categorical_crossentropie"), ["did you mean 'categorical_crossentropy'?"]),
    (lambda: small(optimizer="adm"), ["optimizer 'adm' is not known", "did you mean 'adam'?"]),
    (lambda: small(optimizer=RMSprop(0.001, 0.9, 0.5)), ["RMSprop: momentum is 0.5, which there is not here"]),
    (lambda: small(optimizer=RMSprop(epsilon=0.0)), ["eps is 0.0, expected above 0"]),
    (lambda: small(optimizer=Adam(epsilon=0.0)), ["eps is 0.0, expected above 0"]),
    (lambda: small(optimizer=Adam(epsilon=1e-60)), ["eps is 1e-60, expected above 0, for float32 at least 1.2e-38"]),
    (lambda: small().fit(X, Y, on_nonfinite="go on"), ["on_nonfinite 'go on'", "stop, skip"]),
    (lambda: small(metrics=["accurcy"]), ["metric 'accurcy' is not known", "did you mean 'accuracy'?"]),
    (lambda: small().fit(X, LABELS), ["y has shape (5,), but the network returns (5, 3)",
                                      "choose sparse_categorical_crossentropy"]),
    (lambda: small("sparse_categorical_crossentropy").fit(X, Y), ["class numbers of shape (5,)",
                                                                  "choose categorical_crossentropy"]),
    (lambda: small("sparse_categorical_crossentropy").fit(X, LABELS + 1), ["labels run from 1 to 3", "0 to 2"]),
    (lambda: small().fit(X[:4], Y), ["x holds 4 examples and y 5"]),
    (lambda: small().fit(np.ones((5, 4, 3)), Y), ["x has shape (5, 4, 3), but the network takes (None, 4, 2)"]),
    (lambda: small().fit(X * np.nan, Y), ["x holds nan, expected finite numbers"]),
    (lambda: small().fit(X, Y * np.inf), ["expected finite numbers"]),
    (lambda: small().fit(X[:0], Y[:0]), ["at least one example"]),
    (lambda: small().fit(X, Y, batch_size=0), ["batch_size is 0"]),
    (lambda: small().fit(X, Y, epochs=1.5), ["epochs is 1.5"]),
    (lambda: small().fit(X, Y, verbose=3), ["verbose '3' is not known"]),
    (lambda: small().fit(X, Y, validation_split=1.0), ["validation_split is 1.0"]),
    (lambda: small().fit(X, Y, validation_split=0.9), ["leaves none on one side"]),
    (lambda: small().fit(X, Y, validation_data=X), ["expected (x, y)"]),
    (lambda: small().fit(X, Y, sample_weight=[1, 2]), ["sample_weight has shape (2,), expected (5,)"]),
    (lambda: small().fit(X, Y, verbose=0, callbacks=[EarlyStopping()]), ["watches 'val_loss'", "only loss"]),
    (lambda: small().fit(X, Y, sample_weight=[1, 2, np.nan, 1, 1]), ["sample_weight holds nan"]),
    (lambda: small("sparse_categorical_crossentropy").fit(X, LABELS + 0.5), ["y holds 0.5, expected whole numbers"]),
    (lambda: Sequential([Dense(3, input_shape=(4,)), Input((99,))]), ['"input" (Input) got input of shape (None, 3)']),
    (lambda: Sequential([Dense(3, name="", input_shape=(2,)), Dense(3, name="b")]), ["a layer's name is empty"]),
    (lambda: Dense(3, name="a/b") and Sequential([Dense(3, name="a/b")]), ["has a . or a / in it: 'a/b'"]),
    (lambda: Dense(3, name="a\0b"), ["Dense: name is 'a\\x00b', expected text without control characters"]),
    (lambda: Sequential(name="a\ud800"), ["Sequential: name is 'a\\ud800', expected text without control"]),
    (lambda: Dense(3, input_shape=(5,), input_dim=7), ["Dense got input_shape=(5,) and input_dim=7, expected one"]),
    (lambda: small().get_layer("a", 1), ["get_layer got name='a' and index=1, expected one of them"]),
    (lambda: small().fit(X, Y, validation_split=0.5, validation_data=(X, Y)), ["exclude each other: leave one out"]),
    (lambda: LSTM(3)(np.ones((2, 4, 5)), initial_state=[np.zeros((2, 3))]), ["initial_state has 1 arrays", "[h, c]"]),
    (lambda: ModelCheckpoint("m", initial_value_threshold=0.1), ["initial_value_threshold needs save_best_only=True"]),
    (lambda: EarlyStopping("val_f1"), ["EarlyStopping watches 'val_f1'", "choose mode='max' or mode='min'"]),
    (lambda: TimeDistributed(3), ["TimeDistributed got a int, expected a layer"]),
    (lambda: Sequential([Embedding(3, 2, mask_zero=True, input_shape=(2, 4)), TimeDistributed(LSTM(2))]).predict(
        np.ones((1, 2, 4), int)), ["got a mask of shape (1, 2, 4), expected one for each step, (B, T)"]),
    (lambda: small().set_weights([np.ones(3)]), ["got 1 arrays, expected 5"]),
    (lambda: small().set_weights([np.ones(3)] * 5), ["array 0 has shape (3,), expected (2, 12)"]),
    (lambda: small().add(Dense(3)), ["has its weights already"]),
    (lambda: load_model("/nowhere/network"), ["/nowhere/network cannot be read"]),
    (lambda: load_model("/nowhere/network.keras"), ["/nowhere/network.keras cannot be read"]),
    (lambda: Embedding(3, 2)(np.array([[0, 3]])), ["ids from 0 to 3, expected 0 to input_dim - 1 = 2"]),
    (lambda: Sequential([Input(shape=(3,)), Embedding(3, 2)]).predict([[0.0, 0.5, 1.0]]), ["expected whole ones"]),
])
def test_the_sentence(make, parts):
    with pytest.raises(InputError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def test_a_loss_that_is_no_number_ends_the_training():
    model = Sequential([Dense(1, input_shape=(2,))])
    model.compile("sgd", "mse")
    x = np.full((8, 2), 1e30, "float32")
    with pytest.raises(InputError, match="the loss is .* at epoch 1, step 1: try a smaller learning rate"):
        model.fit(x, np.zeros((8, 1)), verbose=0)


def linear(**compiled):
    model = Sequential([Dense(1, input_shape=(2,), use_bias=False)])
    model.compile(**{"optimizer": SGD(0.1), "loss": "mse"} | compiled)
    model.set_weights([np.ones((2, 1))])
    return model


FINE, WILD = np.ones((1, 2), "float32"), np.full((1, 2), 1e30, "float32")


def test_a_gradient_that_is_not_finite_moves_nothing():
    model = linear()
    model.set_weights([np.zeros((2, 1))])  # the loss is finite, its gradient times the input is not
    with pytest.raises(InputError, match="the gradient of dense.W is not finite at epoch 1, step 1: try a smaller"):
        model.fit(np.full((1, 2), 1e20, "float32"), np.full((1, 1), 1e19), verbose=0)
    assert not model.params.flat.any()


def test_steps_that_are_not_finite_are_skipped_if_asked_for():
    x, y = np.concatenate([WILD, FINE]), np.zeros((2, 1))
    model, other = linear(), linear()
    history = model.fit(x, y, batch_size=1, epochs=3, shuffle=False, verbose=0, on_nonfinite="skip").history
    expected = other.fit(FINE, y[:1], batch_size=1, epochs=3, verbose=0).history
    assert history == expected and np.array_equal(model.params.flat, other.params.flat)
    with pytest.raises(InputError, match="the loss is inf at epoch 1, step 1"):
        linear().fit(x, y, batch_size=1, shuffle=False, verbose=0)


def test_twenty_skipped_steps_in_a_row_end_it_across_epochs():
    model = linear()
    assert np.isnan(model.fit(WILD, np.zeros((1, 1)), epochs=19, verbose=0, on_nonfinite="skip").history["loss"][0])
    with pytest.raises(InputError, match="the loss is inf at epoch 20, step 1, the last of 20 in a row"):
        model.fit(WILD, np.zeros((1, 1)), epochs=50, verbose=0, on_nonfinite="skip")
    assert np.array_equal(model.get_weights()[0], np.ones((2, 1)))


def test_what_is_advised_where_steps_spoilt_the_weights_helps():
    def tell(model):
        with pytest.raises(InputError, match="the loss is inf at epoch 1, step .* and make the network anew"):
            model.fit(x, y, batch_size=1, verbose=0)

    x, y = np.repeat(FINE, 4, 0), np.zeros((4, 1))
    model = linear(optimizer=SGD(1e20))
    tell(model)
    model.compile(SGD(0.1), "mse")  # the smaller rate alone does not help: the weights are finite, their loss is not
    tell(model)
    assert np.isfinite(model.params.flat).all()
    linear(optimizer=SGD(0.1)).fit(x, y, batch_size=1, verbose=0)


@pytest.mark.parametrize("epochs", [1, 2])
def test_weights_that_an_epoch_ruined_are_put_back(epochs):
    model = linear(optimizer=SGD(1e38))  # after the last step none comes that would tell
    x = np.full((1, 2), 100.0, "float32")
    with pytest.raises(InputError, match="the weights are not finite after epoch 1: try a smaller learning rate"):
        model.fit(x, np.zeros((1, 1)), epochs=epochs, verbose=0)
    assert np.array_equal(model.get_weights()[0], np.ones((2, 1)))
    with pytest.raises(InputError, match="the loss is .* at epoch 1, step 2"):
        model.fit(np.repeat(x, 2, 0), np.zeros((2, 1)), batch_size=1, verbose=0)
    assert np.array_equal(model.get_weights()[0], np.ones((2, 1)))


@pytest.mark.parametrize("optimizer", [SGD(0.01, 0.9), RMSprop()], ids=["sgd", "rmsprop"])
def test_an_epoch_that_is_undone_leaves_nothing_in_the_optimizer(optimizer):
    model, rng = linear(optimizer=optimizer), np.random.default_rng(0)
    x, y = rng.random((8, 2), "float32"), np.ones((8, 1), "float32")
    model.fit(x, y, batch_size=8, verbose=0)
    before = model.params.flat.copy()
    kept = {name: np.copy(value) for name, value in model.optimizer.state().items()}
    model.optimizer.learning_rate = 3e38
    with pytest.raises(InputError, match="that epoch is undone"):
        model.fit(1e5 * x, 1e13 * y, batch_size=8, verbose=0)
    model.optimizer.learning_rate = kept["learning_rate"]
    assert np.array_equal(model.params.flat, before)
    for name, value in model.optimizer.state().items():
        np.testing.assert_array_equal(value, kept[name])


def test_a_gradient_whose_squares_are_not_finite_never_gets_into_an_optimizer():
    model = linear(optimizer=RMSprop())
    with pytest.raises(InputError, match="the gradient's norm is not finite at epoch 1, step 1: try a smaller"):
        model.fit(1e10 * FINE, np.full((1, 1), 1e15, "float32"), verbose=0)
    assert not model.optimizer.state()["v"].any()


def test_an_epoch_of_skipped_steps_has_all_its_metrics():
    model = linear(metrics=["accuracy"])
    watched = EarlyStopping("accuracy", patience=5)
    history = model.fit(WILD, np.zeros((1, 1)), epochs=3, verbose=0, on_nonfinite="skip", callbacks=[watched]).history
    assert {name: len(values) for name, values in history.items()} == {"loss": 3, "accuracy": 3}
    assert np.isnan([*history.values()]).all()


def test_files_of_another_kind(tmp_path):
    (tmp_path / "a.keras").write_bytes(b"no archive")
    with pytest.raises(InputError, match="a.keras is damaged"):
        load_model(tmp_path / "a.keras")
    model = small()
    model.save(tmp_path / "small")
    other = Sequential([LSTM(4, input_shape=(4, 2)), Dense(3)])
    with pytest.raises(InputError, match=r"dense.W is \(3, 3\), expected \(4, 3\)"):
        other.load_weights(tmp_path / "small")


def test_what_was_refused_leaves_no_trace():
    model = Sequential([LSTM(3), LSTM(4)])
    for _ in range(2):  # and the second time it is the same sentence
        with pytest.raises(InputError, match="return_sequences=True"):
            model.predict(X)
    assert model.input_shape is None and len(model.layers) == 2
    model = Sequential([LSTM(3, input_shape=(4, 2), return_sequences=True, name="a")])
    for layer in (Dense(3, name="a"), LSTM(2, return_state=True), RepeatVector(2)):
        with pytest.raises(InputError):
            model.add(layer)
        assert len(model.layers) == 1 and layer.owner is None
    model.add(Dense(2))
    assert model.predict(X).shape == (5, 4, 2)
    model.compile("adam", "mse")
    with pytest.raises(InputError):
        model.compile("adm", "categorical_crossentropy")
    assert model.loss == "mse"


def test_weights_are_not_shared_between_networks():
    shared = Dense(3, input_shape=(4,))
    Sequential([shared])
    with pytest.raises(InputError, match="is in another network already"):
        Sequential([shared])
    with pytest.raises(InputError, match="part of another layer or network"):
        TimeDistributed(shared)


def test_weights_whose_bytes_look_like_the_end_of_an_archive_are_those_of_a_network(tmp_path):
    model = Sequential([Dense(40, use_bias=False, input_shape=(3,))])
    W = np.ones((3, 40), "float32")
    W.view(np.uint8).ravel()[-40:-36] = list(b"PK\x05\x06")  # with as many zeros behind it as an end of an archive has
    W.view(np.uint8).ravel()[-36:] = 0
    model.set_weights([W])
    model.save(tmp_path / "f")
    assert zipfile.is_zipfile(tmp_path / "f")
    assert np.array_equal(load_model(tmp_path / "f").get_weights()[0], W)
    model.load_weights(tmp_path / "f")


@pytest.mark.parametrize("wrap", [lambda layer: layer, TimeDistributed])
def test_ids_that_there_are_not_are_told_before_anything_is_trained(wrap):
    ids = np.zeros((50, 3, 2), "int64")
    model = Sequential([wrap(Embedding(10, 4, input_shape=() if wrap is TimeDistributed else (3, 2))), Dense(1)])
    model.compile("sgd", "mse")
    y = np.zeros((50, 3, 2, 1))
    model.fit(ids[:1], y[:1], epochs=1, verbose=0)
    before, wrong = model.params.flat.copy(), ids.copy()
    wrong[-1, -1, -1] = 10
    for fit in (lambda: model.fit(wrong, y, batch_size=1, verbose=0), lambda: model.predict(wrong),
                lambda: model.fit(ids, y, batch_size=1, verbose=0, validation_data=(wrong, y))):
        with pytest.raises(InputError, match="got ids from 0 to 10, expected 0 to input_dim - 1 = 9"):
            fit()
    assert (model.params.flat == before).all()


def test_numbers_that_are_not_finite_in_the_networks_dtype_are_told():
    x, y = np.ones((4, 2)), np.ones((4, 1))
    large = x.copy()
    large[2, 1] = 1e300
    model = Sequential([Dense(1, input_shape=(2,))])
    model.compile("sgd", "mse")
    for fit, words in ((lambda: model.fit(large, y, verbose=0), "x holds 1e.300, expected finite numbers of float32"),
                       (lambda: model.predict(large), "x holds 1e.300"),
                       (lambda: model.fit(x, large[:, 1:], verbose=0), "y holds 1e.300, expected finite numbers of fl"),
                       (lambda: model.fit(x, y, verbose=0, class_weight={1: 1e39}), "class_weight holds 1e.39, expec"),
                       (lambda: model.evaluate(x, large[:, 1:], verbose=0), "y holds 1e.300")):
        with pytest.raises(InputError, match=words):
            fit()
    exact = Sequential([Dense(1, input_shape=(2,))], dtype="float64")
    assert np.isfinite(exact.predict(large)).all()
