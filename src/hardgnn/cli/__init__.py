"""The command line: it parses, calls and prints."""

from hardgnn.cli.boundary import main

__all__ = ["main"]
