"""The tests use the package's own pytest plugin, and pytest's for the tests of that."""

import pytest

pytest_plugins = "pytester"  # pytest run on small test files, to test our own plugin


def pytest_configure(config):
    if not config.pluginmanager.has_plugin("gradcheck"):
        raise pytest.UsageError("the tests need the plugin gradcheck of scratchnmt, which pytest did not find: "
                                "install the package again, pip install '.[test]'")
