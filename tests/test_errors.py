import math

import pytest

from scratchnmt.errors import InputError, require


def test_a_package_that_is_there():
    assert require("math", extra="train") is math
    assert require("os.path", extra="train").join("a", "b")


@pytest.mark.parametrize("name", ["no_such_package", "no_such_package.part"])
def test_a_package_that_is_not_there_is_named_with_its_extra(name):
    with pytest.raises(InputError) as error:
        require(name, extra="train")
    assert str(error.value) == "no_such_package is not installed: pip install 'scratchnmt[train]'"


def test_an_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)
