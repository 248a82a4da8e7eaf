"""A manifest's rows as they are meant, whatever wrote them; what is wrong is named by its line."""

from __future__ import annotations

import polars as pl
import pytest

from kneerisk.errors import UsageError
from kneerisk.radiograph.sources.manifest import check_manifest, read_by_film, read_manifest


def rows(path):
    check_manifest(path)
    return list(read_manifest(path))


@pytest.mark.parametrize(
    "text",
    [
        "path,participant_id,visit,side,spacing_mm,kl_0m\na.dcm,0012,v00,L,0.143,2\n",
        "\ufeffPath , Participant_ID,visit,SIDE,spacing_mm,kl_0m\r\n a.dcm ,0012, v00,left ,0.143,2.0\r\n",
        "path;participant_id;visit;side;spacing_mm;kl_0m\na.dcm;0012;v00;l;0,143;2\n",
        "sep=;\r\npath;participant_id;visit;side;spacing_mm;kl_0m\r\na.dcm;0012;v00;l;0,143;2\r\n",
        "\ufeffsep=;\npath;participant_id;visit;side;spacing_mm;kl_0m\na.dcm;0012;v00;l;0,143;2\n",
        'path\tparticipant_id\tvisit\tside\tspacing_mm\tkl_0m\n"a.dcm"\t0012\tv00\tL\t0.143\t2\t\n',
    ],
)
def test_one_row_in_many_dialects(tmp_path, text):
    path = tmp_path / "m.csv"
    path.write_text(text, encoding="utf-8", newline="")
    (row,) = rows(path)
    assert (row.path, row.participant_id, row.visit) == ("a.dcm", "0012", "v00")
    assert (row.side, row.spacing_mm, row.kl_0m) == ("L", 0.143, 2)


def test_columns_are_known_under_their_other_names(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("File,visit_month,kl_grade,age\na.dcm,12,3,61\n")
    (row,) = rows(path)
    assert (row.path, row.visit, row.kl_0m, row.extra) == ("a.dcm", "12", 3, {"age": "61"})


def test_another_name_beside_the_column_itself_is_carried_through(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("path,visit,visit_month,kl,kl_0m\na.dcm,V01,12,4,3\n")
    (row,) = rows(path)
    assert (row.visit, row.kl_0m) == ("V01", 3)
    assert row.extra == {"visit_month": "12", "kl": "4"}


def test_other_encodings_are_read(tmp_path):
    text = "path,participant_id,side,klinik\na.dcm,1,R,Köln\n"
    for encoding in ("utf-16", "cp1252", "utf-8"):
        path = tmp_path / f"{encoding}.csv"
        path.write_bytes(text.encode(encoding))
        assert rows(path)[0].extra == {"klinik": "Köln"}


def test_nothing_is_not_a_side_but_na_is_an_id(tmp_path):
    path = tmp_path / "m.tsv"
    path.write_text("path\tparticipant_id\tside\tspacing_mm\tkl_0m\nx\tNA\tNA\tNaN\t.\ny\t\t\n")
    first, second = rows(path)
    assert first.participant_id == "NA"
    assert (first.side, first.spacing_mm, first.kl_0m) == (None, None, None)
    assert second.participant_id is None


def test_parquet_keeps_text_and_whole_numbers(tmp_path):
    path = tmp_path / "m.parquet"
    pl.DataFrame(
        {"path": ["a", "b"], "participant_id": [9000099.0, 12.0], "kl_0m": [2.0, None], "age": [61, None]}
    ).write_parquet(path)
    first, second = rows(path)
    assert (first.participant_id, second.participant_id) == ("9000099", "12")
    assert (first.kl_0m, second.kl_0m) == (2, None)
    assert (first.extra, second.extra) == ({"age": "61"}, {"age": None})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,side\na,L\nb,X\n", r"line 3: side is 'X'; write L, R or both"),
        ("path,spacing_mm\na,0\n", r"spacing_mm is '0'"),
        ("path,spacing_mm\na,wide\n", r"spacing_mm is 'wide'"),
        ("path,kl_0m\na,5\n", r"kl_0m is '5'"),
        ("path,kl_0m\na,1.5\n", r"kl_0m is '1.5'"),
        ("path,side\n,L\n", r"line 2: the path is empty"),
        ("picture,side\na,L\n", r"no column is called 'path' \(found: picture, side\); name the column"),
        ("Image,PatientID,KL,Side\na,1,2,L\n", r"no column is called 'path' .* if 'Image' names the files"),
        ("path,ID\na,1\n", r"'ID' is not used, and may be meant as 'participant_id'"),
        ("path,KLG\na,1\n", r"'KLG' is not used, and may be meant as 'kl_0m'"),
        ("path,V00XRKL\na,1\n", r"'V00XRKL' is not used, and may be meant as 'kl_0m'"),
        ("path,Knee side\na,L\n", r"'Knee side' is not used, and may be meant as 'side'"),
        ("file,kl_grade\na,5\n", r"line 2: kl_grade is '5'"),
        ("path,KL,kl_grade\na,1,1\n", r"appear twice: kl_0m \(written KL, kl_grade\)"),
        ("path,PatientIDs\na,1\n", r"'PatientIDs' is not used, and may be meant as 'participant_id'"),
        ("path,spacing\na,0.2\n", r"'spacing' is not used, and may be meant as 'spacing_mm'"),
        ("path,x,x\na,1,2\n", r"appear twice: x"),
        ("path,x\na,1,2\n", r"line 2 has 3 cells"),
        ("", r"is empty"),
        ("path,side\n" + "a,X\n" * 9, r"and 4 more"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, words):
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        check_manifest(path)


def test_a_broken_parquet_file_is_a_usage_error(tmp_path):
    path = tmp_path / "m.parquet"
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(UsageError, match="Parquet"):
        check_manifest(path)


@pytest.mark.parametrize("column", ["PatientID", "patient_id", "Subject_ID"])
def test_ids_sides_and_grades_under_the_names_that_people_give(tmp_path, column):
    path = tmp_path / "m.csv"
    path.write_text(f"Path,{column},KL,Laterality\na.dcm,0012,3,L\n")
    (row,) = rows(path)
    assert (row.participant_id, row.kl_0m, row.side) == ("0012", 3, "L")


@pytest.mark.parametrize(("encoding", "id"), [("cp1251", "Иванов-7"), ("shift_jis", "患者表-7")])
def test_an_id_in_an_unknown_encoding_is_never_guessed(tmp_path, encoding, id):
    path = tmp_path / "m.csv"
    path.write_bytes(f"path,participant_id\na.png,{id}\n".encode(encoding))
    with pytest.raises(UsageError, match="CSV"):
        check_manifest(path)
    path.write_bytes(f"path,participant_id\na.png,{id}\n".encode())
    assert rows(path)[0].participant_id == id


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("abc", "a1 b2 c3"),
        ("aabb", "a1 a2 b3 b4"),
        ("abcabc", "a1 a4 b2 b5 c3 c6"),
        ("abaca", "a1 a3 a5 b2 c4"),
    ],
)
def test_a_film_s_rows_come_together_and_the_order_stays(tmp_path, listed, expected):
    path = tmp_path / "m.csv"
    lines = "".join(f"{name},{number}\n" for number, name in enumerate(listed, start=1))
    path.write_text("path,participant_id\n" + lines)
    assert " ".join(f"{row.path}{row.participant_id}" for row in read_by_film(path)) == expected
