"""How Sphinx builds the site: `make docs`. A warning is an error (decisions/0010-docs-site.md)."""

from importlib.metadata import version as version_of
from typing import Any

from sphinx.util import logging

project = "skip2lora"
author = "The skip2lora authors"
version = release = version_of("skip2lora")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "skip2lora"
html_show_sourcelink = html_copy_source = False

myst_heading_anchors = 4  # links to headings work as they do where the repository is hosted
nitpicky = True  # a role in a docstring that names nothing is an error
# What annotations name is not linked: it stands in the docs of Python and NumPy, or is internal.
nitpick_ignore_regex = [("py:(class|data|obj)", r"(?!skip2lora\.).*"), ("py:(class|data)", ".*")]

# The site is built without the runtimes: the modules that need them are imported all the same.
autodoc_mock_imports = ["torch", "onnxruntime", "onnx", "ai_edge_litert", "sklearn"]
autodoc_default_options = {"members": True, "undoc-members": True, "member-order": "bysource"}
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False


def _require_docstring(_: Any, what: str, name: str, obj: Any, __: Any, lines: list[str]) -> None:
    """Warn, which fails the build, of a public name without a docstring."""
    is_field = what == "attribute" and not isinstance(obj, property)
    if not is_field and not any(line.strip() for line in lines):
        logging.getLogger(__name__).warning("%s has no docstring: write one", name)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _require_docstring)
