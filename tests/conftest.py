"""The tests use the package's own pytest plugin, and pytest's for the tests of that."""

import io
import sys

import pytest

pytest_plugins = "pytester"  # pytest run on small test files, to test our own plugin


def pytest_configure(config):
    if not config.pluginmanager.has_plugin("gradcheck"):
        raise pytest.UsageError("the tests need the plugin gradcheck of scratchnmt, which pytest did not find: "
                                "install the package again, pip install '.[test]'")


@pytest.fixture
def rng(gradcheck_rng):
    """The tests call it by its short name."""
    return gradcheck_rng


@pytest.fixture(scope="module")
def xp(gradcheck_xp):
    return gradcheck_xp


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
