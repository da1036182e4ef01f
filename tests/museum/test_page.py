"""What people see of the museum: the page, the command."""

from pathlib import Path

import pytest

from scratchnmt.cli import main
from scratchnmt.gradcheck import Offender, Report, TensorReport
from scratchnmt.museum import BUGS, SECTIONS
from scratchnmt.museum.page import abridged, diff, markdown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "museum.md"


@pytest.fixture
def call(capsys):
    """main() with arguments; exit status, standard output, standard error."""
    def run(*arguments):
        capsys.readouterr()
        return (main(["museum", *arguments]), *capsys.readouterr())

    return run


def test_the_page_is_current():
    expected = PAGE.read_text(encoding="utf-8")
    assert markdown() == expected, "docs/museum.md is out of date: scratchnmt museum --markdown > docs/museum.md"


def test_the_page_shows_every_bug_with_its_report():
    page = PAGE.read_text(encoding="utf-8")
    for section, bugs in SECTIONS.items():
        assert f"\n## {section}\n" in page
        for bug in bugs:
            entry = page.split(f"\n### {bug.name}\n")[1].split("\n### ")[0]
            assert diff(bug) in entry and bug.origin in entry and "```text\n" in entry
            assert bug.caught in entry.replace("\n", " ") or bug.caught.replace(" ", "\n") in entry


def test_a_diff_leads_from_the_wrong_lines_to_the_right_ones():
    bug = BUGS[0]._replace(wrong="a\nb\nc", right="a\nd\nc")
    assert diff(bug) == " a\n-b\n+d\n c"
    assert diff(bug._replace(wrong="")) == "+a\n+d\n+c"


def test_a_report_is_abridged_to_what_is_the_same_everywhere():
    def tensor(name, wrong, worst=()):
        return TensorReport(name, (2, 3), 6, wrong, 1.23456e-15, 0.5, worst)

    worst = (Offender("db", (1, 2), "gate f, unit 0", 0.0499999, -1.2345, 0.3),)
    tensors = (tensor("dx", 0), *(tensor(f"d{n}", 6) for n in "pqrs"), tensor("db", 5, worst))
    report = Report("complex", "float64", "cpu", 1e-12, 0, tensors, ("it is random",), ("try again",))
    assert abridged(report, "db").split("\n") == [
        "gradient check FAILED: 5 of 6 gradients are wrong",
        "  db (2, 3): 5 of 6 elements wrong",
        "  dp (2, 3): 6 of 6 elements wrong",
        "  dq (2, 3): 6 of 6 elements wrong",
        "  dr (2, 3): 6 of 6 elements wrong",
        "  and 1 more: ds",
        "  worst: db[1, 2], gate f, unit 0: backward 5.0e-02, reference -1.2e+00",
        "  broken: it is random",
        "  hint: try again",
    ]


def test_the_command_lists_them(call):
    status, out, err = call()
    assert (status, err) == (0, "")
    for bug in BUGS:
        assert f"  {bug.name} " in out and bug.title in out
    assert out.endswith(f"{len(BUGS)} bugs; `scratchnmt museum NAME` shows one\n")


def test_the_command_shows_one(call):
    status, out, err = call("starts-from-the-weights")
    assert (status, err) == (0, "")
    for part in ("thinc", "scratchnmt/ops/lstm.py, line ", "\n  -", "\n  +", "dWh=Wh + product",
                 "gradient check FAILED: 1 of 4 gradients are wrong", "dWh equals the reference plus Wh itself"):
        assert part in out
    status, out, _ = call("mask-not-used", "final-state-of-a-pad")
    assert status == 0 and "mead-baseline" in out and "the sequence is a loop of cells: FAILED" in out


@pytest.mark.parametrize("name, hint", [
    ("dc-overwriten", "did you mean 'dc-overwritten' or "), ("pad", "did you mean "),
    ("xyzzy", "`scratchnmt museum` lists them"),
])
def test_a_name_that_is_unknown(call, name, hint):
    status, out, err = call(name)
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(f"scratchnmt museum: error: '{name}' is not a bug of the museum") and hint in err


def test_the_command_checks_them(call, monkeypatch):
    status, out, _ = call("--check", "mask-not-used", "bias-averaged")
    assert status == 0 and out.count("  caught  ") == 2 and "2 of 2 bugs are caught" in out
    harmless = BUGS[0]._replace(wrong=BUGS[0].right)
    monkeypatch.setattr("scratchnmt.museum.BUGS", (harmless, *BUGS[1:]))
    status, out, _ = call("--check", harmless.name)
    assert status == 1 and "MISSED" in out and "0 of 1 bugs are caught" in out


def test_the_page_is_printed_as_a_whole(call):
    status, out, err = call("--markdown", "mask-not-used")
    assert (status, out) == (2, "") and "expected no name beside it, not mask-not-used" in err
