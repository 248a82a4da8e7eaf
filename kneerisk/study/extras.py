"""Libraries of the extra ``study``: what to install where one is absent."""

from __future__ import annotations

from importlib.util import find_spec

from kneerisk.errors import KneeriskError

_MODULES = {"scikit-learn": "sklearn"}


def needs(*packages: str) -> None:
    """KneeriskError with the command that installs them, where a package is not here."""
    absent = [name for name in packages if find_spec(_MODULES.get(name, name)) is None]
    if absent:
        raise KneeriskError(
            f"this needs {', '.join(absent)}, of the extra study: pip install 'kneerisk[study]'"
        )
