"""The pytest plugin: checks that leave a record, random data that a failure can name, NumPy or CuPy.

    def test_my_op(gradcheck, gradcheck_rng):
        gradcheck.assert_gradients(forward, backward, {"x": gradcheck_rng.standard_normal((3, 4))})

pytest finds it by itself where the package is installed; `-p no:scratchnmt.gradcheck.plugin` leaves it out.  It is
imported at every start of pytest, so it imports NumPy only when a fixture is used.  It is a guest: a project's own
options, fixtures and plugins of the same names stay the project's own.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import sys
import tempfile
import zlib
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import numpy as np

    from .report import Report

SHOWN = 10  # margins in the summary


class Recorder:
    """The checks of the running test: dicts of plain numbers and texts."""

    def __init__(self, in_full: bool):
        self.test, self._in_full = "", in_full
        self.options: dict[str, Any] = {}  # of the test's markers
        self._records: list[dict[str, Any]] = []

    def add(self, check: str, report: Any) -> None:
        worst = max(report.tensors, key=lambda tensor: tensor.max_error, default=None)
        self._records.append({
            "test": self.test, "check": check, "ok": report.ok, "margin": float(report.margin),
            "gradient": worst.name if worst else "",
            "report": report.to_dict() if self._in_full else None})  # not for nothing: it takes a while

    def add_error(self, check: str, error: BaseException) -> None:
        """A check that came to no result."""
        found = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        self._records.append({"test": self.test, "check": check, "gradient": "", **found,
                              "report": found if self._in_full else None})

    def take(self) -> list[dict[str, Any]]:
        taken, self._records = self._records, []
        return taken


class Collector:
    """Gathers the records of all tests; shows the smallest margins; writes the JSON file, if one is wanted."""

    def __init__(self, path: Path | None):
        self.path = path
        self.records: list[dict[str, Any]] = []
        self.not_written: Exception | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.records += getattr(report, _RECORDS, [])

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.path is None:
            return
        from ..errors import WriteError

        try:
            write(self.path, [{"test": r["test"], "check": r["check"], **r["report"]} for r in self.records])
        except WriteError as error:  # told in the summary, which the project's own failures are in
            self.not_written = error
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
            if not session.config.pluginmanager.has_plugin("terminalreporter"):  # no summary comes
                print(f"gradcheck: {error}", file=sys.stderr)

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        if self.not_written:
            terminalreporter.write_line(f"gradcheck: {self.not_written}", red=True)
        elif self.path is not None:
            terminalreporter.write_line(f"gradcheck: {len(self.records)} reports in {self.path}")
        if not self.records:
            return
        terminalreporter.ensure_newline()
        if config.option.verbose < 0:
            lines = [f"smallest margin: {line.strip()}" for line in smallest_margins(self.records, 1)[1:]]
        else:
            terminalreporter.section(f"gradcheck: smallest margins of {len(self.records)} checks")
            lines = smallest_margins(self.records, SHOWN)
        for line in lines:
            terminalreporter.write_line(line)


def smallest_margins(records: list[dict[str, Any]], count: int) -> list[str]:
    """Lines of a table: for each test and kind of check its smallest margin, the smallest of all first.

    Before all of them stand the checks that raised, and those that found something wrong.
    """
    from .report import layout

    smallest: dict[tuple[str, str], dict[str, Any]] = {}
    for record in sorted(records, key=_by_margin):
        smallest.setdefault((record["test"], record["check"]), record)
    rows = [(_verdict(r), r["check"], r["gradient"], r["test"]) for r in list(smallest.values())[:count]]
    return layout(("margin", "check", "gradient", "test"), rows, left=(1, 2, 3))


def check_writable(path: Path | None) -> None:
    """pytest.UsageError, before any test has run, if the file cannot be written."""
    if path is None:
        return
    from ..files.atomic import is_replaced

    if path.is_dir():
        raise pytest.UsageError(f"--gradcheck-json {path} is a folder, expected a file to write")
    if not is_replaced(path):
        return
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(path))):
            pass
    except OSError as error:
        raise pytest.UsageError(f"--gradcheck-json {path} cannot be written: {error.strerror}") from error


def write(path: Path, value: Any) -> None:
    """The value as JSON: the whole file or, if something fails, what was there before; at once into what is no file."""
    from ..files.atomic import write_atomically

    write_atomically(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def _by_margin(record: dict[str, Any]) -> tuple[bool, float]:
    margin = record.get("margin", -math.inf)
    return record["ok"], -math.inf if math.isnan(margin) else margin


def _verdict(record: dict[str, Any]) -> str:
    """The margin, if there is one: a contract has none; "exact" is no error at all."""
    if not record["ok"]:
        return "ERROR" if "error" in record else "WRONG"
    if not record["gradient"]:
        return "-"
    return "exact" if record["margin"] == math.inf else f"{record['margin']:.3g}"


_RECORDS = "scratchnmt_gradcheck"  # an attribute of a report, which pytest-xdist sends with it
_RECORDER = pytest.StashKey[Recorder]()
_RNG_SEED = pytest.StashKey[list[int]]()
_APART = pytest.StashKey[bool]()  # whether --gradcheck-json and its FILE are two words
_JSON = "--gradcheck-json"


def seed_option(text: str) -> int:
    """A value of --gradcheck-seed."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is no seed, expected a whole number from 0 on")
    return int(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("gradcheck_strict", "checks of gradients take complex-step alone, and every broken promise fails",
                  type="bool", default=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser, args: list[str]
                                  ) -> Iterator[None]:
    """Our options are added after those of the project, which may have options of the same names: they are its own."""
    yield
    taken = {name for group in [parser._anonymous, *parser._groups] for option in group.options
             for name in option.names()}
    group = parser.getgroup("scratchnmt.gradcheck", "checks of gradients (scratchnmt.gradcheck)")
    for name, settings in OPTIONS.items():
        if name not in taken:
            group.addoption(name, dest=_dest(name), **settings)
    early_config.stash[_APART] = _JSON in args and _JSON not in taken


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """The command line has been read: a conftest that is found only now may add options of our names, too."""
    actions = getattr(getattr(session.config._parser, "optparser", None), "_option_string_actions", {})
    for name in OPTIONS:
        actions.pop(name, None)  # of argparse, where pytest 9 looks whether a name is taken


OPTIONS: dict[str, dict[str, Any]] = {
    "--gradcheck": dict(choices=("full", "directional", "off"), default="full",
                        help="full: every element (default); directional: assert_gradients takes a few random "
                             "directions instead, for a quick look; off: skip what checks a gradient"),
    "--gradcheck-seed": dict(type=seed_option, default=0, metavar="N",
                             help="another seed for the fixture gradcheck_rng and for the checks (default 0)"),
    _JSON: dict(metavar="FILE", help="write every report into FILE, a JSON list of {test, check, ok, margin, ...}, or "
                                     "{test, check, ok, error} of a check that raised")}


def _dest(name: str) -> str:
    return "scratchnmt_" + name.strip("-").replace("-", "_")


def _option(config: pytest.Config, name: str) -> Any:
    """The value of one of OPTIONS, or its default where the project has that name for itself."""
    return config.getoption(_dest(name), OPTIONS[name].get("default"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs a CUDA device")
    config.addinivalue_line("markers", "gradcheck(**options): for the fixture gradcheck, such as allow={'writes dy'}")
    path = _option(config, _JSON)
    config.stash[_RECORDER] = Recorder(in_full=path is not None)
    if not hasattr(config, "workerinput"):  # the workers of pytest-xdist send their reports here
        if config.stash.get(_APART, False):
            raise pytest.UsageError(f"write {_JSON}=FILE, with a =: pytest looks for settings and conftest files where "
                                    "a FILE that stands apart is, as it would for tests, once there is one")
        target = None if path is None else config.invocation_params.dir / path
        check_writable(target)
        config.pluginmanager.register(Collector(target), f"{__name__}.collector")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    recorder = item.config.stash[_RECORDER]
    recorder.test, recorder.options = item.nodeid, {}
    for marker in reversed(list(item.iter_markers("gradcheck"))):
        recorder.options.update(marker.kwargs)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if records := item.config.stash[_RECORDER].take():
        setattr(report, _RECORDS, records)
    seed = item.stash.get(_RNG_SEED, None)
    if report.failed and seed is not None:
        report.sections.append(("gradcheck", f"the fixture gradcheck_rng was numpy.random.default_rng({seed})"))


@pytest.fixture(scope="session")
def gradcheck(pytestconfig: pytest.Config) -> Checks:
    """The checks: assert_gradients, assert_layer, assert_loss and so on, whose reports are summed up when pytest ends.
    It may be used inside hypothesis' @given."""
    return Checks(pytestconfig)


@pytest.fixture
def gradcheck_rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A numpy.random.Generator whose seed is made of the test's id and --gradcheck-seed; a failure prints it.
    Inside hypothesis' @given draw strategies.seeds() instead: this one is not renewed for each example."""
    import numpy as np

    seed = [_option(request.config, "--gradcheck-seed"), zlib.crc32(request.node.nodeid.encode())]
    request.node.stash[_RNG_SEED] = seed
    return np.random.default_rng(seed)


@pytest.fixture(scope="module", params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def gradcheck_xp(request: pytest.FixtureRequest) -> Any:
    """The module numpy, then cupy (with the mark gpu); skipped where there is no CuPy or no device."""
    from ..arrays import device_module
    from ..errors import InputError

    try:
        return device_module("cpu" if request.param == "numpy" else "cuda")
    except InputError as error:
        pytest.skip(str(error))


def _assert(name: str, text: str) -> Callable[..., Report]:
    """A method of `Checks` for the check of that name."""
    def method(self: Checks, *args: Any, **options: Any) -> Report:
        __tracebackhide__ = True
        return self._run(name, args, options)

    method.__name__, method.__doc__ = f"assert_{name}", text
    return method


@cache
def _options(name: str) -> set[str]:
    """Those of a check; what it only hands on is for check_gradients."""
    from .. import gradcheck as checks

    parameters = inspect.signature(getattr(checks, f"check_{name}")).parameters.values()
    own = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
    return own | _options("gradients") if any(one.kind is one.VAR_KEYWORD for one in parameters) else own


class Checks:
    """What the fixture `gradcheck` is.  The methods take the arguments of the functions of the same name,
    return their Report and raise GradcheckError; whether right or wrong, the report is recorded, and so is
    what a check raises."""

    def __init__(self, config: pytest.Config):
        self._recorder = config.stash[_RECORDER]
        self._mode, self._seed = _option(config, "--gradcheck"), _option(config, "--gradcheck-seed")
        self._strict = config.getini("gradcheck_strict")
        self._full_trace = config.getoption("--full-trace", False)  # which is the terminal's

    assert_gradients = _assert("gradients", "Every element of every gradient of one op; with --gradcheck=directional a "
                                            "few directions.")
    assert_layer = _assert("layer", "A layer object.")
    assert_loss = _assert("loss", "A function that returns a loss and its gradients.")
    assert_jvp = _assert("jvp", "Forward mode.")
    assert_hessian_vector = _assert("hessian_vector", "A product with the Hessian.")
    assert_directional = _assert("directional", "A whole model along random directions.")
    assert_variant = _assert("variant", "Two implementations of one op.")
    assert_contract = _assert("contract", "What an op promises beside its numbers.")

    def _run(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Report:
        __tracebackhide__ = True
        if self._mode == "off":
            pytest.skip("gradients are not checked: --gradcheck=off")
        from .report import raise_if_wrong

        check = self._function(name)
        try:
            report = check(*args, **{"seed": self._seed, **self._defaults(name), **options})
        except (Exception, SystemExit) as error:
            self._recorder.add_error(name, error)
            if not self._full_trace:
                hide_our_frames(error)
            raise error  # noqa: TRY201  a bare raise has all the frames again in Python 3.10
        self._recorder.add(name, report)
        return raise_if_wrong(report)

    def _defaults(self, name: str) -> dict[str, Any]:
        """Of those that the setting and the markers give, what this check takes; TypeError for what none takes."""
        given: dict[str, Any] = {"method": "complex", "allow": ()} if self._strict else {}
        given |= self._recorder.options
        if unknown := given.keys() - set().union(*map(_options, _CHECKS)):
            raise TypeError(f"pytest.mark.gradcheck got {', '.join(sorted(unknown))}, which no check takes")
        taken = _options(name)
        return {option: value for option, value in given.items() if option in taken}

    def _function(self, name: str) -> Callable[..., Report]:
        from .. import gradcheck as checks
        from .api import quick_check

        quick = self._mode == "directional" and name == "gradients"
        return quick_check if quick else getattr(checks, f"check_{name}")


_CHECKS = [name.removeprefix("assert_") for name in vars(Checks) if name.startswith("assert_")]


def hide_our_frames(error: BaseException) -> None:
    """Leave the op's frames in the tracebacks of the error and of those that led to it, the checker's out."""
    chain = [error]
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) and earlier not in chain:
        chain.append(earlier)
    for link in chain:
        link.__traceback__ = _others(link.__traceback__)


def _others(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of this package."""
    kept = None
    for entry in reversed(list(_entries(traceback))):
        if entry.tb_frame.f_globals.get("__package__") != __package__:
            entry.tb_next, kept = kept, entry
    return kept


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next
