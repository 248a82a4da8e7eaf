"""Engines on disk: found by what they were built from and for, and checked before a byte of one is run.

    <root>/engines/<component>-<precision>-<flavour>-<digest>/  plan, manifest.json, build.log
           failures/<the same>/                                 manifest.json, build.log: never found
           timing/<version>-<gpu>.cache                         disposable

An engine is code: the root belongs to its user alone, and a manifest is compared with what is wanted, and the
plan with the manifest's hash, before the plan is handed out.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kneerisk_engines.errors import EngineError, EngineMismatchError
from kneerisk_engines.files import folder_whole, locked, remove_folder
from kneerisk_engines.plain import from_plain, to_plain
from kneerisk_engines.tensorrt.key import EngineKey

FORMAT = 1
CACHE_VARIABLE = "KNEERISK_CACHE"
PLAN, MANIFEST, LOG = "plan", "manifest.json", "build.log"


@dataclass(frozen=True, slots=True)
class CachedEngine:
    """One engine whose manifest was read; its plan is checked by :meth:`EngineCache.plan`."""

    folder: Path
    key: EngineKey
    plan_sha256: str
    plan_bytes: int
    built: str
    """When, UTC, ISO 8601."""
    verification: Mapping[str, Any] | None
    """The report; ``None`` where no GPU has run the engine yet."""

    @property
    def verified(self) -> bool:
        """Whether it was run, and its answers agreed."""
        return self.verification is not None and not self.verification["failures"]


def cache_root() -> Path:
    """$KNEERISK_CACHE, else the user's cache folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_cache_dir("kneerisk", appauthor=False))


class EngineCache:
    """The engines below a root folder, which is made when something is first written."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = cache_root() if root is None else root

    def folder(self, key: EngineKey) -> Path:
        """Where an engine of this key lies: for writers and readers alike."""
        return self.root / "engines" / key.folder_name

    def find(self, key: EngineKey) -> CachedEngine | None:
        """The engine of this key, its manifest checked.

        Raises:
            EngineMismatchError: what lies in its place is something else, damaged, or open to others.
        """
        folder = self.folder(key)
        if not folder.is_dir():
            return None
        engine = self._read(folder)
        if engine.key != key:
            raise EngineMismatchError(
                f"{folder} holds another engine than its name says "
                f"({'; '.join(engine.key.differences(key))}): {_AGAIN}"
            )
        return engine

    def plan(self, engine: CachedEngine) -> bytes:
        """The plan's bytes, which are those that were published.

        Raises:
            EngineMismatchError: they are not.
        """
        self._check_owner(engine.folder)
        try:
            plan = (engine.folder / PLAN).read_bytes()
        except OSError as error:
            raise EngineMismatchError(f"{engine.folder / PLAN} cannot be read ({error}): {_AGAIN}") from error
        if len(plan) != engine.plan_bytes:
            raise EngineMismatchError(
                f"{engine.folder / PLAN} has {len(plan)} bytes, its manifest says {engine.plan_bytes}: "
                f"{_AGAIN}"
            )
        found = hashlib.sha256(plan).hexdigest()
        if found != engine.plan_sha256:
            raise EngineMismatchError(
                f"{engine.folder / PLAN} was changed or damaged (SHA-256 {found[:12]}…, its manifest says "
                f"{engine.plan_sha256[:12]}…): {_AGAIN}"
            )
        return plan

    def publish(
        self,
        key: EngineKey,
        plan: bytes,
        *,
        log: str,
        verification: Mapping[str, Any] | None = None,
        machine: Mapping[str, Any] | None = None,
    ) -> CachedEngine:
        """Put an engine into its place, whole or not at all; one that is there gives way.

        Args:
            key: its key.
            plan: the serialised engine.
            log: what the builder said.
            verification: the report of a run that passed, or ``None`` where no GPU was there to run it.
            machine: driver and CUDA, to be told of when they change.

        Raises:
            EngineError: the report has failures: such an engine is never published.
        """
        if verification is not None and verification["failures"]:
            raise EngineError(f"{key.component}: an engine that failed its verification is not published")
        self._put(self.folder(key), key, plan, log, verification, machine)
        return self._read(self.folder(key))

    def keep_failure(self, key: EngineKey, *, log: str, verification: Mapping[str, Any]) -> Path:
        """Keep the report of an engine that failed, without the engine; gives its folder."""
        folder = self.root / "failures" / key.folder_name
        self._put(folder, key, None, log, verification, None)
        return folder

    def entries(self) -> Iterator[CachedEngine]:
        """Every engine whose manifest can be read, in the order of their names."""
        for folder in self._folders():
            try:
                yield self._read(folder)
            except EngineMismatchError:
                continue

    def damaged(self) -> Iterator[tuple[Path, str]]:
        """Folders that hold no whole engine, and why; reads every plan."""
        for folder in self._folders():
            try:
                self.plan(self._read(folder))
            except EngineMismatchError as error:
                yield folder, str(error)

    def remove(self, folder: Path) -> None:
        """Take a folder of this cache away: renamed first, so that nobody finds half of it."""
        if folder.parent not in (self.root / "engines", self.root / "failures"):
            raise EngineError(f"{folder} is not of the cache {self.root}")
        remove_folder(folder)

    def failures(self) -> list[Path]:
        """The folders of reports that :meth:`keep_failure` wrote."""
        return _visible(self.root / "failures")

    @contextmanager
    def lock(self, key: EngineKey) -> Iterator[None]:
        """Hold a key's lock: another process that wants to build the same waits, and then finds it built."""
        folder = self.root / "locks"
        self._make(folder)
        with locked(folder / f"{key.digest[:32]}.lock", wait=True):
            yield

    def timing_cache(self, version: str, gpu: str) -> Path:
        """Where the timings of a TensorRT version on a GPU lie; a file that may be thrown away."""
        name = "".join(c if c.isalnum() or c in ".-" else "_" for c in f"{version}-{gpu}")
        return self.root / "timing" / f"{name}.cache"

    def _folders(self) -> list[Path]:
        return _visible(self.root / "engines")

    def _make(self, folder: Path) -> None:
        for path in (self.root, folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _put(
        self,
        folder: Path,
        key: EngineKey,
        plan: bytes | None,
        log: str,
        verification: Mapping[str, Any] | None,
        machine: Mapping[str, Any] | None,
    ) -> None:
        self._make(folder.parent)
        manifest = {
            "format": FORMAT,
            "key": to_plain(key),
            "plan_sha256": None if plan is None else hashlib.sha256(plan).hexdigest(),
            "plan_bytes": None if plan is None else len(plan),
            "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": machine,
            "verification": verification,
        }
        with folder_whole(folder, mode=0o700) as aside:
            if plan is not None:
                _write(aside / PLAN, plan)
            _write(aside / LOG, log.encode())
            _write(aside / MANIFEST, json.dumps(manifest, indent=1).encode())

    def _read(self, folder: Path) -> CachedEngine:
        self._check_owner(folder)
        try:
            values = json.loads((folder / MANIFEST).read_text("utf-8"))
            if values["format"] != FORMAT:
                raise EngineMismatchError(
                    f"{folder} has format {values['format']!r}, this version of kneerisk reads {FORMAT}: "
                    f"{_AGAIN}"
                )
            return CachedEngine(
                folder,
                from_plain(EngineKey, values["key"], "key"),
                str(values["plan_sha256"]),
                int(values["plan_bytes"]),
                str(values["built"]),
                values["verification"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineMismatchError(f"{folder} holds no readable manifest ({error}): {_AGAIN}") from error

    def _check_owner(self, folder: Path) -> None:
        """Refuse what others could have written: running an engine is running code."""
        if os.name == "nt":
            return
        files = (path for name in (PLAN, MANIFEST) if os.path.lexists(path := folder / name))
        for path in (self.root, folder.parent, folder, *files):
            # The link of a file could lead to one that others write.
            status = path.lstat() if path.parent == folder else path.stat()
            if (
                stat.S_ISLNK(status.st_mode)
                or status.st_uid not in (os.getuid(), 0)
                or status.st_mode & 0o022
            ):
                raise EngineMismatchError(
                    f"{path} can be written by others, and an engine is code: chmod go-w it, or set "
                    f"${CACHE_VARIABLE} to a folder of your own, and build it there"
                )


_AGAIN = "remove it with kneerisk engines prune --damaged, and build again with kneerisk compile"


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _write(path: Path, content: bytes) -> None:
    """A file for its user alone."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(content)
