from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import ModuleType

import h5py
import polars as pl
import pytest

from kneerisk.errors import ExitCode, UsageError
from kneerisk.method.grade import median_grade
from kneerisk.records import RadiographRef, Refusal
from kneerisk.scoring.journal import folder as folders
from kneerisk.scoring.journal.folder import folder_of, workspace_of
from kneerisk.scoring.merge import merge_tables
from kneerisk.scoring.outputs import table
from kneerisk.scoring.outputs.summary import Tally
from kneerisk.scoring.run import StoppedOnErrorError
from kneerisk.scoring.settings import RunSettings
from kneerisk.scoring.shards import Shard


@pytest.fixture
def reference(fake: ModuleType, cohort: Path, tmp_path: Path) -> pl.DataFrame:
    fake.run(cohort, RunSettings(tmp_path / "reference.parquet"))
    return table.read(tmp_path / "reference.parquet")


def test_every_file_has_its_rows_with_a_reason_where_it_has_no_score(reference: pl.DataFrame) -> None:
    found = {
        path: list(zip(statuses, reasons, strict=True))
        for path, statuses, reasons in reference.group_by("source_path", maintain_order=True)
        .agg("status", "reason")
        .iter_rows()
    }
    ok = ("ok", None)
    assert found == {
        **{f"P{i:02d}.txt": [ok] for i in range(7)},
        "P07.txt": [ok, ok],
        "P08.txt": [("refused", "no-knee-found")],
        "P09.txt": [("failed", "image-damaged")],
        "P10.txt": [("failed", "internal-error")],
        "P11.bad": [("refused", "not-an-image")],
        "P12.txt": [("failed", "internal-error")],
        "P13.txt": [("failed", "internal-error")],
    }
    assert reference["site"].to_list() == ["A"] * len(reference)
    broken = reference.filter(status="failed")
    assert all(
        "fell over" in m or "not a number" in m or "too early" in m or "Error" in m for m in broken["message"]
    )


def test_a_row_holds_what_its_columns_promise(reference: pl.DataFrame) -> None:
    for row in reference.filter(status="ok").iter_rows(named=True):
        now, later = ([row[f"{name}_p{g}"] for g in range(5)] for name in ("kl_now", "kl_12m"))
        assert sum(now) == pytest.approx(1, abs=1e-5)
        assert row["kl_now"] == int(median_grade(now))
        assert row["at_ceiling"] == (row["kl_now"] == 4)
        raw = sum(now[i] * later[j] for i in range(5) for j in range(i + 1, 5))
        assert row["risk_12m_sum"] == pytest.approx(raw, abs=1e-5)
        assert sum(later[1:]) >= sum(now[1:]) - 1e-6  # knees do not heal
        assert 0 <= row["risk_12m_lo"] <= row["risk_12m"] <= row["risk_12m_hi"] <= 1
        assert row["risk_12m_basis"] == "image"
        assert row["risk_12m_image"] == row["risk_12m"]
        assert row["novelty"] > 0
        # the fake's last landmark sits near (S-1, S-1) of a crop that doubles and shifts into its source
        assert row["lm_now_F6_x"] == pytest.approx(2 * 15 + 10, abs=2.5)
        assert row["lm_now_F6_y"] == pytest.approx(2 * 15 + 20, abs=2.5)
        assert row["px_spacing_mm"] == pytest.approx(0.375)
        assert row["stack_sha256"] == "0" * 64


@pytest.mark.parametrize("changed", [{"batch_size": 1}, {"batch_size": 3, "workers": 1}, {"workers": 7}])
def test_batches_and_workers_change_no_row(
    changed: dict[str, int], fake: ModuleType, cohort: Path, tmp_path: Path, reference: pl.DataFrame
) -> None:
    fake.run(cohort, RunSettings(tmp_path / "other.parquet", **changed))  # type: ignore[arg-type]
    assert table.read(tmp_path / "other.parquet").equals(reference)


@pytest.mark.parametrize("parallel", [1, 5])
def test_batches_on_their_way_at_once_change_no_row(
    parallel: int, fake: ModuleType, cohort: Path, tmp_path: Path, reference: pl.DataFrame
) -> None:
    fake.run(cohort, RunSettings(tmp_path / "other.parquet", batch_size=2), parallel=parallel)
    assert table.read(tmp_path / "other.parquet").equals(reference)


def test_order_and_neighbours_change_no_row(
    fake: ModuleType, cohort: Path, tmp_path: Path, reference: pl.DataFrame
) -> None:
    for path in cohort.iterdir():  # another order, and some gone
        if path.name in ("P00.txt", "P03.txt", "P10.txt"):
            path.unlink()
    (cohort / "P06.txt").rename(cohort / "A.txt")
    fake.run(cohort, RunSettings(tmp_path / "other.parquet", batch_size=4))
    other = table.read(tmp_path / "other.parquet").filter(status="ok")
    moved = {"source_path": "A.txt", "participant_id": "A"}
    assert other["source_path"].to_list()[0] == "A.txt"
    by_input = {(row["input_sha256"], row["side"]): row for row in reference.iter_rows(named=True)}
    for row in other.iter_rows(named=True):
        before = dict(by_input[row["input_sha256"], row["side"]])
        if row["source_path"] == "A.txt":
            before |= moved
        assert {**row, "image_index": None} == {**before, "image_index": None}


def test_shards_merge_into_the_very_table(
    fake: ModuleType, cohort: Path, tmp_path: Path, reference: pl.DataFrame
) -> None:
    parts = []
    for i in (3, 1, 2):
        parts.append(tmp_path / f"part{i}.{'csv' if i == 2 else 'parquet'}")
        fake.run(cohort, RunSettings(parts[-1], shard=Shard(i, 3)))
    summary = merge_tables(parts, tmp_path / "merged.parquet")
    assert table.read(tmp_path / "merged.parquet").equals(reference)
    assert summary.rows == len(reference)
    assert table.read_metadata(tmp_path / "merged.parquet")["run"]["shard"] == "1/1"
    assert not folder_of(tmp_path / "merged.parquet").exists()
    with pytest.raises(UsageError, match="exists"):
        merge_tables(parts, tmp_path / "merged.parquet")
    with pytest.raises(UsageError, match="shard 2 of 3 is missing"):
        merge_tables([parts[0], parts[1]], tmp_path / "m.parquet")
    with pytest.raises(UsageError, match="named twice"):
        merge_tables([*parts, parts[1]], tmp_path / "m.parquet")
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(parts[1].read_bytes())
    with pytest.raises(UsageError, match="shard 1 of 3 is there twice"):
        merge_tables([*parts, copy], tmp_path / "m.parquet")
    fake.run(cohort, RunSettings(parts[1], shard=Shard(1, 3), overwrite=True), stack_sha256="f" * 64)
    with pytest.raises(UsageError, match="differ in stack_sha256"):
        merge_tables(parts, tmp_path / "m.parquet")
    fake.run(cohort, RunSettings(parts[1], shard=Shard(1, 3), overwrite=True, limit=1))
    with pytest.raises(UsageError, match="--limit"):
        merge_tables(parts, tmp_path / "m.parquet")
    fake.run(cohort, RunSettings(parts[1], shard=Shard(1, 3), overwrite=True))
    merge_tables(parts, tmp_path / "checked.parquet", against=fake.scan(cohort))
    (cohort / "P14.txt").write_text("one 14")
    with pytest.raises(UsageError, match=r"1 without a row \(P14.txt\)"):
        merge_tables(parts, tmp_path / "m.parquet", against=fake.scan(cohort))
    part, documents = table.read(parts[1]), pl.read_parquet_metadata(parts[1])
    renamed = part.with_columns(pl.col("source_path").str.replace("P", "Q"))
    renamed.write_parquet(parts[1], metadata=documents)
    with pytest.raises(UsageError, match="source paths are not those of the scan"):
        merge_tables(parts, tmp_path / "m.parquet")
    lost = part["image_index"][0]
    part[1:].write_parquet(parts[1], metadata=documents)
    with pytest.raises(UsageError, match=f"image {lost} of the scan has no row"):
        merge_tables(parts, tmp_path / "m.parquet")
    assert not (tmp_path / "m.parquet").exists()


@pytest.mark.parametrize("name", ["merged.parquet", "merged.csv"])
def test_a_merge_that_was_killed_is_repeated_and_an_unfinished_run_is_left_alone(
    name: str, fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    parts = [tmp_path / f"{i}.parquet" for i in (1, 2)]
    for i, part in enumerate(parts, start=1):
        fake.run(cohort, RunSettings(part, shard=Shard(i, 2)))
    left = folder_of(tmp_path / name)
    left.mkdir()
    for half in ("part-000000.parquet", "table.csv", "lock"):
        (left / half).write_text("half")
    assert merge_tables(parts, tmp_path / name).images == 14
    assert not left.exists()
    (tmp_path / name).unlink()
    left.mkdir()
    (left / "rows.jsonl").write_text("an hour of work")
    with pytest.raises(UsageError, match="holds an unfinished run"):
        merge_tables(parts, tmp_path / name)
    assert (left / "rows.jsonl").read_text() == "an hour of work"


def test_a_killed_run_resumes_into_the_very_table(
    fake: ModuleType, cohort: Path, tmp_path: Path, reference: pl.DataFrame
) -> None:
    out = tmp_path / "killed.parquet"
    script = str(Path(fake.__file__ or ""))
    rows = folder_of(out) / "rows.jsonl"
    kills = 0
    while not out.exists() and kills < 4:
        before = rows.stat().st_size if rows.exists() else 0
        process = subprocess.Popen([sys.executable, script, str(cohort), str(out), "0.25"])
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if rows.exists() and rows.stat().st_size > before:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        process.wait()
        kills += 1
        if rows.exists():  # as if the last write had been torn
            rows.write_bytes(rows.read_bytes()[:-7])
    assert kills >= 2 and not out.exists()
    kept = rows.read_bytes().count(b"\n")
    steps = fake.run(cohort, RunSettings(out, resume=True))
    assert steps[-1].reused >= 1 and kept >= 1
    assert table.read(out).equals(reference)
    assert not folder_of(out).exists()


def test_resume_scores_a_file_that_changed_again_and_no_other(
    fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.parquet"
    with pytest.raises(StoppedOnErrorError, match="--retry-failed"):
        fake.run(cohort, RunSettings(out, on_error="stop", batch_size=1))
    kept = (folder_of(out) / "rows.jsonl").read_bytes().count(b"\n")
    (cohort / "P03.txt").write_text("one other")
    steps = fake.run(cohort, RunSettings(out, resume=True, batch_size=1))
    assert steps[-1].reused == kept - 1
    changed = table.read(out).row(3, named=True)
    assert changed["source_path"] == "P03.txt"
    assert changed["input_sha256"] == fake.read(fake.RadiographRef(cohort / "P03.txt", "x")).input_sha256


def test_on_error_stop_ends_at_the_first_failure_but_not_at_a_refusal(
    fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.parquet"
    with pytest.raises(StoppedOnErrorError, match=r"P09\.txt: the image ends too early"):
        fake.run(cohort, RunSettings(out, on_error="stop", batch_size=1))
    assert folder_of(out).exists() and not out.exists()


def test_a_finished_table_is_kept_unless_told_otherwise(
    fake: ModuleType, cohort: Path, tmp_path: Path, reference: pl.DataFrame
) -> None:
    out = tmp_path / "reference.parquet"
    with pytest.raises(UsageError, match="exists: write over it with --overwrite"):
        fake.run(cohort, RunSettings(out))
    steps = fake.run(cohort, RunSettings(out, resume=True))
    assert steps[-1].reused == steps[-1].images
    assert table.read(out).equals(reference)
    with pytest.raises(UsageError, match="seed was 3 and is now 4"):
        fake.run(cohort, RunSettings(out, resume=True), seed=4)
    (cohort / "P99.txt").write_text("one new")
    with pytest.raises(UsageError, match="14 then, 15 now"):
        fake.run(cohort, RunSettings(out, resume=True))
    assert not folder_of(out).exists()
    assert table.read(out).equals(reference)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_retry_failed_mends_failed_rows_and_leaves_the_rest(
    suffix: str, fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"r.{suffix}"
    fake.run(cohort, RunSettings(out))
    before = table.read(out)
    for name in ("P09.txt", "P10.txt", "P12.txt", "P13.txt"):
        (cohort / name).write_text("one mended " + name)
    steps = fake.run(cohort, RunSettings(out, retry_failed=True))
    assert steps[-1].reused == 10
    after = table.read(out)
    assert after.filter(status="failed").is_empty()
    kept = pl.col("source_path").is_in(["P09.txt", "P10.txt", "P12.txt", "P13.txt"]).not_()
    assert after.filter(kept).equals(before.filter(kept))


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_refused_rows_keep_what_the_manifest_says_and_kinds_survive_resume_and_merge(
    suffix: str, fake: ModuleType, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(folder: Path) -> Iterator[RadiographRef | Refusal]:
        for path in sorted(folder.glob("*.txt")):
            said = {"age": "63", "seen": "2020-02-29", "ever": "True", "bmi": "27.5", "code": "007"}
            yield RadiographRef(path, path.name, "0012", "24m", "R", kl_0m=2, extra=said)

    kinds = {"age": "integer", "seen": "date", "ever": "boolean", "bmi": "real", "code": "text"}
    monkeypatch.setattr(fake, "scan", listed)
    out, parts = tmp_path / f"r.{suffix}", [tmp_path / f"{i}.{suffix}" for i in (1, 2)]
    fake.run(cohort, RunSettings(out), carried=kinds)
    first = table.read(out)
    *_, again = fake.run(cohort, RunSettings(out, retry_failed=True), carried=kinds)
    assert 0 < again.reused < again.images
    assert table.read(out).equals(first)
    for i, part in enumerate(parts, start=1):
        fake.run(cohort, RunSettings(part, shard=Shard(i, 2)), carried=kinds)
    merge_tables(parts, tmp_path / f"all.{suffix}")
    assert table.read(tmp_path / f"all.{suffix}").equals(first)
    assert set(first["status"]) == {"ok", "refused", "failed"}
    alone = first.filter(pl.col("source_path") != "P07.txt")
    assert set(alone.select("participant_id", "visit", "side", "kl_0m", *kinds).rows()) == {
        ("0012", "24m", "R", 2, 63, date(2020, 2, 29), True, 27.5, "007")
    }


def test_a_file_that_hangs_costs_its_own_row(fake: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "cohort"
    folder.mkdir()
    (folder / "a.txt").write_text("hang")
    (folder / "b.txt").write_text("one b")
    fake.run(folder, RunSettings(tmp_path / "r.parquet", timeout=0.2, workers=1))
    rows = table.read(tmp_path / "r.parquet")
    assert rows["reason"].to_list() == ["timed-out", None]


def test_limit_takes_the_first_images_and_an_empty_scan_writes_nothing(
    fake: ModuleType, cohort: Path, tmp_path: Path, reference: pl.DataFrame
) -> None:
    fake.run(cohort, RunSettings(tmp_path / "r.parquet", limit=3))
    assert table.read(tmp_path / "r.parquet").equals(reference[:3])
    (tmp_path / "none").mkdir()
    steps = fake.run(tmp_path / "none", RunSettings(tmp_path / "none.parquet"))
    assert steps[-1].exit_code is ExitCode.NOTHING_SCORABLE
    assert not (tmp_path / "none.parquet").exists()
    assert not folder_of(tmp_path / "none.parquet").exists()


def test_the_summary_counts_and_warns_when_all_risks_are_one(
    fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    steps = fake.run(cohort, RunSettings(tmp_path / "r.parquet"))
    summary = steps[-1]
    assert (summary.images, summary.rows, summary.ok, summary.refused, summary.failed) == (14, 15, 9, 2, 4)
    assert summary.exit_code is ExitCode.PARTIAL
    assert summary.alarms == ()
    assert [top.risk_12m for top in summary.top] == sorted(
        (top.risk_12m for top in summary.top), reverse=True
    )
    assert json.loads(json.dumps(summary.to_json()))["exit_code"] == 3
    assert {"scan", "read", "localise", "networks", "journal", "table"} <= set(summary.stages)
    rows = table.read(tmp_path / "r.parquet").with_columns(pl.col("risk_12m_image") * 0)
    tally = Tally()
    for row in rows.iter_rows(named=True):
        tally.add(row)
    (alarm,) = tally.summary("r", fake.CALIBRATION).alarms
    assert alarm.code == "same-risk"
    assert "same risk" in alarm.message


def test_a_knee_that_a_reader_gave_kl_4_tops_no_list(fake: ModuleType, reference: pl.DataFrame) -> None:
    rows = list(reference.filter(status="ok").iter_rows(named=True))
    tally = Tally()
    for number, row in enumerate(rows):
        tally.add(row | {"kl_0m": 4 if number == 0 else 1, "risk_12m": 0.9 if number == 0 else 0.1})
    assert [top.kl_0m for top in tally.summary("r", fake.CALIBRATION).top] == [1] * 5


def test_futures_and_previews_have_one_entry_a_scored_knee(
    fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    fake.run(
        cohort,
        RunSettings(tmp_path / "r.parquet", previews=tmp_path / "pictures", futures=tmp_path / "futures.h5"),
    )
    scored = table.read(tmp_path / "r.parquet").filter(status="ok")
    with h5py.File(tmp_path / "futures.h5") as file:
        assert len(file["knees"]) == len(scored)
        knee = file["knees/000000007_L"]
        assert knee["latent_now"].shape == fake.LATENT
        assert knee["latent_12m"].shape == (4, *fake.LATENT)
        assert knee["forecast"].shape == (fake.S, fake.S)
        assert (knee.attrs["side"], knee.attrs["participant_id"]) == ("L", "P07")
        row = scored.filter(source_path="P07.txt", side="L").row(0, named=True)
        assert knee.attrs["risk_12m"] == pytest.approx(row["risk_12m"], abs=1e-6)
    pictures = sorted(path.name for path in (tmp_path / "pictures").glob("*.png"))
    assert len(pictures) == len(scored)
    page = (tmp_path / "pictures" / "index.html").read_text("utf-8")
    assert all(picture in page for picture in pictures)
    assert len(list((tmp_path / "pictures").iterdir())) == len(pictures) + 1
    assert "P07_L_000007.png" in pictures


def test_a_manifest_refused_for_its_columns_leaves_nothing_in_the_way(
    fake: ModuleType, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mended copy is another file, so that --resume would not go on either."""
    out = tmp_path / "r.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(
            fake, "scan", lambda folder: [RadiographRef(cohort / "P00.txt", "P00.txt", extra={"kl_now": "2"})]
        )
        with pytest.raises(UsageError, match="kl_now would collide"):
            fake.run(cohort, RunSettings(out))
    assert not folder_of(out).exists()
    fake.run(cohort, RunSettings(out), manifest="mended")


def test_a_finished_run_with_futures_is_gone_on_with(fake: ModuleType, cohort: Path, tmp_path: Path) -> None:
    out, futures = tmp_path / "r.parquet", tmp_path / "f.h5"
    fake.run(cohort, RunSettings(out, futures=futures))
    whole, before = table.read(out), futures.read_bytes()

    def knees() -> dict[str, list[float]]:
        with h5py.File(futures) as file:
            return {
                name: [float(k.attrs["risk_12m"]), float(k["latent_12m"][()].sum())]
                for name, k in file["knees"].items()
            }

    first = knees()
    fake.run(cohort, RunSettings(out, futures=futures, resume=True))
    assert table.read(out).equals(whole) and knees() == first
    (cohort / "P03.txt").write_text("one 30")
    (cohort / "P07.txt").write_text("one 70")  # it had two knees
    fake.run(cohort, RunSettings(out, futures=futures, resume=True))
    second = knees()
    changed = {name for name in {*first, *second} if first.get(name) != second.get(name)}
    assert changed and all(name.startswith(("000000003", "000000007")) for name in changed)
    scored = table.read(out).filter(status="ok")
    assert len(second) == len(scored) == len(first) - 1
    for row in scored.iter_rows(named=True):
        name = f"{row['image_index']:09d}_{row['side']}"
        assert second[name][0] == pytest.approx(row["risk_12m"], abs=1e-6)
    futures.unlink()
    with pytest.raises(UsageError, match=r"f\.h5 is not the futures"):
        fake.run(cohort, RunSettings(out, futures=futures, resume=True))
    fake.run(cohort, RunSettings(tmp_path / "o.parquet", futures=futures), seed=4)
    with pytest.raises(UsageError, match="of another run"):
        fake.run(cohort, RunSettings(out, futures=futures, resume=True))
    assert before != futures.read_bytes()


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_starts_as_another_finishes_changes_nothing(
    fake: ModuleType, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    """The second one has made its folder, or found the first one's, and does not hold the lock yet."""
    out = tmp_path / "r.parquet"
    real = folders.locked
    finished: list[bytes] = []

    @contextmanager
    def late(path: Path, *, wait: bool) -> Iterator[None]:
        monkeypatch.setattr(folders, "locked", real)
        fake.run(cohort, RunSettings(out, resume=True))
        finished.append(out.read_bytes())
        with real(path, wait=wait):
            yield

    monkeypatch.setattr(folders, "locked", late)
    with pytest.raises(UsageError, match="just now"):
        fake.run(cohort, RunSettings(out, resume=resume))
    assert out.read_bytes() == finished[0]
    assert not folder_of(out).exists()


def test_a_finishing_run_leaves_a_later_ones_lock(
    fake: ModuleType, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r.parquet"
    real = Path.rmdir

    def rmdir(self: Path) -> None:
        if self == folder_of(out):
            (self / "lock").write_bytes(b"")  # another run's, which found the folder and no lock in it
        real(self)

    monkeypatch.setattr(Path, "rmdir", rmdir)
    fake.run(cohort, RunSettings(out))
    assert (folder_of(out) / "lock").exists() and len(table.read(out)) > 0


def test_a_workspace_is_empty_at_first_and_gone_at_last(tmp_path: Path) -> None:
    left = folder_of(tmp_path / "m.parquet")
    (left / "more").mkdir(parents=True)
    (left / "part-1").write_text("of a merge that was killed")
    with workspace_of(tmp_path / "m.parquet") as folder:
        assert folder == left and {path.name for path in left.iterdir()} <= {"lock"}
        with pytest.raises(UsageError, match="at work in"), workspace_of(tmp_path / "m.parquet"):
            pass
        (folder / "part-1").write_text("of this one")
    assert not left.exists()
