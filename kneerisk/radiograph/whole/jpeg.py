"""What of a JPEG stream was lost: by libjpeg's own warnings, and by counting the bits of a lossless one.

A flipped bit makes a Huffman decoder lose its step: all that follows is sheared, and at the end data are
missing or left over. libjpeg warns of that and hands out the picture all the same.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_LOST = re.compile(
    r"Premature end of JPEG file|Inconsistent progression sequence|Corrupt JPEG data: (?:"
    r"\d+ extraneous bytes before marker 0x(?:d[0-79a]|c4)|premature end of data segment|"
    r"bad Huffman code|bad arithmetic code|found marker 0x\w+ instead of RST\d)"
)
"""Warnings of libjpeg that mean lost data. Odd bytes between the segments of a header are no loss."""
_START_OF_SCAN, _END, _TABLES, _RESTARTS = 0xDA, 0xD9, 0xC4, 0xDD
_LOSSLESS = 0xC3
_WORD = 1 << 16
_ROWS = 64


def loss_in_words(libjpeg: str) -> str | None:
    """The first warning of a loss among what a libjpeg said."""
    found = _LOST.search(libjpeg)
    return None if found is None else found.group()


def loss_in_8_bits(data: bytes, samples: int) -> str | None:
    """What libjpeg-turbo warns of as it decodes a stream of 8-bit samples by a cosine transform."""
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY" if samples == 1 else "RGB", strict=True)
    except ValueError as error:
        return loss_in_words(str(error))
    return None


def loss_in_lossless(data: bytes, pixels: npt.NDArray[np.unsignedinteger[Any]]) -> str | None:
    """Whether the pixels of a lossless stream take as many bits as it has (ITU-T T.81, annex H).

    Each sample is its difference from a prediction; its Huffman code and extra bits follow from the
    difference alone, so the length of the data follows from the pixels. A decoder that lost its step ends too
    early or runs dry, and the lengths differ.

    Args:
        data: the stream.
        pixels: [H, W], what a decoder made of it.

    Returns:
        What is wrong; ``None`` where nothing is, or where the stream is one that is not counted here: with
        restarts (which libjpeg keeps in step) or several components.
    """
    scan = _scan_of(data)
    if scan is None or pixels.ndim != 2:
        return None
    differences = _differences(pixels, scan)
    # Some rows at a time, for NumPy makes indices of eight bytes.
    parts = (differences[first : first + _ROWS] for first in range(0, len(differences), _ROWS))
    bits = sum(int(scan.bits[part].sum(dtype=np.int64)) for part in parts)
    spare = 8 * scan.size - bits
    if 0 <= spare < 8:  # the last byte is filled up
        return None
    return f"its picture takes {bits:,} bits, and the stream has {8 * scan.size:,}"


@dataclass(frozen=True, slots=True)
class _Scan:
    """The one scan of a lossless stream."""

    predictor: int
    shift: int
    """Point transform: bits that were cut off before coding."""
    precision: int
    bits: npt.NDArray[np.uint8]
    """[65536]: of the code and extra bits of each difference, modulo 2¹⁶."""
    size: int
    """Bytes of entropy-coded data, without those that only keep them from looking like marks."""


def _scan_of(data: bytes) -> _Scan | None:
    position, precision, tables = 2, 0, dict[int, npt.NDArray[np.uint8]]()
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        body = data[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == _LOSSLESS and len(body) >= 6:
            precision = body[0]
            if body[5] != 1:
                return None
        elif marker == _TABLES:
            tables.update(_code_lengths(body))
        elif marker == _RESTARTS and body[:2] != b"\0\0":
            return None
        elif marker == _START_OF_SCAN and len(body) >= 6:
            lengths, predictor, shift = tables.get(body[2] >> 4), body[3], body[5] & 15
            if lengths is None or not 1 <= predictor <= 7 or not shift < precision <= 16:
                return None
            return _Scan(predictor, shift, precision, _bits_by_difference(lengths), _coded(data, position))
    return None


def _code_lengths(body: bytes) -> dict[int, npt.NDArray[np.uint8]]:
    """Table → [17], bits of the code of each category of difference; 0 where it has none."""
    found = {}
    while len(body) >= 17:
        counts, symbols = body[1:17], body[17 : 17 + sum(body[1:17])]
        lengths = np.zeros(17, np.uint8)
        for symbol, length in zip(symbols, np.repeat(np.arange(1, 17), list(counts)), strict=False):
            if symbol <= 16:
                lengths[symbol] = length
        if body[0] < 4:  # of the DC class, the only one that a lossless scan has
            found[body[0]] = lengths
        body = body[17 + sum(counts) :]
    return found


def _bits_by_difference(lengths: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    difference = np.arange(_WORD)
    category = np.ceil(np.log2(np.minimum(difference, _WORD - difference) + 1)).astype(np.intp)
    return np.asarray(lengths[category] + np.where(category == 16, 0, category), np.uint8)


def _coded(data: bytes, start: int) -> int:
    """Bytes of the scan from ``start``, without the zeros that are stuffed behind each 0xFF."""
    stuffed, position = 0, start
    while (position := data.find(b"\xff", position)) >= 0:
        if data[position + 1 : position + 2] != b"\0":
            break
        stuffed, position = stuffed + 1, position + 2
    end = len(data) if position < 0 else position
    return end - start - stuffed


def _differences(pixels: npt.NDArray[np.unsignedinteger[Any]], scan: _Scan) -> npt.NDArray[np.uint16]:
    """From the predictions, modulo 2¹⁶ (T.81, table H.1)."""
    x: npt.NDArray[np.uint16] = np.right_shift(pixels, scan.shift).astype(np.uint16)
    left, above, corner = x[1:, :-1], x[:-1, 1:], x[:-1, :-1]
    if scan.predictor <= 3:
        guess = (left, above, corner)[scan.predictor - 1]
    elif scan.predictor == 4:
        guess = left + above - corner
    else:
        a, b, c = (part.astype(np.int32) for part in (left, above, corner))
        wide = {5: a + ((b - c) >> 1), 6: b + ((a - c) >> 1), 7: (a + b) >> 1}[scan.predictor]
        guess = (wide & (_WORD - 1)).astype(np.uint16)
    found = x.copy()
    found[:1, :1] -= np.uint16(1 << (scan.precision - scan.shift - 1))
    found[0, 1:] -= x[0, :-1]
    found[1:, 0] -= x[:-1, 0]
    found[1:, 1:] -= guess
    return found
