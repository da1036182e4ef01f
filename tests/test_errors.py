import math

import numpy as np
import pytest

from scratchnmt import NMT
from scratchnmt.errors import (
    TOLD,
    ArgumentError,
    IdError,
    InputError,
    MachineError,
    ScratchnmtError,
    WriteError,
    require,
)
from scratchnmt.files.atomic import write_atomically
from scratchnmt.ops.embedding import embedding_forward


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


@pytest.mark.parametrize("call, kinds", [
    (lambda: NMT(9, 9, 0, 4), (InputError, ValueError)),
    (lambda: NMT(9, 9, 4, 4).forward(np.ones((3, 2), int), np.array([3]), np.ones((2, 2), int)),
     (ArgumentError, ValueError)),
    (lambda: embedding_forward(np.array([7]), np.zeros((3, 2))), (IdError, ArgumentError, IndexError, ValueError)),
    (lambda: write_atomically("/no/such/folder/f", b""), (WriteError, MachineError, InputError, ValueError)),
], ids=["a choice", "a shape", "an id", "the disk"])
def test_each_kind_of_error_is_what_it_was_before_it_had_a_name(call, kinds):
    with pytest.raises(ScratchnmtError) as error:
        call()
    assert all(isinstance(error.value, kind) for kind in kinds)
    assert isinstance(error.value, TOLD) == (InputError in kinds)  # a wrong shape shows its traceback
