"""A prepared cohort (``kneerisk prepare``) as the training stages read it: crops, labels, pairs of visits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError
from kneerisk.frames import read_parquet
from kneerisk_train.data.knees import UNGRADED, Knees
from kneerisk_train.prepare.pairs import VisitPairs
from kneerisk_train.prepare.write import FORMAT, KNEES, MANIFEST, SUMMARY

if TYPE_CHECKING:
    import polars as pl

Rows = Sequence[int] | npt.NDArray[np.integer[Any]]


class PreparedCohort:
    """The folder that ``kneerisk prepare`` wrote, open for reading; a context manager.

    Manifest and pairs are held in memory, knees are read as they are asked for.  An open cohort belongs to
    one process.
    """

    def __init__(self, folder: Path) -> None:
        """Open a prepared folder.

        Raises:
            UsageError: it is none, is of another format, or its files do not belong together.
        """
        import h5py

        if not (folder / SUMMARY).is_file():
            raise UsageError(f"{folder} holds no prepared cohort: make one with kneerisk prepare")
        try:
            self._file = h5py.File(folder / KNEES, "r")
            self.manifest: pl.DataFrame = read_parquet(folder / MANIFEST)
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

    def knees(self, rows: Rows | None = None) -> Knees:
        """The knees of some rows (default: all), in their order, in memory."""
        chosen = np.arange(len(self)) if rows is None else np.asarray(rows, np.int64)
        table = self.manifest[chosen]
        pixels = np.empty((len(chosen), self.size, self.size), np.uint8)
        for place, row in enumerate(chosen):
            pixels[place] = self._crops[int(row)]
        return Knees(
            participant=np.array(table["participant_id"].to_list()),
            side=np.array(table["side"].to_list()),
            month=table["visit_month"].to_numpy().astype(np.int32),
            pixels=pixels,
            grade=table["kl_grade"].fill_null(UNGRADED).to_numpy().astype(np.int64),
            landmarks=self._file["landmarks"][:][chosen],
            spacing=self._file["spacing_mm"][:][chosen],
        )

    def graded_pairs(self, horizon: int) -> VisitPairs:
        """The pairs of one horizon (12, 24, 36 or 48 months) whose grades are both known."""
        grade = self.manifest["kl_grade"].fill_null(UNGRADED).to_numpy()
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
