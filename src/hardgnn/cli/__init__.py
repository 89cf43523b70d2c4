"""The command line: it parses, calls and prints."""

import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line and exits with its status."""
    try:
        from hardgnn.cli.boundary import main as run
    except KeyboardInterrupt:  # before anything listens
        print("error: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    run()
