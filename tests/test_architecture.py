"""Imports go down the floors that docs/architecture.md draws."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "scratchnmt"


def floors():
    """name -> its floor, from 0 at the top, as the page draws them: "cli/" and "errors.py" are names."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = page.split("```text\n")[1].split("```")[0].splitlines()
    return {re.sub(r"/|\.py$", "", name): floor for floor, line in enumerate(drawing)
            for name in re.match(r" {4}((?:\w+(?:/|\.py)(?: {2}|$))+)", line + "  ")[1].split()}


def imported(path):
    """First names below the package of what a file imports when it is imported itself; not for its types alone."""
    above = len(path.relative_to(PACKAGE).parts)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level == above:
            yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]


def test_the_drawing_names_what_is_there():
    assert len(floors()) >= 12
    for name in floors():
        assert (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file(), name


def test_imports_go_down():
    floor, seen = floors(), 0
    for path in PACKAGE.rglob("*.py"):
        here = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for name in imported(path):
            if here in floor and name in floor and name != here:
                seen += 1
                assert floor[here] <= floor[name], f"{path.relative_to(ROOT)} imports {name}, which stands above {here}"
    assert seen > 100
