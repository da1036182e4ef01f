"""What the site needs beyond Sphinx and MyST, so that the pages can stay plain Markdown.

- The sidebar lists what docs/index.md links to, a group for each paragraph with a bold beginning.
- An item of a list in docs/api that begins with a module becomes a section with all that is public in it.
- Docstrings are prose with equations in indented blocks, not reStructuredText.
- A link to a file or a folder of the repository leads to a page that shows it.
- A translation, page.zh-CN.md, is marked with its language.
- Pages on the gradients of the decoder lead to a microscope page of a small model, which is made with the site.
"""

import importlib
import inspect
import posixpath
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
LANGUAGES = {".py": "python", ".cu": "cuda", ".h": "cuda"}
TEXTS = {*LANGUAGES, ".csv", ".md", ".txt", ".cfg", ".toml"}
GROUP = re.compile(r"^\*\*(.+?)\.?\*\*(.*?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)
PAGE = re.compile(r"\]\(([\w./-]+\.md)\)")
EXAMPLE = "docs/microscope-example"
MICROSCOPE = {  # page -> the address in the microscope's page
    "docs/microscope": "#sentence/0", "docs/lstm": "#unit/dec/0/0", "docs/attention": "#sources/dh_enc/0/4",
    "docs/textbook": "#number/dh_dec/0/3/0", "docs/museum": "#sabotage/dc-overwritten",
    "docs/where-the-gradient-goes": "#flow/0"}
MODULE = re.compile(r"^- \[`(scratchnmt[\w.]*)`\]\(\S+\): (.*(?:\n  .*)*)", re.MULTILINE)


def complete_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give the first page the sidebar, the API's page its pages, and those their modules."""
    if docname == app.config.root_doc:
        text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
        source[0] += contents("docs/index.md")
        for caption, links in GROUP.findall(text):
            source[0] += contents(*(posixpath.join("docs", page) for page in PAGE.findall(links)), caption=caption)
    elif docname == "docs/api":
        source[0] += contents(*(posixpath.join("docs", page) for page in dict.fromkeys(PAGE.findall(source[0]))))
    elif docname.startswith("docs/api/"):
        modules = [module for module, _ in MODULE.findall(source[0])]
        source[0] = MODULE.sub(lambda found: section(*found.groups(), modules), source[0])


def section(module: str, text: str, modules: list[str]) -> str:
    """What is public in a module, but for the names that its package, one of the page's `modules`, exports."""
    package = module.rpartition(".")[0]
    elsewhere = getattr(importlib.import_module(package), "__all__", ()) if package in modules else ()
    return (f"## `{module}`\n{text[0].upper()}{text[1:]}\n```{{eval-rst}}\n.. automodule:: {module}\n"
            f"   :exclude-members: {', '.join(elsewhere)}\n```\n")


def contents(*pages: str, caption: str = "") -> str:
    """A list for the sidebar of pages, from the repository's folder."""
    names = "\n".join("/" + posixpath.normpath(page) for page in pages)
    option = f":caption: {caption}\n" if caption else ""
    return f"\n\n```{{toctree}}\n:hidden:\n{option}\n{names}\n```\n"


def to_rest(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A docstring as reStructuredText: an indented block as it stands, `names` as code, no other markup but lists."""
    text = obj.__doc__ or "" if what == "module" else "\n".join(lines)  # of a module not even autodoc's dedent
    blocks = []
    for block in re.split(r"\n{2,}", text.strip("\n")):
        if block.startswith("    "):
            blocks.append(".. code-block:: text\n\n" + block)
        else:
            parts = re.split(r"`([^`]+)`", block)
            parts[::2] = [re.sub(r"([\\*|_]|^\()", r"\\\1", text, flags=re.MULTILINE) for text in parts[::2]]
            parts[1::2] = [f":py:obj:`{code}`" if re.fullmatch(r"[\w.]+", code) else f"``{code}``"
                           for code in parts[1::2]]
            blocks.append("".join(parts))
    if fields := fields_of(obj):
        if text.startswith(f"{obj.__name__}("):
            blocks = []  # what Python makes up for a class without a docstring: its signature
        blocks.append(".. code-block:: python\n\n" + "\n".join(fields))
    lines[:] = "\n\n".join([*blocks, ""]).split("\n")


@cache  # it is asked twice for each object
def fields_of(obj: Any) -> list[str]:
    """The lines of a NamedTuple or a dataclass that name its fields, with their shapes."""
    if not inspect.isclass(obj) or not any(name in vars(obj) for name in ("_fields", "__dataclass_fields__")):
        return []
    body = re.split(r"\n    (?:def|@)", inspect.getsource(obj))[0]
    return re.findall(r"^    (?:\w+: .*|# .*)", body, re.MULTILINE)


def without_fields(app: Sphinx, what: str, name: str, obj: Any, *_: Any) -> tuple[str, str] | None:
    """The signature of a class whose fields are shown, with their shapes, below it: none."""
    return ("", "") if fields_of(obj) else None


def is_field(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Whether to leave out a member: a field of a NamedTuple, which is shown with its class."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def place_in_source(app: Sphinx, info: dict[str, str]) -> str | None:
    """Where a name of the API is defined, seen from a page of docs/api."""
    found = sys.modules[info["module"]]
    for part in info["fullname"].split("."):
        found = getattr(found, part, None)
    found = getattr(found, "fget", found)  # of a property its function
    try:
        path, line = Path(inspect.getsourcefile(found)), inspect.getsourcelines(found)[1]
    except (TypeError, OSError):
        return None  # a constant
    if ROOT not in path.parents:
        return None
    app.env.linked_sources.setdefault("", set()).add(path)
    return f"../../{page_of(path)}.html#L-{line}"


def page_of(path: Path) -> str:
    return "source/" + path.relative_to(ROOT).as_posix()


def link_to_source(app: Sphinx, doctree: nodes.document) -> None:
    """Lead links to files and folders that are no pages to pages of their own."""
    docname = app.env.docname
    linked = app.env.linked_sources[docname] = set()
    for link in list(doctree.findall(lambda node: isinstance(node, (download_reference, pending_xref)))):
        path = (ROOT / docname).parent / link["reftarget"].partition("#")[0]
        if link["reftype"] != "myst" or link.get("refdomain") or not path.exists():
            continue
        path = path.resolve()
        if path.is_dir() or path.suffix in TEXTS:
            linked.add(path)
            uri = app.builder.get_relative_uri(docname, page_of(path))
            link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))


def pages_of_source(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file and folder that is linked to."""
    linked = set().union(*app.env.linked_sources.values())
    inside = {file for folder in linked if folder.is_dir() for file in folder.iterdir() if file.suffix in TEXTS}
    for path in sorted(linked | inside):
        name = path.relative_to(ROOT).as_posix()
        if path.is_dir():
            files = sorted(file.name for file in inside if file.parent == path)
            body = "".join(f'<p><a href="{path.name}/{file}.html">{file}</a></p>' for file in files)
        else:
            body = app.builder.highlighter.highlight_block(
                path.read_text(encoding="utf-8"), LANGUAGES.get(path.suffix, "text"), lineanchors="L")
        # without the list of pages in the sidebar, which would take longer than all else
        yield page_of(path), {"title": name, "body": f"<h1>{name}</h1>{body}", "toctree": lambda **_: ""}, "page.html"


def say_language(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Mark a translation, page.zh-CN.md, as one: a browser chooses the glyphs of Chinese by it."""
    if found := re.search(r"\.([a-z]{2}-[A-Z]{2})$", pagename):
        context["language"] = found[1]


def lead_to_microscope(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Below the pages of MICROSCOPE, a link to the view that shows what they speak of."""
    if pagename in MICROSCOPE and "body" in context:
        context["body"] += (f'<p><a href="{app.builder.get_relative_uri(pagename, EXAMPLE)}{MICROSCOPE[pagename]}">'
                            "Touch these numbers: a training step under the microscope</a></p>")


def make_microscope(app: Sphinx, error: Exception | None) -> None:
    """The page that is led to; made once, since it takes some seconds."""
    page = Path(app.outdir) / f"{EXAMPLE}.html"
    if error is None and app.builder.format == "html" and not page.exists():
        from microscope_example import example

        example().save(page)


def begin(app: Sphinx) -> None:
    """Sphinx keeps its environment, and so what every page links to, from one build to the next."""
    if not hasattr(app.env, "linked_sources"):
        app.env.linked_sources = {}


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", begin)
    app.connect("source-read", complete_page)
    app.connect("autodoc-process-docstring", to_rest)
    app.connect("autodoc-process-signature", without_fields)
    app.connect("autodoc-skip-member", is_field)
    app.connect("doctree-read", link_to_source, priority=400)  # before the files are copied as downloads
    app.connect("html-page-context", say_language)
    app.connect("html-collect-pages", pages_of_source)
    app.connect("html-page-context", lead_to_microscope)
    app.connect("build-finished", make_microscope)
    app.config.linkcode_resolve = lambda domain, info: place_in_source(app, info)
    return {"parallel_read_safe": False}
