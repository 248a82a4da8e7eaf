"""Which kneerisk this is: by its installed metadata, the one place that says so."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("kneerisk")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"
