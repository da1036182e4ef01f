"""Training with a teacher's translations beside the references: resumed and by workers it is the same run."""

import json
import os
import shutil
from dataclasses import replace
from unittest.mock import ANY

import numpy as np
import pytest
import tiny_run
from tiny_run import At, by_parts_and_by_workers, essence, kill, killed_and_resumed

from scratchnmt.cli import main
from scratchnmt.data.distillation import Drawn
from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import SentencePieceVocabulary
from scratchnmt.errors import InputError
from scratchnmt.training import TrainingData, train
from scratchnmt.training.plan import Plan

for package in ("sacrebleu", "safetensors", "tqdm", "matplotlib"):
    pytest.importorskip(package)


def data():
    """The teacher copies where the references reverse."""
    made = tiny_run.data()
    src = [ids for ids, _ in made.train]
    return replace(made, distilled=(type(made.train).of(src, src),))


def run(folder, *, at=-1, resume=False, **changes):
    return train(tiny_run.model(), data(), tiny_run.options(max_epochs=2, **changes), folder, resume=resume,
                 progress=At(at, kill))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return essence(folder)


@pytest.mark.parametrize("killed", [3, 10])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, whole, killed):
    assert killed_and_resumed(run, tmp_path, killed) == whole


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_workers_are_the_parts_of_accumulate_bit_for_bit(tmp_path, whole):
    parts, workers = by_parts_and_by_workers(run, tmp_path)
    assert parts == workers != whole


def test_a_step_that_is_not_finite_is_told_of_the_translations_that_were_drawn(tmp_path):
    with np.errstate(all="ignore"), pytest.raises(InputError, match="not finite"):
        run(tmp_path, learning_rate=1e30, clip=0, optimizer="sgd", distill_weight=0.99)
    report = json.loads((tmp_path / "not-finite.jsonl").read_text())
    assert sum(one["target"] == one["source"] for one in report["sentences"]) > len(report["sentences"]) / 2


@pytest.mark.parametrize("first, then, message", [
    (data(), tiny_run.data(), r"the teacher's text was \d+ sentence pairs with checksum \w+, is now none: it goes"),
    (tiny_run.data(), data(), r"the teacher's text was none, is now \d+ sentence pairs"),
], ids=["without", "with"])
def test_a_teacher_does_not_leave_or_join_a_run(tmp_path, first, then, message):
    train(tiny_run.model(), first, tiny_run.options(max_steps=2), tmp_path)
    with pytest.raises(InputError, match=f"cannot go on with .*: {message}"):
        train(tiny_run.model(), then, tiny_run.options(max_steps=4), tmp_path, resume=True)


def test_epochs_draw_anew():
    plan = Plan(data(), tiny_run.options())
    first, second = (plan.batches(epoch).sentences for epoch in (0, 1))
    assert isinstance(first, Drawn)
    assert (first.batch(range(50)).tgt[1] != second.batch(range(50)).tgt[1]).any()


def test_with_subword_sampling_what_was_drawn_is_cut_anew():
    pytest.importorskip("sentencepiece")
    text, valid, _ = toy_corpus(train=60, valid=5)
    vocab = SentencePieceVocabulary.train(text.tgt, 90, "unigram")
    ours, theirs = (TrainingData.from_text((text.tgt, lines), (valid.tgt, valid.tgt), vocab, vocab)
                    for lines in (text.tgt, text.tgt[::-1]))
    plan = Plan(replace(ours, distilled=(theirs.train,)), tiny_run.options(subword_sampling=0.2))
    batch = plan.batches(0).sentences.batch(range(60))
    found = [vocab.decode(batch.tgt[1:length, k].tolist()) for k, length in enumerate(batch.tgt_lengths)]
    teachers = [line == text.tgt[-1 - k] != text.tgt[k] for k, line in enumerate(found)]
    assert 10 < sum(teachers) < 50
    assert all(line in (text.tgt[k], text.tgt[-1 - k]) for k, line in enumerate(found))


def test_another_weight_is_refused_when_it_is_resumed(tmp_path):
    run(tmp_path, max_steps=1)
    with pytest.raises(InputError, match="distill_weight was 0.5, is now 0.7: an epoch is laid out by it"):
        run(tmp_path, resume=True, distill_weight=0.7)


@pytest.mark.parametrize("weight", [0, 1, -0.5, "0.5", float("nan")])
def test_what_the_weight_may_be(weight):
    with pytest.raises(InputError, match="distill_weight is .*, expected a number above 0 and below 1"):
        tiny_run.options(distill_weight=weight)


@pytest.mark.parametrize("weights, message", [
    ([0.6, 0.6], r"distill_weight is \[0.6, 0.6\], expected a weight for each .* with a sum of at most 1"),
    ([0.5, 0], "distill_weight is 0, expected a number above 0 and below 1"), ([], r"distill_weight is \[\], expected"),
    ([0.5, "a"], "distill_weight is 'a', expected a number"),
])
def test_what_several_weights_may_be(weights, message):
    with pytest.raises(InputError, match=message):
        tiny_run.options(distill_weight=weights)
    assert tiny_run.options(distill_weight=[0.1, 0.2, 0.7]).distill_weights == [0.1, 0.2, 0.7]


def test_each_text_has_a_weight(tmp_path):
    with pytest.raises(InputError, match="distill_weight is .*, expected a weight for each text of a teacher"):
        run(tmp_path, distill_weight=[0.3, 0.3])
    assert not (tmp_path / "config.json").exists()


@pytest.fixture
def call(tmp_path, capsys, monkeypatch):
    """call(...) -> exit status, output of `scratchnmt train` on a small text beside which there is the teacher's."""
    texts = tiny_run.files(tmp_path, 40)
    lines = (tmp_path / "train.src").read_text().splitlines()
    (tmp_path / "teacher.txt").write_text("\n".join(lines[:-1]) + "\n\n")  # of the last line it has nothing
    (tmp_path / "short.txt").write_text("a\n")
    monkeypatch.chdir(tmp_path)
    small = ["--vocab", "word", "--min-count", "1", "--embed-size", "8", "--hidden-size", "8", "--max-steps", "2"]

    def call(*options, resume=False):
        given = ["--resume"] if resume else [*texts, *small]
        return main(["train", *given, "--out", "run", *map(str, options)]), capsys.readouterr()

    return call


def test_on_the_command_line(call, tmp_path):
    status, (out, _) = call("--distill", "teacher.txt", "--distill-weight", 0.3)
    assert status == 0 and "distilled   39 translations by a teacher, for 30% of an epoch" in out
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["distill"] == str(tmp_path / "teacher.txt") and config["training"]["distill_weight"] == 0.3
    (tmp_path / "teacher.txt").rename(tmp_path / "elsewhere.txt")
    status, (_, err) = call("--max-steps", 3, resume=True)
    assert status == 2 and "teacher.txt" in err
    assert call("--max-steps", 3, "--distill", "elsewhere.txt", resume=True)[0] == 0
    (tmp_path / "elsewhere.txt").write_text("a b\n" * 40)
    status, (_, err) = call("--max-steps", 4, "--distill", "elsewhere.txt", resume=True)
    assert status == 2 and "the teacher's text was 39 sentence pairs" in err and "is now 40" in err


def test_two_on_the_command_line(call, tmp_path):
    (tmp_path / "second.txt").write_text("b a\n" * 40)
    two = ["--distill", "teacher.txt", "second.txt", "--distill-weight", 0.3, 0.2]
    status, (out, _) = call(*two)
    assert status == 0 and ("39 translations by a teacher, for 30% of an epoch, 40 translations by a teacher, for 20%"
                            in out)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["distill"] == [str(tmp_path / name) for name in ("teacher.txt", "second.txt")]
    assert call(*two, "--max-steps", 3, resume=True)[0] == 0
    (tmp_path / "second.txt").rename(tmp_path / "moved.txt")
    assert call("--distill", "teacher.txt", "moved.txt", "--max-steps", 4, resume=True)[0] == 0
    for texts, message in ((["moved.txt", "teacher.txt"], "the teacher's text was 39 sentence pairs"),
                           (["teacher.txt", "teacher.txt"], "; 40 sentence pairs with checksum"),
                           (["teacher.txt"], "--distill is teacher.txt, but the run in run was started with [")):
        status, (_, err) = call("--distill", *texts, resume=True)
        assert status == 2 and message in err
    status, (_, err) = call("--distill-weight", 0.3, 0.3, resume=True)
    assert status == 2 and "--distill-weight is [0.3, 0.3], but the run in run was started with [0.3, 0.2]" in err
    (tmp_path / "run" / "corpus-teacher-2" / "ids.bin").unlink()
    assert call("--distill", "teacher.txt", "moved.txt", "--max-steps", 5, resume=True)[0] == 0


@pytest.mark.parametrize("gone", ["corpus", "corpus-teacher", "corpus-teacher-2"])
def test_a_resumed_run_makes_each_corpus_anew(gone, call, tmp_path):
    """One after the other: what is compared does not need those that are still to be read."""
    (tmp_path / "second.txt").write_text("b a\n" * 40)
    assert call("--distill", "teacher.txt", "second.txt", "--distill-weight", 0.3, 0.2)[0] == 0
    shutil.rmtree(tmp_path / "run" / gone)
    assert call("--max-steps", 3, resume=True) == (0, ANY)
    for name in "train.src", "train.tgt", "teacher.txt", "second.txt":  # copied, they have another time
        os.utime(tmp_path / name, (0, 0))
    assert call("--max-steps", 4, resume=True) == (0, ANY)


def test_a_teachers_text_that_is_damaged_is_made_anew(call, tmp_path):
    assert call("--distill", "teacher.txt")[0] == 0
    ids = tmp_path / "run" / "corpus-teacher" / "ids.bin"
    whole = ids.read_bytes()
    ids.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    status, (_, err) = call("--max-steps", 3, resume=True)
    assert status == 2 and "corpus-teacher is damaged" in err and "made anew when the run is resumed" in err
    assert call("--max-steps", 3, resume=True)[0] == 0 and ids.read_bytes() == whole


@pytest.mark.parametrize("options, message", [
    (["--distill-weight", 0.3], "--distill-weight needs --distill"),
    (["--distill", "short.txt"], "short.txt"),
    (["--distill", "nowhere.txt"], "nowhere.txt"),
    (["--distill", "-"], "standard input (-) is read once"),
    (["--distill", "teacher.txt", "short.txt", "--distill-weight", 0.3, 0.3], "short.txt"),
    (["--distill", "teacher.txt", "train.tgt"], "--distill-weight is 0.5, expected a weight for each text"),
    (["--distill", "teacher.txt", "--distill-weight", 0.3, 0.3], "expected a weight for each text of a teacher"),
    (["--distill", "teacher.txt", "train.tgt", "--distill-weight", 0.6, 0.6], "with a sum of at most 1"),
    (["--distill", "teacher.txt", "--distill-weight", 1], "--distill-weight is 1.0, expected a number above 0 and"),
])
def test_what_is_refused(call, options, message, tmp_path):
    status, (_, err) = call(*options)
    assert status == 2 and message in err and not (tmp_path / "run" / "config.json").exists()


def test_a_run_without_a_teacher_does_not_get_one(call):
    assert call()[0] == 0
    status, (_, err) = call("--distill", "teacher.txt", resume=True)
    assert status == 2 and "--distill is teacher.txt, but the run in run was started with None" in err
