"""The command line: it parses, calls and prints."""

from hardgnn.cli.app import main

__all__ = ["main"]
