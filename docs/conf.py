"""The site: `sphinx-build -W -n -c docs . build/site`, from the repository's root.

The source folder is the repository, so that the very files that are read on GitHub, and the links between them, are
those of the site. `JIFV_DOCS_EXECUTE=off` leaves the tutorials unexecuted, which then takes less than a minute.
"""

import importlib.metadata
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

project = "jifv"
author = "the authors of jifv"
copyright = author
release = version = importlib.metadata.version("jifv")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "benchmarks/results/README.md",
    "docs/*.md",
    "docs/reference/*.rst",
    "docs/reference/*.md",
    "docs/tutorials/*.py",
]
nitpicky = True
# Types of other projects. Their documentation is elsewhere, and a build needs no network.
nitpick_ignore_regex = [
    (r"py:.*", r"(np|jax|jnp|numpy|jaxlib|jaxtyping|collections|typing|pathlib|flax|nn|optax)\..*"),
    (r"py:.*", r"(Array|ArrayLike|Float|Int|Bool|Key|UInt8|UInt32|PRNGKeyArray|ScalarLike|DTypeLike)"),
    (r"py:.*", r"(Any|Callable|Sequence|Mapping|Literal|Path|PathLike|Mesh)"),
    # Parts of a state or a result that no public module exports: what holds them describes them.
    (r"py:class", r"(Best|Bracket|Graph|Program|Tokens|Weights|_Function)"),
    (r"py:exc", r"(Import|Type|Value|NotImplemented|FileNotFound|Overflow|OS|Runtime)\w*"),
]

# Markdown as on GitHub: anchors of headings, formulas between dollars.
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
suppress_warnings = ["mystnb.unknown_mime_type"]

# Tutorials: scripts that Jupytext pairs with notebooks.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = os.environ.get("JIFV_DOCS_EXECUTE", "cache")
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

# Docstrings. Signatures are those of the source: see reference.py.
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
python_display_short_literal_types = True

html_theme = "sphinx_book_theme"
html_title = "jifv"
html_extra_path = ["site"]
html_theme_options = {
    "show_navbar_depth": 1,
    "home_page_in_toc": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
# LaTeX is set by the reader's browser.
html_copy_source = False
