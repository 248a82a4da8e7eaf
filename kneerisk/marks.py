"""The mark of what kneerisk wrote: a preview among radiographs must not come back as one.

It stands as text near the beginning of a file, so that a scan's first look finds it whatever the file is
called and wherever it was moved: a PNG's text, a JPEG's comment, a text element of a DICOM file.
"""

from __future__ import annotations

import zlib

MARK = "kneerisk-output"
"""16 letters at most, as DICOM's short texts are."""
KEYWORD = "Comment"
"""Of a PNG's text that holds the mark."""

_AFTER_HEADER = 8 + 25
"""Bytes of a PNG's signature and of its first chunk, IHDR."""


def is_marked(head: bytes) -> bool:
    """Whether a file's first bytes say that kneerisk wrote it."""
    return MARK.encode() in head


def marked_png(content: bytes) -> bytes:
    """A PNG with the mark as its first text (PNG 3, 11.3.3.2), whoever encoded it."""
    body = b"tEXt" + f"{KEYWORD}\0{MARK}".encode()
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return content[:_AFTER_HEADER] + chunk + content[_AFTER_HEADER:]
