"""The size that a compressed picture announces, asked before any memory is given to it."""

from __future__ import annotations

import re
import struct

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_BARE = frozenset(range(0xD0, 0xD9)) | {0x01}

_MARK = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
"""A mark that cannot stand in compressed data, nor begin a fill byte's run; restarts are data's."""


class StreamError(ValueError):
    """Pixel data are damaged, in words of our own: they quote no text of a header."""


Size = tuple[int, int]
"""(rows, columns)"""


def jpeg_frame(data: bytes) -> tuple[int, Size, int] | None:
    """SOF marker (0xC0…0xCF, 0xF7 for JPEG-LS), size and components of a JPEG stream, if it has them."""
    position = 2 if data[:2] == b"\xff\xd8" else len(data)
    while position + 9 < len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _BARE:
            position += 2
        elif marker in _SOF:
            rows, columns, components = struct.unpack_from(">HHB", data, position + 5)
            return marker, (rows, columns), components
        else:
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return None


MOST_SAMPLES = 4
"""Samples of a pixel in a picture that people look at: gray or colour, with or without alpha."""


def jpeg2000_frame(data: bytes) -> tuple[Size, int] | None:
    """Size and components of a JPEG 2000 codestream, bare or inside a JP2 file's boxes."""
    start = 0 if data[:4] == b"\xff\x4f\xff\x51" else data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or start + 42 > len(data):
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", data, start + 8)
    (components,) = struct.unpack_from(">H", data, start + 40)
    return (bottom - top, right - left), components


def jpeg_is_whole(data: bytes) -> bool:
    """Whether a JPEG stream has its end mark (ITU-T T.81, B.1.1.3); what follows it is no part of it.

    Marks inside a segment, such as those of a thumbnail in EXIF data, are stepped over with it.
    """
    position = 2
    while (mark := _MARK.search(data, position)) is not None:
        if data[mark.start() + 1] == 0xD9:
            return True
        position = mark.end()
        if data[mark.start() + 1] == 0xD8:
            continue
        if position + 2 > len(data):
            return False
        position += struct.unpack_from(">H", data, position)[0]
    return False
