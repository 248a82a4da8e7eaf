"""The size that a compressed picture announces, asked before any memory is given to it."""

from __future__ import annotations

import struct

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_BARE = frozenset(range(0xD0, 0xD9)) | {0x01}

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


def jpeg2000_size(data: bytes) -> Size | None:
    """Size of a JPEG 2000 codestream, bare or inside a JP2 file's boxes."""
    start = 0 if data[:4] == b"\xff\x4f\xff\x51" else data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or start + 24 > len(data):
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", data, start + 8)
    return bottom - top, right - left


def png_size(data: bytes) -> Size | None:
    """Size of a PNG file."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    columns, rows = struct.unpack_from(">II", data, 16)
    return rows, columns


def png_is_whole(data: bytes) -> bool:
    """Whether a PNG file's chunks run on to its end mark: a decoder may fill what is missing with black."""
    position = 8
    while position + 12 <= len(data):
        length = struct.unpack_from(">I", data, position)[0]
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position += 12 + length
    return False


def jpeg_is_whole(data: bytes) -> bool:
    """Whether a JPEG stream ends with its end mark; a little padding after it is usual."""
    return b"\xff\xd9" in data[-4096:]


def tiff_pages(data: bytes) -> list[dict[int, int]]:
    """Tags of each page of a TIFF file (tag → first value, whole numbers only), at most 64 pages."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 16:
        return []
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    offset_code, count_code, entry_bytes = ("Q", "Q", 20) if big else ("I", "H", 12)
    offset = struct.unpack_from(order + offset_code, data, 8 if big else 4)[0]
    pages: list[dict[int, int]] = []
    visited: set[int] = set()
    codes = {1: "B", 3: "H", 4: "I", 16: "Q"}
    count_bytes, value_at = struct.calcsize(order + count_code), 12 if big else 8
    while offset and offset not in visited and len(pages) < 64 and offset + count_bytes <= len(data):
        visited.add(offset)
        count = struct.unpack_from(order + count_code, data, offset)[0]
        end = offset + count_bytes + count * entry_bytes
        if end + struct.calcsize(order + offset_code) > len(data):
            break
        tags: dict[int, int] = {}
        for entry in range(offset + count_bytes, end, entry_bytes):
            tag, kind = struct.unpack_from(f"{order}HH", data, entry)
            if kind in codes:
                tags[tag] = struct.unpack_from(order + codes[kind], data, entry + value_at)[0]
        pages.append(tags)
        offset = struct.unpack_from(order + offset_code, data, end)[0]
    return pages
