"""How Sphinx makes the site: `python -m sphinx -W -c docs . site`, in the repository's folder."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]  # site_pages.py; this scratchnmt

import scratchnmt.arrays  # noqa: E402

project = "scratchnmt"
root_doc = "README"  # the first page, to which the sidebar's title leads
include_patterns = ["*.md", "docs/**.md", "benchmarks/**.md"]  # the pages; the code around them is no text
exclude_patterns = [".*", "site", "runs"]  # folders that need not be looked through
extensions = [
    "myst_parser",  # pages are Markdown, as a code host shows it
    "sphinx.ext.autodoc",  # the API's pages are made of docstrings
    "sphinx.ext.linkcode",  # "[source]" beside every name
    "site_pages",  # the sidebar, the API's sections, docstrings and pages of source: see there
]

myst_heading_anchors = 4  # [a link](page.md#its-heading) works as on a code host, for # to ####
smartquotes = False  # (..., I) stays as it is written
highlight_language = "text"  # an indented block is an equation, not Python

autodoc_default_options = {"members": True}  # of a module: what has a docstring, or what __all__ names
autodoc_member_order = "bysource"  # forward first, backward right below it
scratchnmt.arrays.Array = type("Array", (), {"__module__": "scratchnmt.arrays"})  # the name, not the Any that it is
autodoc_preserve_defaults = True  # defaults as the code writes them
python_use_unqualified_type_names = True  # Adam, not scratchnmt.optim.Adam, in signatures
toc_object_entries_show_parents = "hide"  # step(), below Adam, in a page's contents
maximum_signature_line_length = 90  # longer ones take a line for each argument
add_module_names = False  # lstm_forward, below the heading that names its module

html_theme = "furo"  # reads well on a phone, loads nothing from the network
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "scratchnmt"
html_show_copyright = False  # LICENSE says it
html_additional_pages = {"index": "index.html"}  # leads to the first page
templates_path = ["_templates"]
html_domain_indices = False  # no list of modules: the API page is one
html_copy_source = False  # nor the pages' Markdown
