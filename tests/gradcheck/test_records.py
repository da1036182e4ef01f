"""The table of the smallest margins and the JSON file."""

import json
import math
import os

import pytest

from scratchnmt.gradcheck import plugin as records

EACH = """
    import pytest
    from op import *

    @pytest.mark.parametrize("k", range(12))
    def test_op(gradcheck, k):
        for rtol in (1e-12 * 2**k, 1.5e-12 * 2**k):
            gradcheck.assert_gradients(forward, backward, args(np.random.default_rng(0)), rtol=rtol)
"""


def test_the_ten_smallest_margins(run):
    lines = run(EACH).outlines
    start = next(i for i, line in enumerate(lines) if "gradcheck: smallest margins of 24 checks" in line)
    assert lines[start + 1].split() == ["margin", "check", "gradient", "test"]
    rows = [line.split() for line in lines[start + 2 : -1]]
    assert [row[3].partition("::")[2] for row in rows] == [f"test_op[{k}]" for k in range(10)]
    margins = [float(row[0]) for row in rows]
    assert margins == sorted(margins) and 1 < margins[0] < 1e5 and {row[1] for row in rows} == {"gradients"}


def test_one_line_when_quiet_and_none_without_a_check(run):
    failing = EACH + "        if k == 0:\n            gradcheck.assert_gradients(forward, wrong, args())"
    (line,) = [line for line in run(EACH, "-q").outlines if "smallest margin" in line]
    assert line.startswith("smallest margin: ") and float(line.split()[2]) > 1 and line.endswith("test_op[0]")
    (line,) = [line for line in run(failing, "-q").outlines if "smallest margin" in line]
    assert line.split()[2:5] == ["WRONG", "gradients", "dW"] and line.endswith("test_op[0]")
    assert not any("margin" in line for line in run("def test_nothing(): pass").outlines)


def test_the_workers_of_xdist_send_their_records(run, written):
    pytest.importorskip("xdist")
    result = run(EACH, "-n2", "--gradcheck-json=report.json")
    result.assert_outcomes(passed=12)
    result.stdout.fnmatch_lines(["*smallest margins of 24 checks*"])
    assert len(written()) == 24


def test_what_failed_is_shown_first():
    found = ("a", True, 3.0), ("b", True, math.inf), ("c", False, math.inf), ("d", True, 2.0)
    some = [{"test": test, "check": "gradients", "gradient": "dx", "ok": ok, "margin": margin}
            for test, ok, margin in found]
    some += [{"test": "e", "check": "gradients", "gradient": "", "ok": False, "error": "ValueError: no"},
             {"test": "f", "check": "contract", "gradient": "", "ok": True, "margin": math.inf}]
    table = records.smallest_margins(some, 9)
    assert [line.split()[0] for line in table] == ["margin", "ERROR", "WRONG", "2", "3", "exact", "-"]
    assert len(records.smallest_margins(some, 3)) == 4


def test_the_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    records.write(path, [1])
    monkeypatch.setattr(os, "replace", lambda new, path: None)  # killed before the last step
    with pytest.raises(TypeError):
        records.write(path, [{"not": object()}])
    records.write(path, [2])
    assert json.loads(path.read_text()) == [1] and list(tmp_path.iterdir()) == [path]
