"""Configuration of the documentation. Build it with ``nox -s docs``."""

from importlib.metadata import version as version_of

project = "bluesky-tiled-writer"
author = "Bluesky-Tiled-Writer developers"
copyright = f"2026, {author}"
version = release = version_of(project)

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "examples"]
default_role = "code"

myst_heading_anchors = 3

# Tutorials are executed at each build, and a tutorial that fails is a build that fails.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_output_stderr = "remove"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = project
html_show_sourcelink = False
html_theme_options = {"secondary_sidebar_items": ["page-toc"]}

copybutton_exclude = ".linenos, .gp, .go"
