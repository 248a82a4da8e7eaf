"""Score cohorts of knee radiographs for the risk that knee osteoarthritis progresses within 12 months.

Research software, no medical device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kneerisk.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    import polars as pl

__all__ = ["__version__", "score"]


def score(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Score radiographs, as ``kneerisk score`` does, and return the table.

    Args:
        inputs: a folder, file or manifest, or several.
        out: where the table goes (.parquet or .csv); ``None`` keeps it in memory alone.
        options: the command's options, named as in the settings: ``side``, ``id_from``, ``spacing_mm``,
            ``invert``; ``stack``, ``backend``, ``precision``, ``device``, ``steps``, ``samples``, ``seed``,
            ``upscale``; ``resume``, ``overwrite``, ``retry_failed``, ``on_error``, ``limit``, ``workers``,
            ``timeout``, ``batch_size``, ``calibration``, ``bom``, ``previews``, ``futures``, ``run_report``,
            ``pseudonymise``.

    Returns:
        One row for each knee, refusals included; no rows where there is no image.

    Raises:
        UsageError, StackError, NoEngineError: see :mod:`kneerisk.errors`; TypeError for an unknown option.
    """
    from kneerisk.scoring.cohort import score_frame

    return score_frame(inputs, out, options)
