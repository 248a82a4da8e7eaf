"""A CSV of ours is safe in a spreadsheet, and says after reading what it said before writing."""

import csv
from pathlib import Path

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from kneerisk.scoring.outputs import cells, table
from kneerisk.study import tables
from kneerisk.study.scores import read_scores

NASTY = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''=x", "\uff1d1", "-"]
PLAIN = ["P1", "-3.5", "+4", "1e-3", "-1E+5", "'quoted'", "a=b", "", "'", "Ünï", 'say "hi"', "a,b"]


@given(st.lists(st.one_of(st.none(), st.text("'=+-@\t\r\n1.eE\uff1da ,\""), st.sampled_from(NASTY + PLAIN))))
def test_the_way_back_is_exact(texts: list[str | None]) -> None:
    schema = {"=name": pl.String, "n": pl.Float64}
    frame = pl.DataFrame({"=name": texts, "n": [-1.5] * len(texts)}, schema=schema)
    assert cells.restored(cells.escaped(frame.lazy()).collect()).equals(frame)


@given(st.text("'=+-@\t\r\n1.eE\uff1da ,\"", min_size=1))
def test_no_cell_starts_a_formula(text: str) -> None:
    written = cells.escaped(pl.LazyFrame({"a": [text]})).collect()["a"][0]
    assert written in (text, "'" + text)
    if written[0] in "=+-@\t\r\n\uff1d":
        assert float(written) == float(text) and text == text.strip()


def row(participant: str, note: str) -> dict[str, object]:
    known = {"status": "ok", "kl_now": 1, "risk_12m": 0.25, "side": "L", "image_index": 0, "qc_flags": []}
    return {**known, "participant_id": participant, "=note": note, "source_path": "-x/" + participant}


def written(folder: Path) -> Path:
    out = folder / "r.csv"
    rows = [row(a, b) for a, b in zip(NASTY, PLAIN, strict=False)]
    documents = {"kneerisk.run": "{}"}
    table.write(rows, out, lambda: documents, {"=note": "text"}, folder)
    return out


def test_a_score_table_comes_back(tmp_path: Path) -> None:
    out = written(tmp_path)
    with out.open(newline="", encoding="utf-8") as stream:
        heading, *lines = csv.reader(stream)
    assert "'=note" in heading and "-1.5" not in heading
    for line in lines:
        assert not any(cell[:1] in {*"=@\t\r"} for cell in line)
        assert line[heading.index("risk_12m")] == "0.25"
    assert table.read(out)["participant_id"].to_list() == NASTY
    assert table.read(out)["=note"].to_list() == PLAIN[: len(NASTY)]
    assert read_scores(out).frame["participant_id"].to_list() == NASTY


def test_a_study_table_is_safe_too(tmp_path: Path) -> None:
    frame = pl.DataFrame({"participant_id": NASTY, "risk": [-0.5] * len(NASTY)})
    tables.write(frame, tmp_path / "s.csv", {})
    with (tmp_path / "s.csv").open(newline="", encoding="utf-8") as stream:
        found = list(csv.reader(stream))[1:]
    assert [cell for cell, _ in found] == ["'" + text for text in NASTY]
    assert {number for _, number in found} == {"-0.5"}
