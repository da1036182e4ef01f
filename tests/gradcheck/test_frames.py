"""Checks that raise: what is recorded of them, and which frames pytest shows."""

RAISING = """
    import sys
    from op import *

    def helper(x):
        return x[:, [9]]

    def check(gradcheck, f=forward, b=backward):
        gradcheck.assert_gradients(f, b, args(), method="complex")

    def test_a_name(gradcheck):
        check(gradcheck, b=lambda dy, cache: {"dV": dy})

    def test_not_analytic(gradcheck):
        check(gradcheck, lambda x, W: (abs(x @ W), (x, W, abs(x @ W))))

    def test_forward(gradcheck):
        check(gradcheck, lambda x, W: (helper(x), x))

    def test_complex_forward(gradcheck):
        check(gradcheck, lambda x, W: forward(helper(x) if x.dtype == complex else x, W))

    def test_backward(gradcheck):
        check(gradcheck, b=lambda dy, cache: helper(dy))

    def test_exit(gradcheck):
        check(gradcheck, lambda x, W: sys.exit(0))
"""


def test_a_check_that_raises_is_recorded_and_comes_first(run, written):
    right = "\n    def test_right(gradcheck):\n        check(gradcheck)\n"
    result = run(RAISING + right, "--gradcheck-json=report.json")
    result.assert_outcomes(failed=6, passed=1)
    found = {r["test"].split("::")[1]: r for r in written()}
    assert len(found) == len(written()) == 7 and found["test_right"]["ok"]
    errors = {name: r["error"] for name, r in found.items() if name != "test_right"}
    assert all(found[name].keys() == {"test", "check", "ok", "error"} and not found[name]["ok"] for name in errors)
    assert errors["test_a_name"] == "ValueError: backward returns 'dV', which matches no argument: x, W"
    assert errors["test_not_analytic"].startswith("NotAnalyticError: output 0")
    assert errors["test_backward"].startswith("GradcheckError: backward raised IndexError: ")
    assert errors["test_exit"] == "SystemExit: 0"
    first, *rows = [line.split() for line in result.outlines if " gradients  " in line]
    assert first[:2] == ["ERROR", "gradients"] and rows[-1][0] not in ("ERROR", "WRONG")


def test_what_a_check_raises_is_shown_at_the_tests_own_lines(run):
    """The frames of the op stay, also in what led to the error; those of the checker do not."""
    result = run(RAISING)
    result.stdout.no_fnmatch_line("*scratchnmt/gradcheck/*.py:*")
    result.stdout.no_fnmatch_line("*raise *Error(*")
    lines = result.outlines
    for kind in ("ValueError", "NotAnalyticError", "GradcheckError"):
        assert any(line.startswith("test_what") and line.endswith(f".py:8: {kind}") for line in lines), kind
    assert sum(line == ">       return x[:, [9]]" for line in lines) == 3
    assert sum("direct cause" in line for line in lines) == 2
    whole = run(RAISING, "--full-trace")
    whole.stdout.fnmatch_lines(["*scratchnmt/gradcheck/convention.py:*"])
