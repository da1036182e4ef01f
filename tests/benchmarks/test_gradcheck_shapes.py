"""The examples of code as people write it: enough of them, and none that our checker misjudges."""

import pytest

from benchmarks.gradcheck.bugs import RIGHT
from benchmarks.gradcheck.checkers import lines_of_code, ours
from benchmarks.gradcheck.shapes import examples, verdict

EXAMPLES = list(examples())
IDS = [f"{example.shape}, {example.name}" for example in EXAMPLES]


def test_there_are_enough_of_every_shape():
    assert len(EXAMPLES) >= 60 and len(set(IDS)) == len(IDS)
    assert all(1 <= len(example.call) <= 5 for example in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_right_code_is_right_and_wrong_code_does_not_pass(example):
    assert verdict(example, wrong=False) == RIGHT
    assert verdict(example, wrong=True) != RIGHT


def test_lines_of_code_are_statements():
    assert lines_of_code(lines_of_code) == 10 and lines_of_code(ours) > lines_of_code(ours.directional)
