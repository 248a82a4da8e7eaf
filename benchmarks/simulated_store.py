"""A simulated object store: it speaks as much of S3 as a scan and a reader need, and holds nothing.

Its objects follow from their numbers: ``cohort/00012/0001234.dcm`` is a DICOM file's beginning with a UID of
its own. An answer costs it some tens of microseconds, so that what is measured is the client; ``latency``
and ``faults`` make it as slow and as unsound as a store far away. It is a stand-in: no figure that was
measured against it is one of a real store.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import struct
import sys
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

BUCKET = "simulated"
PREFIX = "cohort"
OBJECT_BYTES = 64 * 1024
_A_FOLDER = 100
_PAGE = 1000
_HEAD_BYTES = 4096
_KEY = re.compile(rf"{PREFIX}/\d{{5}}/(\d{{7}})\.dcm")
_DATE = "Wed, 01 Jul 2026 00:00:00 GMT"
_STAMP = "2026-07-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What the store is like."""

    objects: int
    latency: float = 0.0
    """Seconds before each answer."""
    faults: float = 0.0
    """Share of the requests that go wrong: an answer 503, one that breaks off, or a hung-up connection."""
    seed: int = 0


class SimulatedStore:
    """Runs in a process of its own as long as the context; ``url`` is its endpoint."""

    def __init__(self, settings: StoreSettings) -> None:
        ours, theirs = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(target=_run, args=(settings, theirs), daemon=True)
        self._ours = ours
        self.url = ""

    def __enter__(self) -> Self:
        self._process.start()
        self.url = f"http://127.0.0.1:{self._ours.recv()}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def told(self) -> tuple[int, int]:
        """How many requests were answered or spoilt so far, and how many of them were spoilt."""
        self._ours.send("count")
        answered, spoilt = self._ours.recv()
        return int(answered), int(spoilt)


def environment(url: str) -> dict[str, str]:
    """The variables that lead obstore to a server that speaks S3."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "simulated",
        "AWS_SECRET_ACCESS_KEY": "simulated",
    }


def key_of(number: int) -> str:
    """The name of an object; names sort as their numbers do."""
    return f"{PREFIX}/{number // _A_FOLDER:05d}/{number:07d}.dcm"


def head_of(number: int) -> bytes:
    """The first bytes of an object, as explicit little endian DICOM has them (PS3.10, 7.1)."""
    uid = f"2.25.{number + 1}"
    meta = (
        _element(0x0002, 0x0002, "1.2.840.10008.5.1.4.1.1.1.1")
        + _element(0x0002, 0x0003, uid)
        + _element(0x0002, 0x0010, "1.2.840.10008.1.2.1")
    )
    group = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    told = b"\0" * 128 + b"DICM" + group + meta + _element(0x0008, 0x0018, uid)
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, OBJECT_BYTES - len(told) - 12)
    return (told + pixels).ljust(_HEAD_BYTES, b"\0")


def _element(group: int, element: int, uid: str) -> bytes:
    value = uid.encode()
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", group, element, b"UI", len(value)) + value


def _tag_of(number: int) -> str:
    return hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()


class _Answers(asyncio.Protocol):
    """One connection; requests come one after another, and have no body."""

    answered = 0
    spoilt = 0

    def __init__(self, settings: StoreSettings, chance: random.Random) -> None:
        self._settings = settings
        self._chance = chance
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        assert isinstance(transport, asyncio.Transport)
        self._write = transport.write

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            request, self._held = self._held[:end].decode("latin-1"), self._held[end + 4 :]
            if self._settings.latency:
                asyncio.get_running_loop().call_later(self._settings.latency, self._answer, request)
            else:
                self._answer(request)

    def _answer(self, request: str) -> None:
        _Answers.answered += 1
        lot = self._chance.random()
        if lot < self._settings.faults:
            _Answers.spoilt += 1
            self._spoil(request, lot / self._settings.faults)
        else:
            self._write(_answer_to(request, self._settings.objects))

    def _spoil(self, request: str, lot: float) -> None:
        if lot < 1 / 3:
            self._write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
            return
        if lot < 2 / 3:
            whole = _answer_to(request, self._settings.objects)
            self._write(whole[: len(whole) // 2])
        self._transport.close()


def _answer_to(request: str, objects: int) -> bytes:
    line, *headers = request.split("\r\n")
    method, where, _ = line.split(" ")
    url = urlsplit(where)
    key = unquote(url.path).removeprefix(f"/{BUCKET}").lstrip("/")
    if not unquote(url.path).startswith(f"/{BUCKET}"):
        return _error(404, "NoSuchBucket")
    if not key:
        return _listing({name: values[0] for name, values in parse_qs(url.query).items()}, objects)
    found = _KEY.fullmatch(key)
    if found is None or int(found[1]) >= objects:
        return _error(404, "NoSuchKey")
    number = int(found[1])
    told = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in headers)}
    start, end, status = 0, OBJECT_BYTES, "200 OK"
    span = re.fullmatch(r"bytes=(\d+)-(\d+)", told.get("range", ""))
    more = ""
    if span is not None:
        start, end, status = int(span[1]), min(int(span[2]) + 1, OBJECT_BYTES), "206 Partial Content"
        more = f"Content-Range: bytes {start}-{end - 1}/{OBJECT_BYTES}\r\n"
    top = (
        f"HTTP/1.1 {status}\r\nContent-Length: {end - start}\r\n{more}"
        f'ETag: "{_tag_of(number)}"\r\nLast-Modified: {_DATE}\r\n\r\n'
    ).encode()
    if method == "HEAD":
        return top
    head = head_of(number)[start:end]
    return top + head + bytes(end - start - len(head))


def _listing(query: dict[str, str], objects: int) -> bytes:
    """One page of ListObjectsV2; its continuation token is the next object's number."""
    after = _KEY.fullmatch(query.get("start-after", ""))
    first = int(query.get("continuation-token", 0 if after is None else int(after[1]) + 1))
    last = min(first + min(int(query.get("max-keys", _PAGE)), _PAGE), objects)
    if not f"{PREFIX}/".startswith(query.get("prefix", "")):
        first = last = objects
    more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < objects else ""
    contents = "".join(
        f"<Contents><Key>{quote(key_of(number))}</Key><LastModified>{_STAMP}</LastModified>"
        f"<ETag>&quot;{_tag_of(number)}&quot;</ETag><Size>{OBJECT_BYTES}</Size></Contents>"
        for number in range(first, last)
    )
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>'
        f"<Name>{BUCKET}</Name><KeyCount>{last - first}</KeyCount>"
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{contents}</ListBucketResult>"
    ).encode()
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _error(status: int, code: str) -> bytes:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    return f"HTTP/1.1 {status} {code}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _run(settings: StoreSettings, pipe: Connection) -> None:
    asyncio.run(_serve(settings, pipe))


async def _serve(settings: StoreSettings, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    chance = random.Random(settings.seed)
    server = await loop.create_server(lambda: _Answers(settings, chance), "127.0.0.1", 0)
    pipe.send(server.sockets[0].getsockname()[1])

    def told() -> None:
        try:
            pipe.recv()
        except EOFError:
            sys.exit()
        pipe.send((_Answers.answered, _Answers.spoilt))

    loop.add_reader(pipe.fileno(), told)
    await server.serve_forever()
