"""`python -m hardgnn.serve.packing RUN OUT [EXPORT]`: packs a run in a process of its own, which gives memory back."""

from __future__ import annotations

import sys
from pathlib import Path

from hardgnn.errors import HardGNNError, reading
from hardgnn.serve.engine import Engine
from hardgnn.serve.pack import pack


def main() -> None:
    """Packs, and opens what was packed: what changed while it was copied is found here and not by the workers."""
    run, out, *export = map(Path, sys.argv[1:])
    try:
        pack(run, out, *export)
        with reading(out):
            Engine(out)
    except HardGNNError as error:
        print(error)
        sys.exit(error.status)


if __name__ == "__main__":
    main()
