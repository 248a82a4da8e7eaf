"""``--run-report``: what a run was asked, what it ran on, what it came to, where the time went."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kneerisk.scoring.outputs.summary import Summary
from kneerisk.scoring.outputs.table import replace_with

_PACKAGES = (
    "kneerisk",
    "numpy",
    "openvino",
    "opencv-python-headless",
    "pydicom",
    "polars",
    "imagecodecs",
    "torch",
)


def write_run_report(path: Path, settings: Mapping[str, Any], summary: Summary) -> None:
    """Write the report; it is complete or absent."""
    report = {
        "alarms": [asdict(alarm) for alarm in summary.alarms],
        "settings": settings,
        "summary": summary.to_json(),
        "knees_per_second": round(summary.ok / summary.seconds, 3) if summary.seconds else None,
        "versions": versions(),
        "machine": machine(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".new")
    aside.write_text(json.dumps(report, indent=2, ensure_ascii=False, default=str) + "\n", "utf-8")
    replace_with(aside, path)


def versions() -> dict[str, str | None]:
    """Of Python and the packages that touch a row; ``None`` where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def machine() -> dict[str, Any]:
    """What the run ran on; no host name, no user."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
