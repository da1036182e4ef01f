import math
import re
import sys
from configparser import ConfigParser
from pathlib import Path

import numpy as np
import pytest

from scratchnmt import NMT
from scratchnmt.errors import (
    EXTRAS,
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
def test_a_package_that_is_not_there_is_named_with_what_brings_it(name):
    by_name = "pip install sacrebleu sentencepiece safetensors tqdm threadpoolctl matplotlib"
    for extra, commands in (("train", f"{by_name}, or pip install '.[train]' in the folder of scratchnmt's source"),
                            ("peers", "pip install '.[peers]' in the folder of scratchnmt's source")):
        with pytest.raises(InputError) as error:
            require(name, extra)
        assert str(error.value) == f"no_such_package is not installed: {commands}"


@pytest.mark.parametrize("source, reason", [
    ("raise ImportError('numpy.core.multiarray\\nfailed to import')",
     "ImportError: numpy.core.multiarray failed to import"),
    ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'"),
    ("raise ValueError('numpy.dtype size changed')", "ValueError: numpy.dtype size changed"),
    ("import sys; sys.no_such_thing", "AttributeError: module 'sys' has no attribute 'no_such_thing'"),
    ("raise RuntimeError", "RuntimeError: it tells no reason"),
])
def test_a_package_that_cannot_be_imported_tells_why(tmp_path, monkeypatch, source, reason):
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "__init__.py").write_text("")
    (tmp_path / "broken_package" / "part.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_package", raising=False)
    with pytest.raises(InputError) as error:
        require("broken_package.part", extra="mpi")
    assert str(error.value) == (
        f"broken_package is installed, but cannot be imported ({reason}): bring it and what it needs up to date, "
        "pip install --upgrade mpi4py, or pip install --upgrade '.[mpi]' in the folder of scratchnmt's source")
    with pytest.raises(InputError, match="cannot be imported .ModuleNotFoundError: No module named 'math.part'"):
        require("math.part", extra="mpi")


def test_what_errors_name_is_what_the_extras_name():
    setup = ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    extras = setup["options.extras_require"]
    for extra, packages in EXTRAS.items():
        named = [re.split("[<>=]", line)[0] for line in extras.get(extra, raw=True).split()]
        assert [name for name in named if name != "%(train)s"] == packages.split()


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
