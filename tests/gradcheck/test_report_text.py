"""What a report looks like."""

import re

import numpy as np
import pytest
from test_report import report, tensor

from scratchnmt.gradcheck.report import layout


def test_text_of_a_failure_names_gradient_element_and_ratio():
    text = str(report(tensor("dx"), tensor("dWh", backward=(1.0, 2.0, 3.0, -8.0)), hints=("look here",)))
    assert "FAILED: 1 of 2 gradients are wrong" in text
    rows = {line.split()[0]: line.split()[-1] for line in text.splitlines() if line.startswith("  d")}
    assert rows == {"dx": "ok", "dWh": "WRONG"}
    assert "worst elements of dWh" in text and "worst elements of dx" not in text
    assert "(1, 1)" in text and "-8.000000e+00" in text and " -2 " in text
    assert text.endswith("hint: look here")


def test_only_wrong_elements_are_listed_and_numbers_that_differ_look_different():
    text = str(report(tensor("dx", backward=(1.0, 2.0, 3.0, 4.0 + 1e-9))))
    rows = [line.split() for line in text.splitlines() if line.startswith("  (")]
    assert [row[:2] for row in rows] == [["(1,", "1)"]]
    assert [len(number) for number in rows[0][2:4]] == [22, 22] and rows[0][2] != rows[0][3]
    assert float(rows[0][4]) == (4 + 1e-9) / 4


def test_text_of_a_success_gives_the_margin():
    assert str(report(tensor())).startswith("gradient check ok: 1 gradient, margin inf")
    two = str(report(tensor(), tensor("dx", backward=(1.0, 2.0, 3.0, 4.0 + 1e-14))))
    assert two.startswith("gradient check ok: 2 gradients, margin ") and "margin inf" not in two


def test_the_headline_of_a_failure_has_the_margin_too():
    text = str(report(tensor(backward=(1.0, 2.0, 3.0, 8.0))))
    assert re.match(r"gradient check FAILED: 1 of 1 gradient is wrong, margin 1\.\d+e-12  \(method=complex", text)


def test_a_report_of_promises_alone():
    assert str(report()).startswith("gradient check ok: every promise is kept  (method=complex")
    assert str(report(broken_promises=("it writes",))).startswith("gradient check FAILED: a promise is broken  (")


def test_kinks_have_a_column_only_where_there_are_any():
    kinks = np.array([False, False, False, True])
    lines = str(report(tensor(), tensor("dx", backward=(1.0, 2.0, 3.0, 5.0), kinks=kinks))).splitlines()
    assert lines[2].split() == ["gradient", "shape", "checked", "wrong", "kinks", "max", "error", "rms"]
    assert lines[4].split()[:6] == ["dx", "(2,", "2)", "4", "0", "1"] and lines[4].endswith(" ok")
    assert "kinks" not in str(report(tensor()))


def test_colour_only_where_it_is_asked_for():
    wrong = report(tensor(), tensor("dx", backward=(1.0, 2.0, 3.0, 5.0)), broken_promises=("it writes",),
                   hints=("look here",), notes=("a note",))
    plain, coloured = wrong.text(), wrong.text(color=True)
    assert "\x1b" not in plain and plain == str(wrong)
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain
    for word, code in (("FAILED", 31), ("WRONG", 31), ("ok", 32), ("broken:", 31), ("hint:", 33)):
        assert re.search(rf"\x1b\[{code}m[a-z ]*{word}\x1b\[0m", coloured), word
    assert report(tensor()).text(color=True).startswith("\x1b[32mgradient check ok\x1b[0m: 1 gradient, ")


@pytest.mark.parametrize("device, value, said", [("cuda", "1", True), ("cuda", "0", False), ("cpu", "1", False),
                                                 ("cuda", None, False)])
def test_tf32_is_said(device, value, said, monkeypatch):
    monkeypatch.delenv("CUPY_TF32", raising=False)
    if value:
        monkeypatch.setenv("CUPY_TF32", value)
    assert ("CUPY_TF32" in str(report(tensor(), device=device)).splitlines()[0]) == said


def test_layout_lines_up():
    assert layout(("a", "number"), [("long", "1"), ("b", "22")], left=(0,)) == [
        "  a     number", "  long       1", "  b         22"]
