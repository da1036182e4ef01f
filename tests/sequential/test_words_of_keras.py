"""Words that another reader of Keras would use: attributes, hooks, places of arguments, tables, layers' weights."""

import warnings

import numpy as np
import pytest
from sequential.examples import small

from scratchnmt import sequential
from scratchnmt.errors import InputError
from scratchnmt.sequential import (
    LSTM,
    SGD,
    Activation,
    Adam,
    Bidirectional,
    Callback,
    CSVLogger,
    Dense,
    Dropout,
    EarlyStopping,
    Embedding,
    Input,
    LambdaCallback,
    LearningRateScheduler,
    Masking,
    ModelCheckpoint,
    ReduceLROnPlateau,
    RMSprop,
    Sequential,
    TimeDistributed,
)

# layers that are not trained


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, 0.9), Adam(0.1), RMSprop(0.1)])
def test_a_layer_frozen_or_thawed_between_or_within_fits(optimizer, data):
    model = small(optimizer=optimizer)
    hidden, out = model.layers
    fit = lambda **how: model.fit(*data, verbose=0, batch_size=5, **how)
    fit()  # an optimizer has momentum now
    hidden.trainable = False
    kept, moved = hidden.get_weights(), out.get_weights()
    fit(epochs=2)
    assert all(map(np.array_equal, hidden.get_weights(), kept))
    assert not any(map(np.array_equal, out.get_weights(), moved))

    def thaw(epoch, logs):
        hidden.trainable = epoch % 2 == 1

    seen = []
    fit(epochs=4, callbacks=[LambdaCallback(on_epoch_begin=thaw, on_epoch_end=lambda epoch, logs: seen.append(
        hidden.get_weights()[0]))])
    same = [np.array_equal(*pair) for pair in zip([kept[0], *seen], seen, strict=False)]
    assert same == [True, False, True, False]


def test_what_is_frozen_stays_whatever_its_gradient(data):
    model = small(Dense(4, name="hidden"), Dense(2, trainable=False))
    x, y = data
    model.layers[0].set_weights([np.zeros((3, 4)), np.full(4, 1e38)])
    model.layers[1].set_weights([np.zeros((4, 2)), np.zeros(2)])
    model.fit(x, y + 1000, verbose=0)  # the gradient of the frozen kernel overflows: nobody needs it
    assert not model.layers[1].get_weights()[0].any()


def test_a_network_that_is_frozen_says_that_fit_does_nothing(data):
    model = small(Dense(4), TimeDistributed(Dense(2)), Dense(2), inputs=(1, 3))
    model.trainable = False
    assert not any(layer.trainable for layer in (*model.layers, model.layers[1].layer))
    before = model.get_weights()
    with pytest.warns(UserWarning, match="no layer with weights is trainable"):
        model.fit(data[0][:, None], data[1][:, None], verbose=0)
    assert all(map(np.array_equal, model.get_weights(), before))
    model.trainable = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(data[0][:, None], data[1][:, None], verbose=0)
    assert not any(map(np.array_equal, model.get_weights(), before))


@pytest.mark.parametrize("freeze", [lambda layer: setattr(layer, "trainable", False),
                                    lambda layer: setattr(layer.layer, "trainable", False)])
@pytest.mark.parametrize("make", [lambda: TimeDistributed(Dense(2)), lambda: Bidirectional(LSTM(2))])
def test_freezing_a_wrapper_or_what_is_inside(freeze, make, rng):
    model = small(make(), Dense(2), inputs=(4, 3))
    freeze(model.layers[0])
    before = model.get_weights()
    x = rng.standard_normal((9, 4, 3))
    model.fit(x, rng.standard_normal(model.predict(x).shape), verbose=0)
    moved = [not np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True)]
    assert moved == [False] * (len(before) - 2) + [True] * 2


def test_the_summary_counts_what_is_trained(capsys):
    model = small()
    model.layers[0].trainable = False
    model.summary()
    assert capsys.readouterr().out.splitlines()[-4:-1] == [
        "Total params: 26 (104.00 B)", "Trainable params: 10 (40.00 B)", "Non-trainable params: 16 (64.00 B)"]


@pytest.mark.parametrize("value", ["no", None, 0, 1.0])
def test_trainable_is_true_or_false(value):
    for make in (lambda: Dense(2, trainable=value), lambda: setattr(Dense(2), "trainable", value),
                 lambda: setattr(Sequential(), "trainable", value)):
        with pytest.raises(InputError, match=f"trainable is {value!r}, expected True or False"):
            make()


# what is misspelt


@pytest.mark.parametrize("make, name, parts", [
    (lambda: Dense(2, name="a"), "trainabel", ['"a" (Dense) has no attribute', "did you mean 'trainable'?"]),
    (lambda: Bidirectional(LSTM(2), name="a"), "Trainable", ["did you mean 'trainable'?"]),
    (lambda: small(), "learning_rate", ['"sequential" (Sequential) has no attribute \'learning_rate\'']),
    (lambda: small(), "stop_traning", ["did you mean 'stop_training'?"]),
    (lambda: Dense(2, name="a"), "units", ["units is chosen when it is made, Dense(..., units=...)"]),
    (lambda: Dropout(0.2), "rate", ["rate is chosen when it is made"]),
    (lambda: Dense(2, name="a"), "name", ["name is chosen when it is made"]),
    (lambda: Dense(2), "input_shape", ["input_shape is chosen when it is made"]),
    (lambda: LSTM(2, return_sequences=True), "return_sequences", ["return_sequences is chosen when it is made"]),
    (lambda: small(), "dtype", ["dtype is chosen when it is made"]),
])
def test_attributes_that_would_do_nothing_are_refused(make, name, parts):
    with pytest.raises(InputError) as caught:
        setattr(make(), name, False)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize("optimizer", [SGD(), Adam(), RMSprop()])
def test_the_learning_rate_has_one_name(optimizer):
    model = small(optimizer=optimizer)
    model.optimizer.learning_rate = 0.5
    with pytest.raises(AttributeError, match="lr"):
        model.optimizer.lr = 0.1


@pytest.mark.parametrize("ending", ["safetensors", "keras", "h5"])
@pytest.mark.parametrize("rate", [np.float64(0.25), np.float32(0.25), np.array(0.25)])
def test_a_rate_of_numpys_is_saved_as_a_number(data, tmp_path, rate, ending):
    pytest.importorskip("safetensors" if ending == "safetensors" else "h5py")
    model = small(optimizer="adam")
    model.fit(*data, verbose=0)
    model.optimizer.learning_rate = rate
    model.save(tmp_path / f"a.{ending}")
    assert sequential.load_model(tmp_path / f"a.{ending}").optimizer.learning_rate == 0.25


@pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf")])
def test_a_rate_that_cannot_be_saved_cannot_be_set(rate):
    model = small(optimizer="adam")
    with pytest.raises(InputError, match="learning_rate is .*, expected at least 0"):
        model.optimizer.learning_rate = rate


def test_a_layer_of_ones_own_keeps_what_it_is_made_with():
    class Scale(sequential.Layer):
        choices = ("factor",)

        def __init__(self, factor, **kind):
            super().__init__(**kind)
            self.factor, self.seen = factor, 0

        def forward(self, x, weights, mask, rng):
            self.seen += 1
            return x * self.factor, mask, None

    layer = Scale(2.0)
    assert layer(np.ones((1, 2))).tolist() == [[2.0, 2.0]] and layer.seen == 1
    with pytest.raises(InputError, match="has no attribute 'sean'; did you mean 'seen'"):
        layer.sean = 3
    assert type(Scale(np.float32(2.0)).config()["factor"]) is float
    with pytest.raises(InputError, match=r"\(Scale\): factor is 2j, which cannot be saved: expected numbers, text, or"):
        Scale(2j).config()


@pytest.mark.parametrize("hooks, parts", [
    ({"on_epoch_ends": lambda self, epoch, logs: None}, ["Mine: hook 'on_epoch_ends'", "did you mean 'on_epoch_end'?"]),
    ({"on_training_begin": lambda self, logs: None}, ["did you mean 'on_train_begin'?"]),
    ({"on_epoch_end": lambda self, epoch: None}, ["Mine: on_epoch_end(self, epoch) cannot be called as the hook "
                                                  "on_epoch_end(self, epoch, logs)"]),
    ({"on_train_begin": lambda self: None}, ["on_train_begin(self, logs)"]),
])
def test_hooks_that_would_never_be_called_are_refused(hooks, parts):
    with pytest.raises(InputError) as caught:
        type("Mine", (Callback,), hooks)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_hooks_of_one_object_and_of_functions(data):
    with pytest.raises(InputError, match="LambdaCallback: hook 'on_epoch' is not known.*did you mean 'on_epoch_"):
        LambdaCallback(on_epoch=print)
    with pytest.raises(InputError, match="LambdaCallback: on_epoch_end.epoch. cannot be called as the hook"):
        LambdaCallback(on_epoch_end=lambda epoch: None)
    with pytest.raises(InputError, match="LambdaCallback: hook 'epoch_end' is not known"):
        LambdaCallback(epoch_end=print)
    with pytest.raises(InputError, match="LambdaCallback: on_epoch_end is 3, expected a function"):
        LambdaCallback(on_epoch_end=3)
    small().fit(*data, verbose=0, callbacks=[LambdaCallback(on_epoch_end=None)])
    mine = Callback()
    mine.on_ends = lambda logs: None
    with pytest.raises(InputError, match="hook 'on_ends' is not known"):
        small().fit(*data, verbose=0, callbacks=[mine])
    for wrong, said in ((EarlyStopping, "the class EarlyStopping"), ("EarlyStopping", "'EarlyStopping'"), (3, "3")):
        with pytest.raises(InputError, match=f"callbacks hold {said}, expected objects of classes derived from"):
            small().fit(*data, verbose=0, callbacks=[wrong])


# arguments by place, and of the right kind


def test_what_keras_has_in_the_second_place():
    assert LSTM(8, "tanh").return_sequences is False
    assert LSTM(8, "tanh", "sigmoid", True).units == 8
    assert Dense(8, "relu", False).activation == "relu"
    for wrong in ((LSTM, 8, True), (LSTM, 8, "tanh", True)):
        with pytest.raises(InputError, match="LSTM: (recurrent_)?activation True is not known"):
            wrong[0](*wrong[1:])
    for make in (lambda: Embedding(9, 2, True), lambda: LSTM(8, "tanh", "sigmoid", True, True)):
        with pytest.raises(TypeError, match="positional"):
            make()


X, Y = np.ones((6, 3), "float32"), np.zeros((6, 2), "float32")


@pytest.mark.parametrize("make, parts", [
    (lambda: Dense(-3), ["Dense: units is -3, expected a whole number"]),
    (lambda: Dense(3.0), ["Dense: units is 3.0"]),
    (lambda: Dense("3"), ["Dense: units is '3'"]),
    (lambda: Dense(3, use_bias="no"), ["Dense: use_bias is 'no', expected True or False"]),
    (lambda: Dense(3, name=7), ["Dense: name is 7, expected text"]),
    (lambda: Dense(3, input_shape=4), ["input_shape is 4, expected sizes without the batch", "(4,)"]),
    (lambda: Dense(3, input_shape="4"), ["input_shape is '4'"]),
    (lambda: Dense(3, input_shape=(-4,)), ["input_shape: a size is -4"]),
    (lambda: Dense(3, input_dim=0), ["input_shape: a size is 0"]),
    (lambda: Input(4), ["input_shape is 4"]),
    (lambda: LSTM(3, return_sequences="tanh"), ["LSTM: return_sequences is 'tanh', expected True or False"]),
    (lambda: LSTM(3, go_backwards=1), ["LSTM: go_backwards is 1"]),
    (lambda: LSTM(3, use_bias=False), ["LSTM: use_bias is False, which there is not here"]),
    (lambda: Embedding(3, 2, mask_zero=0), ["Embedding: mask_zero is 0"]),
    (lambda: Dropout("0.5"), ["Dropout: rate is '0.5', expected a number"]),
    (lambda: Dropout(-0.1), ["Dropout: rate is -0.1"]),
    (lambda: Masking("x"), ["Masking: mask_value is 'x'"]),
    (lambda: small().compile("sgd", "mse", metrics="accuracy"), ["metrics is 'accuracy', expected a list"]),
    (lambda: small().fit(X, Y, shuffle="batch"), ["shuffle is 'batch', expected True or False"]),
    (lambda: small().fit(X, Y, 0), ["batch_size is 0"]),
    (lambda: small().fit(X, Y, batch_size=2.5), ["batch_size is 2.5"]),
    (lambda: small().predict(X, 0), ["batch_size is 0"]),
    (lambda: small().predict(X, verbose="loud"), ["verbose 'loud' is not known"]),
    (lambda: small().evaluate(X, Y, -1), ["batch_size is -1"]),
    (lambda: small().fit(X, Y, initial_epoch=-1), ["initial_epoch is -1"]),
    (lambda: small().fit(X, Y, validation_split=-0.1), ["validation_split is -0.1"]),
    (lambda: small().fit(X, Y, validation_split="a third"), ["validation_split is 'a third'"]),
    (lambda: small().fit(X, Y, validation_data=(X, Y[:3])), ["validation_data: x holds 6 examples and y 3"]),
    (lambda: small().fit([X, X], Y), ["x is a list of 2 arrays, but the network takes one input, (None, 3)"]),
    (lambda: small().fit([X, X[:4]], Y), ["x is a list of 2 arrays"]),
    (lambda: small().fit([[1, 2, 3], [1, 2]], Y[:2]), ["x holds arrays or lists of several lengths", "pad them"]),
    (lambda: small().fit({"x": X}, Y), ["x is a dict, expected an array"]),
    (lambda: small().fit((row for row in X), Y), ["x is a generator, expected an array"]),
    (lambda: small().fit(X, list("abcdef")), ["y is <U1 (6,), expected numbers"]),
    (lambda: small().fit(X, Y, class_weight={0: 1.0}, sample_weight=np.ones(6)), ["exclude each other"]),
    (lambda: small().fit(X, Y, class_weight="balanced"), ["class_weight is 'balanced', expected a dictionary"]),
    (lambda: small().fit(X, Y, class_weight=[1, 2]), ["class_weight is [1, 2]", "dict(enumerate(weights))"]),
    (lambda: small().fit(X, Y, class_weight={"cat": 1.0}), ["class 'cat', expected whole numbers from 0 to 1"]),
    (lambda: small().fit(X, Y, class_weight={2: 1.0}), ["class 2, expected whole numbers from 0 to 1"]),
    (lambda: small().fit(X, Y, class_weight={0: -1.0}), ["class_weight of class 0 is -1.0"]),
    (lambda: small().fit(X, Y, sample_weight=["a"] * 6), ["sample_weight is <U1"]),
    (lambda: EarlyStopping(patience=-1), ["EarlyStopping: patience is -1"]),
    (lambda: EarlyStopping(restore_best_weights="yes"), ["restore_best_weights is 'yes'"]),
    (lambda: ModelCheckpoint("a", save_freq=100), ["ModelCheckpoint: save_freq 100 is not known"]),
    (lambda: ModelCheckpoint("a", save_best_only=1), ["save_best_only is 1"]),
    (lambda: ReduceLROnPlateau(factor=1.0), ["ReduceLROnPlateau: factor is 1.0, expected a number above 0 and below"]),
    (lambda: ReduceLROnPlateau(cooldown=-1), ["cooldown is -1"]),
    (lambda: LearningRateScheduler(0.1), ["schedule is 0.1, expected a function of (epoch, learning_rate)"]),
    (lambda: LearningRateScheduler(lambda: 0.1), ["schedule is", "expected a function of (epoch, learning_rate)"]),
    (lambda: small().fit(X, Y, verbose=0, callbacks=[LearningRateScheduler(lambda epoch: "fast")]),
     ["what schedule returned is 'fast', expected a number of at least 0"]),
    (lambda: small().fit(X, Y, verbose=0, callbacks=[LearningRateScheduler(lambda epoch: float("nan"))]),
     ["what schedule returned is nan"]),
    (lambda: CSVLogger("a.csv", separator=""), ["CSVLogger: separator is ''"]),
    (lambda: small().fit(X, Y, epochs=2, initial_epoch=5), ["initial_epoch is 5 and epochs 2, expected more"]),
    (lambda: small().fit(np.ma.masked_greater(X, 0), Y), ["x is an array with masked numbers"]),
    (lambda: small().compile(Adam("0.1"), "mse"), ["Adam: learning_rate is '0.1', expected a finite number"]),
    (lambda: LSTM(3, activatoin="tanh"), ["LSTM: option 'activatoin'", "did you mean 'activation'?"]),
    (lambda: small().get_layer("hiden"), ["layer 'hiden' is not known", "did you mean 'hidden'?"]),
    (lambda: small().get_layer(index=2), ["index is 2, but there are 2 layers"]),
])
def test_the_sentence(make, parts):
    with pytest.raises(InputError) as caught:
        make()
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_rate_out_of_range_is_told_before_anything_is_changed():
    model = Sequential([Dense(2)])  # it does not know what comes in yet
    with pytest.raises(InputError, match="learning_rate is -1.0"):
        model.compile(SGD(-1.0), "mse")
    assert not model.compiled


# networks that cannot learn


@pytest.mark.parametrize("layers, loss, words", [
    (lambda: [Dense(1, "softmax")], "binary_crossentropy", "a softmax over a single output is always 1"),
    (lambda: [Dense(1), Activation("softmax")], "mse", "a softmax over a single output is always 1"),
    (lambda: [Dense(1, "softmax"), Dense(2)], "mse", "a softmax over a single output is always 1"),
    (lambda: [Dense(1, "sigmoid")], "categorical_crossentropy", "of a single output is always 0.*binary_crossentropy"),
    (lambda: [Dense(3)], "categorical_crossentropy", "does not end with softmax"),
    (lambda: [Dense(3, "relu"), Dropout(0.1)], "sparse_categorical_crossentropy", "does not end with softmax"),
    (lambda: [Dense(1)], "binary_crossentropy", "does not end with sigmoid"),
])
def test_a_network_that_cannot_learn_is_told(layers, loss, words):
    with pytest.warns(UserWarning, match=words):
        small(*layers(), loss=loss)


@pytest.mark.parametrize("layers, loss", [
    (lambda: [Dense(1, "sigmoid")], "binary_crossentropy"), (lambda: [Dense(2, "softmax")], "binary_crossentropy"),
    (lambda: [Dense(2, "softmax"), Dropout(0.1)], "categorical_crossentropy"), (lambda: [Dense(1)], "mse"),
    (lambda: [Dense(2), Activation("softmax")], "sparse_categorical_crossentropy"),
])
def test_and_no_other(layers, loss):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(*layers(), loss=loss)


@pytest.mark.parametrize("low, high", [(-1, 1), (0, 255)])
def test_targets_that_are_no_probabilities_are_told(low, high):
    y = np.array([low, high] * 3)
    with pytest.warns(UserWarning, match=f"binary_crossentropy: y runs from {low} to {high}"):
        small(Dense(1, "sigmoid"), loss="binary_crossentropy").fit(X, y, verbose=0)


# tables


class Table:
    """As a DataFrame or a Series: an array for whoever asks, and nothing else that NumPy knows."""

    dtype = "object"

    def __init__(self, array):
        self.array = array

    def __len__(self):
        return len(self.array)

    def to_numpy(self):
        return self.array


def test_whatever_has_to_numpy_is_asked_for_it(data):
    (x, y), weight = data, np.linspace(0, 1, 20)
    arrays, tables = small(), small()
    arrays.fit(x, y, verbose=0, validation_data=(x, y, weight), sample_weight=weight)
    tables.fit(Table(x), Table(y), verbose=0, validation_data=(Table(x), Table(y), Table(weight)),
               sample_weight=Table(weight))
    assert (arrays.params.flat == tables.params.flat).all()
    assert (tables.predict(Table(x)) == arrays.predict(x)).all()
    assert tables.evaluate(Table(x), Table(y), verbose=0) == arrays.evaluate(x, y, verbose=0)
    assert (arrays.predict([x]) == arrays.predict(x)).all()  # lists of the one input and output
    found = [model.fit(*given, verbose=0, sample_weight=w, shuffle=False).history for model, given, w in (
        (arrays, ([x], [y]), weight[:, None]), (tables, (x, y), weight))]
    assert found[0] == found[1]


def test_data_frames_and_series_of_pandas(data):
    pandas = pytest.importorskip("pandas")
    x, y = data
    frame = pandas.DataFrame(x, columns=["a", "b", "c"], index=np.arange(20)[::-1])
    arrays, tables = small(), small()
    arrays.fit(x, y, verbose=0)
    tables.fit(frame, pandas.DataFrame(y), verbose=0)
    assert (arrays.params.flat == tables.params.flat).all()
    mixed = frame.assign(a=range(20), b=[True, False] * 10)
    assert tables.predict(mixed).shape == (20, 2)
    one = small(Dense(1), inputs=(1,))
    one.fit(frame["a"], frame["b"], verbose=0, sample_weight=frame["c"].abs())
    with pytest.raises(InputError, match=r"x is object .*: these columns hold others: b \((str|object)\)"):
        tables.predict(frame.assign(b="red"))
    with pytest.raises(InputError, match="x holds nan, expected finite numbers"):
        tables.predict(frame.assign(b=np.nan))
    with pytest.raises(InputError, match="these columns hold others: b .datetime64"):
        tables.predict(frame.assign(b=pandas.Timestamp("2020-01-01")))


# weights of a layer


def test_a_layers_weights(data):
    model = small()
    hidden = model.get_layer("hidden")
    assert hidden is model.layers[0] is model.get_layer(index=0) and hidden.count_params() == 16
    kernel, bias = hidden.get_weights()
    kernel[...] = 7  # a copy
    assert not (model.get_weights()[0] == 7).any()
    hidden.set_weights([np.ones((3, 4)), np.arange(4)])
    assert model.get_weights()[1].tolist() == [0, 1, 2, 3]
    for wrong, words in (([kernel], "got 1 arrays, expected 2"),
                         ([kernel * 2, ["a", "b", "c", "d"]], "could not convert.*expected arrays of numbers"),
                         ([kernel, [0, 1, 2, -1e300]], "array 1 holds a number that is too large for float32"),
                         ([kernel, [0, 1, 2, 10**400]], "array 1 holds a number that is too large for float32"),
                         ([kernel.T, bias], r"array 0 has shape \(4, 3\), expected \(3, 4\)")):
        with pytest.raises(InputError, match=f'layer "hidden" .Dense.: set_weights:? {words}'):
            hidden.set_weights(wrong)
    assert model.get_weights()[1].tolist() == [0, 1, 2, 3] and (model.get_weights()[0] == 1).all()
    assert Dense(2).get_weights() == [] and Dropout(0.1).get_weights() == []


def test_a_layer_of_a_network_called_by_itself_is_the_networks(data):
    model = small()
    hidden, out = model.layers
    np.testing.assert_array_equal(out(hidden(data[0])), model.predict(data[0]))
    wrapped = small(TimeDistributed(Dense(2)), inputs=(4, 3))
    with pytest.raises(InputError, match="is inside .*TimeDistributed.*: ask that one"):
        wrapped.layers[0].layer.get_weights()


@pytest.mark.parametrize("wrap", [lambda layer: layer, TimeDistributed])
def test_weights_that_a_layer_had_come_with_it(wrap, data):
    dense = Dense(2)
    dense(data[0])
    dense.set_weights([np.full((3, 2), 5.0), np.ones(2)])
    model = Sequential([wrap(dense)])
    model.build((3,) if wrap(Dense(1)).kind == "Dense" else (4, 3))
    assert model.get_weights()[0].tolist() == [[5.0, 5.0]] * 3
    dense = Dense(2)
    dense(data[0])
    with pytest.raises(InputError, match=r"has weights already: W is \(3, 2\), its network's input wants \(7, 2\)"):
        Sequential([Input((7,)), dense]).get_weights()


def test_weights_of_classes_at_each_step(rng):
    x = rng.standard_normal((12, 4, 3))
    y = rng.integers(0, 3, (12, 4))
    found = []
    for how in ({"class_weight": {0.0: 3.0, 2: 0.0}}, {"sample_weight": np.array([3.0, 1.0, 0.0])[y]}):
        model = small(Dense(3, "softmax"), loss="sparse_categorical_crossentropy", inputs=(4, 3))
        model.fit(x, y, epochs=2, verbose=0, **how)
        found.append(model.params.flat)
    np.testing.assert_array_equal(*found)
