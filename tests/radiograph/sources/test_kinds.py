from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from kneerisk.radiograph.sources.kinds import Guess, together
from kneerisk.radiograph.sources.manifest import check_manifest
from kneerisk.radiograph.sources.tables import parquet_kinds


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["63", "-2", "0"], "integer"),
        (["63", "NA", None, "."], "integer"),
        (["63", "27.4"], "real"),
        ([".5", "1e-7", "3."], "real"),
        (["True", "false"], "boolean"),
        (["2020-02-29", "1999-01-01"], "date"),
        (["2021-02-29"], "text"),
        (["007", "12"], "text"),
        (["00.5"], "text"),
        (["+5"], "text"),
        (["-"], "text"),
        (["e5"], "text"),
        (["1234567890123456789"], "text"),
        (["12345678901234567", "0.5"], "text"),
        (["27,4"], "text"),
        (["63", "2020-02-29"], "text"),
        (["yes", "no"], "text"),
        (["NA", None], "text"),
        ([], "text"),
    ],
)
def test_a_column_of_text_is_what_every_cell_could_be(cells: list[str | None], kind: str) -> None:
    guess = Guess()
    for cell in cells:
        guess.add(cell)
    assert guess.kind == kind


def test_parquet_says_what_its_columns_are(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    frame = pl.DataFrame(
        {
            "path": ["a.dcm"], "code": ["12"], "age": [63], "bmi": [27.0], "ever": [True],
            "day": [date(2020, 1, 2)],
        }
    )  # fmt: skip
    frame.write_parquet(path)
    own = {"code": "text", "age": "integer", "bmi": "real", "ever": "boolean", "day": "date"}
    assert parquet_kinds(path) == {"path": "text", **own}
    assert check_manifest(path) == own


def test_manifests_meet_in_what_holds_for_all() -> None:
    several = [{"age": "integer", "site": "integer", "bmi": "real"}, {"age": "real", "site": "date"}]
    assert together(several) == {"age": "real", "site": "text", "bmi": "real"}  # type: ignore[arg-type]
