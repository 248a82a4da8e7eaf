"""The image's grade against the reader's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kneerisk.study.results import Figure, GradeAgreement
from kneerisk.study.statistics import bootstrap

if TYPE_CHECKING:
    import polars as pl

GRADES = 5


def grade_agreement(frame: pl.DataFrame, bootstraps: int, seed: int) -> GradeAgreement | None:
    """Agreement of ``kl_now`` and ``reader_kl``; ``None`` where no knee has both.

    Knees of KL 4 take part here, for a grade can be told of them. Intervals are of a bootstrap over
    participants; a knee without a participant stands for itself.
    """
    import polars as pl

    both = frame.drop_nulls(["kl_now", "reader_kl"]).with_row_index("_row")
    if both.is_empty():
        return None
    image, reader = (both[name].to_numpy().astype(np.int64) for name in ("kl_now", "reader_kl"))
    who = both.select(pl.coalesce("participant_id", pl.format("row {}", "_row"))).to_series()
    owner = who.cast(pl.Categorical).to_physical().to_numpy()
    people, owner = np.unique(owner, return_inverse=True)
    cells = GRADES * reader + image
    counts = bootstrap.Counts.of(
        cells, np.zeros(len(cells), bool), owner.astype(np.int64), len(people), GRADES**2
    )
    once = counts.once()[0][0]
    values = _figures(once)[0]
    figures = [Figure(float(v)) if np.isfinite(v) else Figure.none("one grade alone") for v in values]
    if bootstraps:
        job = {"grades": (counts, {"grades": lambda without, _: _figures(without[0])[None]})}
        drawn = bootstrap.run(job, len(people), bootstraps, seed)["grades"]["grades"][0]
        figures = [
            bootstrap.interval(figure.value, drawn[:, i]) if figure.value is not None else figure
            for i, figure in enumerate(figures)
        ]
    confusion = once[:, 0].reshape(GRADES, GRADES).astype(int)
    accuracy, balanced, kappa = figures
    rows = tuple(tuple(row) for row in confusion.tolist())
    return GradeAgreement(len(both), accuracy, balanced, kappa, rows)


def _figures(cells: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Confusions [25, B] (reader's grade by row) → accuracy, balanced accuracy, quadratic kappa [B, 3]."""
    table = cells.T.reshape(-1, GRADES, GRADES)
    total = table.sum(axis=(1, 2))
    right = np.einsum("bgg->bg", table)
    reader, image = table.sum(axis=2), table.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(reader > 0, right / reader, np.nan)
        apart = np.subtract.outer(np.arange(GRADES), np.arange(GRADES)) ** 2
        seen = (table * apart).sum(axis=(1, 2))
        chance = np.einsum("bi,bj,ij->b", reader, image, apart) / total
        kappa = 1 - seen / chance
    graded = (~np.isnan(recall)).sum(axis=1)
    balanced = np.nansum(recall, axis=1) / np.maximum(graded, 1)
    return np.stack([right.sum(axis=1) / total, balanced, kappa], axis=1)
