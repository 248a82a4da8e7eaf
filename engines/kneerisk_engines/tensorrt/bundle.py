"""Engines as one file, to carry to another machine: a plain tar of their folders."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from kneerisk_engines.errors import EngineError, EngineMismatchError
from kneerisk_engines.files import written_whole
from kneerisk_engines.plain import from_plain
from kneerisk_engines.tensorrt.cache import LOG, MANIFEST, PLAN, CachedEngine, EngineCache
from kneerisk_engines.tensorrt.key import EngineKey

_FILES = (MANIFEST, LOG, PLAN)
_LARGEST = 8 * 2**30
"""Bytes of one plan, at most: a bundle that claims more is refused unread."""


def export_engines(cache: EngineCache, engines: Iterable[CachedEngine], file: Path) -> list[str]:
    """Write engines, each checked, into a tar; whole or not at all. Gives their folders' names.

    Raises:
        EngineMismatchError: an engine is damaged.
        EngineError: there is none.
    """
    names = []
    with written_whole(file) as aside:
        with tarfile.open(aside, "w") as tar:
            for engine in engines:
                cache.plan(engine)
                for name in _FILES:
                    content = (engine.folder / name).read_bytes()
                    entry = tarfile.TarInfo(f"{engine.folder.name}/{name}")
                    entry.size, entry.mode = len(content), 0o600
                    tar.addfile(entry, io.BytesIO(content))
                names.append(engine.folder.name)
        if not names:
            raise EngineError("there is no engine to export: kneerisk engines list shows what is here")
    return names


def import_engines(cache: EngineCache, file: Path) -> list[CachedEngine]:
    """Publish a bundle's engines, all of them or none; what they were verified on elsewhere does not count.

    Only import what you would run: an engine is code.

    Raises:
        EngineMismatchError: the file is no bundle, is damaged, or holds something else than engines.
    """
    found: list[tuple[EngineKey, bytes, str]] = []
    try:
        with tarfile.open(file, "r:") as tar:
            folders = _members(tar, file)
            for folder in sorted(folders):
                content = {name: _content(tar, folders[folder][name]) for name in _FILES}
                found.append(_checked(folder, content, file))
    except (tarfile.TarError, OSError, KeyError) as error:
        raise EngineMismatchError(f"{file} is no bundle of engines ({error}): export it again") from error
    return [cache.publish(key, plan, log=log) for key, plan, log in found]


def _members(tar: tarfile.TarFile, file: Path) -> dict[str, dict[str, tarfile.TarInfo]]:
    """Folder → file name → entry; nothing else than plain files, two deep, may be there."""
    folders: dict[str, dict[str, tarfile.TarInfo]] = {}
    for entry in tar:
        parts = PurePosixPath(entry.name).parts
        plain = len(parts) == 2 and ".." not in parts and not entry.name.startswith("/")
        if not (plain and entry.isreg() and parts[1] in _FILES and entry.size <= _LARGEST):
            raise EngineMismatchError(f"{file} holds {entry.name!r}, which is no part of an engine: refused")
        folders.setdefault(parts[0], {})[parts[1]] = entry
    if not folders:
        raise EngineMismatchError(f"{file} holds no engine")
    return folders


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(entry)
    assert stream is not None
    return stream.read()


def _checked(folder: str, content: dict[str, bytes], file: Path) -> tuple[EngineKey, bytes, str]:
    try:
        manifest = json.loads(content[MANIFEST])
        key = from_plain(EngineKey, manifest["key"], "key")
        expected = manifest["plan_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineMismatchError(f"{file}: {folder} has no readable manifest ({error})") from error
    plan = content[PLAN]
    if key.folder_name != folder:
        raise EngineMismatchError(f"{file}: {folder} holds the engine {key.folder_name}")
    if hashlib.sha256(plan).hexdigest() != expected:
        raise EngineMismatchError(f"{file}: the plan of {folder} is not the one its manifest tells of")
    return key, plan, content[LOG].decode("utf-8", "replace")


def chosen(engines: Iterable[CachedEngine], names: Sequence[str]) -> list[CachedEngine]:
    """The engines that a name stands for: a component, or a folder's name up to any dash; all without names.

    Raises:
        EngineError: a name is no engine's.
    """
    there = list(engines)
    for name in names:
        if not any(_is_named(engine, name) for engine in there):
            raise EngineError(f"no engine {name!r}: kneerisk engines list shows what is here")
    return [engine for engine in there if not names or any(_is_named(engine, name) for name in names)]


def _is_named(engine: CachedEngine, name: str) -> bool:
    return f"{engine.folder.name}-".startswith(f"{name}-")
