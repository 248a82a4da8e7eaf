"""A prepared cohort (``kneerisk prepare``) as the training stages read it: crops, labels, pairs of visits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError
from train.cohorts.pairs import VisitPairs
from train.cohorts.write import FORMAT, KNEES, MANIFEST, SUMMARY
from train.knees import UNGRADED

if TYPE_CHECKING:
    import polars as pl

Rows = Sequence[int] | npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Labels:
    """What is known of the N knees and visits of a cohort, by row."""

    participant: npt.NDArray[np.str_]
    side: npt.NDArray[np.str_]
    month: npt.NDArray[np.int32]
    grade: npt.NDArray[np.int64]
    """[N], 0 to 4; ``UNGRADED`` where unknown."""
    site: npt.NDArray[np.str_]
    """[N]; empty where unknown."""
    landmarks: npt.NDArray[np.float32]
    """[N, 16, 2] (x, y) in crop pixels; NaN where nobody marked them."""
    spacing: npt.NDArray[np.float32]
    """[N, 2] (x, y) in mm per crop pixel; NaN where unknown."""


class PreparedCohort:
    """The folder that ``kneerisk prepare`` wrote, open for reading; a context manager.

    Labels and pairs are held in memory, crops are read as they are asked for.  An open cohort belongs to one
    process: open it anew in each worker of a loader.
    """

    def __init__(self, folder: Path) -> None:
        """Open a prepared folder.

        Raises:
            UsageError: it is none, is of another format, or its files do not belong together.
        """
        import h5py
        import polars as pl

        if not (folder / SUMMARY).is_file():
            raise UsageError(f"{folder} holds no prepared cohort: make one with kneerisk prepare")
        try:
            self._file = h5py.File(folder / KNEES, "r")
            self.manifest: pl.DataFrame = pl.read_parquet(folder / MANIFEST)
        except OSError as error:
            raise UsageError(f"{folder} cannot be read ({error}); prepare it again") from error
        self._crops = self._file["crops"]
        if self._file.attrs["format"] != FORMAT or len(self.manifest) != len(self._crops):
            self._file.close()
            raise UsageError(f"{folder}: its files are not of one run of this version; prepare it again")
        self.size = int(self._crops.shape[1])
        """Pixels a side of a crop."""
        self.provenance: dict[str, Any] = json.loads(self._file.attrs["provenance"])
        self.pairs = VisitPairs(**{name: values[:] for name, values in self._file["pairs"].items()})

    def __len__(self) -> int:
        return len(self.manifest)

    def labels(self) -> Labels:
        """What is known of all rows."""
        table = self.manifest
        return Labels(
            participant=np.array(table["participant_id"].to_list()),
            side=np.array(table["side"].to_list()),
            month=table["visit_month"].to_numpy().astype(np.int32),
            grade=table["kl_grade"].fill_null(UNGRADED).to_numpy().astype(np.int64),
            site=np.array(table["site"].fill_null("").to_list()),
            landmarks=self._file["landmarks"][:],
            spacing=self._file["spacing_mm"][:],
        )

    def crops(self, rows: Rows) -> npt.NDArray[np.uint8]:
        """Crops [n, S, S] of some rows, in their order, repeats and all; a read of one chunk each."""
        found = np.empty((len(rows), self.size, self.size), np.uint8)
        for place, row in enumerate(rows):
            found[place] = self._crops[int(row)]
        return found

    def graded_pairs(self, horizon: int) -> VisitPairs:
        """The pairs of one horizon (12, 24, 36 or 48 months) whose grades are both known."""
        grade = self.labels().grade
        pairs = self.pairs
        held = (
            (pairs.horizon == horizon)
            & (grade[pairs.current] != UNGRADED)
            & (grade[pairs.future] != UNGRADED)
        )
        return VisitPairs(pairs.current[held], pairs.future[held], pairs.months[held], pairs.horizon[held])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
