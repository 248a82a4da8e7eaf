"""The one way to Matplotlib: it leaves nothing in the user's home."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VARIABLE = "MPLCONFIGDIR"


def figure_class() -> type[Figure]:
    """Matplotlib's class of figures.

    As it is imported Matplotlib lists the fonts of the machine, and keeps the list in the user's cache, in a
    folder that nobody named. Here it gets a folder for the while, unless the user named one.

    Raises:
        ImportError: it is not installed.
    """
    if "matplotlib" not in sys.modules and _VARIABLE not in os.environ:
        # Where that takes seconds it would say so at each run.
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
        with tempfile.TemporaryDirectory() as folder:
            os.environ[_VARIABLE] = folder
            try:
                import matplotlib.font_manager  # noqa: F401
            finally:
                del os.environ[_VARIABLE]
    from matplotlib.figure import Figure

    return Figure
