"""What this machine is, and what is installed on it: for run reports and ``kneerisk doctor``."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kneerisk.version import __version__

_PACKAGES = (
    "numpy",
    "openvino",
    "opencv-python-headless",
    "pydicom",
    "polars",
    "imagecodecs",
    "torch",
)


def versions() -> dict[str, str | None]:
    """Of Python and the packages that touch a row; ``None`` where one is not installed."""
    found: dict[str, str | None] = {"kneerisk": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def usable_cpus() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """System, processor and CPUs; no host name, no user."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
    }


def peak_memory() -> int | None:
    """Most bytes that this process, or the largest of those it started, ever held; ``None`` on Windows."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if platform.system() == "Darwin" else 1024
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) * unit


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
