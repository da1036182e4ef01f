"""The packages' public names: importing costs nothing, asking brings them."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = "scratchnmt", "scratchnmt.gradcheck"
by_package = pytest.mark.parametrize("package", [*map(importlib.import_module, PACKAGES)], ids=PACKAGES)


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@by_package
def test_every_name_comes_from_where_type_checkers_see_it(package):
    imports = [node for node in ast.walk(ast.parse(Path(package.__file__).read_text(encoding="utf-8")))
               if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module != "lazy"]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    assert sorted(seen) == sorted(package.__all__) and set(package.__all__) <= set(dir(package))
    for name, module in seen.items():
        home = importlib.import_module(f"{package.__name__}.{module}")
        assert getattr(package, name) is getattr(home, name)


@by_package
def test_no_name_is_hidden_by_a_module(package):
    assert not set(package.__all__) & {module.name for module in pkgutil.iter_modules(package.__path__)}


@by_package
def test_a_name_that_is_not_there(package):
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nonsense'"):
        _ = package.nonsense
    assert f"cannot import name 'nonsense' from '{package.__name__}'" in python(
        f"from {package.__name__} import nonsense").stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_the_import_alone_does_not_import_numpy(package):
    result = python(f"import sys, {package} as p; assert 'numpy' not in sys.modules; p.__doc__, dir(p);"
                    f"assert 'numpy' not in sys.modules; from {package} import *; assert 'numpy' in sys.modules")
    assert result.returncode == 0, result.stderr


def test_a_copy_of_the_package_under_another_name_has_its_own_names(tmp_path):
    (tmp_path / "another").symlink_to(Path(importlib.import_module("scratchnmt").__file__).parent)
    result = python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import another, another.gradcheck as g;"
                    "assert another.NMT.__module__ == 'another.models.nmt';"
                    "assert g.gradient.__module__ == 'another.gradcheck.reference';"
                    "assert 'scratchnmt' not in sys.modules")
    assert result.returncode == 0, result.stderr
