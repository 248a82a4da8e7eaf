"""A small PACS that speaks DICOMweb as Orthanc does: it holds instances in memory, and answers in pages."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterable
from email.parser import BytesParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from pydicom import dcmread
from pydicom.dataset import Dataset
from served import Served

logging.getLogger("werkzeug").setLevel(logging.ERROR)
LEVELS = (
    ("studies", "StudyInstanceUID", ("StudyInstanceUID", "PatientID")),
    ("series", "SeriesInstanceUID", ("SeriesInstanceUID", "Modality", "Manufacturer", "SeriesDescription")),
    ("instances", "SOPInstanceUID", ("SOPInstanceUID", "SOPClassUID")),
)
Start = Callable[..., Any]


class Pacs(Served):
    """Runs as long as the context; ``web`` is the place that kneerisk is given."""

    def __init__(self, home: Path) -> None:
        self._held: dict[str, tuple[Dataset, bytes]] = {}
        super().__init__()
        self.web = f"dicomweb+http://127.0.0.1:{self._server.server_port}/dicom-web"
        self.fail_next = 0
        """Answers that are 503."""
        self.status = 0
        """Of every answer, where it is not 0."""

    def _answer(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if self.fail_next or self.status:
            self.fail_next = max(0, self.fail_next - 1)
            start(f"{self.status or 503} No", [("Content-Length", "0")])
            return [b""]
        if environ["REQUEST_METHOD"] == "POST":
            return self._store(environ["CONTENT_TYPE"], body, start)
        inside = re.fullmatch(r"/dicom-web/(.+)", environ["PATH_INFO"])
        words = inside.group(1).split("/") if inside else ["?"]
        kinds, uids = words[::2], dict(zip(words[::2], words[1::2], strict=False))
        if kinds != [level[0] for level in LEVELS][: len(kinds)]:
            return _send(start, "404 Not Found", "text/plain", b"")
        found = [
            (head, data)
            for head, data in self._held.values()
            if all(head[name].value == uids[kind] for kind, name, _ in LEVELS if kind in uids)
        ]
        if len(words) % 2:
            return self._search(kinds[-1], [head for head, _ in found], environ["QUERY_STRING"], start)
        if not found:
            return _send(start, "404 Not Found", "text/plain", b"")
        mark = b"a-boundary"
        parts = b"".join(
            b"--" + mark + b"\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n"
            for _, data in found
        )
        kind = 'multipart/related; type="application/dicom"; boundary=a-boundary'
        return _send(start, "200 OK", kind, parts + b"--" + mark + b"--")

    def _search(self, kind: str, heads: list[Dataset], query: str, start: Start) -> Iterable[bytes]:
        _, name, told = next(level for level in LEVELS if level[0] == kind)
        asked = dict(parse_qsl(query))
        by_uid = {head[name].value: head for head in heads if asked.get(name) in (None, head[name].value)}
        first = int(asked.get("offset", 0))
        page = list(by_uid.values())[first : first + int(asked.get("limit", 10**9))]
        answer = []
        for head in page:
            row = Dataset()
            for keyword in told:
                setattr(row, keyword, head.get(keyword, ""))
            answer.append(row.to_json_dict())
        return _send(start, "200 OK", "application/dicom+json", json.dumps(answer).encode())

    def _store(self, content_type: str, body: bytes, start: Start) -> Iterable[bytes]:
        message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n")
        mark = b"--" + str(message.get_param("boundary")).encode()
        for part in body.split(mark)[1:-1]:
            data = part[part.index(b"\r\n\r\n") + 4 : -2]
            head = dcmread(io.BytesIO(data), stop_before_pixels=True)
            self._held[head.SOPInstanceUID] = (head, data)
        return _send(start, "200 OK", "application/dicom+json", b"{}")


def _send(start: Start, status: str, kind: str, body: bytes) -> Iterable[bytes]:
    start(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
