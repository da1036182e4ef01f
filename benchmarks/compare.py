"""What got slower, or faster, beyond the noise: the rows of one folder or file against those of another.

Times alone: rows of memory have none.  A difference counts if the quartiles of both do not overlap and the
medians are more than 5 % apart.
"""

from __future__ import annotations

import argparse

from . import measure
from .read import read

APART = 1.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help="a folder of rows, or one file")
    parser.add_argument("new", metavar="NEW")
    parser.add_argument("--all", action="store_true", help="show what is within the noise, too")


def run(options: argparse.Namespace) -> int:
    """Exit status 1 if anything got slower."""
    old, new = ({key: row for key, row in read(path).items() if row["ms"]} for path in (options.old, options.new))
    both = [key for key in new if key in old]
    verdicts = {key: verdict(old[key], new[key]) for key in both}
    shown = [key for key in both if options.all or verdicts[key]]
    if shown:
        measure.print_table(["", "contestant", "sizes", "old ms", "new ms", "new / old", ""],
                            [[key.what, key.contestant, key.sizes, old[key]["ms"], new[key]["ms"],
                              f"{float(new[key]['ms']) / float(old[key]['ms']):.2f}", verdicts[key]] for key in shown])
    count = lambda word: sum(value == word for value in verdicts.values())
    print(f"{len(both)} rows in both: {count('slower')} slower, {count('faster')} faster, "
          f"{count('')} within the noise; {len(old) - len(both)} only in {options.old}, "
          f"{len(new) - len(both)} only in {options.new}")
    return int(count("slower") > 0)


def verdict(old: dict[str, str], new: dict[str, str]) -> str:
    """"slower", "faster", or nothing."""
    low, middle, high = (float(old[name]) for name in ("low_ms", "ms", "high_ms"))
    new_low, new_middle, new_high = (float(new[name]) for name in ("low_ms", "ms", "high_ms"))
    if new_low > high and new_middle > APART * middle:
        return "slower"
    if new_high < low and middle > APART * new_middle:
        return "faster"
    return ""
