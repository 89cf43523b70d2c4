"""Writes the API reference: `python tools/apidocs.py FOLDER`; a name that cannot be documented is an error."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from pathlib import Path

import pdoc
import pdoc.extract
import pdoc.render

import hardgnn


def modules() -> list[str]:
    """What pdoc is asked for, so that it finds all modules of the library."""
    names = [hardgnn.__name__, *(one.name for one in pkgutil.walk_packages(hardgnn.__path__, "hardgnn."))]
    for name in names:
        module = importlib.import_module(name)
        for one in getattr(module, "__all__", ()):  # pdoc knows what is there, not what is loaded when it is asked for
            setattr(module, one, getattr(module, one))
    found, walked = [], set[str]()
    for name in names:
        if name not in walked:  # a package brings those of its modules that it does not hide
            found.append(name)
            walked |= set(pdoc.extract.walk_specs([name]))
    return found


def main() -> None:
    """Writes a page for each module, and a search."""
    if len(sys.argv) != 2:
        sys.exit(f"expected a folder to write: python {sys.argv[0]} FOLDER")
    folder = Path(sys.argv[1])
    names = modules()
    pdoc.render.configure(docformat="google", footer_text=f"HardGNN {hardgnn.__version__}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pdoc.doc_types")  # of classes of other libraries
        warnings.filterwarnings("error", message=".*hardgnn")
        pdoc.pdoc(*names, output_directory=folder)
    print(f"{folder / 'index.html'}")


if __name__ == "__main__":
    main()
