from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from kneerisk.errors import UsageError
from kneerisk.records import LANDMARKS
from kneerisk.scoring.outputs import table
from kneerisk.scoring.outputs.columns import COLUMNS
from kneerisk.scoring.outputs.rows import check_carried
from kneerisk.scoring.settings import RunSettings


def rows(n: int) -> list[dict[str, object]]:
    blank = dict.fromkeys(column.name for column in COLUMNS)
    return [
        blank
        | {
            "participant_id": ["0012", "NA", None, 'ä,b\n"c"'][i % 4],
            "image_index": i,
            "status": "ok",
            "qc_flags": [["a", "b"], []][i % 2],
            "risk_12m": i / 3,
            "at_ceiling": [True, False, None][i % 3],
            "site": "007",
        }
        for i in range(n)
    ]


def documents() -> table.Metadata:
    return table.metadata({"seed": 1}, {"population": "nobody"}, {"site": "text"})


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("count", [0, 1, 4500])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str, count: int) -> None:
    work, out = tmp_path / "work", tmp_path / f"risks.{suffix}"
    work.mkdir()
    assert table.write(iter(rows(count)), out, documents, {"site": "text"}, work) == count
    assert table.read(out).equals(table.frame(rows(count), {"site": "text"}))
    assert list(work.iterdir()) == []
    found = table.read_metadata(out)
    assert found["run"] == {"seed": 1}
    assert found["calibration"] == {"population": "nobody"}
    assert list(found["data_dictionary"]) == table.read(out).columns
    entry = found["data_dictionary"]["jsw_medial_mm"]
    assert entry["unit"] == "mm" and "unvalidated" in entry["meaning"] and entry["null"]


CARRIED = {"age": "integer", "bmi": "real", "ever": "boolean", "seen": "date", "code": "text"}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_what_a_manifest_brought_has_its_kind_again(tmp_path: Path, suffix: str) -> None:
    cells = [("63", "27.5", "True", "2020-02-29", "007"), ("NA", "nan", None, ".", "NA"), (None,) * 5]
    written = [
        row | dict(zip(CARRIED, found, strict=True)) for row, found in zip(rows(3), cells, strict=True)
    ]
    out = tmp_path / f"r.{suffix}"
    said = table.metadata({}, {}, CARRIED)  # type: ignore[arg-type]
    table.write(iter(written), out, lambda: said, CARRIED, tmp_path)  # type: ignore[arg-type]
    got = table.read(out).select(*CARRIED)
    assert got.rows() == [
        (63, 27.5, True, date(2020, 2, 29), "007"),
        (None, None, None, None, "NA"),
        (None,) * 5,
    ]
    assert got.dtypes == [pl.Int64, pl.Float64, pl.Boolean, pl.Date, pl.String]
    meanings = table.read_metadata(out)["data_dictionary"]
    assert {name: meanings[name]["kind"] for name in CARRIED} == CARRIED


def test_a_csv_may_be_marked_for_excel(tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    table.write(iter(rows(4500)), out, documents, {"site": "text"}, tmp_path, bom=True)
    assert out.read_bytes().startswith(b"\xef\xbb\xbfparticipant_id,")
    assert out.read_bytes().count(b"\xef\xbb\xbf") == 1
    assert table.read(out).equals(table.frame(rows(4500), {"site": "text"}))
    with pytest.raises(UsageError, match=r"--bom marks a \.csv"):
        RunSettings(Path("r.parquet"), bom=True)


def test_the_columns_stand_in_the_order_of_the_interface() -> None:
    names = [column.name for column in COLUMNS]
    assert len(set(names)) == len(names)
    in_order = [
        "participant_id", "visit", "side", "source_path", "sop_instance_uid", "input_sha256", "status",
        "reason", "message", "qc_flags", "kl_now", "kl_now_p0", "kl_now_p4", "kl_12m", "kl_12m_p0",
        "kl_12m_p4", "at_ceiling", "risk_12m", "risk_12m_basis", "risk_12m_lo", "risk_12m_hi",
        "risk_12m_image", "risk_12m_sum", "novelty",
        "lm_now_T0_x", "lm_now_T0_y", "lm_now_F6_y", "lm_12m_T0_x", "lm_12m_F6_y",
        "jsw_medial_mm", "jsw_lateral_mm", "jsw_medial_mm_12m", "jsw_lateral_mm_12m",
        "px_spacing_mm", "spacing_source", "stack",
        "stack_sha256", "backend", "precision", "engine_key", "seed", "steps", "samples", "kneerisk_version",
    ]  # fmt: skip
    places = [names.index(name) for name in in_order]
    assert places == sorted(places)
    assert sum(name.startswith("lm_") for name in names) == 2 * 2 * len(LANDMARKS)
    assert all(column.meaning and column.null for column in COLUMNS)


def test_an_earlier_table_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "risks.parquet"
    table.write(iter(rows(2)), out, documents, {"site": "text"}, tmp_path)

    def broken() -> object:
        yield from rows(3000)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        table.write(broken(), out, documents, {"site": "text"}, tmp_path)  # type: ignore[arg-type]
    assert len(table.read(out)) == 2


def test_a_manifests_column_may_not_shadow_the_tables() -> None:
    check_carried(("site", "age"))
    with pytest.raises(UsageError, match=r"column risk_12m would collide.*rename it"):
        check_carried(("site", "risk_12m"))


def test_other_files_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.parquet or \.csv"):
        table.format_of(Path("risks.xlsx"))
    path = tmp_path / "other.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(path)
    with pytest.raises(UsageError, match="it lacks participant_id"):
        table.read(path)
    with pytest.raises(UsageError, match="no run manifest"):
        table.read_metadata(path)
    with pytest.raises(UsageError, match="cannot be read"):
        table.read_metadata(tmp_path / "absent.csv")
