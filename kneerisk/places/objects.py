"""Object stores: S3 and what speaks its language, Google's, Azure's; by obstore, which retries with back-off.

It is a thin layer over Rust's object_store: one wheel for all stores, without their vendors' clients, and
with requests that run outside Python's lock. Endpoint and credentials are taken from the environment (AWS_…,
GOOGLE_…, AZURE_…), as the vendors' own tools do.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from kneerisk.errors import UsageError
from kneerisk.places.place import State, too_big, url_of

_REMEMBERED = 4096
"""Objects whose first bytes and listing are held: a few windows of `warmed`."""
_PAGE = 1000
_MD5 = re.compile(r'"?[0-9a-f]{32}"?')
_MOST_BROKEN = 6
"""Pages that break off in a row before a listing is given up."""
_RETRIES: Any = {
    "max_retries": 6,
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
    "retry_timeout": timedelta(seconds=60),
}
_ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL"}
"""Azure's own settings say whether http is meant."""
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
_WORDS = (
    ("InvalidAccessKeyId", "the store does not know these credentials"),
    ("SignatureDoesNotMatch", "the store does not take these credentials"),
    ("latest/api/token", "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ("computeMetadata", "there are no credentials: set GOOGLE_APPLICATION_CREDENTIALS"),
    ("Account must be specified", "the account is not named: set AZURE_STORAGE_ACCOUNT_NAME"),
    ("metadata/identity", "there are no credentials: set AZURE_STORAGE_ACCOUNT_KEY"),
    *((code, "the bucket does not exist") for code in _NO_BUCKET),
    ("list response body", "the store's answer broke off"),
    ("error trying to connect", "the store does not answer"),
    ("Connect", "the store does not answer"),
    ("timed out", "the store does not answer in time"),
)


class _BrokenOffError(OSError):
    """The answer to a listing came in part."""


class _Memory:
    """The last few values by path, for several threads."""

    def __init__(self) -> None:
        self._held: OrderedDict[Path, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path, make: Callable[[], Any]) -> Any:
        with self._lock:
            if path in self._held:
                return self._held[path]
        made = make()
        self.put(path, made)
        return made

    def put(self, path: Path, value: Any) -> None:
        with self._lock:
            self._held[path] = value
            while len(self._held) > _REMEMBERED:
                self._held.popitem(last=False)


class Objects:
    """Objects in buckets; see :class:`kneerisk.places.place.Remote`."""

    def __init__(self) -> None:
        self._metas = _Memory()
        self._heads = _Memory()
        self._likenesses = _Memory()

    def read(self, path: Path, most: int) -> bytes:
        """All bytes, in one request."""
        with _failures(path):
            store, key = _store(path)
            answer = store.get(key)
            size = int(answer.meta["size"])
            if size > most:
                raise too_big(size)
            return bytes(answer.bytes())

    def head(self, path: Path, length: int) -> bytes:
        """The first bytes, by a range request."""

        def fetch() -> bytes:
            size = int(self._meta(path)["size"])
            with _failures(path):
                store, key = _store(path)
                return bytes(store.get_range(key, start=0, length=min(size, length))) if size else b""

        found: bytes = self._heads.get(path, fetch)
        return found

    def state(self, path: Path) -> State:
        """By a request of its own: what was listed may be long ago."""
        with _failures(path):
            store, key = _store(path)
            meta = store.head(key)
        mark = hashlib.blake2b(str(meta["e_tag"]).encode(), digest_size=7).digest()
        modified = int(meta["last_modified"].timestamp() * 1e9)
        return State(int(meta["size"]), modified, int.from_bytes(mark, "big"))

    def likeness(self, path: Path, block: int) -> bytes:
        """Of S3, size and ETag, where that is the MD5 of the bytes; else size, beginning, middle and end."""

        def fetch() -> bytes:
            meta = self._meta(path)
            size, tag = int(meta["size"]), str(meta["e_tag"])
            told = size.to_bytes(8, "little")
            if path.parts[0] == "s3:" and _MD5.fullmatch(tag):
                return told + tag.strip('"').encode()
            if not size:
                return told
            length = min(size, block)
            starts = [0, size // 2, max(0, size - block)]
            with _failures(path):
                store, key = _store(path)
                ends = [min(start + length, size) for start in starts]
                return told + b"".join(map(bytes, store.get_ranges(key, starts=starts, ends=ends)))

        found: bytes = self._likenesses.get(path, fetch)
        return found

    def is_file(self, path: Path) -> bool:
        """Whether an object has this very name."""
        if len(path.parts) < 3:
            return False
        try:
            self._meta(path)
        except FileNotFoundError:
            return False
        return True

    def files(self, path: Path) -> Iterator[Path]:
        """Every object below, as the store lists them: by name. One request lists a thousand.

        A page that breaks off is asked for again from the last name that came: obstore repeats requests that
        fail, but not a listing whose answer does.
        """
        home = Path(*path.parts[:2])
        pages: Iterator[Any] | None = None
        last: str | None = None
        broken = 0
        while True:
            try:
                with _failures(path):
                    if pages is None:
                        store, key = _store(path)
                        pages = iter(store.list(prefix=key or None, offset=last, chunk_size=_PAGE))
                    page = next(pages, None)
            except _BrokenOffError:
                broken += 1
                if broken > _MOST_BROKEN:
                    raise
                time.sleep(0.1 * 2**broken)
                pages = None
                continue
            if page is None:
                return
            broken = 0
            for meta in page:
                found = home / meta["path"]
                self._metas.put(found, meta)
                yield found
            last = page[-1]["path"]

    def _meta(self, path: Path) -> Any:
        def fetch() -> Any:
            with _failures(path):
                store, key = _store(path)
                return store.head(key)

        return self._metas.get(path, fetch)


def put(source: Path, target: Path) -> None:
    """Copy a file into a store: in parts if it is large; the object is complete or absent."""
    with _failures(target):
        store, key = _store(target)
        with source.open("rb") as stream:
            store.put(key, stream)


def exists(path: Path) -> bool:
    """Whether an object is there; OSError where that cannot be told, or there is no such bucket."""
    store = Objects()
    next(store.files(path.parent), None)  # asked for one object, a store does not tell which of the two lacks
    return store.is_file(path)


def _store(path: Path) -> tuple[Any, str]:
    scheme, bucket, *key = path.parts
    return _opened(f"{scheme}//{bucket}"), "/".join(key)


@cache
def _opened(bucket: str) -> Any:
    try:
        from obstore.store import AzureStore, GCSStore, S3Store
    except ImportError as error:
        raise UsageError(f"{bucket} needs obstore: pip install 'kneerisk[cloud]'") from error
    scheme, _, name = bucket.partition("://")
    client: dict[str, Any] = {"timeout": timedelta(seconds=60)}
    if os.environ.get(_ENDPOINTS.get(scheme, ""), "").startswith("http://"):
        client["allow_http"] = True  # the user named such a server
    options: dict[str, Any] = {"retry_config": _RETRIES, "client_options": client}
    if scheme == "s3":
        return S3Store(name, **options)
    return GCSStore(name, **options) if scheme == "gs" else AzureStore(name, **options)


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    """A store's errors as the OSErrors of a disk, in words that a person can act on."""
    try:
        from obstore import exceptions as failed
    except ImportError as error:
        raise UsageError(f"{url_of(path)} needs obstore: pip install 'kneerisk[cloud]'") from error
    try:
        yield
    except (FileNotFoundError, failed.NotFoundError) as error:
        words = "the bucket does not exist" if any(c in str(error) for c in _NO_BUCKET) else "no such object"
        raise FileNotFoundError(errno.ENOENT, words, url_of(path)) from error
    except (failed.PermissionDeniedError, failed.UnauthenticatedError) as error:
        raise PermissionError(errno.EACCES, _words(error, "the store denies access"), url_of(path)) from error
    except failed.BaseError as error:
        kind = _BrokenOffError if "list response body" in str(error) else OSError
        raise kind(errno.EIO, _words(error, "the store failed"), url_of(path)) from error


def _words(error: Exception, otherwise: str) -> str:
    said = str(error)
    return next((words for mark, words in _WORDS if mark in said), otherwise)
