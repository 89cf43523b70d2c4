"""Makes docs/tutorial.ipynb of docs/tutorial.md: `python tools/notebook.py` writes it, `--check` only compares."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, NOTEBOOK = DOCS / "tutorial.md", DOCS / "tutorial.ipynb"
FENCE = re.compile(r"^```(sh|python)\n(.*?)^```\n?", re.S | re.M)
SHELL = "%%script bash -e\n"
TEXT_ALONE = ("pip ", "hardgnn serve", "curl ")  # done before the notebook, or beside it: a service does not end


def notebook_of(page: str) -> str:
    """The notebook, as JSON, of a page in Markdown: prose as it is, a cell for each block of code.

    Lines of a block that install, serve or ask the service stay text.
    """
    cells: list[dict[str, Any]] = []

    def add(kind: str, source: str) -> None:
        if source.strip():
            cell = {"cell_type": kind, "id": f"cell-{len(cells)}", "metadata": {}}
            code = {"execution_count": None, "outputs": []} if kind == "code" else {}
            cells.append(cell | code | {"source": source.strip("\n").splitlines(keepends=True)})

    end = 0
    for block in FENCE.finditer(page):
        add("markdown", page[end : block.start()])
        end, language, code = block.end(), block[1], block[2]
        if language == "python":
            add("code", code)
            continue
        lines = re.findall(r"(?:.*\\\n)*.*\n", code)  # whole ones
        text = "".join(line for line in lines if line.startswith(TEXT_ALONE))
        add("markdown", f"```sh\n{text}```" if text else "")
        rest = "".join(line for line in lines if not line.startswith(TEXT_ALONE))
        add("code", SHELL + rest if rest.strip() else "")
    add("markdown", page[end:])
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    document = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def main() -> None:
    """Writes or compares."""
    made = notebook_of(PAGE.read_text("utf-8"))
    if sys.argv[1:] == ["--check"]:
        if not NOTEBOOK.exists() or NOTEBOOK.read_text("utf-8") != made:
            sys.exit(f"{NOTEBOOK}: not what {PAGE.name} says; write it anew with python tools/notebook.py")
        return
    NOTEBOOK.write_text(made, "utf-8")


if __name__ == "__main__":
    main()
