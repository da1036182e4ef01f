"""A state that no run can go on from replaces none that one can, and is refused: see docs/trust.md."""

import contextlib
import errno
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_run
from tiny_run import PER_EPOCH, At, kill, metrics, model, press_ctrl_c, run

from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.errors import InputError, WriteError
from scratchnmt.files import run_folder
from scratchnmt.files.run_folder import STATE, RunFolder
from scratchnmt.files.tensors import read_tensors, write_tensors
from scratchnmt.parallel.ranks import Ranks
from scratchnmt.training import NotFiniteError, train
from scratchnmt.training.loop import Trainer
from scratchnmt.training.saving import Saving
from scratchnmt.training.validation import Validation

pytest.importorskip("safetensors")
pytest.importorskip("sacrebleu")


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
