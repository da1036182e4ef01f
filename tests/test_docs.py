"""The README and the pages of docs/: what they quote stands in the source, and their examples print what they say.

A line `From [`file`](../file)...:` marks the block after it as a quotation, whole lines in the order
of the file, with a line `...` where some are left out.  A line that ends in "`file.py`:" marks the block
after it as a file of the reader's or, if it is a diff, as a change to one.  Every other python block is an
example; the text block right below it is its output.  A text block that begins with `$ ` shows a command in the
folder of the page's files above it; where one of these is named with its folder, they lie in a copy of the package.
A translation, `page.zh-CN.md`, is held to its page by test_translations.py.
"""

import contextlib
import csv
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from scratchnmt import NMTConfig
from scratchnmt.cli.choices import CHANGEABLE
from scratchnmt.cli.parser import COMPUTING

ROOT = Path(__file__).resolve().parent.parent
QUOTATION = re.compile(r"From \[`(?P<file>[^`]+)`\]\((\.\./)?(?P=file)\)")
FILE = re.compile(r"(?:.* )?`(?P<file>[\w/]+\.py)`:$")
PROGRAMS = {"scratchnmt": ["-m", "scratchnmt"], "pytest": ["-m", "pytest"], "python": []}
UNSTEADY = "|".join([  # what another machine prints differently
    r"\d(\.\d+)?e-(0[7-9]|[1-9]\d)|0\.0e\+00",  # rounding errors
    r"(?<=margin )[\d.,e+]+|(?<=margin is )[\d.,e+]+",
    r"^ +[\d.e+]+(?=  \w)",  # margins, the first column of the plugin's summary
    r"[\d.]+(?= seconds\b)|(?<= in )[\d.]+s\b|(?<=ok   |WRONG) +\d+\.\d\d$",
])


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str
    source: str | None  # the file that it quotes
    file: str | None  # the reader's file that it shows, or changes

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


PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if "." not in path.stem)]
BLOCKS = {path.name: blocks(path) for path in PAGES}
QUOTATIONS = [block for found in BLOCKS.values() for block in found if block.source]
EXAMPLES = [(block, below) for found in BLOCKS.values() for block, below in pairwise(found)
            if block.language == "python" and not (block.source or block.file) and below.language == "text"]
FILES = [block for found in BLOCKS.values() for block in found if block.file]
COMMANDS = [block for found in BLOCKS.values() for block in found if block.text.startswith("$ ")]


def steady(text: str) -> str:
    return re.sub(UNSTEADY, "#", text, flags=re.MULTILINE)


def lay_out(files: list[Block], folder: Path) -> None:
    """Write the reader's files, and make their changes, in the order of the page."""
    if any("/" in block.file for block in files):
        for name in ("scratchnmt", "tests", "benchmarks"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        shutil.copy(ROOT / "setup.cfg", folder)
    for block in files:
        path = folder / block.file
        text = changed(path.read_text(encoding="utf-8"), block) if block.language == "diff" else block.text + "\n"
        path.write_text(text, encoding="utf-8")


def changed(text: str, diff: Block) -> str:
    """The text after a diff without line numbers: each of its parts, with a line `...` between them, fits one place."""
    for part in re.split(r"^\.\.\.\n", diff.text + "\n", flags=re.MULTILINE):
        lines = part.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] != sign) for sign in "+-")
        text, times = re.subn("^" + re.escape(old), lambda _, new=new: new, text, flags=re.MULTILINE)
        assert times == 1, f"{diff}: {diff.file} has these lines {times} times, not once:\n{old}"
    return text


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


def test_every_file_of_the_reader_and_every_change_is_followed_by_a_command():
    changes = [b for page, found in BLOCKS.items() for b in found if b.language == "diff" and page != "museum.md"]
    for block in [*FILES, *changes]:
        assert block.file, f"{block} names no file that it changes"
        assert any(c.page == block.page and c.line > block.line for c in COMMANDS), f"nothing is run after {block}"


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
def test_example_prints_what_the_page_says(block, output, tmp_path, monkeypatch):
    for package in ("torch", "keras", "pandas"):
        if f"import {package}" in block.text:
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)  # where it leaves its files
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})
    assert steady(printed.getvalue().rstrip("\n")) == steady(output.text)


@pytest.mark.parametrize("block", [
    pytest.param(block, marks=pytest.mark.slow) if "any_size" in block.text else block for block in COMMANDS
], ids=str)
def test_command_prints_what_the_page_says(block, tmp_path):
    files = [file for file in FILES if file.page == block.page]
    if any("/" in file.file and file.language == "python" and (ROOT / file.file).exists() for file in files):
        pytest.skip(f"whoever works here has followed {block.page}: its files are there")
    files = [file for file in files if file.line < block.line]
    if any('importorskip("torch")' in file.text for file in files) and block.text.startswith("$ pytest"):
        pytest.importorskip("torch")
    lay_out(files, tmp_path)
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


def test_tests_that_the_readme_names_exist():
    names = re.findall(r"`(tests/[\w/.]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert names and [name for name in names if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("choices", [
    dict(), dict(score="concat", feed="context", layers=2), dict(score="dot", feed="none"), dict(bidirectional=False),
    dict(attention="multi-head", feed="context"),
], ids=str)
def test_table_of_weights_is_that_of_the_config(choices):
    config = NMTConfig(101, 103, 6, 8, **choices)
    sizes = dict(V_src=101, V_tgt=103, E=6, H=8, M=config.memory_size, D=config.directions,
                 G=config.encoder_size, C=config.context_size, F=config.fed_size)
    table = {}  # several shapes where the page names a weight for several scores
    for row in re.findall(r"^\| (`.*)$", (ROOT / "docs" / "attention.md").read_text(encoding="utf-8"), re.MULTILINE):
        names, shapes = (re.findall(r"`([^`]+)`", cell) for cell in row.split(" | ")[:2])
        assert len(names) == len(shapes), row
        for name, shape in zip(names, shapes, strict=True):
            table.setdefault(name, []).append(eval(re.sub(r"4([GH])", r"4*\1", shape), {}, sizes))
    for name, shape in config.shapes().items():
        if name in table or ".1." not in name:
            assert shape in table[name], f"the page has {name} as {table.get(name)}, the model {shape}"


def test_trust_names_every_option_that_may_change_at_a_resume():
    table = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8").partition("\n| option at `--resume` |")[2]
    rows = re.findall(r"^\| (`--[^|]*) \|", table.partition("\n\n")[0], re.MULTILINE)
    named = {option.replace("-", "_") for row in rows for option in re.findall(r"`--([a-z-]+)`", row)}
    assert named == {*CHANGEABLE, *COMPUTING}


STEP, GPU_STEP = "V=8000 H=256 B=32 T=22", "V=8000 H=256 B=64 multi30k"
LARGE_STEP, GPU_LARGE_STEP = "V=20000 H=512 B=64 T=25", "V=20000 H=512 B=128 multi30k"
QUOTED_ROWS = [  # where a line of a page begins; the rows' file and sizes; what is quoted of whom
    ("| 8,000, 256, 32, 22 | 98", "step-amd-epyc", STEP, {
        "PyTorch": "168.3 ms", "PyTorch at its best": "137.6 ms", "scratchnmt, 2 workers": "98.9 ms"}),
    ("| 20,000, 512, 64, 25 | 741", "step-amd-epyc", LARGE_STEP, {
        "PyTorch": "1,208 ms", "PyTorch at its best": "961 ms", "scratchnmt, 2 workers": "741 ms"}),
    ("| the same, B 128", "memory-amd-epyc", "V=50000 H=256 B=128 T=25", {"torch": "2,457", "scratchnmt": "779"}),
    ("| target tokens per second, Multi30k, V", "train-nvidia-h100-80gb-hbm3", "V=8000 H=256 B=64",
     {"PyTorch": "18,400", "scratchnmt": "310,000"}),
    ("| target tokens per second, Multi30k, V", "train-nvidia-h100-80gb-hbm3", "V=8000 H=256 B=256",
     {"scratchnmt": "673,000"}),
    ("| a training step, V 8,000", "step-nvidia-h100-80gb-hbm3", GPU_STEP, {"PyTorch": "47.9", "scratchnmt": "4.79"}),
    ("| a training step, V 20,000", "step-nvidia-h100-80gb-hbm3", GPU_LARGE_STEP,
     {"PyTorch": "52.3", "scratchnmt": "15.8"}),
    ("| the two steps in tf32", "tf32/step-nvidia-h100-80gb-hbm3", GPU_STEP, {"PyTorch": "46.9", "scratchnmt": "3.48"}),
    ("| the two steps in tf32", "tf32/step-nvidia-h100-80gb-hbm3", GPU_LARGE_STEP,
     {"PyTorch": "54.4", "scratchnmt": "8.56"}),
    ("| beam 5 over the 1,000 sentences", "decode-nvidia-h100-80gb-hbm3", "V=5000 H=256 sentences=1000 B=256",
     {"scratchnmt": "0.86"}),
]


@pytest.mark.parametrize("begin, file, sizes, quoted", QUOTED_ROWS,
                         ids=lambda part: part if isinstance(part, str) else "")
def test_figures_of_the_pages_are_those_of_their_rows(begin, file, sizes, quoted):
    lines = [line for page in PAGES for line in page.read_text(encoding="utf-8").split("\n") if line.startswith(begin)]
    assert lines
    with (ROOT / "benchmarks" / "results" / f"{file}.csv").open(encoding="utf-8") as rows:
        found = {row["contestant"]: row for row in csv.DictReader(rows) if row["sizes"] == sizes}
    for contestant, figure in quoted.items():
        row = found[contestant]
        column, unit = {"step": ("ms", 1), "decode": ("ms", 1e3), "train": ("tokens_per_s", 1),
                        "memory": ("gbyte", 2**20 / 1e9)}[row["command"]]
        assert all(figure in line for line in lines)
        assert float(figure.strip(" ms").replace(",", "")) == pytest.approx(float(row[column]) / unit, rel=0.005)
        if row["command"] == "step" and contestant.startswith("scratchnmt"):
            share = f"| {100 * float(row['share']):.0f} % |"
            assert all(line.endswith(share) for line in lines if line.endswith(" % |"))
