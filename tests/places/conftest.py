from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_load("served")  # which the servers import by its name


@pytest.fixture(scope="session")
def servers() -> dict[str, ModuleType]:
    """The modules of other servers, by name."""
    return {name: _load(name) for name in ("pacs", "orthanc", "emulators")}


@pytest.fixture(scope="session")
def _s3() -> Iterator[object]:
    with _load("s3_server").S3Server() as server:
        yield server


@pytest.fixture
def s3(_s3: object, monkeypatch: pytest.MonkeyPatch) -> object:
    """The server, with the bucket ``knees`` new and empty, and the environment that leads to it."""
    import urllib.request

    from kneerisk.places import objects, reach

    server = _s3
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)  # type: ignore[attr-defined]
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    objects._opened.cache_clear()
    reach._objects.cache_clear()
    server.faults = 0.0  # type: ignore[attr-defined]
    server.breaks = set()  # type: ignore[attr-defined]
    server.listings = 0  # type: ignore[attr-defined]
    for method, what in (("POST", "moto-api/reset"), ("PUT", "knees")):
        request = urllib.request.Request(f"{server.url}/{what}", method=method)  # type: ignore[attr-defined]
        urllib.request.urlopen(request).close()
    server.failed = 0  # type: ignore[attr-defined]
    server.requests.clear()  # type: ignore[attr-defined]
    server.ranges.clear()  # type: ignore[attr-defined]
    return server
