"""Each translation, `page.zh-CN.md` beside `page.md`, has the blocks of its page, and in every section what no language
changes: the level of the heading, the tables' rows, names in code, figures and links."""

import re
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pytest
from test_docs import ROOT, blocks

TRANSLATIONS = [path for folder in (ROOT, ROOT / "docs") for path in sorted(folder.glob("*.*.md"))]
FENCED = re.compile(r"^```.*?^```\n", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`]+`")
TARGET = re.compile(r"\]\(([^)]+)\)")
every_translation = pytest.mark.parametrize("translation", TRANSLATIONS, ids=lambda path: path.name)


class Section(NamedTuple):
    name: str
    level: int
    text: str  # up to the next heading, without blocks


def original_of(translation: Path) -> Path:
    return translation.with_name(translation.name.partition(".")[0] + ".md")


def sections(path: Path) -> list[Section]:
    """All of a page but its second line, which leads to other languages."""
    title, _, rest = path.read_text(encoding="utf-8").split("\n", 2)
    _, *parts = re.split(r"^(#+ .*)\n", FENCED.sub("", f"{title}\n{rest}"), flags=re.MULTILINE)
    return [Section(f"{path.name}, section {heading!r}", heading.index(" "), text)
            for heading, text in zip(parts[::2], parts[1::2], strict=True)]


def pairs(translation: Path) -> list[tuple[Section, Section]]:
    return list(zip(sections(original_of(translation)), sections(translation), strict=True))


def facts(text: str) -> dict[str, list[str]]:
    """What is the same in any language, but for its order; a link to a translation counts as one to its page."""
    prose = TARGET.sub("]", text)
    return {
        "code": sorted(" ".join(code.split()) for code in CODE.findall(prose)),
        "figures": sorted(re.findall(r"\d+(?:[.,]\d+)*(?:e-\d+)?", CODE.sub("", prose))),
        "links": sorted(re.sub(r"\.[\w-]+\.md\b", ".md", target) for target in TARGET.findall(text)),
    }


def test_there_are_translations():
    assert {"README.zh-CN.md", "textbook.zh-CN.md"} <= {path.name for path in TRANSLATIONS}


@every_translation
def test_page_and_translation_lead_to_each_other(translation):
    original = original_of(translation)
    for page, other in ((original, translation), (translation, original)):
        switch = page.read_text(encoding="utf-8").split("\n")[1]
        assert f"]({other.name})" in switch, f"{page.name}:2 does not lead to {other.name}"


@every_translation
def test_blocks_are_those_of_the_page(translation):
    for theirs, ours in zip_longest(blocks(original_of(translation)), blocks(translation)):
        assert theirs and ours, f"{theirs or ours}: only one of the two pages has this block"
        assert (ours.language, ours.text) == (theirs.language, theirs.text), f"{ours} is not the block {theirs}"


@every_translation
def test_headings_have_the_same_number_and_levels(translation):
    theirs, ours = ([section.level for section in sections(path)] for path in (original_of(translation), translation))
    assert ours == theirs, f"the headings of {translation.name} are others"


@every_translation
def test_tables_have_the_same_rows(translation):
    for theirs, ours in pairs(translation):
        old, new = (re.findall(r"^\|.*", section.text, re.MULTILINE) for section in (theirs, ours))
        assert len(new) == len(old), f"{ours.name}: {len(new)} table rows, not {len(old)}"
        for old_row, new_row in zip(old, new, strict=True):
            assert facts(new_row) == facts(old_row), f"{ours.name}: {new_row}"


@every_translation
def test_sections_have_the_same_code_figures_and_links(translation):
    for theirs, ours in pairs(translation):
        assert facts(ours.text) == facts(theirs.text), f"{ours.name} against {theirs.name}"


@every_translation
def test_links_lead_somewhere_and_to_a_translation_where_there_is_one(translation):
    language = translation.name.partition(".")[2]
    for section in sections(translation):
        for target in TARGET.findall(section.text):
            path = translation.parent / target.partition("#")[0]
            assert "://" in target or path.exists(), f"{section.name} links to {target}"
            translated = path.with_name(f"{path.stem}.{language}")
            assert not translated.exists(), f"{section.name} links to {target} instead of {translated.name}"
