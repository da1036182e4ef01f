"""What a training run promises to those who leave it alone for hours: see docs/trust.md."""

import contextlib
import errno
import io
import json
import os
import re
import shutil
import traceback
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_run
from tiny_run import PER_EPOCH, At, Killed, essence, files, kill, metrics, model, options, press_ctrl_c, run

from scratchnmt import checkpoint
from scratchnmt.cli import demo, main, prepare
from scratchnmt.cli import train as train_command
from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.errors import InputError, OutOfMemoryError, WriteError
from scratchnmt.files import atomic, run_folder, tensors
from scratchnmt.files.lock import LOCK, FolderLock
from scratchnmt.files.run_folder import BEST_STATE, METRICS, MODEL, STATE, RunFolder
from scratchnmt.files.tensors import read_tensors, write_tensors
from scratchnmt.parallel.ranks import Ranks
from scratchnmt.training import NotFiniteError, train
from scratchnmt.training.loop import Trainer
from scratchnmt.training.saving import Saving
from scratchnmt.training.validation import Validation

pytest.importorskip("safetensors")
pytest.importorskip("sacrebleu")


# the same text

def test_other_references_of_the_same_ids_are_refused(tmp_path):
    """An unknown word is the same id as any other."""
    data = tiny_run.data()

    def go_on(word, resume):
        references = [f"{line} {word}" for line in data.valid_references]
        return train(model(), replace(data, valid_references=references), tiny_run.options(max_steps=2), tmp_path,
                     resume=resume)

    go_on("zebra", False)
    with pytest.raises(InputError, match="the validation references was 20 lines with checksum"):
        go_on("yak", True)
    assert go_on("zebra", True).step == 2


def test_other_vocabularies_of_the_same_size_are_refused(tmp_path):
    run(tmp_path, max_steps=2)
    other = WordVocabulary([letter.upper() for letter in tiny_run.LETTERS])
    for side in "src", "tgt":
        with pytest.raises(InputError, match=f"is another vocabulary than the data's {side}_vocab: give the"):
            train(model(), replace(tiny_run.data(), **{f"{side}_vocab": other}), tiny_run.options(max_steps=4),
                  tmp_path, resume=True)


# a state that is no good

@pytest.mark.parametrize("ends", ["saves", "Ctrl-C", "the last step"])
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_state_from_which_no_step_can_be_taken_does_not_replace_the_one_before(tmp_path, ends, policy):
    """The first step is finite, but puts the weights where nothing is."""
    ruin = {"learning_rate": 1e30, "on_nonfinite": policy, "patience": 0,
            **({"save_every": 1} if ends == "saves" else {}), **({"max_steps": 1} if ends == "the last step" else {})}
    progress = At(1, press_ctrl_c) if ends == "Ctrl-C" else None
    with pytest.raises(NotFiniteError, match=r"(the last good state is kept in .*, of step 0|perplexity is nan)"), \
            np.errstate(all="ignore"):
        run(tmp_path, progress=progress, **ruin)
    saved, info = read_tensors(tmp_path / "training-state.safetensors")
    assert info["state"]["step"] == 0 and np.isfinite(saved["params"]).all()
    assert run(tmp_path, resume=True, learning_rate=0.01, on_nonfinite="stop", patience=0, max_steps=3).step == 3


def test_a_state_whose_validation_is_not_finite_does_not_replace_the_one_before(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Validation, "perplexity", lambda *_: float("nan"))
        with pytest.raises(NotFiniteError, match="perplexity is nan at step 3, .* is kept in .*, of step 2; resume it"):
            run(tmp_path, valid_every=3, save_every=1)
    assert run(tmp_path, resume=True, valid_every=3, save_every=1, learning_rate=1e-3, max_steps=4).step == 4
    assert [record["step"] for record in metrics(tmp_path)] == [3, 4]


def test_a_run_goes_on_from_a_state_whose_validation_is_not_finite(tmp_path, monkeypatch, capfd):
    """Ctrl-C in a validation saves a state that is not validated yet."""
    with monkeypatch.context() as patch:
        patch.setattr(Validation, "perplexity", lambda validation, _: press_ctrl_c() or validation.check())
        assert run(tmp_path, valid_every=3).step == 3
    with monkeypatch.context() as patch:
        patch.setattr(Validation, "perplexity", lambda *_: float("nan"))
        with pytest.raises(NotFiniteError, match="perplexity is nan at step 6, .* of step 5; resume it"):
            run(tmp_path, resume=True, valid_every=3, save_every=1)
    assert run(tmp_path, resume=True, valid_every=3, max_steps=7).step == 7
    assert [record["step"] for record in metrics(tmp_path)] == [6, 7]


def test_a_model_whose_validation_is_not_finite_is_not_kept(tmp_path, monkeypatch):
    run(tmp_path, valid_every=3, max_steps=3, keep=9)
    for ends in (lambda validation, _: press_ctrl_c() or validation.check(), lambda *_: press_ctrl_c() or float("nan")):
        with monkeypatch.context() as patch:
            patch.setattr(Validation, "perplexity", ends)
            assert run(tmp_path, resume=True, valid_every=6, keep=9).step == 6
    run(tmp_path, resume=True, valid_every=6, keep=9, max_steps=7)
    assert [folder.name for folder in RunFolder(tmp_path).checkpoints()] == ["step-3", "step-7"]


def test_a_batch_that_was_never_finite_does_not_keep_a_run_from_saving(tmp_path, monkeypatch):
    """With "skip", what is asked is the last batch whose step was taken."""
    net = model()
    forward, calls = net.forward, []

    def broken(*args, **kwargs):
        calls.append(1)
        loss, cache = forward(*args, **kwargs)
        return (loss * np.nan if len(calls) == 3 else loss), cache

    net.forward = broken
    train(net, tiny_run.data(), tiny_run.options(on_nonfinite="skip", max_steps=3), tmp_path, progress=At(-1, kill))
    info = read_tensors(tmp_path / "training-state.safetensors")[1]
    assert info["state"]["step"] == 3 and info["state"]["skipped"] == 1


def test_what_is_said_to_be_kept_is_there(tmp_path):
    def vanish():
        (tmp_path / "training-state.safetensors").unlink()

    with pytest.raises(NotFiniteError, match="the last good state, of step 0, was saved in .* is not to be found there"
                       ), np.errstate(all="ignore"):
        run(tmp_path, progress=At(1, vanish), learning_rate=1e30)


@pytest.mark.parametrize("other", ["a run", "an empty folder", "nothing"])
def test_what_lies_in_the_place_of_a_moved_folder_is_not_called_the_runs_state(tmp_path, other):
    def move():
        (tmp_path / "run").rename(tmp_path / "moved")
        if other == "a run":
            shutil.copytree(tmp_path / "other", tmp_path / "run")
        elif other == "an empty folder":
            (tmp_path / "run").mkdir()

    run(tmp_path / "other", max_steps=1)
    with pytest.raises(WriteError, match=rf"training stopped; the last good state, of step {PER_EPOCH}, was saved in "
                       rf"{tmp_path}/run, and is not to be found there now"):
        run(tmp_path / "run", progress=At(PER_EPOCH + 1, move))


def test_a_step_that_is_not_finite_is_not_noted_in_a_folder_that_took_the_place_of_the_runs(tmp_path):
    def move_and_spoil():
        (tmp_path / "run").rename(tmp_path / "moved")
        (tmp_path / "run").mkdir()
        net.params.flat[...] = np.nan

    net = model()
    with pytest.raises(WriteError, match="the run's folder was moved, and this is another one: training stopped"):
        train(net, tiny_run.data(), tiny_run.options(on_nonfinite="skip"), tmp_path / "run",
              progress=At(2, move_and_spoil))
    assert os.listdir(tmp_path / "run") == []


@pytest.mark.parametrize("error", [errno.EACCES, errno.ESTALE, errno.EIO], ids=errno.errorcode.get)
def test_a_folder_that_cannot_be_looked_into_any_more_stops_the_run_with_its_state(tmp_path, monkeypatch, error):
    def refuse(function):
        original = getattr(os, function)

        def refused(path, *rest, **more):
            if not isinstance(path, int) and os.fspath(path).startswith(f"{tmp_path}/run"):
                raise OSError(error, os.strerror(error), os.fspath(path))
            return original(path, *rest, **more)

        monkeypatch.setattr(os, function, refused)

    at = At(PER_EPOCH + 1, lambda: [refuse(name) for name in ("stat", "open", "replace")])
    with pytest.raises(WriteError, match=rf"cannot be written: {os.strerror(error)}.*: training stopped; the last good "
                       rf"state, of step {PER_EPOCH}, was saved in {tmp_path}/run"):
        run(tmp_path / "run", progress=at)
    monkeypatch.undo()
    run(tmp_path / "run", resume=True)


def change_state(folder, change, name="training-state.safetensors"):
    """A state that is whole, and whose checksum is right, after change(its JSON object)."""
    saved, info = read_tensors(folder / name)
    change(info)
    write_tensors(folder / name, saved, info)


def within(*names, value):
    """A change: info[names[0]][names[1]]... = value."""
    def change(info):
        for name in names[:-1]:
            info = info[name]
        info[names[-1]] = value

    return change


WRONG = {
    "a field is missing": (lambda info: info["state"].pop("average_updates"), "average_updates"),
    "a field too many": (within("state", "mood", value=1), "mood"),
    "no state": (lambda info: info.pop("state"), "state is None"),
    "a list for a state": (within("state", value=[1]), r"state is \[1\]"),
    "behind the end of the epoch": (within("state", "position", value=99), "position is 99, .* below 7"),
    "before its start": (within("state", "position", value=-1), "position is -1"),
    "an epoch in words": (within("state", "epoch", value="one"), "epoch is 'one'"),
    "yes for a number": (within("state", "trials", value=True), "trials is True"),
    "half a step": (within("state", "step", value=2.5), "step is 2.5"),
    "no rate": (within("state", "decay", value=None), "decay is None"),
    "a rate that goes uphill": (within("state", "decay", value=-1.0), "decay is -1.0, expected 0 to 1"),
    "pairs that are none": (within("state", "left_out", value=[[1]]), r"left_out is \[\[1\]\]"),
    "a pair behind the last": (within("state", "left_out", value=[10**9]), "left_out is .* not all, of the validation"),
    "a pair of a number that was chosen": (within("state", "left_out", value=[1 << 62]), "left_out is .* not all, of"),
    "all pairs": (within("state", "left_out", value=[*range(len(tiny_run.data().valid.lengths()))]), "left_out is"),
    "infinite": (within("state", "nats", value=float("inf")), "nats is inf"),
    "an object for a history": (within("state", "history", value={}), "history is {}"),
    "a record of nothing": (within("state", "history", value=[{}]), r"a record of its history is \{\}"),
    "a record that is none": (within("state", "history", value=[7]), "a record of its history is 7"),
    "a perplexity in words": (lambda info: info["state"]["history"][0].update(valid_ppl="low"),
                              "a record of its history is"),
    "workers in words": (lambda info: info["state"]["history"][0].update(workers="two"), "a record of its history is"),
    "half a worker": (lambda info: info["state"]["history"][0].update(workers=0.5), "a record of its history is"),
    "a figure in a list": (lambda info: info["state"]["history"][0].update(more=[]), "a record of its history is"),
    "a validation that is to come": (within("state", "validated_step", value=10**9), "validated_step is .* its step 7"),
    "a best one that is to come": (within("state", "best_step", value=8), "best_step is 8, behind its step 7"),
    "a record that is to come": (lambda info: info["state"]["history"][0].update(step=8), "a record of its history"),
    "no optimizer": (lambda info: info.pop("optimizer"), "optimizer's state is None"),
    "steps in words": (within("optimizer", "step", value="many"), "optimizer's step is 'many'"),
    "steps before the first": (within("optimizer", "step", value=-3), "optimizer's step is -3"),
    "no learning rate": (lambda info: info["optimizer"].pop("learning_rate"), "learning_rate"),
    "a rate that is no number": (within("optimizer", "learning_rate", value=None), "learning_rate is None"),
    "a number for a moment": (within("optimizer", "m", value=0), "optimizer's m is 0, expected float32"),
    "more than a number can be": (within("state", "step", value=10**400), "step is 1000"),
    "an option that is not told": (lambda info: info["fixed"].pop("seed"), "fixed is .* expected an object with "),
    "options in a list": (within("fixed", value=["seed"]), r"fixed is \['seed'\]"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run after its first validation."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    run(folder, max_steps=7, valid_every=7, average=0.9)
    return folder


@pytest.mark.parametrize("what", WRONG)
def test_a_state_with_wrong_content_is_refused_before_anything_moves(tmp_path, saved, what):
    change, message = WRONG[what]
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    change_state(tmp_path, change)
    net = model()
    before = net.params.flat.copy()
    with pytest.raises(InputError, match=rf"training-state.safetensors is damaged: .*{message}.*; put best-state"):
        train(net, tiny_run.data(), tiny_run.options(average=0.9), tmp_path, resume=True)
    assert np.array_equal(net.params.flat, before)


@pytest.mark.parametrize("whose, name, value", [("its", "params", np.nan), ("its", "average", np.nan),
                                                ("the optimizer's", "m", np.inf), ("the optimizer's", "v", -1.0)])
def test_a_state_with_numbers_that_no_run_can_have_come_to_is_refused(tmp_path, saved, whose, name, value):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    tensors, info = read_tensors(tmp_path / STATE)
    tensors[name][3] = value
    write_tensors(tmp_path / STATE, tensors, info)
    with pytest.raises(InputError, match=f"{STATE} is damaged: {whose} {name} holds numbers that no run can have "
                                         "come to"):
        run(tmp_path, resume=True, average=0.9)


@pytest.mark.parametrize("value, told", [(None, "None"), ("\x1b[2J\n", "\\?\\[2J\\?")])
def test_an_option_with_another_value_is_told(tmp_path, saved, value, told):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    change_state(tmp_path, within("fixed", "seed", value=value))
    with pytest.raises(InputError, match=f"seed was {told}, is now 0: .*; leave it out, or start another run"):
        run(tmp_path, resume=True, average=0.9)


def test_the_remedies_for_a_state_with_wrong_content(tmp_path):
    run(tmp_path, max_steps=8, valid_every=7)
    change_state(tmp_path, within("state", "position", value=99))
    (tmp_path / "training-state.safetensors").write_bytes((tmp_path / "best-state.safetensors").read_bytes())
    assert run(tmp_path, resume=True, max_steps=9, valid_every=7).step == 9
    damage = lambda: change_state(tmp_path, within("state", "step", value=None), "best-state.safetensors")
    worse = {"resume": True, "valid_every": 1, "patience": 1, "learning_rate": 10.0, "max_steps": 20}
    with pytest.raises(InputError, match="best-state.safetensors is damaged: .*; remove it, and the run goes on"):
        run(tmp_path, progress=At(11, damage), **worse)
    (tmp_path / "best-state.safetensors").unlink()
    assert run(tmp_path, **worse).step > 10


def test_a_rank_that_reads_a_state_may_wait_for_the_disk(tmp_path, saved, monkeypatch):
    """On some file systems a process that waits for one looks as one that does nothing."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    ranks, waits, load = Ranks(), [], Saving.load
    monkeypatch.setattr(ranks, "waiting", lambda: waits.append("begin") or contextlib.closing(
        SimpleNamespace(close=lambda: waits.append("end"))))
    monkeypatch.setattr(Saving, "load", lambda *args: waits.append("load") or load(*args))
    with run_folder.RunFolder(tmp_path, resume=True) as folder:
        Trainer(model(), tiny_run.data(), tiny_run.options(average=0.9), folder, ranks)
    assert waits == ["begin", "load", "end"]


# killed

def test_a_run_killed_before_its_first_save_begins_again(tmp_path, monkeypatch):
    run(tmp_path / "whole", max_steps=4)
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_tensors", lambda *_, **how: kill())
        for resume in (False, True):
            with pytest.raises(Killed):
                run(tmp_path / "killed", max_steps=4, resume=resume)
    assert not (tmp_path / "killed" / "training-state.safetensors").exists()
    run(tmp_path / "killed", resume=True, max_steps=4)
    assert essence(tmp_path / "killed") == essence(tmp_path / "whole")


def test_what_a_killed_save_has_left_is_swept_away(tmp_path):
    run(tmp_path, max_steps=2)
    for name in (".training-state.safetensors.tmp", ".config.json.4711.tmp", ".metrics.jsonl.1-0a2b3c4d.tmp"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".corpus.1.tmp").mkdir()
    (tmp_path / ".corpus.1.tmp" / "ids.bin").write_bytes(b"half")
    (tmp_path / ".notes.tmp").write_text("not ours")
    run(tmp_path, resume=True, max_steps=3)
    assert [path.name for path in tmp_path.glob(".*.tmp")] == [".notes.tmp"]


# a disk that is full, a folder that vanishes

@pytest.mark.parametrize("why", [errno.ENOSPC, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get)
@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("name", ["model.safetensors", "training-state.safetensors", "metrics.jsonl"])
def test_a_full_disk_stops_the_run_with_the_last_state_intact(tmp_path, monkeypatch, function, name, why):
    run(tmp_path / "whole", max_epochs=3)
    original = getattr(os, function)

    def full(what, *rest):
        target = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fspath(what)
        if name in target and armed:
            raise OSError(why, os.strerror(why))
        return original(what, *rest)

    monkeypatch.setattr(os, function, full)
    armed = []
    last = 2 * PER_EPOCH if name == "model.safetensors" else PER_EPOCH  # which is written after its state
    with pytest.raises(WriteError, match=rf"{name} cannot be written: .*{os.strerror(why)}.*: training stopped; the "
                       rf"last good state is kept in {tmp_path}/run, of step {last}, the best model is that of step "
                       rf"{PER_EPOCH}.*resume it"):
        run(tmp_path / "run", max_epochs=3, progress=At(PER_EPOCH + 2, lambda: armed.append(1)))
    monkeypatch.undo()
    assert not list((tmp_path / "run").glob(".*.tmp"))
    run(tmp_path / "run", resume=True, max_epochs=3)
    assert essence(tmp_path / "run") == essence(tmp_path / "whole")


@pytest.mark.parametrize("killed", [False, True])
def test_a_disk_that_is_still_full_at_the_resume_tells_what_is_kept(tmp_path, monkeypatch, killed):
    if killed:  # the state of a best validation is saved, its model is not
        monkeypatch.setattr(run_folder.RunFolder, "save_weights", lambda *_: kill())
    with pytest.raises(Killed) if killed else contextlib.nullcontext():
        run(tmp_path, max_epochs=1)
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(WriteError, match="No space left: training stopped; the last good state is kept in "
                       rf"{tmp_path}, of step {PER_EPOCH}; when that is mended, resume it"):
        run(tmp_path, resume=True, max_epochs=2)


@pytest.mark.parametrize("at, step", [(1, 0), (5, 8)])
def test_a_save_that_is_in_its_place_and_could_not_be_flushed_is_told_by_its_own_step(tmp_path, monkeypatch, at, step):
    saves, flush = [], atomic.flush_to_disk

    def failing(path):
        if (tmp_path / "run" / STATE).exists() and Path(path) == tmp_path / "run":
            saves.append(path)
            if len(saves) >= at:
                raise OSError(5, "Input/output error")
        flush(path)

    monkeypatch.setattr(atomic, "flush_to_disk", failing)
    told = rf"{STATE} was written, but may be gone .* the last good state is kept .*, of step {step};"
    with pytest.raises(WriteError, match=told):
        run(tmp_path / "run", max_steps=9, save_every=2, valid_every=100)
    assert read_tensors(tmp_path / "run" / STATE)[1]["state"]["step"] == step


def test_ctrl_c_on_a_full_disk_tells_what_is_kept(tmp_path, monkeypatch):
    fsync = os.fsync

    def stop_with_a_full_disk():
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        press_ctrl_c()

    with pytest.raises(WriteError, match=rf"No space left.*the last good state is kept in .*, of step {PER_EPOCH}"):
        run(tmp_path / "run", progress=At(PER_EPOCH + 1, stop_with_a_full_disk))
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(InputError, match="No space left"):
        run(tmp_path / "new")
    monkeypatch.setattr(os, "fsync", fsync)


def test_a_first_save_that_fails_claims_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "write_tensors",
                        lambda path, *_, **how: (_ for _ in ()).throw(WriteError(f"{path} cannot")))
    with pytest.raises(WriteError, match="training stopped; nothing was saved yet in"):
        run(tmp_path)


def test_memory_that_ends_before_a_step_claims_nothing(tmp_path, monkeypatch):
    """There may be the corpus in the folder, or the saves of the run that was to go on."""
    monkeypatch.setattr("scratchnmt.optim.Adam.__init__", lambda *_, **__: np.zeros(1 << 58))
    with pytest.raises(OutOfMemoryError, match="; no step was taken$"):
        run(tmp_path)


def test_a_config_that_is_touched_while_a_run_goes_on_does_not_stop_it(tmp_path):
    run(tmp_path / "whole")
    path = tmp_path / "run" / "config.json"
    touch = lambda: path.write_text(path.read_text().replace('"clip": 5.0', '"clip": 9.0'))
    run(tmp_path / "run", progress=At(9, touch))
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 3
    with pytest.raises(InputError, match="config.json is damaged"):
        run(tmp_path / "run", resume=True, max_epochs=4)


def test_the_lock_is_gone_when_a_run_is_over_and_so_is_a_folder_that_nothing_was_written_to(tmp_path):
    run(tmp_path / "run", max_steps=1)
    assert not (tmp_path / "run" / LOCK).exists()
    with pytest.raises(ZeroDivisionError), FolderLock(tmp_path / "new"):
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()


def test_another_optimizer_is_told_before_its_moments_are_missed(tmp_path):
    run(tmp_path, max_steps=2)
    with pytest.raises(InputError, match="optimizer was adam, is now sgd"):
        run(tmp_path, resume=True, optimizer="sgd")


def test_too_little_memory_is_not_called_damage(tmp_path, monkeypatch):
    run(tmp_path, max_steps=1)
    monkeypatch.setattr(tensors, "_tensors",
                        lambda *_: (_ for _ in ()).throw(MemoryError("Unable to allocate 1 GiB")))
    with pytest.raises(MemoryError, match="Unable to allocate"):
        checkpoint.load_model(tmp_path)


def test_a_folder_that_vanishes_is_named(tmp_path):
    def vanish():
        for path in (tmp_path / "run").iterdir():
            path.unlink()
        (tmp_path / "run").rmdir()

    with pytest.raises(InputError, match="run.*(cannot be written|does not exist)"):
        run(tmp_path / "run", progress=At(PER_EPOCH + 1, vanish))


# numbers

def test_the_step_the_tensor_and_the_sentences_are_named(tmp_path):
    net, data = model(), tiny_run.data()
    net.params["vocab.W"][:, 5] = np.nan  # the word "b"
    with np.errstate(all="ignore"), pytest.raises(NotFiniteError) as error:
        train(net, data, tiny_run.options(valid_every=1000), tmp_path, progress=At(-1, kill))
    sentence = str(error.value)
    assert "the loss is nan at step 1, epoch 1; not finite are the weights in vocab.W" in sentence
    assert "of the training text" in sentence and "training stopped; the last good state is kept" in sentence
    (record,) = map(json.loads, (tmp_path / "not-finite.jsonl").read_text().splitlines())
    assert record["step"] == 1 and record["loss"] == "nan" and record["weights"] == ["vocab.W"]
    assert "encoder.Wx" in record["tensors"] and len(record["sentences"]) == 16
    lines = tiny_run.pairs(PER_EPOCH * 16 - 3, 0)
    for found in record["sentences"]:
        assert (lines[0][found["line"] - 1], lines[1][found["line"] - 1]) == (found["source"], found["target"])


def test_a_gradient_alone_is_named_with_its_tensor(tmp_path, monkeypatch):
    net = model()
    backward, calls = net.backward, []

    def broken(cache, out):
        grads = backward(cache, out=out)
        calls.append(1)
        if len(calls) >= 3:
            grads["attention.W"][1, 2] = np.nan
        return grads

    net.backward = broken
    before = []
    with pytest.raises(NotFiniteError, match=r"gradient's norm is nan at step 3, epoch 1; not finite is the gradient "
                       r"of attention.W; it is of the \d+ sentence pairs of its batch, among them line \d+ of the "
                       r"training text, '"):
        train(net, tiny_run.data(), tiny_run.options(), tmp_path,
              progress=At(2, lambda: before.append(net.params.flat.copy())))
    assert np.array_equal(net.params.flat, before[0])  # nothing was moved by it


def test_steps_that_are_not_finite_can_be_skipped(tmp_path):
    net = model()
    forward, calls = net.forward, []

    def broken(src, lengths, tgt, rng=None, **rest):
        loss, cache = forward(src, lengths, tgt, rng, **rest)
        if rng is not None and int(src[0, 0]) == 4:  # batches that begin with "a"
            calls.append(1)
            return loss * np.nan, cache
        return loss, cache

    net.forward = broken
    said = []
    progress = At(-1, kill)
    progress.say = said.append
    options = tiny_run.options(on_nonfinite="skip", max_epochs=2)
    result = train(net, tiny_run.data(), options, tmp_path, progress=progress)
    records = [json.loads(line) for line in (tmp_path / "not-finite.jsonl").read_text().splitlines()]
    assert result.step == 2 * PER_EPOCH and 0 < len(records) < 2 * PER_EPOCH and len(calls) == 2 * len(records)
    skips = [line for line in said if "skipped" in line]
    assert len(skips) == len(records) and skips[-1].endswith(f"skipped, {len(records)} so far")
    assert np.isfinite(net.params.flat).all() and np.isfinite(metrics(tmp_path)[-1]["train_loss"])
    _, info = read_tensors(tmp_path / "training-state.safetensors")
    assert info["state"]["skipped"] == len(records) and info["optimizer"]["step"] == result.step


@pytest.mark.parametrize("choices", [{}, {"attention": "local-p", "window": 2}, {"attention": "local-m"},
                                     {"score": "concat", "query": "previous"}], ids=str)
def test_a_run_that_diverges_says_so_whatever_the_model(tmp_path, choices):
    with np.errstate(all="ignore"), pytest.raises(NotFiniteError, match="at step [2-9], epoch 1"):
        run(tmp_path, choices=choices, optimizer="sgd", learning_rate=1e30, clip=0.0)


def test_an_epoch_of_skipped_steps_has_no_training_loss(tmp_path, draws):
    net = model()
    forward = net.forward

    def broken(src, lengths, tgt, rng=None, **rest):
        loss, cache = forward(src, lengths, tgt, rng, **rest)
        return loss * np.nan, cache

    net.forward = broken
    train(net, tiny_run.data(), tiny_run.options(on_nonfinite="skip", max_epochs=1), tmp_path, progress=At(-1, kill))
    assert metrics(tmp_path)[0]["train_loss"] is None and (tmp_path / "learning-curves.png").exists()


def test_skipping_ends_when_nothing_else_is_left(tmp_path):
    net = model()
    net.params["vocab.W"][...] = np.nan
    with np.errstate(all="ignore"), pytest.raises(NotFiniteError, match="at step 20, .*, the last of 20 in a row"):
        train(net, tiny_run.data(), tiny_run.options(on_nonfinite="skip", valid_every=1000, max_epochs=10), tmp_path,
              progress=At(-1, kill))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("src, tgt", [
    ([[4]], [[5]]), ([[3]], [[3]]), ([[3, 3, 3], [3]], [[3], [3, 3]]), ([[4]], [[]]), ([[4], [5, 6, 7]], [[], [4]]),
], ids=["one token each", "unknown", "all unknown", "empty target", "one empty target"])
def test_the_smallest_batches(src, tgt, dtype):
    from scratchnmt.data.batches import make_batch

    net, batch = model(dtype=dtype), make_batch(src, tgt)
    loss, cache = net.forward(batch.src, batch.src_lengths, batch.tgt)
    grads = net.backward(cache)
    assert np.isfinite(loss) and np.isfinite(grads.flat).all() and grads.flat.any()
    assert net.beam_search(src[0])[0].value is not None


def test_perplexity_is_the_same_in_float32_and_float64():
    from scratchnmt.metrics import perplexity

    batch = tiny_run.data().train.batch(range(100))
    single, double = (model(dtype=dtype) for dtype in ("float32", "float64"))
    for net in (single, double):
        net.params.flat *= 20  # far from uniform
    assert perplexity(single, [batch]) == pytest.approx(perplexity(double, [batch]), rel=1e-5)


# what a reading of the promises has found

def test_a_lock_tells_the_number_of_its_process_which_another_container_may_have_too(tmp_path):
    with (FolderLock(tmp_path), pytest.raises(InputError, match=rf"in use by another run \(process {os.getpid()}, "
                                              "which is this one's number, too"), FolderLock(tmp_path)):
        pass


def test_the_best_model_is_told_by_its_own_step_where_its_state_cannot_be_kept(tmp_path, monkeypatch):
    def full(path, to):
        raise WriteError(f"{to} cannot be written: No space left")

    def fill():
        monkeypatch.setattr(run_folder, "copy_file", full)

    with pytest.raises(WriteError, match=rf"of step {2 * PER_EPOCH}, the best model is that of step {2 * PER_EPOCH};"):
        run(tmp_path, max_epochs=3, progress=At(PER_EPOCH + 2, fill))
    best = checkpoint.load_model(tmp_path).model.params.flat
    np.testing.assert_array_equal(best, read_tensors(tmp_path / STATE)[0]["params"])


def test_a_picture_that_was_not_drawn_is_not_told_of(tmp_path, draws, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    assert run(tmp_path, max_steps=2).curves == tmp_path / "learning-curves.png"

    def full(*_):
        raise WriteError("learning-curves.png cannot be written: No space left")

    monkeypatch.setattr("scratchnmt.plots.learning_curves", full)
    result = run(tmp_path, resume=True, max_steps=3)
    assert result.curves is None
    ready = SimpleNamespace(data=SimpleNamespace(origin={f"{part}_{side}": "x" for part in ("train", "valid")
                                                         for side in ("src", "tgt")}), options=options())
    assert train_command.finish(result, ready, "go on") == 0
    assert "learning curves:" not in capsys.readouterr().out


@pytest.mark.parametrize("at", ["lock", "corpus"])
def test_a_resume_that_cannot_write_before_it_goes_on_tells_what_is_kept(tmp_path, monkeypatch, at):
    given = [*files(tmp_path, 40), "--vocab=word", "--embed-size=4", "--hidden-size=4", "--workers=1", "--patience=0"]
    assert main(["train", f"--out={tmp_path}/run", *given, "--max-steps=2"]) == 0
    if at == "corpus":
        os.utime(tmp_path / "train.src", (1, 1))  # it has to be made anew
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    else:
        original = os.open

        def read_only(path, *rest, **more):
            if str(path).endswith(LOCK):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return original(path, *rest, **more)

        monkeypatch.setattr(os, "open", read_only)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        assert main(["train", f"--out={tmp_path}/run", "--resume", "--max-steps=4"]) == 2
    assert re.search(rf"cannot be written: .*; the last good state is kept in {tmp_path}/run, of step 2; when that is "
                     "mended, resume it", errors.getvalue()), errors.getvalue()
    monkeypatch.undo()
    assert main(["train", f"--out={tmp_path}/run", "--resume", "--max-steps=4"]) == 0


def test_of_a_run_that_was_moved_not_the_step_of_the_one_in_its_place_is_told(tmp_path):
    for name in "ab":
        run(tmp_path / name, max_steps=2)
    with RunFolder(tmp_path / "a", resume=True) as folder:
        (tmp_path / "a").rename(tmp_path / "c")
        (tmp_path / "b").rename(tmp_path / "a")
        with pytest.raises(WriteError, match="was moved, and this is another one$"), folder.told_what_is_kept():
            folder.check_place()


def test_a_state_that_vanishes_before_it_is_read_does_not_begin_a_run_of_zeros(tmp_path):
    run(tmp_path, max_steps=2)
    for name in STATE, BEST_STATE, MODEL, METRICS:
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"cannot resume .*: its {STATE} has vanished"):
        run(tmp_path, choices={"seed": None}, resume=True, max_steps=3)


def test_what_a_killed_builder_has_left_takes_no_room_from_the_next(tmp_path, monkeypatch):
    given = [*files(tmp_path, 40), "--vocab=word", "--embed-size=4", "--hidden-size=4", "--workers=1", "--max-steps=1"]
    left = tmp_path / "run" / ".corpus.4711-0a0b0c0d.tmp"
    elsewhere = tmp_path / "disk" / ".texts.4711-0a0b0c0d.tmp"
    for folder in (left, elsewhere):
        folder.mkdir(parents=True)
        (folder / "ids.bin").write_bytes(b"many")
        for old in folder / "ids.bin", folder:
            os.utime(old, (0, 0))
    (tmp_path / "disk" / "texts").mkdir()
    (tmp_path / "run" / "corpus-teacher").symlink_to(tmp_path / "disk" / "texts")

    def build(*arguments, **options):
        there.append(left.exists() or elsewhere.exists())
        return original(*arguments, **options)

    there, original = [], prepare.open_or_build
    monkeypatch.setattr(prepare, "open_or_build", build)
    assert main(["train", f"--out={tmp_path}/run", *given]) == 0
    assert there == [False]


@pytest.mark.parametrize("within", ["_validate", "run"])
def test_memory_that_ends_in_a_save_is_not_mended_by_the_size_of_a_batch(tmp_path, monkeypatch, within):
    def full(*_, **__):
        if any(frame.name == within for frame in traceback.extract_stack()) and (tmp_path / STATE).exists():
            raise MemoryError("Unable to allocate 1 GiB")

    monkeypatch.setattr(tensors, "_read_back", full)
    with pytest.raises(OutOfMemoryError, match="what is saved does not fit into memory once more: resume it where"):
        run(tmp_path, valid_every=2, save_every=3, max_steps=6)


def test_memory_that_ends_at_a_resume_is_not_mended_by_sizes_that_cannot_change(tmp_path, monkeypatch):
    run(tmp_path, max_steps=2)
    monkeypatch.setattr("scratchnmt.optim.Adam.__init__", lambda *_, **__: np.zeros(1 << 58))
    with pytest.raises(OutOfMemoryError, match="where more memory is free; no step was taken since it was resumed$"):
        run(tmp_path, resume=True, max_steps=3)


def test_what_a_killed_demo_has_left_is_its_own(tmp_path):
    (tmp_path / ".README.txt.4711-0a0b0c0d.tmp").write_text("")
    (tmp_path / LOCK).write_text("4711\n")
    demo._check_folder(tmp_path)
    (tmp_path / ".train.en.4711-0a0b0c0d.tmp").write_text("half")
    demo.write_corpus(tmp_path, toy_corpus(train=4, valid=2, test=2))
    assert sorted(tmp_path.glob(".*.tmp")) == []
    (tmp_path / "README.txt").write_text("years of work")
    with pytest.raises(InputError, match="something else than a demo"):
        demo._check_folder(tmp_path)
