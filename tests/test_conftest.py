"""The suite says what is missing where the package is installed without its pytest plugin."""

from pathlib import Path

import pytest


@pytest.mark.parametrize("option, status", [(["-p", "no:scratchnmt.gradcheck.plugin"], 4), ([], 0)])
def test_without_the_plugin_one_sentence_says_what_to_do(option, status, pytester):
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile("def test_something(rng): assert rng.random() < 1")
    result = pytester.runpytest_subprocess(*option)
    assert result.ret == status
    if status:
        result.stderr.fnmatch_lines(["ERROR: the tests need the plugin gradcheck*install the package again*"])
