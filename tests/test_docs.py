"""The README and the pages of docs/: what they quote still stands in the source, and their examples print what they say.

A line `From [`file`](../file)...:` marks the block after it as a quotation, whole lines in the order
of the file, with a line `...` where some are left out.  A line that ends in "`file.py`:" marks the block
after it as a file of the reader's.  Every other python block is an example; the text block right below it
is its output.  A text block that begins with `$ ` shows a command in the folder of the page's files above it.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from scratchnmt import NMTConfig

ROOT = Path(__file__).resolve().parent.parent
QUOTATION = re.compile(r"From \[`(?P<file>[^`]+)`\]\((\.\./)?(?P=file)\)")
FILE = re.compile(r"(?:.* )?`(?P<file>\w+\.py)`:$")
PROGRAMS = {"scratchnmt": ["-m", "scratchnmt"], "pytest": ["-m", "pytest"], "python": []}
UNSTEADY = "|".join([  # what another machine prints differently
    r"\d(\.\d+)?e-(0[7-9]|[1-9]\d)|0\.0e\+00",  # rounding errors
    r"(?<=margin )[\d.,e+]+|(?<=margin is )[\d.,e+]+",
    r"^ +[\d.e+]+(?=  \w)",  # margins, the first column of the plugin's summary
    r"[\d.]+(?= seconds\b)|(?<= in )[\d.]+s\b|(?<=ok   ) +\d+\.\d\d$",
])


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str
    source: str | None  # the file that it quotes
    file: str | None  # the reader's file that it shows

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(path: Path) -> list[Block]:
    page, found, before, start = path.read_text(encoding="utf-8").split("\n"), [], "", None
    for number, line in enumerate(page, 1):
        if line.startswith("```") and start is None:
            start = number
            quoted, named = QUOTATION.match(before), FILE.match(before)
        elif line == "```":
            text = "\n".join(page[start : number - 1])
            source, file = (found_in["file"] if found_in else None for found_in in (quoted, named))
            found.append(Block(path.name, start, page[start - 1][3:], text, source, file))
            start = None
        before = line
    assert start is None, f"{path.name}:{start}: the block has no end"
    return found


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = {path.name: blocks(path) for path in PAGES}
QUOTATIONS = [block for found in BLOCKS.values() for block in found if block.source]
EXAMPLES = [(block, below) for found in BLOCKS.values() for block, below in pairwise(found)
            if block.language == "python" and not (block.source or block.file) and below.language == "text"]
FILES = [block for found in BLOCKS.values() for block in found if block.file]
COMMANDS = [block for found in BLOCKS.values() for block in found if block.text.startswith("$ ")]


def steady(text: str) -> str:
    return re.sub(UNSTEADY, "#", text, flags=re.MULTILINE)


def run_command(line: str, folder: Path) -> str:
    """What the command prints, standard error included; no line ends in spaces, as in the pages."""
    program, *arguments = shlex.split(line)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    printed = subprocess.run([sys.executable, *PROGRAMS[program], *arguments], cwd=folder, env=environment,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8").stdout
    return re.sub(" +$", "", printed, flags=re.MULTILINE)


def test_every_python_block_is_a_quotation_or_an_example():
    known = [*QUOTATIONS, *FILES, *(block for block, _ in EXAMPLES)]
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
    if "import torch" in block.text:
        pytest.importorskip("torch")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})
    assert steady(printed.getvalue().rstrip("\n")) == steady(output.text)


@pytest.mark.parametrize("block", [
    pytest.param(block, marks=pytest.mark.slow) if "any_size" in block.text else block for block in COMMANDS
], ids=str)
def test_command_prints_what_the_page_says(block, tmp_path):
    for file in BLOCKS[block.page]:
        if file.file and file.line < block.line:
            (tmp_path / file.file).write_text(file.text + "\n", encoding="utf-8")
    command, _, output = block.text.partition("\n")
    printed = steady(run_command(command[2:], tmp_path))
    place = 0
    for part in re.split(r"^\.\.\.\n", output + "\n", flags=re.MULTILINE):
        found = printed.find(steady(part).rstrip("\n"), place)
        assert found >= 0, f"{block}: the command prints something else:\n{printed}"
        place = found + 1


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
