"""JPEG 2000, with an ear for what OpenJPEG says of lost data.

Flipped bits in the coded blocks of a JPEG 2000 picture are seldom an error: the arithmetic decoder makes
texture of whatever comes. But it then takes more or fewer bytes than the block has. OpenJPEG compares them
where a stream says that its blocks end predictably (ITU-T T.800, D.4.2); every stream is decoded as if it
said so, which changes no pixel, and a few bytes of difference, as rate control leaves, mean nothing.
"""

from __future__ import annotations

import logging
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

_CODING_STYLE, _TILE = 0xFF52, 0xFF90
_STYLE = 12
"""Offset of the code-blocks' style in a COD segment, its mark included (T.800, A.6.1)."""
_BYPASS, _TERMINATED, _PREDICTABLE, _HIGH_THROUGHPUT = 0x01, 0x04, 0x10, 0x40
_LEFT_OVER = re.compile(r"PTERM check failure: (\d+) (?:remaining bytes|synthesized)")
_MOST_LEFT_OVER = 32
"""Bytes: of 3,000 sound streams of OpenJPEG, in layers, ten show some, 22 at most; damaged ones, hundreds."""
_LOST = re.compile(
    r"segment too (?:long|short)|corrupt|truncated|too short|premature|not enough|expected \w+ marker|"
    r"cannot (?:read|decode|take)|incorrect|invalid|bad ",
    re.IGNORECASE,
)


def decode_jpeg2000(src: bytes) -> tuple[npt.NDArray[Any], str | None]:
    """Decode a codestream or JP2 file → (pixels, what was lost of it, or ``None``)."""
    import imagecodecs

    with _ear.listening() as said:
        pixels = imagecodecs.jpeg2k_decode(_checked(src), numthreads=1, verbose=2)
    return np.asarray(pixels), _loss_in(said)


def _loss_in(said: list[str]) -> str | None:
    for line in said:
        if (left := _LEFT_OVER.search(line)) is not None:
            if int(left.group(1)) > _MOST_LEFT_OVER:
                return "the coded data of a block do not end where they should"
        elif _LOST.search(line):
            return line.partition(": ")[2][:100] or line[:100]
    return None


def _checked(src: bytes) -> bytes:
    """The stream, saying that its blocks end predictably, where OpenJPEG can check that of a whole block."""
    start = src.find(b"\xff\x4f\xff\x51")
    position = start + 2
    while start >= 0 and position + _STYLE < len(src):
        marker, length = struct.unpack_from(">HH", src, position)
        if marker == _TILE:
            break
        if marker == _CODING_STYLE:
            style = src[position + _STYLE]
            if style & (_BYPASS | _TERMINATED | _HIGH_THROUGHPUT):
                break
            changed = bytearray(src)
            changed[position + _STYLE] = style | _PREDICTABLE
            return bytes(changed)
        position += 2 + length
    return src


class _Ear(logging.Filter):
    """Takes what imagecodecs logs in a thread that listens; of other threads it passes on everything."""

    def __init__(self) -> None:
        super().__init__()
        self._of_thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        said: list[str] | None = getattr(self._of_thread, "said", None)
        if said is None:
            return True
        said.append(record.getMessage())
        return False

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        """The words that come meanwhile."""
        said = self._of_thread.said = list[str]()
        try:
            yield said
        finally:
            self._of_thread.said = None


_ear = _Ear()
_log = logging.getLogger("imagecodecs")
_log.addFilter(_ear)
_log.setLevel(logging.WARNING)  # or a caller who wants errors alone would have us hear none
