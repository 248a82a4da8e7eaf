"""Objects through a pipe between two processes of ours: pickles, with arrays sent as they lie in memory."""

from __future__ import annotations

import pickle
import struct
from typing import Any, BinaryIO

import numpy as np

_HEAD = struct.Struct("<QI")
_SIZE = struct.Struct("<Q")


def send(stream: BinaryIO, message: object) -> None:
    """Write one object to an unbuffered stream; an array is copied into the pipe alone, not into a pickle."""
    arrays: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
    raw = [array.raw() for array in arrays]
    sizes = b"".join(_SIZE.pack(part.nbytes) for part in raw)
    parts: list[bytes | memoryview] = [_HEAD.pack(len(body), len(raw)), sizes, body, *raw]
    for part in parts:
        left = memoryview(part)
        while left:
            left = left[stream.write(left) :]  # a signal may cut a long write short


def receive(stream: BinaryIO) -> Any:
    """Read one object.

    Raises:
        EOFError: the other side is gone, or went in the middle of its word.
    """
    length, count = _HEAD.unpack(_bytes(stream, _HEAD.size))
    sizes = [_SIZE.unpack(_bytes(stream, _SIZE.size))[0] for _ in range(count)]
    body = _bytes(stream, length)
    return pickle.loads(body, buffers=[_bytes(stream, size) for size in sizes])


def _bytes(stream: BinaryIO, size: int) -> memoryview:
    view = np.empty(size, np.uint8).data  # unlike a bytearray, not filled with zeros first
    done = 0
    while done < size:
        got = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        done += got
    return view
