"""A PACS by DICOMweb: QIDO-RS lists its instances, WADO-RS brings them (DICOM PS3.18).

``dicomweb://server/dicom-web`` is spoken to by https, ``dicomweb+http://`` by plain http, both with
``/studies/UID`` behind them or not. Who may enter: the user's ``.netrc``, or a token in
``KNEERISK_DICOMWEB_TOKEN``; never the URL, which journals and tables keep.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from kneerisk.errors import UsageError
from kneerisk.places.place import OUR_MANUFACTURER, State, too_big, url_of

TOKEN = "KNEERISK_DICOMWEB_TOKEN"
_RADIOGRAPHS = frozenset({"CR", "DX", "DR", "RG", "XR", "OT", "SC", ""})
"""Modalities of series that may hold radiographs; whether they do, their headers say when they are read."""
_MODALITY, _MANUFACTURER, _DESCRIPTION = "00080060", "00080070", "0008103E"
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_PAGE = 200
_TIMEOUTS = (10, 120)
"""Seconds to connect, and between two bytes."""


class DicomWeb:
    """Instances of a PACS; see :class:`kneerisk.places.place.Remote`."""

    def read(self, path: Path, most: int) -> bytes:
        """The instance as the server holds it, in its own transfer syntax."""
        server, uids = _parts(path)
        url = f"{server}/" + "/".join(f"{kind}/{uid}" for kind, uid in uids.items())
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        with _failures(path):
            answer = _session().get(url, headers={"Accept": accept}, stream=True)
            answer.raise_for_status()
            body = bytearray()
            for chunk in answer.iter_content(1 << 20):
                body += chunk
                if len(body) > most:
                    answer.close()
                    raise too_big(len(body))
        try:
            return _only_part(bytes(body), answer.headers.get("Content-Type", ""))
        except ValueError as error:
            raise OSError(errno.EIO, f"the server's answer is no DICOM ({error})", url_of(path)) from error

    def head(self, path: Path, length: int) -> bytes:
        """A DICOM file's beginning with the UID, of which the listing said that it is an image's.

        A server sends whole instances only.
        """
        uid = path.name.encode("ascii", "replace")
        uid += b"\0" * (len(uid) % 2)
        return b"\0" * 128 + b"DICM" + struct.pack("<HH2sH", 2, 3, b"UI", len(uid)) + uid

    def state(self, path: Path) -> State:
        """Always the same: what has a UID never changes (DICOM PS3.5, 9)."""
        return State(0, 0, 0)

    def likeness(self, path: Path, block: int) -> bytes:
        """Its place: copies have other UIDs, and are not known as such before they are read."""
        return url_of(path).encode()

    def is_file(self, path: Path) -> bool:
        """Whether the URL is an instance's."""
        return "instances" in _parts(path)[1]

    def files(self, path: Path) -> Iterator[Path]:
        """Every instance that may be a radiograph, by study, series and instance UID.

        Series of other modalities, and what this software wrote, are passed over.
        """
        server, uids = _parts(path)
        home = Path(*path.parts[: len(path.parts) - 2 * len(uids)])
        with _failures(path):
            client = _client(server)
        for study in self._uids(path, client.search_for_studies, _STUDY, uids.get("studies")):
            search = partial(client.search_for_series, study, fields=[_MANUFACTURER, _DESCRIPTION])
            for series in self._uids(path, search, _SERIES, uids.get("series"), _may_hold_radiographs):
                instances = partial(client.search_for_instances, study, series)
                for instance in self._uids(path, instances, _INSTANCE, uids.get("instances")):
                    yield home / "studies" / study / "series" / series / "instances" / instance

    def _uids(
        self,
        path: Path,
        search: Any,
        tag: str,
        wanted: str | None,
        keep: Callable[[dict[str, Any]], bool] = lambda answer: True,
    ) -> Iterator[str]:
        """UIDs that a search finds, sorted; a page of answers at a time is held beside them."""
        found: dict[str, bool] = {}
        names = {_STUDY: "StudyInstanceUID", _SERIES: "SeriesInstanceUID", _INSTANCE: "SOPInstanceUID"}
        filters = {} if wanted is None else {names[tag]: wanted}
        while True:
            offset = len(found)
            with _failures(path):
                page = search(search_filters=filters, limit=_PAGE, offset=offset) or []
            for answer in page:
                found[_value(answer, tag)] = keep(answer)
            if len(page) < _PAGE or len(found) == offset:
                break
        yield from sorted(uid for uid, kept in found.items() if kept)


def store(files: list[Path], server: Path) -> None:
    """Store DICOM files in a PACS (STOW-RS), one request each, so that one refusal costs one.

    Raises:
        OSError: the server does not take one.
    """
    from pydicom import dcmread

    url, _ = _parts(server)
    for file in files:
        with _failures(server):
            answer = _client(url).store_instances([dcmread(file)])
        if answer.get("FailedSOPSequence"):
            raise OSError(errno.EIO, f"the server refuses {file.name}", url_of(server))


def _parts(path: Path) -> tuple[str, dict[str, str]]:
    """The server's URL, and the UIDs behind it by the name before each."""
    scheme, host, *rest = path.parts
    if "@" in host:
        raise UsageError(
            f"a password in a URL ends in journals and tables: put {host.rpartition('@')[2]} into ~/.netrc, "
            f"or a token into {TOKEN}"
        )
    start = rest.index("studies") if "studies" in rest else len(rest)
    pairs = rest[start:]
    kinds = ("studies", "series", "instances")
    if len(pairs) % 2 or tuple(pairs[::2]) != kinds[: len(pairs) // 2]:
        raise UsageError(f"{url_of(path)}: behind the server comes /studies/UID, perhaps with /series/UID")
    server = f"{'http' if scheme == 'dicomweb+http:' else 'https'}://{'/'.join((host, *rest[:start]))}"
    return server, dict(zip(pairs[::2], pairs[1::2], strict=True))


def _may_hold_radiographs(series: dict[str, Any]) -> bool:
    ours = OUR_MANUFACTURER in (_value(series, _MANUFACTURER), _value(series, _DESCRIPTION).partition(",")[0])
    return not ours and _value(series, _MODALITY) in _RADIOGRAPHS


def _value(answer: dict[str, Any], tag: str) -> str:
    return str((answer.get(tag, {}).get("Value") or [""])[0])


def _only_part(body: bytes, content_type: str) -> bytes:
    """The one part of a multipart answer (RFC 2046, 5.1), byte for byte."""
    _, found, boundary = content_type.partition("boundary=")
    if not found:
        return body
    mark = b"--" + boundary.split(";")[0].strip(' "').encode()
    start = body.find(b"\r\n\r\n", body.find(mark))
    end = body.rfind(b"\r\n" + mark)
    if start < 0 or end < start:
        raise ValueError("a part is missing")
    return body[start + 4 : end]


@cache
def _session() -> Any:
    """Retries with back-off what a server may stumble over, and waits for no answer for ever."""
    try:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry
    except ImportError as error:
        raise UsageError("dicomweb:// needs dicomweb-client: pip install 'kneerisk[pacs]'") from error
    retry = Retry(
        total=5, backoff_factor=0.2, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=32))
    if os.environ.get(TOKEN):
        session.headers["Authorization"] = f"Bearer {os.environ[TOKEN]}"
    session.request = partial(session.request, timeout=_TIMEOUTS)  # type: ignore[method-assign]
    return session


@cache
def _client(server: str) -> Any:
    try:
        from dicomweb_client.api import DICOMwebClient
    except ImportError as error:
        raise UsageError("dicomweb:// needs dicomweb-client: pip install 'kneerisk[pacs]'") from error
    client = DICOMwebClient(server, session=_session())
    client.set_http_retry_params(retry=False)  # the session does
    return client


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    """What requests raises as the OSErrors of a disk, in words that a person can act on."""
    import requests

    try:
        yield
    except requests.HTTPError as error:
        code = 0 if error.response is None else error.response.status_code
        if code in (401, 403):
            words = f"the server denies access: put it into ~/.netrc, or a token into {TOKEN}"
            raise PermissionError(errno.EACCES, words, url_of(path)) from error
        if code == 404:
            raise FileNotFoundError(errno.ENOENT, "the server has no such thing", url_of(path)) from error
        raise OSError(errno.EIO, f"the server failed (HTTP {code})", url_of(path)) from error
    except requests.Timeout as error:
        raise OSError(errno.EIO, "the server does not answer in time", url_of(path)) from error
    except (requests.RequestException, ValueError) as error:
        is_other = isinstance(error, ValueError) and not isinstance(error, requests.ConnectionError)
        words = "the server does not speak DICOMweb" if is_other else "the server does not answer"
        raise OSError(errno.EIO, words, url_of(path)) from error
