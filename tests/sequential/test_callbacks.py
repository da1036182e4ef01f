"""Callbacks: what they are told, what they write, and who may end a training."""

import csv
import os
import re

import pytest
from sequential.examples import small

from scratchnmt.errors import InputError, WriteError
from scratchnmt.sequential import (
    SGD,
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    callbacks,
)


def test_hooks_share_the_logs_and_history_keeps_them(data):
    seen = []

    class Add(Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["mine"] = epoch * 10

    watch = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["mine"]))
    model = small()
    history = model.fit(*data, verbose=0, epochs=3, initial_epoch=1,
                        callbacks=[Add(), watch, EarlyStopping("mine", mode="max")])
    assert history.history["mine"] == seen == [10, 20] and history.epoch == [1, 2] and model.history is history


def test_a_batch_can_end_the_training(data):
    model, batches = small(), []

    class Stop(Callback):
        def on_batch_end(self, batch, logs=None):
            batches.append(batch)
            self.model.stop_training = batch == 1

    assert len(model.fit(*data, batch_size=4, epochs=5, verbose=0, callbacks=[Stop()]).epoch) == 1
    assert batches == [0, 1]


def test_what_callbacks_say(data, tmp_path, capsys):
    model = small(optimizer=SGD(1e-30))
    model.fit(*data, epochs=9, verbose=0, shuffle=False, callbacks=[
        EarlyStopping("loss", patience=2, verbose=1, restore_best_weights=True),
        ReduceLROnPlateau("loss", patience=1, verbose=1), LearningRateScheduler(lambda epoch, rate: rate, verbose=1),
        ModelCheckpoint(tmp_path / "new" / "{epoch:02d}-{loss:.1f}.safetensors", "loss", verbose=1,
                        save_best_only=True)])
    said = capsys.readouterr().out
    for words in ("Epoch 3: early stopping", "Restoring model weights from the end of the best epoch: 1.",
                  "Epoch 3: ReduceLROnPlateau reduces the learning rate to 1e-32.", "Epoch 1: loss improved to ",
                  "Epoch 1: LearningRateScheduler sets the learning rate to 1e-30"):
        assert words in said, said
    assert [re.fullmatch(r"01-\d\.\d.safetensors", file.name) is not None
            for file in (tmp_path / "new").iterdir()] == [True]
    with pytest.raises(InputError, match="cannot be filled in .'val_loss'.: the names are epoch, loss"):
        model.fit(*data, verbose=0, callbacks=[ModelCheckpoint(tmp_path / "{val_loss}")])


def test_callbacks_act_before_they_say_what_nobody_may_read(data, tmp_path, monkeypatch):
    model = small(optimizer=SGD(1e-30))
    monkeypatch.setattr("scratchnmt.sequential.callbacks._Watch.say", lambda *_: (_ for _ in ()).throw(BrokenPipeError))
    with pytest.raises(BrokenPipeError):
        model.fit(*data, verbose=0, callbacks=[ModelCheckpoint(tmp_path / "w", verbose=1)])
    assert (tmp_path / "w").exists()
    stop = EarlyStopping("loss", mode="max", patience=1, restore_best_weights=True)
    stop.set_model(model)
    stop.on_train_begin()
    stop.on_epoch_end(0, {"loss": 1.0})
    best = model.params.flat.copy()
    model.params.flat[...] += 1
    stop.on_epoch_end(1, {"loss": 0.5})
    with pytest.raises(BrokenPipeError):
        stop.on_train_end()
    assert (model.params.flat == best).all()


def test_a_csv_log_whose_lines_csv_does_not_know(data, tmp_path):
    (tmp_path / "log.csv").write_bytes(b"epoch,loss\r0,1\r1,2\r")
    with pytest.raises(InputError, match="log.csv does not begin with a line of names"):
        small().fit(*data, verbose=0, callbacks=[CSVLogger(tmp_path / "log.csv", append=True)])


def test_a_checkpoint_of_weights_alone(data, tmp_path):
    model = small()
    model.fit(*data, verbose=0, callbacks=[ModelCheckpoint(tmp_path / "w", save_weights_only=True)])
    other = small()
    other.load_weights(tmp_path / "w")
    assert (other.params.flat == model.params.flat).all()


def test_a_csv_logger(data, tmp_path):
    model, path = small(), tmp_path / "log.csv"
    history = model.fit(*data, epochs=3, verbose=0, validation_split=0.2, callbacks=CSVLogger(path)).history
    rows = list(csv.DictReader(path.open()))
    assert [float(row["val_loss"]) for row in rows] == history["val_loss"] and rows[2]["epoch"] == "2"
    with pytest.warns(UserWarning, match="log.csv has no column for learning_rate"):
        model.fit(*data, epochs=1, verbose=0, callbacks=[ReduceLROnPlateau("loss"), CSVLogger(path, append=True)])
    assert list(csv.DictReader(path.open()))[3]["val_loss"] == "NA"
    with pytest.raises(WriteError, match="cannot be written"):
        model.fit(*data, verbose=0, callbacks=CSVLogger(tmp_path / "none" / "log.csv"))


def test_half_a_line_in_a_log_spoils_no_other(data, tmp_path):
    model, path = small(), tmp_path / "log.csv"
    model.fit(*data, epochs=2, verbose=0, callbacks=CSVLogger(path))
    path.write_bytes(path.read_bytes()[:-3])  # the disk was full
    loss = model.fit(*data, epochs=1, verbose=0, callbacks=CSVLogger(path, append=True)).history["loss"]
    rows = list(csv.DictReader(path.open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "0"] and [float(rows[2]["loss"])] == loss


@pytest.mark.parametrize("left", ["epo", "epoch,accu"])
def test_half_a_header_in_a_log_is_written_anew(data, tmp_path, left):
    path = tmp_path / "log.csv"
    path.write_text(left)
    loss = small().fit(*data, epochs=2, verbose=0, callbacks=CSVLogger(path, append=True)).history["loss"]
    assert [float(row["loss"]) for row in csv.DictReader(path.open())] == loss


@pytest.mark.parametrize("content", [b"\xff,a\n", b"a" * 200_000, b"\n", None])
def test_a_csv_logger_goes_on_with_no_other_file(data, tmp_path, content):
    path = tmp_path / "log.csv"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match="log.csv (does not begin with a line of names|is not a regular file)"):
        small().fit(*data, epochs=1, verbose=0, callbacks=CSVLogger(path, append=True))
    assert content is None or path.read_bytes() == content
    path.unlink()
    path.touch()
    small().fit(*data, epochs=1, verbose=0, callbacks=CSVLogger(path, append=True))
    assert path.read_text().startswith("epoch,")


def test_a_checkpoint_that_cannot_be_written_is_an_error_in_a_sentence(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="net cannot be written"):
        small().fit(*data, epochs=1, verbose=0, callbacks=ModelCheckpoint(tmp_path / "file" / "net"))


def test_callbacks_are_told_the_end_when_the_training_fails(data):
    ended = []

    def fail(epoch, logs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small().fit(*data, verbose=0, callbacks=[LambdaCallback(on_train_end=lambda logs: ended.append(1),
                                                                on_epoch_begin=fail)])
    assert ended == [1]


def test_every_hook_has_its_arguments():
    for name, arguments in callbacks.HOOKS.items():
        assert getattr(Callback(), name)(*range(len(arguments))) is None
