"""The site that Sphinx makes of the pages: built once, without a warning, and read as a browser would."""

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "benchmarks" / "README.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
API = [path for path in PAGES if path.parent.name == "api"]
MODULES = [name for path in API for name in re.findall(r"^- \[`(scratchnmt[\w.]*)`\]", path.read_text("utf-8"), re.M)]


class Link(NamedTuple):
    tag: str
    target: str


class Page(HTMLParser):
    """What a page links to, loads, can be linked to at, and says: in blocks of code, and outside of all code."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.ids, self.blocks, self.prose, self.code, self.language = [], set(), [], "", [], None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.ids.add(named.get("id"))
        self.links += [Link(tag, named[name]) for name in ("href", "src") if named.get(name)]
        if named.get("http-equiv") == "refresh":
            self.links.append(Link(tag, named["content"].partition("url=")[2]))
        if tag == "html":
            self.language = named.get("lang")
        if tag in ("pre", "code", "script", "style"):
            self.code.append(tag)
            self.blocks += [""] if tag == "pre" else []

    def handle_endtag(self, tag):
        if self.code and self.code[-1] == tag:
            self.code.pop()

    def handle_data(self, data):
        if "pre" in self.code:
            self.blocks[-1] += data
        elif not self.code:
            self.prose += data


class Site(NamedTuple):
    folder: Path
    pages: dict[Path, Page]

    def page(self, source: Path) -> Page:
        return self.pages[(self.folder / source.relative_to(ROOT)).with_suffix(".html")]

    def inner(self, path: Path) -> list[tuple[Path, str]]:
        """The files and anchors of the site that a page names."""
        targets = [urldefrag(link.target) for link in self.pages[path].links if not urlsplit(link.target).scheme]
        return [((path.parent / unquote(url.partition("?")[0])).resolve() if url else path, unquote(anchor))
                for url, anchor in targets]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site").resolve()
    build = subprocess.run([sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", ".", folder],
                           cwd=ROOT, capture_output=True, encoding="utf-8")
    assert build.returncode == 0, build.stderr
    return Site(folder, {path: Page(path) for path in folder.rglob("*.html")})


def test_links_images_and_anchors_are_there(site):
    for path in site.pages:
        for target, anchor in site.inner(path):
            assert target.is_file(), f"{path} names {target}"
            if target.name == "microscope-example.html":
                continue  # what stands behind its # is a view
            assert not anchor or target.suffix != ".html" or anchor in site.pages[target].ids, f"{path}: #{anchor}"


def test_every_page_is_reached_from_the_first_and_each_of_docs_from_the_index(site):
    reached, waiting = set(), [site.folder / "index.html"]
    while waiting:
        path = waiting.pop()
        if path in site.pages and path not in reached:
            reached.add(path)
            waiting += [target for target, _ in site.inner(path)]
    assert set(site.pages) - reached <= {site.folder / name for name in ("search.html", "genindex.html")}
    listed = re.findall(r"\((\S+\.md)\)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    assert {name for name in os.listdir(ROOT / "docs") if name.endswith(".md")} <= {"index.md", *listed}


def test_nothing_is_loaded_from_the_network(site):
    for path, page in site.pages.items():
        assert [link for link in page.links if link.tag != "a" and urlsplit(link.target).netloc] == [], path
    for path in [*site.folder.rglob("*.css"), *site.folder.rglob("*.html")]:
        assert not re.search(r"@import|url\(['\"]?(https?:)?//|MathJax", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("source", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_equations_and_code_stand_as_they_were_written(site, source):
    page, text = site.page(source), source.read_text(encoding="utf-8")
    for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        assert any(block.strip("\n") == shown.strip("\n") for shown in page.blocks), block
    assert len(re.findall(r"!\[", text)) == sum(link.tag == "img" for link in page.links)
    assert not re.search(r"\$|\\\(|```|\]\(", page.prose)


def test_a_translation_says_its_language(site):
    assert site.page(ROOT / "README.md").language == "en"
    assert site.page(ROOT / "README.zh-CN.md").language == "zh-CN"
    assert site.page(ROOT / "docs" / "textbook.zh-CN.md").language == "zh-CN"


def test_every_operation_is_in_the_reference():
    ops = {path.stem for path in (ROOT / "scratchnmt" / "ops").glob("*.py")} - {"__init__"}
    assert {f"scratchnmt.ops.{op}" for op in ops} <= set(MODULES)


def test_every_public_name_is_in_the_reference(site):
    ids = set().union(*(site.page(path).ids for path in API))
    packages = [importlib.import_module(name) for name in MODULES if hasattr(importlib.import_module(name), "__all__")]
    assert len(packages) >= 5
    functions = {name for package in packages for name in package.__all__ if callable(getattr(package, name))}
    assert functions <= {name.rpartition(".")[2] for name in ids if name}
    assert {"scratchnmt.models.nmt.NMT.forward", "scratchnmt.translate.Translator.stream", "scratchnmt.optim.Adam.step",
            "scratchnmt.ops.lstm.lstm_backward", "scratchnmt.textbook.backward"} <= ids


def test_docstrings_keep_their_equations_and_shapes(site):
    ops = site.page(ROOT / "docs" / "api" / "ops.md")
    assert any("(1)  z[t] = x[t] Wx + b                 for all steps in one product" in block for block in ops.blocks)
    assert any("dWx: Array  # (I, 4H)" in block for block in ops.blocks)
    shown = "".join(page.prose for page in (site.page(path) for path in API))
    assert "Alias for field" not in shown and "ForwardRef" not in shown
    assert "Raises InputError naming the field that is out of range." in shown  # a dataclass has both, text and fields
    assert "</s>" in shown  # a token, not HTML
