"""Every bug is caught by the check that it names, and the check passes without it."""

import numpy as np
import pytest

from scratchnmt.museum import BUGS, SECTIONS, Verdict, examine, is_invariant
from scratchnmt.selfcheck import EVERY

by_bug = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)


@by_bug
def test_the_named_check_catches_the_bug(bug):
    verdict = examine(bug)
    assert not verdict.ok, f"{bug.check} passes with the bug"
    assert verdict.names(bug.caught), f"expected {bug.caught!r} among {verdict.wrong}"
    assert "FAILED" in verdict.text


@pytest.mark.parametrize("check", sorted({bug.check for bug in BUGS}))
def test_without_the_bug_the_check_passes(check):
    verdict = examine(next(bug for bug in BUGS if bug.check == check), broken=False)
    assert verdict.ok and not verdict.wrong, verdict.text


def test_there_is_enough_to_see():
    names = [bug.name for bug in BUGS]
    assert len(BUGS) >= 26 and len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in names)
    assert [bug for bugs in SECTIONS.values() for bug in bugs] == list(BUGS)
    for bug in BUGS:
        assert all(bug[:3]) and bug.right and bug.story.endswith((".", "”")) and bug.right != bug.wrong, bug.name
        assert "\n" not in bug.title and not bug.title.endswith("."), bug.name


def test_every_check_that_is_named_exists():
    lines = {case.name for case in EVERY}
    assert [bug.check for bug in BUGS if bug.check not in lines and not is_invariant(bug.check)] == []


def test_a_layer_is_a_check_too_and_a_name_of_nothing_has_its_sentence():
    bug = next(bug for bug in BUGS if bug.name == "gradient-of-the-other-list")
    verdict = examine(bug._replace(check="encoder, one direction"))
    assert not verdict.ok and verdict.names("dinit.Wh")
    with pytest.raises(ValueError, match="the check of gradient-of-the-other-list is 'encoder', which is neither"):
        examine(bug._replace(check="encoder"))


@pytest.mark.parametrize("file", [
    *(f"ops/{op}.py" for op in ("lstm_gates", "lstm", "attention", "cross_entropy", "linear_cross_entropy", "embedding",
                                "dropout", "linear")),
    "models/encoder.py", "models/decoder.py",
])
def test_every_operation_has_a_wrong_gradient_on_show(file):
    assert any(bug.file == file and not is_invariant(bug.check) for bug in BUGS)


@pytest.mark.parametrize("file, op", [("ops/lstm.py", "lstm_cell"), ("ops/lstm.py", "lstm"),
                                      ("ops/activations.py", "sigmoid"), ("ops/activations.py", "softmax")])
def test_every_operation_of_a_file_with_several_has_one(file, op):
    assert any(bug.file == file and bug.check.partition(",")[0] == op for bug in BUGS)


def test_a_gradient_is_named_by_its_whole_name_and_a_sentence_by_some_of_its_words():
    verdict = Verdict(False, "", ("dWx", "backward writes into cache: p"))
    assert verdict.names("dWx") and verdict.names("backward writes into cache")
    assert not verdict.names("dW") and not verdict.names("Wx")
    assert not verdict.names("cache"), "one word stands in many sentences"


def test_examining_a_bug_leaves_the_package_as_it_was():
    from scratchnmt.ops.activations import softmax_forward

    bug = next(bug for bug in BUGS if bug.name == "mask-not-used")
    assert not examine(bug).ok
    weights, _ = softmax_forward(np.zeros((1, 2)), np.array([[True, False]]))
    assert weights.tolist() == [[1, 0]]
