"""How Sphinx makes a site of these pages: `sphinx-build -W docs build/site`."""

from __future__ import annotations

from importlib import metadata

project = "Persistasaurus"
release = metadata.version("persistasaurus")
html_theme = "furo"
html_title = f"Persistasaurus {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
default_role = "code"  # single backticks in docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_use_legacy_class_based = False
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}
autoclass_content = "class"
napoleon_use_ivar = True
python_use_unqualified_type_names = True
add_module_names = False
