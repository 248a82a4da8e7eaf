from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kneerisk.errors import UsageError
from kneerisk.study.labels import join, observe, read_labels
from kneerisk.study.outcomes import Outcome
from kneerisk.study.scores import read_scores

Maker = Callable[..., Any]


@pytest.fixture
def oai(tmp_path: Path) -> Path:
    """Readings of two visits in OAI's layout, made up; the right knee is 1, project 15 goes before 42."""
    folder = tmp_path / "oai"
    folder.mkdir()
    (folder / "kXR_SQ_BU00.txt").write_text(
        "ID|SIDE|READPRJ|VERSION|V00XRKL\n9000001|1: Right|15|0.1|1\n9000001|1: Right|42|0.1|3\n"
        "9000001|2: Left|15|0.1|0\n9000002|1: Right|15|0.1|.A: Not Expected\n"
    )
    (folder / "kxr_sq_bu01.txt").write_text(
        "ID|SIDE|READPRJ|VERSION|V01XRKL\n9000001|1|15|0.1|2\n9000001|2|15|0.1|0\n"
    )
    (folder / "AllClinical00.txt").write_text(
        "ID|V00AGE|P02SEX|P01BMI\n9000001|61|2: Female|27.5\n9000002|50|1|30\n"
    )
    return folder


def test_oais_tables_are_labels_as_they_are_distributed(oai: Path, knee: Maker, table: Maker) -> None:
    labels = read_labels(oai)
    assert labels.kind == "oai" and labels.without_grade == 1
    assert sorted(labels.readings.rows()) == [
        ("9000001", "L", 0, 0), ("9000001", "L", 12, 0), ("9000001", "R", 0, 1), ("9000001", "R", 12, 2),
    ]  # fmt: skip
    told = labels.attributes.filter(labels.attributes["participant_id"] == "9000001").row(0, named=True)
    assert (told["age"], told["sex"], told["bmi"]) == (61, "F", 27.5)
    assert "womac" not in told
    scores = read_scores(table(knee("9000001", "R", visit="V00"), knee("9000001", "L", visit="V00")))
    seen = observe(join(scores, labels), Outcome.INCIDENT_OA, 12)
    assert seen.frame["event"].to_list() == [True, False]


def test_one_table_of_readings_will_do(oai: Path, knee: Maker, table: Maker) -> None:
    labels = read_labels(oai / "kxr_sq_bu01.txt")
    assert set(labels.readings["visit_month"]) == {12}
    scores = read_scores(table(knee("9000001", "R", visit="V01"), knee("9000001", "L", visit="V01")))
    assert join(scores, labels).frame["reader_kl"].to_list() == [2, 0]


def test_mosts_wide_table(tmp_path: Path, knee: Maker, table: Maker) -> None:
    """Codes such as 8 are no grades; the visit at 15 months tells 12."""
    (tmp_path / "MOSTV01235XRAY.txt").write_text(
        "MOSTID\tV0XRKL\tV0XLKL\tV1XRKL\tV1XLKL\nMB00001\t1\t3\t2\t8\nMB00002\t0\t.\t0\t0\n"
    )
    labels = read_labels(tmp_path / "MOSTV01235XRAY.txt")
    assert labels.kind == "most" and ("MB00001", "L", 15, 8) not in labels.readings.rows()
    scores = read_scores(
        table(
            knee("MB00001", "R", visit="V0"),
            knee("MB00002", "R", visit="V0"),
            knee("MB00001", "L", visit="V0"),
        )
    )
    seen = observe(join(scores, labels, allow_unmatched=True), Outcome.ANY_RISE, 12)
    assert seen.frame["event"].to_list() == [True, False]
    assert seen.frame["later_month"].to_list() == [15, 15]
    assert seen.excluded == {"not read at 12 months": 1}
    later = join(read_scores(table(knee("MB00001", "R", visit="V1"))), labels, allow_unmatched=True).frame
    assert (later["start_month"][0], later["reader_kl"][0]) == (15, 2)


def test_a_folder_of_none_or_of_both_is_refused(oai: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no table of readings"):
        read_labels(tmp_path / "empty")
    (oai / "MOSTV01235XRAY.txt").write_text("MOSTID\tV0XRKL\nMB00001\t1\n")
    with pytest.raises(UsageError, match="readings of both OAI and MOST"):
        read_labels(oai)
