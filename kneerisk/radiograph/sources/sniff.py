"""What a file is, by its first bytes: many radiographs have no extension, or a wrong one."""

from __future__ import annotations

import struct
from typing import Literal

Kind = Literal["dicom", "png", "jpeg", "tiff"]

HEAD_BYTES = 4096
"""How much of a file `sniff` and `sop_instance_uid` want to see."""

OUR_MANUFACTURER = "kneerisk"
"""Manufacturer (0008,0070) of the DICOM files that scoring writes."""

_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_VRS = _LONG_VRS | frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())

_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"BM", "a BMP picture"),
    (0, b"GIF8", "a GIF picture"),
    (8, b"WEBP", "a WebP picture"),
    (4, b"jP  \r\n\x87\n", "a JPEG 2000 file"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 codestream"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\0", "an xz archive"),
    (0, b"Rar!", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (4, b"ftyp", "a video"),
    (8, b"AVI ", "a video"),
    (0, b"\x1a\x45\xdf\xa3", "a video"),
    (344, b"n+1\0", "a NIfTI volume"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"PAR1", "a Parquet table"),
    (0, b"SQLite format 3", "an SQLite database"),
)


def sniff(head: bytes) -> Kind | None:
    """Kind of image that a file's first bytes announce, or ``None``.

    DICOM is known with its 128-byte preamble or without one (explicit or implicit VR, either byte order).
    """
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    return "dicom" if _starts_a_dataset(head) else None


def _starts_a_dataset(head: bytes) -> bool:
    """Whether the bytes begin with a DICOM element of group 0002 or 0008, followed by another one."""
    for order in "<>":
        if len(head) < 12:
            return False
        group, element = struct.unpack_from(f"{order}HH", head)
        if group not in (0x0002, 0x0008) or element > 0x1199:
            continue
        vr = head[4:6]
        if vr in _LONG_VRS:
            start, length = 12, struct.unpack_from(f"{order}I", head, 8)[0]
        elif vr in _VRS:
            start, length = 8, struct.unpack_from(f"{order}H", head, 6)[0]
        else:
            start, length = 8, struct.unpack_from(f"{order}I", head, 4)[0]
        following = start + length
        if length > 1024 or following + 4 > len(head):
            continue
        next_group, next_element = struct.unpack_from(f"{order}HH", head, following)
        if (next_group, next_element) > (group, element) and next_group <= 0x0020:
            return True
    return False


def describe(head: bytes) -> str:
    """Say in words for a message what a file that is none of our images seems to be."""
    if not head:
        return "an empty file"
    for offset, magic, name in _OTHERS:
        if head[offset : offset + len(magic)] == magic:
            return name
    return "a text file" if is_text(head) else "of no kind that is known"


def is_text(head: bytes) -> bool:
    """Whether the bytes read as plain UTF-8 text (a multi-byte character cut at the end is forgiven)."""
    for cut in range(min(4, len(head) + 1)):
        try:
            text = head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return all(char >= " " or char in "\t\n\r\f\x1b" for char in text)
    return False


def sop_instance_uid(head: bytes) -> str | None:
    """SOPInstanceUID from a DICOM file's first bytes; ``None`` where it is missing or further in.

    The file meta's copy (0002,0003) stands first and serves; else the data set's own (0008,0018) is looked
    for.
    """
    uid = _text(head, (0x0002, 0x0003), (0x0008, 0x0018))
    return uid if uid and set(uid) <= set("0123456789.") else None


def is_ours(head: bytes) -> bool:
    """Whether a DICOM file is a report or a capture that scoring wrote (``--dicom-sr``, ``--dicom-sc``)."""
    return sniff(head) == "dicom" and _text(head, (0x0008, 0x0070)) == OUR_MANUFACTURER


def _text(head: bytes, *wanted: tuple[int, int]) -> str | None:
    """The first wanted element, stripped: it is a walk over a few, far quicker than parsing a header."""
    position = 132 if head[128:132] == b"DICM" else 0
    order = ">" if head[position : position + 1] == b"\0" else "<"
    while position + 8 <= len(head):
        tag = struct.unpack_from(f"{order}HH", head, position)
        if tag > max(wanted):
            return None
        vr = head[position + 4 : position + 6]
        if vr in _LONG_VRS and position + 12 <= len(head):
            start, length = position + 12, struct.unpack_from(f"{order}I", head, position + 8)[0]
        elif vr in _VRS:
            start, length = position + 8, struct.unpack_from(f"{order}H", head, position + 6)[0]
        else:
            start, length = position + 8, struct.unpack_from(f"{order}I", head, position + 4)[0]
        if tag in wanted:
            value = head[start : start + length]
            return value.decode("ascii", "replace").strip(" \0") if len(value) == length else None
        position = start + length
    return None
