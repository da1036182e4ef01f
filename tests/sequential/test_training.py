"""compile, fit, evaluate, callbacks, the progress line, the table, saving."""

import re

import numpy as np
import pytest
from sequential import examples

from scratchnmt import sequential
from scratchnmt.errors import InputError
from scratchnmt.sequential import (
    LSTM,
    SGD,
    Adam,
    Callback,
    Dense,
    Dropout,
    EarlyStopping,
    Embedding,
    Input,
    ModelCheckpoint,
    Sequential,
    fitting,
    load_model,
)


def network(seed=0, **compiled):
    model = Sequential(examples.seed_network(sequential,
                                             input_shape=(examples.T, examples.I)), seed=seed)
    model.compile(**{"loss": "categorical_crossentropy", "optimizer": "adam", "metrics": ["accuracy"]} | compiled)
    return model


@pytest.fixture
def data(rng):
    return examples.vectors(rng, 20), examples.one_hot(rng, 20, 4)


def test_it_learns_by_heart(data):
    model = network(optimizer=Adam(learning_rate=0.02))
    history = model.fit(*data, epochs=150, batch_size=20, verbose=0)
    assert history.history["accuracy"][-1] > 0.95 and history.epoch == list(range(150))
    loss, accuracy = model.evaluate(*data, verbose=0)
    assert loss < 0.3 and accuracy > 0.95


def test_the_same_seed_gives_the_same_bits(data):
    weights = []
    for _ in range(2):
        model = network(seed=3)
        model.fit(*data, epochs=2, batch_size=8, verbose=0)
        weights.append(model.params.flat.copy())
    assert (weights[0] == weights[1]).all()
    assert (network(seed=3).params.flat != network(seed=4).params.flat).any()
    assert (network(seed=3).shuffler.permutation(20) != network(seed=4).shuffler.permutation(20)).any()


def test_shuffling_changes_the_order_and_takes_every_example(data, monkeypatch):
    taken = []
    monkeypatch.setattr(fitting.Data, "take", lambda self, which: taken.append(which) or fitting.Data(
        *(array[which] for array in self)))
    network().fit(*data, batch_size=8, verbose=0)
    assert sorted(np.concatenate(taken)) == list(range(20)) and (np.concatenate(taken) != np.arange(20)).any()


def test_validation_is_on_the_last_examples_and_changes_nothing(data):
    x, y = data
    split, given, without = network(), network(), network()
    a = split.fit(x, y, validation_split=0.2, epochs=2, verbose=0).history
    b = given.fit(x[:16], y[:16], validation_data=(x[16:], y[16:]), epochs=2, verbose=0).history
    without.fit(x[:16], y[:16], epochs=2, verbose=0)
    assert a == b and (split.params.flat == without.params.flat).all()
    assert a["val_loss"][-1] == pytest.approx(split.evaluate(x[16:], y[16:], verbose=0)[0], rel=1e-6)


def test_a_weight_of_zero_leaves_an_example_out(data):
    x, y = data
    weight = np.array([2.0, 0.0] * 10)
    left_out, weighted = network(optimizer=SGD(0.1)), network(optimizer=SGD(0.1))
    left_out.fit(x[::2], y[::2], batch_size=20, verbose=0)
    weighted.fit(x, y, batch_size=20, sample_weight=weight, verbose=0)
    np.testing.assert_allclose(weighted.params.flat, left_out.params.flat, rtol=2e-5, atol=1e-7)


def test_dropout_only_while_training(data):
    x, y = data
    model = Sequential([Input(shape=x.shape[1:]), LSTM(4), Dropout(0.9), Dense(6, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy")
    assert (model.predict(x) == model.predict(x, batch_size=3)).all()
    part = model.data(x, y[:, 0], None)
    losses = {fitting.loss_and_gradients(model, part, model.dropper)[0]["loss"] for _ in range(3)}
    assert len(losses) == 3


def test_early_stopping_and_the_best_weights(data):
    x, y = data
    model = network(optimizer=SGD(30.0))  # gets worse soon
    stop = EarlyStopping(monitor="loss", patience=2, restore_best_weights=True)
    history = model.fit(x, y, epochs=50, batch_size=20, verbose=0, callbacks=[stop], shuffle=False)
    losses = history.history["loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 50
    again = network(optimizer=SGD(30.0))
    again.fit(x, y, epochs=best + 1, batch_size=20, verbose=0, shuffle=False)
    assert (model.params.flat == again.params.flat).all()


@pytest.mark.parametrize("patience, expected", [((2, 20), 3), ((20, 2), 3)])
def test_who_stops_first_stops(patience, expected, data):
    model = network(optimizer=SGD(1e-30))
    stops = [EarlyStopping(monitor="loss", patience=n) for n in patience]
    assert len(model.fit(*data, epochs=9, verbose=0, callbacks=stops, shuffle=False).epoch) == expected


def test_no_number_is_no_improvement():
    watch = EarlyStopping()
    watch.on_train_begin()
    assert [watch.improved({"val_loss": value}) for value in (1.0, np.nan, 0.5)] == [True, False, True]


def test_the_best_weights_come_back_when_the_training_fails(data):
    model = network(optimizer=SGD(0.01))
    stop = EarlyStopping(monitor="loss", patience=5, restore_best_weights=True)

    class Spoil(Callback):
        def on_epoch_end(self, epoch, logs):
            self.model.params.flat[...] = np.nan

    with pytest.raises(InputError, match="the loss is nan at epoch 2"):
        model.fit(*data, epochs=3, verbose=0, callbacks=[stop, Spoil()])
    assert np.isfinite(model.params.flat).all()


def test_accuracy_does_not_depend_on_the_batches(rng):
    words = examples.ids(rng)
    model = Sequential(examples.tagger(sequential))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    labels = rng.integers(0, examples.CLASSES, words.shape)
    found = [model.evaluate(words, labels, batch_size=n, verbose=0)[1] for n in (1, 5, 24)]
    assert found == pytest.approx([(model.predict(words).argmax(-1) == labels)[words != 0].mean()] * 3)


def test_keras_ways_of_saying_it(data, tmp_path, capsys):
    x, y = data
    model = Sequential([LSTM(np.int64(3), input_shape=np.array([examples.T, examples.I])), Dense(1, "sigmoid")])
    model.compile(Adam(np.float32(0.1)), "binary_crossentropy")
    labels = (y[:, 0, 0] > 0).astype(int)
    model.fit(x, labels, epochs=np.int64(1), verbose=False, callbacks=None, validation_data=[x, labels])
    model.fit(x, labels, verbose=0, callbacks=EarlyStopping("loss"))
    assert model.predict(x, verbose=0).shape == (20, 1) and capsys.readouterr().out == ""
    model.save(tmp_path / "network")
    (tmp_path / "network").rename(tmp_path / "ours.keras")  # called like Keras' file, and yet ours, as of before
    assert (load_model(tmp_path / "ours.keras").predict(x) == model.predict(x)).all()


def test_a_terminal_without_the_bar_of_the_progress_line(data, monkeypatch, capsys):
    monkeypatch.setattr(fitting, "_shows", lambda marks: False)
    network().fit(*data, verbose=1)
    assert "1/1 ==================== " in capsys.readouterr().out


def test_the_best_is_saved(data, tmp_path):
    x, y = data
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, epoch, logs):
            seen.append((logs["val_accuracy"], self.model.params.flat.copy()))

    keep = ModelCheckpoint(tmp_path / "best.safetensors", monitor="val_accuracy", save_best_only=True)
    network(optimizer=Adam(0.05)).fit(x, y, epochs=6, validation_split=0.5, verbose=0, callbacks=[Watch(), keep])
    best = max(range(6), key=lambda k: (seen[k][0], -k))
    assert (load_model(tmp_path / "best.safetensors").params.flat == seen[best][1]).all()


def test_the_best_of_one_fit_is_not_replaced_by_a_worse_one_of_the_next(data, tmp_path):
    model, keep = network(optimizer=Adam(0.05)), ModelCheckpoint(tmp_path / "best", "loss", save_best_only=True)
    model.fit(*data, epochs=3, verbose=0, callbacks=keep)
    best = model.params.flat.copy()
    model.params.flat *= -3
    assert model.fit(*data, verbose=0, callbacks=keep).history["loss"][0] > keep.best
    assert (load_model(tmp_path / "best").params.flat == best).all()


def test_saved_and_loaded_it_goes_on_with_the_same_bits(data, tmp_path):
    model = network()
    model.fit(*data, epochs=2, verbose=0)
    model.save(tmp_path / "network")
    loaded = load_model(tmp_path / "network")
    assert (loaded.predict(data[0]) == model.predict(data[0])).all()
    for one in (model, loaded):
        one.fit(*data, epochs=2, verbose=0, shuffle=False)
    assert (loaded.params.flat == model.params.flat).all()


def test_a_damaged_file_is_refused_and_a_failed_save_leaves_the_old_one(data, tmp_path, monkeypatch):
    model, path = network(), tmp_path / "network"
    model.save(path)
    before = path.read_bytes()
    path.write_bytes(before[:-8] + b"\1" * 8)
    with pytest.raises(InputError, match="is damaged"):
        load_model(path)
    path.write_bytes(before)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="cannot be written"):
        model.save(path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["network"]


def test_the_progress_line(data, capsys):
    network().fit(*data, batch_size=8, epochs=2, validation_split=0.2, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    number = r"\d\.\d{4}"
    assert lines[::2] == ["Epoch 1/2", "Epoch 2/2"]
    assert all(re.fullmatch(rf"2/2 ━{{20}} \d+s \d+ms/step - accuracy: {number} - loss: {number} - "
                            rf"val_accuracy: {number} - val_loss: {number}", line) for line in lines[1::2])
    network().fit(*data, verbose=2)
    assert "━" not in (text := capsys.readouterr().out) and text.count("\n") == 2
    network().fit(*data, verbose=0)
    assert capsys.readouterr().out == ""


def test_the_table(capsys):
    network().summary()
    out = capsys.readouterr().out
    for line in ('Model: "sequential"', "Output Shape", "Param #", "lstm (LSTM)", "(None, 4, 8)",
                 "time_distributed (TimeDistributed)", "Total params: 1,046 (4.09 KB)"):
        assert line in out, out
    assert max(map(len, out.splitlines())) <= 80


def test_a_network_on_a_length_that_is_not_known(rng):
    model = Sequential([Embedding(9, 3, input_shape=(None,)), LSTM(4), Dense(2, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    for T in (3, 8):
        assert model.predict(rng.integers(0, 9, (5, T))).shape == (5, 2)
        model.fit(rng.integers(0, 9, (5, T)), rng.integers(0, 2, 5), verbose=0)
