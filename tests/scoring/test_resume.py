"""What a resumed run makes of a damaged journal, of files that came or went, and of a lost disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import h5py
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kneerisk.errors import KneeriskError, Reason
from kneerisk.records import RadiographRef, Refusal
from kneerisk.scoring.journal.folder import folder_of
from kneerisk.scoring.outputs import table
from kneerisk.scoring.run import Notice, Progress, StoppedOnErrorError
from kneerisk.scoring.settings import RunSettings, Shard

Stopped = Callable[..., Path]


def notices(steps: list[object]) -> list[str]:
    return [step.message for step in steps if isinstance(step, Notice)]


@pytest.fixture
def stopped(fake: ModuleType, cohort: Path, tmp_path: Path) -> Stopped:
    """Start a run that stops at the first failure; gives its --out."""

    def start(name: str = "r.parquet", **options: object) -> Path:
        out = tmp_path / name
        with pytest.raises(StoppedOnErrorError):
            fake.run(
                cohort, RunSettings(out, on_error="stop", batch_size=1, workers=1, **options), parallel=1
            )
        return out

    return start


def done(out: Path) -> int:
    """Images that have their rows in a journal."""
    return (folder_of(out) / "rows.jsonl").read_bytes().count(b"\n")


def fresh(fake: ModuleType, cohort: Path, tmp_path: Path) -> pl.DataFrame:
    out = tmp_path / "fresh.parquet"
    fake.run(cohort, RunSettings(out, overwrite=True))
    return table.read(out)


@pytest.fixture(scope="module")
def begun(fake: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, pl.DataFrame]:
    """A cohort, a journal that was left half way, and the table of the unbroken run."""
    home = tmp_path_factory.mktemp("begun")
    cohort = home / "cohort"
    cohort.mkdir()
    for i, word in enumerate(["one", "both", "empty", "damaged", "one", "one"]):
        (cohort / f"P{i}.txt").write_text(f"{word} {i}")
    (cohort / "P6.bad").write_text("")
    out = home / "r.parquet"
    with pytest.raises(StoppedOnErrorError):
        fake.run(cohort, RunSettings(out, on_error="stop", batch_size=1, workers=1), parallel=1)
    fake.run(cohort, RunSettings(home / "whole.parquet"))
    return cohort, out, table.read(home / "whole.parquet")


@settings(max_examples=50, deadline=None)
@given(
    place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), name=st.sampled_from(["listing", "rows"])
)
@example(place=0.0, bit=0, name="listing")
@example(place=0.999999, bit=1, name="listing")
@example(place=0.999999, bit=1, name="rows")
def test_a_flipped_bit_anywhere_in_the_journal_changes_no_row(
    begun: tuple[Path, Path, pl.DataFrame], fake: ModuleType, place: float, bit: int, name: str
) -> None:
    cohort, out, whole = begun
    before = out.with_name("before")
    if not before.exists():
        shutil.copytree(folder_of(out), before)
    shutil.rmtree(folder_of(out), ignore_errors=True)
    out.unlink(missing_ok=True)
    shutil.copytree(before, folder_of(out))
    victim = folder_of(out) / f"{name}.jsonl"
    content = bytearray(victim.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    victim.write_bytes(bytes(content))
    steps = fake.run(cohort, RunSettings(out, resume=True, workers=1))
    assert table.read(out).equals(whole)
    (said,) = notices(steps)
    assert "damaged" in said
    if name == "listing":
        assert steps[-1].reused == (before / "rows.jsonl").read_bytes().count(b"\n")


def test_what_was_lost_is_said_and_later_records_are_kept(
    stopped: Stopped, fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    out = stopped()
    rows = folder_of(out) / "rows.jsonl"
    lines = rows.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"P02", b"P03")
    rows.write_bytes(b"".join(lines)[:-1])
    steps = fake.run(cohort, RunSettings(out, resume=True))
    (said,) = notices(steps)
    kept = len(lines) - 2
    assert "2 damaged or cut-off records" in said and f"{kept} whole ones are kept" in said
    assert steps[-1].reused == kept
    assert table.read(out).equals(fresh(fake, cohort, tmp_path))


def test_a_lost_listing_loses_no_row(
    stopped: Stopped, fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    out = stopped()
    (folder_of(out) / "listing.jsonl").unlink()
    had = done(out)
    steps = fake.run(cohort, RunSettings(out, resume=True))
    assert steps[-1].reused == had > 8
    assert table.read(out).equals(fresh(fake, cohort, tmp_path))


def test_records_of_other_settings_are_not_taken_though_the_header_is_lost(
    stopped: Stopped, fake: ModuleType, cohort: Path
) -> None:
    out = stopped()
    listing = folder_of(out) / "listing.jsonl"
    listing.write_bytes(b"x" + listing.read_bytes())
    steps = fake.run(cohort, RunSettings(out, resume=True), seed=4)
    assert steps[-1].reused == 0


def test_files_that_came_since_are_scored(
    stopped: Stopped, fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    out = stopped()
    (cohort / "A_new.txt").write_text("one new, before all others")
    (cohort / "P05b.txt").write_text("both new, between others")
    had = done(out)
    steps = fake.run(cohort, RunSettings(out, resume=True))
    (said,) = notices(steps)
    assert said.startswith("images that came since the unfinished run began: 2")
    assert steps[-1].reused == had > 8
    assert table.read(out).equals(fresh(fake, cohort, tmp_path))


def test_what_the_scan_refused_is_tried_again_once_mended(
    fake: ModuleType, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, really = tmp_path / "r.parquet", fake.scan

    def scan(folder: Path) -> Iterator[RadiographRef | Refusal]:
        for item in really(folder):
            empty = isinstance(item, RadiographRef) and not item.path.read_bytes()
            yield Refusal(item, Reason.IMAGE_DAMAGED, "the file is empty") if empty else item

    monkeypatch.setattr(fake, "scan", scan)
    (cohort / "P01.txt").write_text("")
    with pytest.raises(StoppedOnErrorError, match=r"P01\.txt: the file is empty"):
        fake.run(cohort, RunSettings(out, on_error="stop", batch_size=1))
    (cohort / "P01.txt").write_text("one mended")
    (cohort / "P00.txt").write_text("")
    fake.run(cohort, RunSettings(out, resume=True))
    assert table.read(out).equals(fresh(fake, cohort, tmp_path))
    assert table.read(out)["reason"].to_list()[:2] == ["image-damaged", None]


def test_a_new_file_moves_no_picture_and_no_future_to_another_knee(
    stopped: Stopped, fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    kept = {"previews": tmp_path / "pictures", "futures": tmp_path / "f.h5"}
    out = stopped(**kept)
    (cohort / "P03b.txt").write_text("one new")
    fake.run(cohort, RunSettings(out, resume=True, **kept))
    scored = table.read(out).filter(status="ok")
    assert scored.drop("image_index").equals(
        fresh(fake, cohort, tmp_path).filter(status="ok").drop("image_index")
    )
    with h5py.File(kept["futures"]) as file:
        found = {name: knee.attrs["source_path"] for name, knee in file["knees"].items()}
    assert found == {
        f"{row['image_index']:09d}_{row['side']}": row["source_path"] for row in scored.iter_rows(named=True)
    }


def test_shards_that_resume_with_a_new_file_stay_parts_of_one_scan(
    stopped: Stopped, fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    from kneerisk.scoring.merge import merge_tables

    parts = [stopped("p1.parquet", shard=Shard(1, 2)), tmp_path / "p2.parquet"]
    (cohort / "P00b.txt").write_text("one new")
    for i, part in enumerate(parts, start=1):
        fake.run(cohort, RunSettings(part, resume=True, shard=Shard(i, 2)))
    merge_tables(parts, tmp_path / "merged.parquet")
    assert table.read(tmp_path / "merged.parquet").equals(fresh(fake, cohort, tmp_path))


def test_a_file_taken_away_on_purpose_has_no_row_and_is_counted(
    stopped: Stopped, fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    out = stopped()
    (cohort / "P03.txt").unlink()
    steps = fake.run(cohort, RunSettings(out, resume=True))
    (said,) = notices(steps)
    assert said.startswith("images that the unfinished run listed and that were taken away since: 1")
    assert table.read(out).equals(fresh(fake, cohort, tmp_path))


@pytest.mark.parametrize("how", ["empty", "missing", "subfolder"])
def test_a_lost_disk_stops_the_run_names_the_place_and_keeps_every_row(
    how: str, fake: ModuleType, stopped: Stopped, cohort: Path, tmp_path: Path
) -> None:
    disk = cohort / "disk" if how == "subfolder" else cohort
    if how == "subfolder":
        disk.mkdir()
        (cohort / "P02.txt").rename(disk / "P02.txt")
    out = stopped()
    journal = (folder_of(out) / "rows.jsonl").read_bytes()
    away = tmp_path / "away"
    disk.rename(away)
    if how != "missing":
        disk.mkdir()
    place = cohort.parent if how == "missing" else disk
    with pytest.raises(KneeriskError, match="Is the disk mounted") as caught:
        fake.run(cohort, RunSettings(out, resume=True))
    assert str(caught.value).startswith(f"{place}: ")
    assert (folder_of(out) / "rows.jsonl").read_bytes() == journal
    if how != "missing":
        disk.rmdir()
    away.rename(disk)
    steps = fake.run(cohort, RunSettings(out, resume=True))
    assert steps[-1].reused == journal.count(b"\n") and not notices(steps)
    assert table.read(out).equals(fresh(fake, cohort, tmp_path))


@pytest.mark.parametrize("finished", [False, True])
def test_a_manifest_whose_files_are_gone_makes_no_failures_of_finished_rows(
    finished: bool,
    fake: ModuleType,
    cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = sorted(path.name for path in cohort.iterdir())

    def listed(folder: Path) -> Iterator[RadiographRef | Refusal]:
        for name in names:
            ref = RadiographRef(folder / name, name, extra={"site": "A"})
            gone = not ref.path.exists()
            yield Refusal(ref, Reason.FILE_UNREADABLE, "the file cannot be found") if gone else ref

    monkeypatch.setattr(fake, "scan", listed)
    out = tmp_path / "r.parquet"
    if finished:
        fake.run(cohort, RunSettings(out))
    else:
        with pytest.raises(StoppedOnErrorError):
            fake.run(cohort, RunSettings(out, on_error="stop", batch_size=1))
    kept = out.read_bytes() if finished else (folder_of(out) / "rows.jsonl").read_bytes()
    lost = cohort / "P02.txt"
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(KneeriskError, match=r"P02\.txt: .*Is the disk mounted"):
        fake.run(cohort, RunSettings(out, resume=True))
    assert (out.read_bytes() if finished else (folder_of(out) / "rows.jsonl").read_bytes()) == kept
    assert folder_of(out).exists() != finished
    lost.write_bytes(content)
    fake.run(cohort, RunSettings(out, resume=True))
    assert table.read(out).equals(fresh(fake, cohort, tmp_path))


def test_a_disk_that_goes_while_the_resumed_run_works_costs_no_finished_row(
    fake: ModuleType, stopped: Stopped, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fresh(fake, cohort, tmp_path)
    out = stopped()
    had = done(out)
    really = fake.scan

    def scan(folder: Path) -> list[RadiographRef | Refusal]:
        found = list(really(folder))
        shutil.move(folder, tmp_path / "away")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(fake, "scan", scan)
        steps = fake.run(cohort, RunSettings(out, resume=True))
    assert [step.reused for step in steps if isinstance(step, Progress)][-1] == had
    assert table.read(out)[:9].equals(whole[:9])
    shutil.move(tmp_path / "away", cohort)
    fake.run(cohort, RunSettings(out, resume=True))
    assert table.read(out).equals(whole)
