"""A watch scores what arrives, once; it stops cleanly, and goes on where its parts end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.scoring.settings import RunSettings
from kneerisk.scoring.watch import WatchSettings, watch_images


def old(path: Path) -> None:
    """Make a file look as if it had lain there for a minute."""
    os.utime(path, (time.time() - 60, time.time() - 60))


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    folder = tmp_path / "ward"
    folder.mkdir()
    for i in range(5):
        (folder / f"P{i}.txt").write_text(f"one {i}")
        old(folder / f"P{i}.txt")
    return folder


def watching(
    fake: ModuleType, ward: Path, out: Path, stop: Event | None = None, **changed: Any
) -> Iterator[Any]:
    settings = WatchSettings(out, **{"every": 0.05, "once": True, **changed})
    rooms = fake.rooms(0.0, False, 1)
    run = RunSettings(workers=1, batch_size=2)
    return watch_images(
        lambda: fake.scan(ward), rooms, run, settings, lambda part: {"shard": "1/1"}, stop or Event()
    )


def scored(out: Path) -> list[str]:
    paths = pl.read_parquet(out / "*.parquet")["source_path"].to_list()
    return sorted(paths)


def test_parts_hold_each_image_once_and_a_bounded_number_of_them(
    fake: ModuleType, ward: Path, tmp_path: Path
) -> None:
    out = tmp_path / "parts"
    assert [part.images for part in watching(fake, ward, out, most=2)] == [2, 2, 1]
    assert sorted(path.name for path in out.iterdir()) == [f"part-00000{i}.parquet" for i in (1, 2, 3)]
    assert scored(out) == [f"P{i}.txt" for i in range(5)]
    assert list(watching(fake, ward, out, most=2)) == []
    (ward / "A.txt").write_text("one 9")
    old(ward / "A.txt")
    assert [part.images for part in watching(fake, ward, out)] == [1]
    assert (out / "part-000004.parquet").exists()
    assert scored(out)[0] == "A.txt"


def test_a_file_on_its_way_is_waited_for(fake: ModuleType, ward: Path, tmp_path: Path) -> None:
    (ward / "P5.txt").write_text("on")
    assert [part.images for part in watching(fake, ward, tmp_path / "parts")] == [5]
    old(ward / "P5.txt")
    assert [part.images for part in watching(fake, ward, tmp_path / "parts")] == [1]


def test_a_part_that_was_cut_off_is_scored_again(fake: ModuleType, ward: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    journal = out / "part-000001.parquet.kneerisk"
    journal.mkdir(parents=True)
    (journal / "rows.jsonl").write_text("torn")
    assert [part.images for part in watching(fake, ward, out)] == [5]
    assert not journal.exists()


def test_two_watches_do_not_write_over_each_others_parts(
    fake: ModuleType, ward: Path, tmp_path: Path
) -> None:
    out = tmp_path / "parts"
    first = watching(fake, ward, out, most=2)
    assert next(first).images == 2
    with pytest.raises(UsageError, match="another kneerisk watch writes into"):
        next(watching(fake, ward, out, most=2))
    assert [part.images for part in first] == [2, 1]
    assert scored(out) == [f"P{i}.txt" for i in range(5)]
    assert list(watching(fake, ward, out, most=2)) == []
    assert sorted(path.name for path in out.iterdir()) == [f"part-00000{i}.parquet" for i in (1, 2, 3)]


def test_a_table_that_somebody_laid_among_the_parts_is_one_of_them(
    fake: ModuleType, ward: Path, tmp_path: Path
) -> None:
    out = tmp_path / "parts"
    assert [part.images for part in watching(fake, ward, out, most=2)] == [2, 2, 1]
    (out / "part-000003.parquet").rename(out / "part-last.parquet")
    (ward / "P5.txt").write_text("one 5")
    old(ward / "P5.txt")
    assert [part.images for part in watching(fake, ward, out)] == [1]
    assert scored(out) == [f"P{i}.txt" for i in range(6)]
    assert (out / "part-000003.parquet").exists()


def test_a_stop_ends_the_wait_and_a_part_at_hand_is_written(
    fake: ModuleType, ward: Path, tmp_path: Path
) -> None:
    stop = Event()
    parts = watching(fake, ward, tmp_path / "parts", stop, most=2, once=False, every=60.0)
    assert next(parts).images == 2
    stop.set()
    assert list(parts) == []
    assert scored(tmp_path / "parts") == ["P0.txt", "P1.txt"]
    stop = Event()
    waits = watching(fake, ward, tmp_path / "parts", stop, once=False, every=60.0)
    assert next(waits).images == 3
    thread = Thread(target=list, args=(waits,))
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive(), "it waits for what may come"
    stop.set()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_only_the_first_look_may_fail(fake: ModuleType, ward: Path, tmp_path: Path) -> None:
    looks = iter([None, KneeriskError("the server does not answer"), None])

    def look() -> Any:
        wrong = next(looks)
        if wrong is not None:
            raise wrong
        return fake.scan(ward)

    stop = Event()
    settings = WatchSettings(tmp_path / "parts", every=0.01, most=4)
    rooms = fake.rooms(0.0, False, 1)
    parts = watch_images(look, rooms, RunSettings(workers=1), settings, lambda part: {"shard": "1/1"}, stop)
    assert [next(parts).images, next(parts).images] == [4, 1]
    parts.close()

    def never() -> Any:
        raise UsageError("no such folder")

    with pytest.raises(UsageError, match="no such folder"):
        list(watch_images(never, rooms, RunSettings(), settings, lambda part: {}, Event()))


def test_what_a_pacs_does_not_take_stays_and_the_watch_goes_on(
    fake: ModuleType, ward: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(files: list[Path]) -> None:
        raise OSError(5, "the server does not answer")

    rooms = fake.rooms(0.0, False, 1)
    settings = WatchSettings(tmp_path / "parts", once=True, most=3)
    run = RunSettings(workers=1, dicom_sr=tmp_path / "sr")
    parts = watch_images(
        lambda: fake.scan(ward), rooms, run, settings, lambda part: {"shard": "1/1"}, Event(), refuses
    )
    assert [part.images for part in parts] == [3, 2]
    assert "were not stored (the server does not answer)" in caplog.text


def test_settings_that_cannot_be_are_said(tmp_path: Path) -> None:
    for changed, words in (
        ({"every": 0.0}, "--every"),
        ({"most": 0}, "--most"),
        ({"send": tmp_path}, "dicomweb://"),
        ({"out": Path("s3://knees/parts")}, "folder of this machine"),
    ):
        with pytest.raises(UsageError, match=words):
            WatchSettings(**{"out": tmp_path, **changed})  # type: ignore[arg-type]
