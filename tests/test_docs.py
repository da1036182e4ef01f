"""The README and the pages of docs/: what they quote still stands in the source, and their examples print what they say.

A line `From [`file`](../file)...:` marks the block after it as a quotation, whole lines in the order
of the file, with a line `...` where some are left out.  Every other python block is an example; the
text block right below it is its output.
"""

import contextlib
import io
import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from scratchnmt import NMTConfig

ROOT = Path(__file__).resolve().parent.parent
QUOTATION = re.compile(r"From \[`(?P<file>[^`]+)`\]\((\.\./)?(?P=file)\)")


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str
    source: str | None  # the file that it quotes

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(path: Path) -> list[Block]:
    page, found, before, start = path.read_text(encoding="utf-8").split("\n"), [], "", None
    for number, line in enumerate(page, 1):
        if line.startswith("```") and start is None:
            start = number
            quoted = QUOTATION.match(before)
        elif line == "```":
            text = "\n".join(page[start : number - 1])
            source = quoted["file"] if quoted else None
            found.append(Block(path.name, start, page[start - 1][3:], text, source))
            start = None
        before = line
    assert start is None, f"{path.name}:{start}: the block has no end"
    return found


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = {path.name: blocks(path) for path in PAGES}
QUOTATIONS = [block for found in BLOCKS.values() for block in found if block.source]
EXAMPLES = [(block, below) for found in BLOCKS.values() for block, below in pairwise(found)
            if block.language == "python" and not block.source and below.language == "text"]


def test_every_python_block_is_a_quotation_or_an_example():
    known = [*QUOTATIONS, *(block for block, _ in EXAMPLES)]
    assert [str(b) for found in BLOCKS.values() for b in found if b.language == "python" and b not in known] == []


def test_every_derivation_quotes_code_and_runs_an_example():
    for page in ("lstm.md", "attention.md", "softmax-cross-entropy.md"):
        assert any(block.page == page and block.language == "python" for block in QUOTATIONS)
        assert any(block.page == page for block, _ in EXAMPLES)


@pytest.mark.parametrize("block", QUOTATIONS, ids=str)
def test_quotation_stands_in_the_source(block):
    source = (ROOT / block.source).read_text(encoding="utf-8").split("\n")
    place = 0
    for part in re.split(r"^ *\.\.\.\n", block.text + "\n", flags=re.MULTILINE):
        lines = part.rstrip("\n").split("\n")
        missing = [line for line in lines if line not in source]
        assert not missing, f"{block} quotes lines that are not in {block.source}:\n" + "\n".join(missing)
        starts = [n for n in range(place, len(source)) if source[n : n + len(lines)] == lines]
        assert starts, f"{block}: {block.source} has these lines, but not in this order:\n{part}"
        place = starts[0] + len(lines)


@pytest.mark.parametrize("block, output", EXAMPLES, ids=lambda block: str(block))
def test_example_prints_what_the_page_says(block, output):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})
    assert printed.getvalue().rstrip("\n") == output.text


def test_links_lead_somewhere():
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
            assert "://" in target or (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("choices", [
    dict(), dict(score="concat", feed="context", layers=2), dict(score="dot", feed="none"), dict(bidirectional=False),
], ids=str)
def test_table_of_weights_is_that_of_the_config(choices):
    config = NMTConfig(101, 103, 6, 8, **choices)
    sizes = dict(V_src=101, V_tgt=103, E=6, H=8, M=config.memory_size, D=config.directions,
                 G=config.encoder_size, F=config.fed_size)
    table = {}  # several shapes where the page names a weight for several scores
    for row in re.findall(r"^\| (`.*)$", (ROOT / "docs" / "attention.md").read_text(encoding="utf-8"), re.MULTILINE):
        names, shapes = (re.findall(r"`([^`]+)`", cell) for cell in row.split(" | ")[:2])
        assert len(names) == len(shapes), row
        for name, shape in zip(names, shapes):
            table.setdefault(name, []).append(eval(re.sub(r"4([GH])", r"4*\1", shape), {}, sizes))
    for name, shape in config.shapes().items():
        if name in table or ".1." not in name:
            assert shape in table[name], f"the page has {name} as {table.get(name)}, the model {shape}"
