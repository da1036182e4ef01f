"""The museum as text: one bug at a time for the terminal, all of them as the page docs/museum.md."""

from __future__ import annotations

import textwrap
from difflib import unified_diff

from ..gradcheck import Report
from . import examine, is_invariant, run_check, sentence
from .bugs import BUGS, SECTIONS
from .patch import Bug, line_number

WIDTH = 100
SHOWN = 4  # wrong gradients, and notes, that the page shows of one report

_HEAD = """\
# The museum of bugs

{count} bugs as they were found in other projects, or as everybody makes them once, each put into our own code
by a small patch, and each caught by a check that says what is wrong.  Several stood in well-known libraries that
had tests: of shapes, of a loss that goes down, of a gradient with dy = 1.

A wrong *gradient* is found by comparing it with a numerical one (`scratchnmt gradcheck`).  A wrong *forward
pass* whose gradient is right, for the wrong function, no such check can see: for those there are invariants, such
as that a sentence alone is what it is in a padded batch.

This page is written by `scratchnmt museum --markdown`, which breaks the code, runs the check and quotes what it
said (shortened; `scratchnmt museum NAME` prints all of it).  In the diffs, the lines with a minus are the bug.
"""


def exhibit(bug: Bug) -> str:
    """A bug for the terminal: its origin and story, the wrong lines and the right ones, the whole report."""
    return "\n".join([f"{bug.name}: {bug.title}", f"origin: {bug.origin}", "", textwrap.fill(bug.story, WIDTH), "",
                      f"scratchnmt/{bug.file}, line {line_number(bug)}", "", _indented(diff(bug)), "",
                      f"caught by {by(bug)}", "", examine(bug).text])


def by(bug: Bug) -> str:
    """The command or the invariant that finds the bug, and what it names."""
    if is_invariant(bug.check):
        return f"the invariant: {sentence(bug.check)}"
    return f"the gradient check of {bug.check}, which names {bug.caught}"


def diff(bug: Bug) -> str:
    """From the wrong lines (-) to the right ones (+)."""
    wrong = bug.wrong.split("\n") if bug.wrong else []
    return "\n".join(list(unified_diff(wrong, bug.right.split("\n"), lineterm=""))[3:])


def markdown() -> str:
    """The text of docs/museum.md: it depends on the code and the bugs, not on the machine."""
    parts = [_HEAD.format(count=len(BUGS)), _contents()]
    for section, bugs in SECTIONS.items():
        parts += [f"## {section}\n", *map(_entry, bugs)]
    return "\n".join(parts)


def _contents() -> str:
    return "".join(f"- [{section}](#{_anchor(section)}): {', '.join(f'[{b.name}](#{b.name})' for b in bugs)}\n"
                   for section, bugs in SECTIONS.items())


def _anchor(heading: str) -> str:
    return "".join(c for c in heading.lower().replace(" ", "-") if c.isalnum() or c == "-")


def _entry(bug: Bug) -> str:
    result = run_check(bug)
    where = (f"The invariant *{sentence(bug.check)}*" if is_invariant(bug.check)
             else f"`scratchnmt gradcheck {_quoted(bug.check)}`")
    said = result if isinstance(result, str) else abridged(result, bug.caught)
    return f"""\
### {bug.name}

**{bug.title[0].upper()}{bug.title[1:]}.**  Origin: {bug.origin}.

{_wrapped(bug.story)}

[scratchnmt/{bug.file}](../scratchnmt/{bug.file})
```diff
{diff(bug)}
```
{where} says:
```text
{textwrap.fill(said, WIDTH) if isinstance(result, str) else said}
```
"""


def abridged(report: Report, first: str) -> str:
    """A few lines of a report, the gradient `first` before the others; digits that are the same on any machine."""
    wrong = sorted((t for t in report.tensors if not t.ok), key=lambda t: t.name != first)
    unit = "probes" if "directional" in report.method else "elements"
    lines = [f"gradient check FAILED: {len(wrong)} of {len(report.tensors)} gradients are wrong" if wrong
             else "gradient check FAILED: a promise is broken"]
    lines += [f"  {t.name} {t.shape}: {t.wrong} of {t.checked} {unit} wrong" for t in wrong[:SHOWN]]
    if len(wrong) > SHOWN:
        lines.append(f"  and {len(wrong) - SHOWN} more: {', '.join(t.name for t in wrong[SHOWN:])}")
    for o in (wrong[0].worst[:1] if wrong else ()):
        label = f", {o.label}" if o.label else ""
        lines.append(f"  worst: {o.name}[{', '.join(map(str, o.index))}]{label}: "
                     f"backward {o.backward:.1e}, reference {o.reference:.1e}")
    notes = [f"broken: {p}" for p in report.broken_promises] + [f"hint: {h}" for h in report.hints]
    return "\n".join(textwrap.fill(line, WIDTH, initial_indent="", subsequent_indent="    ")
                     for line in lines + [f"  {note}" for note in notes[:SHOWN]])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH + 15)


def _indented(text: str) -> str:
    return textwrap.indent(text, "  ")


def _quoted(check: str) -> str:
    return f'"{check}"' if " " in check else check
