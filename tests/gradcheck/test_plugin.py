"""pytest run on small files that use the plugin: fixtures, options, summary, JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from scratchnmt.gradcheck.plugin import check_writable, write

RIGHT = "from op import *\ndef test_op(gradcheck):\n    gradcheck.assert_gradients(forward, backward, args())"


# a guest


OWN = """
    import pytest

    def pytest_addoption(parser):
        parser.addoption("--gradcheck", action="store_true", help="their own")
        parser.addoption("--gradcheck-json", default="theirs")

    @pytest.fixture
    def rng():
        return 7

    @pytest.fixture
    def gradcheck(pytestconfig):
        return pytestconfig.getoption("--gradcheck"), pytestconfig.getoption("--gradcheck-json")
"""


@pytest.mark.parametrize("options, theirs", [((), False), (("--gradcheck", "--gradcheck-seed=3"), True)])
def test_a_project_keeps_its_own_options_and_fixtures(run, pytester, options, theirs):
    pytester.makeconftest(OWN)
    run(f"def test_own(rng, gradcheck):\n    assert rng == 7 and gradcheck == ({theirs}, 'theirs')", *options
        ).assert_outcomes(passed=1)


def test_a_project_keeps_its_own_options_also_of_a_conftest_that_is_found_late(run, pytester):
    folder = pytester.mkdir("package").joinpath("tests")  # pytest looks for a first conftest in no folder below this
    folder.mkdir()
    own = dedent(OWN)
    if pytest.version_tuple < (9,):  # which keeps no default of an option that it hears of late
        own = own.replace('("--gradcheck")', '("--gradcheck", False)').replace('-json")', '-json", "theirs")')
    (folder / "conftest.py").write_text(own, encoding="utf-8")
    (folder / "test_own.py").write_text("def test_own(gradcheck):\n    assert gradcheck == (False, 'theirs')\n")
    for options in (), ("--fixtures",):
        assert run("", *options).ret == pytest.ExitCode.OK


def test_a_project_keeps_its_own_plugin_of_the_name_gradcheck(run, pytester, monkeypatch):
    pytester.makepyfile(gradcheck="import pytest\n@pytest.fixture\ndef mine(): return 1")
    pytester.makeconftest('pytest_plugins = ["gradcheck"]')
    monkeypatch.syspath_prepend(pytester.path)
    run("def test_own(mine, gradcheck_rng):\n    assert mine == 1").assert_outcomes(passed=1)
    run(RIGHT, "-p", "scratchnmt.gradcheck.plugin").assert_outcomes(passed=1)  # by name, where pytest has it already


def test_checks_where_pytest_shows_nothing(run):
    run(RIGHT, "-p", "no:terminal", "--junitxml=x.xml")
    assert 'failures="0"' in Path("x.xml").read_text() and 'errors="0"' in Path("x.xml").read_text()


def test_a_project_keeps_its_own_attributes_of_a_report(run, pytester):
    pytester.makeconftest("""
        import pytest

        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_makereport(item):
            outcome = yield
            outcome.get_result().gradcheck = True
    """)
    run(RIGHT).assert_outcomes(passed=1)


def test_the_names_rng_and_xp_are_free(pytester):
    result = pytester.runpytest("--fixtures")
    result.stdout.fnmatch_lines(["gradcheck_rng *"])
    assert not any(line.startswith(("rng ", "xp ")) for line in result.outlines)


def test_a_marker_allows_and_an_array_without_a_gradient_is_an_error(run):
    result = run("""
        import pytest
        from op import *

        def random_forward(x, W):
            return forward(x, W)[0] * np.random.rand(), (x, W)

        @pytest.mark.gradcheck(allow=())
        def test_strict(gradcheck):
            gradcheck.assert_gradients(random_forward, backward, args())

        @pytest.mark.gradcheck(allow={"writes dy"})
        def test_allowed(gradcheck):
            def backward(dy, cache):
                dy *= cache
                return 1 * dy
            gradcheck.assert_gradients(lambda x: (3 * x, 3), backward, args()["x"])

        def test_left_out(gradcheck):
            gradcheck.assert_gradients(lambda x, P: (x @ P[0], P), lambda dy, P: dy @ P[0].T,
                                       {"x": args()["x"], "P": [args()["W"]]})
    """, "--strict-markers", "-rA")
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(["*forward is random*", "*no gradient for P?0?*"])


def test_an_option_of_a_marker_reaches_every_check_that_takes_it(run):
    result = run("""
        import pytest
        from op import *
        X = {"x": np.linspace(-1, 1, 6).reshape(2, 3)}

        def tanh(x):
            return np.tanh(x), np.tanh(x)

        def in_place(dy, cache):
            dy *= 1 - cache * cache
            return dy.copy()

        def near(x):
            return np.tanh(x) * (1 + 1e-5), np.tanh(x)

        def right(dy, cache):
            return dy * (1 - cache * cache)

        def directional(gradcheck):
            gradcheck.assert_directional(lambda p: np.sin(p["x"]).sum(),
                                         lambda p: {"x": np.cos(p["x"]) * (1 + 1e-5)}, X)

        @pytest.mark.gradcheck(allow={"writes dy"}, rtol=1e-3)
        class TestAllowed:
            def test_contract(self, gradcheck):
                gradcheck.assert_contract(tanh, in_place, X)

            def test_variant(self, gradcheck):
                gradcheck.assert_variant((tanh, right), (near, right), X)

            def test_directional(self, gradcheck):
                directional(gradcheck)

        def test_not_allowed(gradcheck):
            directional(gradcheck)

        @pytest.mark.gradcheck(nonsense=1)
        def test_nonsense(gradcheck):
            gradcheck.assert_variant((tanh, right), (tanh, right), X)
    """)
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(["*TypeError: pytest.mark.gradcheck got nonsense, which no check takes*"])


# gradcheck


def test_the_four_checks_return_their_reports_and_record_them(run, written):
    run("""
        from op import *

        def test_each(gradcheck):
            pair, xW = (forward, backward), args()
            assert gradcheck.assert_gradients(*pair, xW, wrt=["W"]).elements == 20
            assert gradcheck.assert_variant(pair, pair, xW).method == "variant"
            assert gradcheck.assert_contract(*pair, xW).ok
            assert gradcheck.assert_directional(
                lambda p: forward(**p)[0].sum(), lambda p: backward(np.ones((3, 5)), forward(**p)[1]), xW).ok
    """, "--gradcheck-json=report.json").assert_outcomes(passed=1)
    found = written()
    assert [r["check"] for r in found] == ["gradients", "variant", "contract", "directional"]
    assert {r["test"].split("::")[1] for r in found} == {"test_each"}
    assert all(r["ok"] and "tensors" in r and "hints" in r for r in found)


def test_the_fixture_has_every_check():
    from scratchnmt import gradcheck
    from scratchnmt.gradcheck.plugin import Checks

    checks = [name for name in gradcheck.__all__ if name.startswith("assert_")]
    assert len(checks) == 8 and all(getattr(Checks, name).__name__ == name for name in checks)


def test_a_failure_is_the_report_without_our_lines_and_is_recorded(run, written):
    result = run("""
        from op import *

        def test_slope(gradcheck):
            gradcheck.assert_gradients(forward, wrong, args())

        def test_shape(gradcheck):
            gradcheck.assert_gradients(forward, lambda dy, cache: {"x": cache[0], "W": dy}, args())
    """, "--gradcheck-json=report.json")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E *gradient check FAILED: 1 of 2*", "E *dW is the reference times 2*"])
    result.stdout.no_fnmatch_line("*plugin.py*")
    result.stdout.no_fnmatch_line("*raise GradcheckError*")
    slope, shape = written()
    assert not slope["ok"] and not shape["ok"] and 0 < slope["margin"] < 1e-11
    assert "Infinity" in json.dumps(shape)


def test_it_works_inside_given(run, written):
    run("""
        from hypothesis import given, settings
        from op import *
        from scratchnmt.gradcheck import strategies

        @settings(max_examples=7, deadline=None, database=None)
        @given(strategies.seeds())
        def test_drawn(gradcheck, seed):
            gradcheck.assert_gradients(forward, backward, args(np.random.default_rng(seed)))
    """, "--gradcheck-json=report.json").assert_outcomes(passed=1)
    assert {r["test"] for r in written()} == {"test_it_works_inside_given.py::test_drawn"}
    assert len(written()) >= 7


# rng


RANDOM = """
    import json, pathlib
    file = pathlib.Path("drawn.json")

    def draw(rng):
        before = json.loads(file.read_text()) if file.exists() else []
        file.write_text(json.dumps([*before, rng.random()]))

    def test_one(gradcheck_rng):
        draw(gradcheck_rng)

    def test_two(gradcheck_rng):
        draw(gradcheck_rng)
        assert False
"""


def test_rng_depends_on_the_test_and_the_seed_alone_and_a_failure_prints_it(run, written):
    for options in ((), ("-k", "two"), ("--gradcheck-seed=3",)):
        result = run(RANDOM, "-rA", *options)
    one, two, two_alone, one_other, two_other = written("drawn.json")
    assert two == two_alone and len({one, two, one_other, two_other}) == 4
    (line,) = [line for line in result.outlines if "fixture gradcheck_rng was" in line]
    assert eval(line.partition("was ")[2], {"numpy": np}).random() == two_other


def test_a_conftest_may_have_its_own_rng(run, pytester):
    pytester.makeconftest("import pytest\n\n@pytest.fixture\ndef rng():\n    return 7")
    result = run("def test_seven(rng):\n    assert rng == 8")
    result.stdout.no_fnmatch_line("*fixture gradcheck_rng was*")
    result.stdout.fnmatch_lines(["E *assert 7 == 8"])


# xp


DEVICES = """
    import sys

    def test_on(gradcheck_xp):
        xp = gradcheck_xp
        assert xp.tanh(0) == 0 and sys.modules.get("cupy") is None
"""


def test_xp_is_numpy_and_where_there_is_no_cupy_a_reason(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    result = run(DEVICES, "-rs", "--strict-markers")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * device 'cuda' needs cupy: pip install *"])
    run(DEVICES, "-m", "not gpu").assert_outcomes(passed=1, deselected=1)


def test_the_mark_gpu_is_known(pytester):
    pytester.makepyfile("import pytest\n\n@pytest.mark.gpu\ndef test_marked(): pass")
    pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=1)  # this process knows it anyway


def test_cupy_without_a_device_is_skipped_with_its_reason(run, pytester, monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    pytester.makepyfile(cupy="""
        class cuda:
            class runtime:
                class CUDARuntimeError(Exception): pass
                def getDeviceCount():
                    raise cuda.runtime.CUDARuntimeError("no device is detected")
    """)
    result = run("def test_on(gradcheck_xp): assert gradcheck_xp.__name__ == 'numpy'", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * device 'cuda' is not there: no device is detected *"])


# --gradcheck and --gradcheck-seed


@pytest.mark.parametrize("mode, method", [("full", "complex"), ("directional", "complex, directional")])
def test_full_and_directional(run, mode, method):
    run(f"""
        import pytest
        from op import *
        from scratchnmt.gradcheck import GradcheckError

        def test_right(gradcheck):
            calls.clear()
            report = gradcheck.assert_gradients(forward, backward, args(), labels={{"W": "abcde"}}, contract=False)
            assert report.method == {method!r} and report.ok and [t.name for t in report.tensors] == ["dx", "dW"]
            assert (len(calls) < 25) == ({mode!r} == "directional")

        def test_wrong(gradcheck):
            with pytest.raises(GradcheckError) as error:
                gradcheck.assert_gradients(forward, wrong, args(), wrt="W", dys=np.eye(3, 5), seed=5)
            report = error.value.report
            assert report.method == {method!r} and report.wrong == ("dW",) and report.seed == 5
            assert any("dW is the reference times 2" in hint for hint in report.hints)

        def test_promise(gradcheck):
            def careless(dy, cache):
                dy *= 1.0 + 1e-16 + 1e-15
                return backward(dy, cache)

            with pytest.raises(GradcheckError, match="backward writes into dys"):
                gradcheck.assert_gradients(forward, careless, args(), allow=())

        def test_another_method(gradcheck):
            report = gradcheck.assert_gradients(forward, backward, args(), method="central", max_elements=3)
            assert report.method == "central" and report.tensors[0].checked == 3
    """, f"--gradcheck={mode}").assert_outcomes(passed=4)


def test_off_skips_with_a_reason(run):
    result = run(RIGHT + "\ndef test_other(): pass", "--gradcheck=off", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * gradients are not checked: --gradcheck=off"])
    result.stdout.no_fnmatch_line("*smallest margin*")


def test_the_seed_goes_to_the_checks_unless_a_test_has_its_own(run):
    run("""
        from op import *

        def test_seed(gradcheck):
            assert gradcheck.assert_gradients(forward, backward, args()).seed == 6
            assert gradcheck.assert_gradients(forward, backward, args(), seed=4).seed == 4
    """, "--gradcheck-seed=6").assert_outcomes(passed=1)


@pytest.mark.parametrize("options, sentence", [
    (["--gradcheck-seed=-1"], "*'-1' is no seed, expected a whole number from 0 on"),
    (["--gradcheck-seed=x"], "*'x' is no seed, expected a whole number from 0 on"),
    (["--gradcheck=some"], "*invalid choice: 'some'*"),
    (["--gradcheck-json=no/such/r.json"], "ERROR: --gradcheck-json *no/such/r.json cannot be written: No such *"),
    (["--gradcheck-json=."], "ERROR: --gradcheck-json * is a folder, expected a file to write"),
])
def test_options_that_cannot_be_are_refused_before_any_test(run, options, sentence):
    result = run(RIGHT, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR and "test session starts" not in result.stdout.str()
    result.stderr.fnmatch_lines([sentence])


@pytest.mark.parametrize("where", ["command line", "settings"])
def test_reports_in_a_file_that_pytest_would_take_for_tests_are_refused(run, pytester, where):
    apart = "--gradcheck-json report.json"
    pytester.makeini("[pytest]\naddopts = " + apart * (where == "settings"))
    result = run(RIGHT, *apart.split() * (where == "command line"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR and not (pytester.path / "report.json").exists()
    result.stderr.fnmatch_lines(["ERROR: write --gradcheck-json=FILE, *"])


# the file of reports

@pytest.mark.parametrize("fails", [True, False])
def test_a_file_of_reports_that_cannot_be_written_in_the_end_leaves_the_failures_to_be_read(run, pytester, fails):
    pytester.mkdir("build")
    result = run(f"""
        import shutil
        def test_build(): shutil.rmtree("build")
        def test_that_fails(): assert not {fails}, "what one wants to see"
    """, "--gradcheck-json=build/r.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([*["*what one wants to see*"] * fails,
                                 "gradcheck: *build/r.json cannot be written: No such file or directory"])


def test_a_file_of_reports_that_cannot_be_written_is_told_without_a_terminal_s_summary(run, pytester):
    pytester.mkdir("build")
    result = run("""
        import shutil
        def test_build(): shutil.rmtree("build")
    """, "--gradcheck-json=build/r.json", "-p", "no:terminal")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stderr.fnmatch_lines(["gradcheck: *build/r.json cannot be written: No such file or directory"])


def test_the_file_of_reports_keeps_its_mode_and_a_link_to_it_stays_one(tmp_path):
    (tmp_path / "r.json").write_text("old")
    (tmp_path / "r.json").chmod(0o640)
    (tmp_path / "link").symlink_to("r.json")
    write(tmp_path / "link", [1])
    assert json.loads((tmp_path / "r.json").read_text()) == [1] and (tmp_path / "link").is_symlink()
    assert (tmp_path / "r.json").stat().st_mode & 0o777 == 0o640


def test_reports_take_no_place_of_a_pipe_or_a_device(tmp_path, monkeypatch):
    moved, pipe = [], tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    monkeypatch.setattr(Path, "replace", lambda *paths: moved.append(paths))  # lest a wrong one spoils the machine
    for path in (pipe, Path("/dev/null")):
        check_writable(path)
        write(path, [1])
    assert json.loads(os.read(reader, 100)) == [1] and not moved
    os.close(reader)


# the import


def test_the_import_of_the_plugin_does_not_import_numpy():
    code = "import sys, scratchnmt.gradcheck.plugin; sys.exit(bool({'numpy', 'hypothesis'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
