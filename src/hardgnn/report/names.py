"""What somebody named, as the name of a file."""

from __future__ import annotations

import hashlib
import re

LONGEST_BYTES = 120  # of the 255 that a file system allows: endings and a temporary name are added


def file_name(text: str) -> str:
    """The text where it can be a file's name as it stands, else what can be of it and a hash that tells it apart.

    Kept are letters and digits of any script and `. _ + = , @ -`, so that it stays in its folder on every system.
    """
    plain = re.sub(r"[^\w.+=,@-]+", "-", text).lstrip(".-")
    plain = plain.encode("utf-8", "ignore")[:LONGEST_BYTES].decode("utf-8", "ignore")
    if plain and plain == text:
        return text
    return f"{plain or 'name'}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
