"""Training with teachers' distributions: the loss of a step, the same run resumed and by workers, and the command."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import tiny_run
from tiny_run import At, by_parts_and_by_workers, essence, kill, killed_and_resumed

from scratchnmt.cli import main
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import Teachers
from scratchnmt.search import Ensemble
from scratchnmt.training import train

for package in ("sacrebleu", "safetensors", "tqdm", "matplotlib"):
    pytest.importorskip(package)


def teachers(dtype="float32", **choices):
    """Two that are sure of some words."""
    made = tuple(tiny_run.model(seed=seed, dtype=dtype, **choices) for seed in (1, 2))
    for model in made:
        model.params.flat *= 8
    return made


def run(folder, *, at=-1, resume=False, taught_by=None, choices=(), **changes):
    data = replace(tiny_run.data(), teachers=teachers() if taught_by is None else taught_by)
    return train(tiny_run.model(**dict(choices)), data, tiny_run.options(**{"max_epochs": 2, **changes}), folder,
                 resume=resume, progress=At(at, kill))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return essence(folder)


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_the_loss_is_that_of_the_ensembles_distributions(weight):
    """Word by word, from the logits of a search that is led along the reference."""
    model, both = tiny_run.model(dtype="float64"), teachers("float64")
    src, src_lengths, tgt, *_ = tiny_run.data().train.batch(range(5))

    def log_p(searched):
        found, state = [], searched.start(src, src_lengths)
        for words in tgt[:-1]:
            logits, _, state = searched.step(state, words[:, None])
            found.append(logits[:, 0] - np.log(np.exp(logits[:, 0]).sum(axis=1, keepdims=True)))
        return np.array(found)

    p, q, is_word = log_p(model), np.exp(log_p(Ensemble(both))), tgt[1:] != 0
    of_reference = -np.take_along_axis(p, tgt[1:, :, None], axis=2)[..., 0][is_word].sum()
    of_teachers = -(q * p).sum(axis=2)[is_word].sum()
    loss, _ = model.forward(src, src_lengths, tgt, teachers=Teachers(both, weight))
    np.testing.assert_allclose(loss, (1 - weight) * of_reference + weight * of_teachers, rtol=1e-12)


@pytest.mark.parametrize("killed", [3, 10])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, whole, killed):
    assert killed_and_resumed(run, tmp_path, killed) == whole


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_workers_are_the_parts_of_accumulate_bit_for_bit(tmp_path, whole):
    parts, workers = by_parts_and_by_workers(run, tmp_path)
    assert parts == workers != whole


@pytest.mark.parametrize("changes, message", [
    ({"taught_by": teachers()[::-1]}, "teacher was 2 with checksum .*, is now 2 with checksum .*"),
    ({"taught_by": ()}, "teacher was 2 with checksum .*, is now none: the loss would be another one"),
    ({"teacher_weight": 0.7}, "teacher_weight was 0.5, is now 0.7: the loss would be another one"),
])
def test_other_teachers_are_refused_when_it_is_resumed(tmp_path, changes, message):
    run(tmp_path, max_steps=1)
    with pytest.raises(InputError, match=message):
        run(tmp_path, resume=True, **changes)


@pytest.mark.parametrize("how, message", [
    ({"choices": {"r_drop": 0.7}}, "r_drop of the model is 0.7, expected 0: the loss with teachers is of one pass"),
    ({"taught_by": (tiny_run.NMT(12, 9, 8, 8),)}, r"a model and its teachers must share the target .* \[12, 9\] words"),
    ({"minimum_risk": "bleu"}, "train without subword_sampling and without a teacher"),
    ({"taught_by": teachers(score="location", max_source=2)}, "score 'location' knows 2 positions"),
])
def test_what_does_not_go_together(tmp_path, how, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, **how)


@pytest.mark.parametrize("weight", [0, 1.5, -0.5, "0.5", float("nan")])
def test_what_the_weight_may_be(weight):
    with pytest.raises(InputError, match="teacher_weight is .*, expected a number above 0"):
        tiny_run.options(teacher_weight=weight)


# the command

SMALL = ["--vocab", "word", "--min-count", "1", "--embed-size", "8", "--hidden-size", "8", "--max-steps", "2"]


@pytest.fixture
def call(tmp_path, capsys, monkeypatch):
    """call(...) -> exit status, output and errors of `scratchnmt train` beside two teachers, "a" and "b"."""
    texts = tiny_run.files(tmp_path, 40)
    monkeypatch.chdir(tmp_path)

    def call(*options, new=True):
        status = main(["train", *(texts if new else ["--resume"]), *map(str, options)])
        return status, *capsys.readouterr()

    for seed, name in enumerate("ab"):
        assert call(*SMALL, "--seed", seed, "--out", name)[0] == 0
    return call


def test_on_the_command_line(call, tmp_path):
    student = ["--embed-size", 6, "--hidden-size", 6, "--max-steps", 2, "--out", "run"]
    status, out, _ = call(*student, "--teacher", "a", "b", "--teacher-weight", 0.3)
    assert status == 0 and "teachers    2, for 30% of the loss" in out
    told = json.loads((tmp_path / "run" / "config.json").read_text())
    assert told["data"]["teacher"] == [str(tmp_path / name) for name in "ab"]
    assert told["training"]["teacher_weight"] == 0.3 and "vocab_size" not in told["data"]
    resume = ["--out", "run", "--max-steps"]
    assert call(*resume, 3, new=False)[0] == 0
    (tmp_path / "b").rename(tmp_path / "moved")
    status, _, err = call(*resume, 4, new=False)
    assert status == 2 and f"{tmp_path / 'b'} does not exist" in err
    assert call(*resume, 4, "--teacher", "a", "moved", new=False)[0] == 0
    status, _, err = call(*resume, 5, "--teacher", "a", "a", new=False)
    assert status == 2 and "teacher was 2 with checksum" in err
    status, _, err = call(*resume, 5, "--teacher", "a", new=False)
    assert status == 2 and "--teacher is a, but the run in run was started with [" in err


def test_a_model_goes_on_with_teachers(call, tmp_path):
    assert call(*SMALL, "--r-drop", 0.5, "--out", "general")[0] == 0
    status, out, _ = call("--init-from", "general", "--teacher", "a", "--max-steps", 1, "--out", "run")
    assert status == 0 and "teachers    1, for 50% of the loss" in out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["r_drop"] == 0


def test_other_vocabularies_are_refused(call, tmp_path):
    assert call(*SMALL, "--vocab-size", 7, "--out", "other")[0] == 0
    for options, where in ((["--teacher", "a", "other"], "other"), (["--init-from", "other", "--teacher", "a"], "a")):
        status, _, err = call(*options, "--out", "run")
        assert status == 2 and f"{where}/src.vocab.json is not the same vocabulary as" in err
        assert "a model and its teachers must share their vocabularies" in err and not (tmp_path / "run").exists()
    status, _, err = call("--teacher", "a", "--out", "a", "--overwrite")
    assert status == 2 and "--teacher a is the folder of the new run itself: choose another --out" in err
