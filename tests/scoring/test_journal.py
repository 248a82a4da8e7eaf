from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kneerisk.errors import Reason, UsageError
from kneerisk.records import RadiographRef, Refusal
from kneerisk.scoring.journal.folder import folder_of
from kneerisk.scoring.journal.journal import Journal, open_journal
from kneerisk.scoring.journal.record import FileState, Record

FINGERPRINT = {"stack": "fake", "steps": 4, "side": None}


def items(n: int) -> list[RadiographRef | Refusal]:
    refs = [
        RadiographRef(
            Path(f"/data/{i} ü.dcm"),
            f"{i} ü.dcm",
            participant_id="0012",
            kl_0m=i % 5,
            extra={"site": None, "é": "x"},
        )
        for i in range(n)
    ]
    refused = Refusal(refs[0], Reason.NOT_AN_IMAGE, "a text", side="L", qc_flags=("duplicate-uid",))
    return [refused, *refs[1:]]


def record(i: int) -> Record:
    row = {"status": "ok", "risk_12m": 0.1 + i / 7, "qc_flags": ["näh"], "message": None}
    return Record(i, f"sha{i}", FileState(i, 1, 2), [row, {**row, "side": "L"}])


def opened(
    out: Path, n: int = 6, *, resume: bool = False, overwrite: bool = False, **changed: object
) -> Iterator[Journal]:
    return open_journal(  # type: ignore[return-value]
        out,
        {**FINGERPRINT, **changed},
        items(n),
        {"hidden": 2},
        {"é": "integer"},
        resume=resume,
        overwrite=overwrite,
    )


def test_the_listing_comes_back_as_it_went_in(tmp_path: Path) -> None:
    with opened(tmp_path / "r.parquet") as journal:
        assert list(journal.images()) == list(enumerate(items(6)))
        assert journal.listing.images == 6
        assert journal.listing.extra == {"site": "text", "é": "integer"}
        assert journal.listing.skipped == {"hidden": 2}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_journal_cut_at_any_byte_keeps_the_whole_records_before_it(
    tmp_path: Path, data: st.DataObject
) -> None:
    out = tmp_path / "r.parquet"
    with opened(out, overwrite=True) as journal:
        journal.append([record(i) for i in range(5)])
    rows = folder_of(out) / "rows.jsonl"
    content = rows.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    rows.write_bytes(content[:cut])
    whole = content[:cut].count(b"\n")
    with opened(out, resume=True) as journal:
        assert [journal.get(i) for i in range(5)] == [record(i) if i < whole else None for i in range(5)]
        journal.append([record(5)])
        assert journal.get(5) == record(5)
    with opened(out, resume=True) as journal:
        assert journal.get(5) == record(5)
        assert len(journal) == whole + 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_byte_never_gives_a_false_record(tmp_path: Path, data: st.DataObject) -> None:
    out = tmp_path / "r.parquet"
    with opened(out, overwrite=True) as journal:
        journal.append([record(i) for i in range(4)])
    rows = folder_of(out) / "rows.jsonl"
    content = bytearray(rows.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    rows.write_bytes(bytes(content))
    with opened(out, resume=True) as journal:
        for i in range(4):
            assert journal.get(i) in (None, record(i))


def test_the_last_record_of_an_image_counts(tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    with opened(out) as journal:
        journal.append([record(1)])
        journal.append([Record(1, "later", None, [])])
    with opened(out, resume=True) as journal:
        assert journal.get(1) == Record(1, "later", None, [])


def test_an_unfinished_run_is_neither_lost_nor_joined_unasked(tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    with opened(out) as journal:
        journal.append([record(0)])
    with pytest.raises(UsageError, match=r"--resume.*--overwrite"), opened(out):
        pass
    with opened(out, overwrite=True) as journal:
        assert journal.get(0) is None


def test_a_run_of_other_settings_is_refused_and_told_what_differs(tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    with opened(out):
        pass
    with (
        pytest.raises(UsageError, match="side was null and is now L; steps was 4 and is now 8"),
        opened(out, resume=True, steps=8, side="L"),
    ):
        pass


def test_a_scan_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    folder_of(out).mkdir()
    (folder_of(out) / "listing.jsonl").write_text('{"ref"')
    with opened(out, resume=True) as journal:
        assert journal.listing.images == 6


def test_a_scan_that_breaks_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    def breaking() -> Iterator[RadiographRef]:
        yield from items(2)
        raise UsageError("the manifest ends in the middle of a line")

    out = tmp_path / "r.parquet"
    with (
        pytest.raises(UsageError, match="middle of a line"),
        open_journal(out, {}, breaking(), {}, resume=False, overwrite=False),
    ):
        pass
    assert not folder_of(out).exists()


def test_two_runs_cannot_share_an_output(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="no file locks on this system")
    out = tmp_path / "r.parquet"
    with opened(out), pytest.raises(UsageError, match="another kneerisk"), opened(out, resume=True):
        pass


def test_removal_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "r.parquet") as journal:
        journal.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"hello", b'["zz", 0, null, null, []]', b'["00", 1, 2, 3, 4]']
)
def test_a_line_that_is_whole_and_no_record_is_dropped(body: bytes, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    with opened(out) as journal:
        journal.append([record(1)])
    with (folder_of(out) / "rows.jsonl").open("ab") as stream:
        stream.write(b"%08x %s\n" % (zlib.crc32(body), body))
    with opened(out, resume=True) as journal:
        assert (len(journal), journal.get(1)) == (1, record(1))
        assert any("1 damaged or cut-off record," in notice for notice in journal.notices)


def test_links_in_the_folder_are_not_written_through(tmp_path: Path) -> None:
    (victim := tmp_path / "victim").write_text("mine")
    folder_of(tmp_path / "r.parquet").mkdir()
    for name in ("listing.jsonl.new", "rows.jsonl", "table.parquet"):
        (folder_of(tmp_path / "r.parquet") / name).symlink_to(victim)
    with opened(tmp_path / "r.parquet", resume=True) as journal:
        journal.append([record(1)])
    assert victim.read_text() == "mine"
