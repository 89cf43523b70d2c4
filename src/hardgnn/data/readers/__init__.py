"""Raw files to tables, read as a stream: plain, compressed, or inside the archive they are published in.

A format is one function with the decorator `reader`: in a module here, which the line below names, in a program, or in
an installed package, under the entry points `hardgnn.readers`. `base` says what it takes and answers.
"""

from hardgnn.data.raw.file import RawFile
from hardgnn.data.readers import amazon, gowalla, json_lines, movielens, sequences, tables, yelp  # noqa: F401
from hardgnn.data.readers.base import READERS, Fit, formats, guess_format, reader
from hardgnn.data.readers.source import Source

__all__ = ["READERS", "Fit", "RawFile", "Source", "formats", "guess_format", "reader"]
