"""The tests use the package's own pytest plugin, and pytest's for the tests of that."""

import io
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

# how long an example takes says something of the machine, which may be busy
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
pytest_plugins = "pytester"  # pytest run on small test files, to test our own plugin


def pytest_configure(config):
    if not config.pluginmanager.has_plugin("scratchnmt.gradcheck.plugin"):
        raise pytest.UsageError("the tests need the plugin gradcheck of scratchnmt, which pytest did not find: "
                                "install the package again, pip install '.[test]'")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell has it for what it runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # tests press Ctrl-C


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """The whole suite, as it is run by default, takes up to four cores, if pytest-xdist is there; -n chooses."""
    chosen, is_worker = config.option, hasattr(config, "workerinput")  # whose own workers would have workers
    if is_worker or not config.pluginmanager.has_plugin("xdist") or chosen.numprocesses is not None or chosen.usepdb:
        return
    if config.args_source is config.ArgsSource.TESTPATHS and chosen.markexpr == "not slow":
        chosen.numprocesses, chosen.maxprocesses, chosen.dist = "auto", 4, "loadfile"


@pytest.fixture
def rng(gradcheck_rng):
    """The tests call it by its short name."""
    return gradcheck_rng


@pytest.fixture(scope="module")
def xp(gradcheck_xp):
    return gradcheck_xp


@pytest.fixture
def pictures():
    """Learning curves are not drawn, which takes longer than a small training; the files that they would be made of."""
    drawn = []
    with pytest.MonkeyPatch.context() as patch:  # not the fixture, which a test may undo
        patch.setattr("scratchnmt.plots.learning_curves", lambda *paths: drawn.append(paths))
        yield drawn


@pytest.fixture
def call(capsys, monkeypatch):
    """main() with arguments and bytes on standard input; exit status, standard output, standard error."""
    from scratchnmt.cli import main  # not above, where the missing plugin is to be told first

    def run(*arguments, stdin=b"", terminal=False):
        stream = io.TextIOWrapper(io.BytesIO(stdin), encoding="ascii")  # as in an old locale
        stream.isatty = lambda: terminal
        monkeypatch.setattr(sys, "stdin", stream)
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exit:
            status = exit.code
        return (status, *capsys.readouterr())

    return run


def pytest_make_parametrize_id(val, argname):
    """Packed text has the time in it, and an id must be the same in each process: its name."""
    return argname if isinstance(val, bytes) else None
