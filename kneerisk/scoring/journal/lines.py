"""Lines that tell whether they are whole: each begins with a CRC of the rest."""

from __future__ import annotations

import zlib


def sealed(body: bytes) -> bytes:
    """A line: a CRC, which finds every flip of up to 32 neighbouring bits, and what it is of."""
    return b"%08x %s\n" % (zlib.crc32(body), body)


def unsealed(line: bytes) -> bytes | None:
    """What was sealed, or ``None`` where the line is damaged or torn."""
    check, _, body = line.partition(b" ")
    if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(body[:-1]):
        return None
    return body[:-1]
