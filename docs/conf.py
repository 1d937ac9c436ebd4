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

# The site is built without the runtimes: the modules that need them are imported all the same.
autodoc_mock_imports = [
    "torch", "onnxruntime", "onnx", "ai_edge_litert", "openvino", "scipy", "sklearn"
]  # fmt: skip
autodoc_default_options = {"members": True, "undoc-members": True, "member-order": "bysource"}
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False


def _check(_: Any, what: str, name: str, obj: Any, __: Any, lines: list[str]) -> None:
    """Warn, which fails the build, of a public name without a docstring."""
    if not any(line.strip() for line in lines) and (what != "attribute" or callable(obj)):
        logging.getLogger(__name__).warning("%s has no docstring: write one", name)
    if what in ("property", "attribute"):
        lines[:0] = ["..", ""]  # else napoleon takes what stands before a colon for a type


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _check, priority=400)  # before napoleon
