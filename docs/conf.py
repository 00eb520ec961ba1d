"""Configuration of the documentation."""

import re
from importlib.metadata import version as installed_version

project = "pymc_nre"
author = "The pymc_nre developers"
copyright = "2026, The pymc_nre developers"
version = release = installed_version("pymc_nre")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

default_role = "py:obj"
autosummary_generate = True
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_title = f"pymc_nre {version}"

SHAPE = re.compile(r"(?<=shape )\([^)]*\)")


def escape_shapes(app, what, name, obj, options, lines):
    """Shapes such as ``(*batch, *event)`` in docstrings are not emphasis."""
    for i, line in enumerate(lines):
        lines[i] = SHAPE.sub(lambda match: match[0].replace("*", r"\*"), line)


def setup(app):
    """Run before numpydoc, whose priority is 500."""
    app.connect("autodoc-process-docstring", escape_shapes, priority=100)
