"""The examples of code as people write it: enough of them, and each has a slip that fits."""

import pytest

from benchmarks.gradcheck.shapes import examples

EXAMPLES = list(examples())
IDS = [f"{example.shape}, {example.name}" for example in EXAMPLES]


def test_there_are_enough_of_every_shape():
    assert len(EXAMPLES) >= 60 and len(set(IDS)) == len(IDS)
    assert all(1 <= len(example.call) <= 5 for example in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_right_and_wrong_code_runs(example):
    for wrong in (False, True):
        assert example.run(wrong, gradcheck=called, check_loss=called, check_layer=called) == "called"


def called(*_, **__):
    return "called"
