"""A copy of the package with one place wrong: independent, complete, and gone when it is done with."""

import gc
import sys
import typing
import weakref
from importlib.util import cache_from_source
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest

import scratchnmt
from scratchnmt.errors import InputError
from scratchnmt.museum import BUGS, patched
from scratchnmt.museum.patch import broken_source, line_number, part
from scratchnmt.ops import activations

BUG = next(bug for bug in BUGS if bug.name == "mask-not-used")
X, MASK = np.array([[1.0, 2.0]]), np.array([[True, False]])


def copies():
    return [name for name in sys.modules if "_museum_" in name]


def test_the_copy_has_the_bug_and_the_package_does_not():
    with patched(BUG) as package:
        assert package.__name__ == "scratchnmt_museum_mask_not_used"
        broken = part(package, "ops.activations")
        assert broken is not activations and broken.__file__ == activations.__file__
        assert broken.softmax_forward(X, MASK)[0][0, 1] > 0.5
        assert activations.softmax_forward(X, MASK)[0][0, 1] == 0


def test_all_of_the_copy_sees_the_bug_through_its_relative_imports():
    with patched(BUG) as package:
        attention, selfcheck = part(package, "ops.attention"), package.selfcheck
        assert attention.softmax_forward is part(package, "ops.activations").softmax_forward
        assert any(case.forward is part(package, "ops.activations").softmax_forward for case in selfcheck.CASES)
        assert {module for name, module in sys.modules.items() if name.startswith(package.__name__)}.isdisjoint(
            module for name, module in sys.modules.items() if name.split(".")[0] == "scratchnmt")


def test_nothing_of_the_copy_stays_behind():
    finders = list(sys.meta_path)
    with patched(BUG) as package:
        assert f"{package.__name__}.ops.lstm" in copies()
    assert not copies() and sys.meta_path == finders
    with pytest.raises(ZeroDivisionError), patched(BUG):
        raise ZeroDivisionError
    assert not copies() and sys.meta_path == finders


def test_a_copy_is_freed_with_all_that_it_defines():
    """What the interpreter keeps of a module, as a callback, would keep the whole of it, once for each bug."""
    with patched(BUG) as package:
        for name in ("translate", "optim", "sequential", "trace", "training", "museum"):
            part(package, name)
        things = [weakref.ref(thing) for module in map(sys.modules.get, copies()) for thing in vars(module).values()
                  if isinstance(thing, (FunctionType, type)) and thing.__module__.startswith(package.__name__)]
    del package
    for clear in typing._cleanups:  # its own caches, which are bounded
        clear()
    gc.collect()
    assert len(things) > 500 and [thing() for thing in things if thing() is not None] == []


def test_a_patched_file_that_cannot_be_imported_leaves_nothing_behind_either():
    with pytest.raises(SyntaxError), patched(BUG._replace(wrong="        (")):
        pass
    assert not copies()


def test_the_compiled_file_is_neither_read_nor_written():
    compiled = Path(cache_from_source(activations.__file__))
    before = compiled.read_bytes() if compiled.exists() else None
    with patched(BUG):
        pass
    assert (compiled.read_bytes() if compiled.exists() else None) == before


def test_two_bugs_at_once_are_two_copies_but_not_one_bug_twice():
    other = next(bug for bug in BUGS if bug.name == "softmax-with-a-mean")
    with patched(BUG) as first, patched(other) as second:
        assert part(first, "ops.activations") is not part(second, "ops.activations")
        with pytest.raises(RuntimeError, match="mask-not-used is in use already"), patched(BUG):
            pass
        assert part(first, "ops.activations").softmax_forward(X, MASK)[0][0, 1] > 0.5


@pytest.mark.parametrize("right, times", [("        x = where(mask)", "0"), ("", "[1-9][0-9]")])
def test_a_patch_that_no_longer_fits_is_told(right, times):
    bug = BUG._replace(right=right)
    for use in (line_number, broken_source, lambda bug: patched(bug).__enter__()):
        with pytest.raises(InputError, match=r"the patch mask-not-used does not fit: .*activations.py holds these "
                                             rf"lines {times} times, expected exactly once"):
            use(bug)


def test_a_patch_of_a_file_that_is_gone_is_told():
    gone = BUG._replace(file="ops/gone.py")
    with pytest.raises(InputError, match="there is no module scratchnmt.ops.gone"), patched(gone):
        pass
    assert not copies()


def test_only_whole_lines_fit():
    with pytest.raises(InputError, match="0 times"):
        line_number(BUG._replace(right=BUG.right.strip()))


def test_the_wrong_source_differs_in_these_lines_only():
    right = Path(activations.__file__).read_text(encoding="utf-8").split("\n")
    wrong = broken_source(BUG).split("\n")
    at = line_number(BUG) - 1
    assert right[at] == BUG.right and wrong[at] == BUG.wrong
    assert right[:at] + right[at + 1 :] == wrong[:at] + wrong[at + 1 :]
    without = broken_source(BUG._replace(wrong="")).split("\n")
    assert without == right[:at] + right[at + 1 :]


def test_the_right_package_can_be_given_for_a_copy():
    assert part(scratchnmt, "ops.activations") is activations
