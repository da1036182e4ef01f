"""Every operation and layer with example arguments, and the whole model, to be checked numerically.

Six lists, CASES, LAYERS, SEQUENTIAL, MODELS, RISKS and TEACHERS, together EVERY, walked by the command `scratchnmt
gradcheck` and by the tests, so that an operation or a configuration is checked by being listed.  Ops and layers are
checked element by element; their `arguments(sizes, rng)` make arguments for any sizes of their letters.  A model is
checked tensor by tensor.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from ..errors import InputError, did_you_mean
from ..gradcheck import Report
from .case import SIZES, Case, Sizes, placed
from .models import LAYERS, MODELS, RISKS, TEACHERS, ModelCase, RiskCase, TeacherCase, check_model, example_batch
from .ops import CASES
from .sequential import SEQUENTIAL

__all__ = ["CASES", "EVERY", "LAYERS", "MODELS", "RISKS", "SEQUENTIAL", "SIZES", "TEACHERS", "Case", "ModelCase",
           "RiskCase", "Row", "Sizes", "TeacherCase", "check_model", "choose", "example_batch", "placed", "rows"]

AnyCase: TypeAlias = Case | ModelCase | RiskCase | TeacherCase
EVERY: tuple[AnyCase, ...] = (*CASES, *LAYERS, *SEQUENTIAL, *MODELS, *RISKS, *TEACHERS)
_SYNONYMS = {"bidirectional": "two directions", "unidirectional": "one direction", "r-drop": "r_drop"}


class Row(NamedTuple):
    """One line of the table that the command prints."""

    name: str
    report: Report
    seconds: float


def choose(names: Sequence[str] = ()) -> list[AnyCase]:
    """The ops, layers and models that `names` choose, in the order of the lists; all, if none is given.

    A name chooses every line that holds all of its words, in any order; "_" and "," part words as blanks
    do, and a part of a word will do: "attention" is also attention_step.  Of several names each chooses by
    itself.  InputError, with what is near, if one matches nothing.
    """
    chosen = [{case.name for case in EVERY if not names}, *(_matches(name, EVERY) for name in names)]
    return [case for case in EVERY if any(case.name in some for some in chosen)]


def rows(names: Sequence[str] = (), *, device: str = "cpu", dtype: str = "float64",
         seed: int = 0) -> Iterator[Row]:
    """Check what `names` choose, one after another.  InputError if one matches nothing."""
    for case in choose(names):
        start = time.perf_counter()
        report = case.report(device, dtype, seed)
        yield Row(case.name, report, time.perf_counter() - start)


def _matches(name: str, every: Sequence[AnyCase]) -> set[str]:
    words = [part for word in _words(name) for part in _SYNONYMS.get(word, word).split()]
    matching = {case.name for case in every if words and all(word in case.name for word in words)}
    if not matching:
        parts = dict.fromkeys(part for case in every
                              for part in (*_words(case.name), *case.name.split(", "), case.name))
        ops = dict.fromkeys(case.name.partition(",")[0] for case in every)
        hint = (did_you_mean(name, [*parts, *_SYNONYMS], most=3)
                or f": expected words of a line's name, such as {', '.join(ops)}")
        raise InputError(f"nothing to check is named {name!r}{hint}")
    return matching


def _words(name: str) -> list[str]:
    return re.findall(r"[^\s_,]+", name.lower())
