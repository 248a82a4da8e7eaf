"""Orthanc, the PACS, with its DICOMweb plugin, in a folder of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def is_installed() -> bool:
    return Path(PROGRAM).exists() and PLUGIN.exists()


class Orthanc:
    """Runs as long as the context; ``url`` is its page, ``web`` the place that kneerisk is given."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.web = f"dicomweb+http://127.0.0.1:{port}/dicom-web"
        self._settings = home / "orthanc.json"
        self._settings.write_text(
            json.dumps(
                {
                    "Name": "A research archive",
                    "StorageDirectory": str(home / "store"),
                    "IndexDirectory": str(home / "store"),
                    "HttpPort": port,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "DicomServerEnabled": False,
                    "OverwriteInstances": True,
                    "Plugins": [str(PLUGIN)],
                }
            )
        )

    def __enter__(self) -> Orthanc:
        self._process = subprocess.Popen(
            [PROGRAM, self._settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{self.url}/system").close()
                return self
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("Orthanc does not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
