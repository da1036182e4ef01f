"""Which characters of a text get a piece of their own, so that rare ones do not eat a vocabulary of subwords.

A subword vocabulary holds every character that it is to spell.  A text that was collected somewhere has hundreds of
characters that occur once, in a name or by mistake: each would take the place of a useful subword, and no model
learns from one occurrence what it means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..errors import InputError

_FEW = 256  # characters: an alphabet or two with digits and punctuation


def rare_characters(lines: Iterable[str], size: int, coverage: float | None = None) -> tuple[set[str], float]:
    """The characters of the text that get no piece in a vocabulary of `size`, and their share of its characters.

    coverage: the share of the text that the most frequent characters must make up; the others are rare.  None: no
    character is rare, unless there are more than 256 and more than size / 10 of them.  Then those are that occur once;
    if the rest still takes more than 256 and more than size / 2 pieces, those that occur twice, and so on.
    """
    if coverage is not None and not 0 < coverage <= 1:
        raise InputError(f"character_coverage is {coverage}, expected a share of the text above 0 and up to 1")
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line)
    del counts[" "]
    total = sum(counts.values())
    rare = _too_many(counts, size) if coverage is None else _beyond(counts, coverage * total)
    return rare, sum(counts[c] for c in rare) / max(total, 1)


def _too_many(counts: Counter[str], size: int) -> set[str]:
    """Those that occur too seldom; of characters that occur equally often all or none."""
    least = 1 if len(counts) <= max(_FEW, size // 10) else 2
    while sum(n >= least for n in counts.values()) > max(_FEW, size // 2):
        least += 1
    return {c for c, n in counts.items() if n < least}


def _beyond(counts: Counter[str], wanted: float) -> set[str]:
    """Those after the most frequent ones that make up `wanted` characters of the text; ties in Unicode's order."""
    rare, covered = set(), 0
    for c, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= wanted:
            rare.add(c)
        covered += n
    return rare
