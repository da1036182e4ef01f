"""The pytest plugin: checks that leave a record, random data that a failure can name, NumPy or CuPy.

    def test_my_op(gradcheck, rng):
        gradcheck.assert_gradients(forward, backward, {"x": rng.standard_normal((3, 4))})

pytest finds it by itself where the package is installed; `-p no:gradcheck` leaves it out.  It is imported
at every start of pytest, so it imports NumPy only when a fixture is used.  A conftest.py that has fixtures
of the same names (`rng` is a common one) keeps its own: pytest takes the fixture nearest to the test.
"""

from __future__ import annotations

import zlib
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from .frames import hide_our_frames
from .records import Collector, Recorder, check_writable

if TYPE_CHECKING:
    import numpy as np

    from .report import Report

_RECORDER = pytest.StashKey[Recorder]()
_RNG_SEED = pytest.StashKey[list]()


def seed_option(text: str) -> int:
    """A value of --gradcheck-seed."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is no seed, expected a whole number from 0 on")
    return int(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gradcheck", "checks of gradients (scratchnmt.gradcheck)")
    group.addoption("--gradcheck", choices=("full", "directional", "off"), default="full",
                    help="full: every element (default); directional: assert_gradients takes a few random "
                         "directions instead, for a quick look; off: skip what checks a gradient")
    group.addoption("--gradcheck-seed", type=seed_option, default=0, metavar="N",
                    help="another seed for the fixture rng and for the checks (default 0)")
    group.addoption("--gradcheck-json", metavar="FILE",
                    help="write every report into FILE, a JSON list of {test, check, ok, margin, ...}, or "
                         "{test, check, ok, error} of a check that raised")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs a CUDA device")
    path = config.getoption("--gradcheck-json")
    config.stash[_RECORDER] = Recorder(in_full=path is not None)
    if not hasattr(config, "workerinput"):  # the workers of pytest-xdist send their reports here
        target = None if path is None else config.invocation_params.dir / path
        check_writable(target)
        config.pluginmanager.register(Collector(target), "gradcheck-collector")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.config.stash[_RECORDER].test = item.nodeid


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if records := item.config.stash[_RECORDER].take():
        report.gradcheck = records
    seed = item.stash.get(_RNG_SEED, None)
    if report.failed and seed is not None:
        report.sections.append(("gradcheck", f"the fixture rng was numpy.random.default_rng({seed})"))
    return report


@pytest.fixture(scope="session")
def gradcheck(pytestconfig: pytest.Config) -> Checks:
    """The checks assert_gradients, assert_directional, assert_variant and assert_contract, whose reports
    are summed up when pytest ends.  It may be used inside hypothesis' @given."""
    return Checks(pytestconfig)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A numpy.random.Generator whose seed is made of the test's id and --gradcheck-seed; a failure prints it.
    Inside hypothesis' @given draw strategies.seeds() instead: this one is not renewed for each example."""
    import numpy as np

    seed = [request.config.getoption("--gradcheck-seed"), zlib.crc32(request.node.nodeid.encode())]
    request.node.stash[_RNG_SEED] = seed
    return np.random.default_rng(seed)


@pytest.fixture(scope="module", params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def xp(request: pytest.FixtureRequest) -> Any:
    """The module numpy, then cupy (with the mark gpu); skipped where there is no CuPy or no device."""
    from ..arrays import device_module
    from ..errors import InputError

    try:
        return device_module("cpu" if request.param == "numpy" else "cuda")
    except InputError as error:
        pytest.skip(str(error))


class Checks:
    """What the fixture `gradcheck` is.  The methods take the arguments of the functions of the same name,
    return their Report and raise GradcheckError; whether right or wrong, the report is recorded, and so is
    what a check raises."""

    def __init__(self, config: pytest.Config):
        self._recorder = config.stash[_RECORDER]
        self._mode, self._seed = config.getoption("--gradcheck"), config.getoption("--gradcheck-seed")
        self._full_trace = config.getoption("--full-trace")

    def assert_gradients(self, *args: Any, **options: Any) -> Report:
        """Every element of every gradient of one op; with --gradcheck=directional a few directions."""
        __tracebackhide__ = True
        return self._run("gradients", args, options)

    def assert_directional(self, *args: Any, **options: Any) -> Report:
        """A whole model along random directions."""
        __tracebackhide__ = True
        return self._run("directional", args, options)

    def assert_variant(self, *args: Any, **options: Any) -> Report:
        """Two implementations of one op."""
        __tracebackhide__ = True
        return self._run("variant", args, options)

    def assert_contract(self, *args: Any, **options: Any) -> Report:
        """What an op promises beside its numbers."""
        __tracebackhide__ = True
        return self._run("contract", args, options)

    def _run(self, name: str, args: tuple, options: dict[str, Any]) -> Report:
        __tracebackhide__ = True
        if self._mode == "off":
            pytest.skip("gradients are not checked: --gradcheck=off")
        from .report import raise_if_wrong

        check = self._function(name)
        try:
            report = check(*args, **{"seed": self._seed, **options})
        except (Exception, SystemExit) as error:
            self._recorder.add_error(name, error)
            if not self._full_trace:
                hide_our_frames(error)
            raise error  # noqa: TRY201  a bare raise has all the frames again in Python 3.10
        self._recorder.add(name, report)
        return raise_if_wrong(report)

    def _function(self, name: str) -> Callable[..., Report]:
        from .. import gradcheck as checks
        from .quick import quick_check

        quick = self._mode == "directional" and name == "gradients"
        return quick_check if quick else getattr(checks, f"check_{name}")
