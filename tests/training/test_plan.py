"""Order, dropout and rate follow from the options alone, and differ where they should."""

from array import array
from dataclasses import replace
from itertools import chain
from zlib import crc32

import numpy as np
import pytest
from tiny_run import PER_EPOCH, At, Killed, data, essence, kill, options, run

from scratchnmt.data.corpus import Corpus, Epoch
from scratchnmt.files.tensors import read_tensors, write_tensors
from scratchnmt.training.plan import Plan


def plan(**changes):
    return Plan(data(), options(**changes))


def flat(batches):
    return [batch.tolist() for batch in batches]


def test_each_epoch_has_an_order_of_its_own_which_can_be_found_again():
    assert flat(plan().batches(1)) == flat(plan().batches(1)) != flat(plan().batches(2))
    assert flat(plan().batches(1)) != flat(plan(seed=1).batches(1))
    assert sorted(np.concatenate(plan().batches(3))) == list(range(len(data().train)))
    assert flat(plan(pool=2).batches(1)) != flat(plan().batches(1))


def test_each_step_has_a_generator_of_its_own_which_can_be_found_again():
    draws = [plan(seed=seed).recipe(np).generator(step, 0).random() for seed, step in ((0, 1), (0, 1), (0, 2), (1, 1))]
    assert draws[0] == draws[1] and len(set(draws)) == 3
    assert draws[0] != np.random.default_rng([0, 1, 1]).random()  # not the stream that orders an epoch


@pytest.mark.parametrize("changes, total", [({"max_epochs": 3}, 3 * PER_EPOCH),
                                            ({"max_epochs": 3, "max_steps": 10}, 10),
                                            ({"max_epochs": None, "max_steps": 50}, 50), ({"max_epochs": None}, None)])
def test_total_steps(changes, total):
    assert plan(**changes).total_steps == total


def test_schedules_know_epochs_and_the_end():
    luong = plan(schedule="luong", halve_after=2).schedule
    assert [luong(epoch * PER_EPOCH) for epoch in range(5)] == [1, 1, 0.5, 0.25, 0.125]
    for name in ("linear", "cosine"):
        schedule = plan(schedule=name, warmup=4).schedule
        assert schedule(0) == 0.2 and schedule(4) == 1 and schedule(3 * PER_EPOCH) == pytest.approx(0)
    assert plan().schedule(10**9) == 1


@pytest.mark.parametrize("change", [{"src": [[4, 5], [6]]}, {"tgt": [[7], [9]]}, {"src": [[4], [5, 6]]}])
@pytest.mark.parametrize("split, name", [("train", "the training text"), ("valid", "the validation text")])
def test_other_tokens_are_another_text(change, split, name):
    here = {"src": [[4, 5], [7]], "tgt": [[7], [8]]}
    texts = [Plan(replace(data(), **{split: Corpus.of(**content)}), options()).fixed()
             for content in (here, dict(here), {**here, **change})]
    assert texts[0] == texts[1]
    assert {key for key in texts[0] if texts[0][key] != texts[2][key]} == {name}


def test_a_run_of_the_first_version_goes_on(tmp_path):
    """Its text has a checksum of all sources, then of all targets."""
    run(tmp_path / "whole", max_steps=10)
    with pytest.raises(Killed):
        run(tmp_path / "run", max_steps=10, save_every=5, progress=At(6, kill))
    state, path = data(), tmp_path / "run" / "training-state.safetensors"
    tensors, info = read_tensors(path)
    for what, corpus in (("the training text", state.train), ("the validation text", state.valid)):
        checksum = crc32(np.array([(len(src), len(tgt) + 1) for src, tgt in corpus], np.int64))
        for ids in chain(*zip(*corpus, strict=True)):
            checksum = crc32(array("q", ids), checksum)
        info["fixed"][what] = f"{len(corpus)} sentence pairs with checksum {checksum:08x}"
    write_tensors(path, tensors, info)
    run(tmp_path / "run", resume=True, max_steps=10)
    assert essence(tmp_path / "run") == essence(tmp_path / "whole")


def test_an_epoch_is_laid_out_once(tmp_path, monkeypatch):
    """Though its last batch is asked for again at the save behind it."""
    made, first = [], Epoch.__init__
    monkeypatch.setattr(Epoch, "__init__", lambda self, *args: made.append(args[4][-1]) or first(self, *args))
    run(tmp_path, max_epochs=3)
    assert made == [0, 1, 2, 3]
