"""Disks that are full, gone or not to be written: a message that names the place, and nothing lost."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from kneerisk.errors import ExitCode, KneeriskError, UsageError
from kneerisk.radiograph.settings import InputSettings
from kneerisk.records import RadiographRef
from kneerisk.scoring.outputs import table
from kneerisk.scoring.settings import RunSettings, check_places, shareable
from kneerisk.scoring.shards import Shard
from kneerisk.storage import StorageError, in_words, writing

HERE = Path(__file__).parent
SWEEP = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
import fake_chain
from pathlib import Path
from kneerisk.scoring.settings import RunSettings
from kneerisk.storage import StorageError
folder, home = Path(sys.argv[2]), Path(sys.argv[3])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
found, url = [], sys.argv[6] == "True"
for limit in json.loads(sys.argv[4]):
    places = {key: home / f"{limit}-{name}" for key, name in json.loads(sys.argv[5]).items()}
    if url:
        places["out"] = places["out"].as_uri()
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        fake_chain.run(folder, RunSettings(**places))
        words = None
    except StorageError as error:
        words = str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    half = [p.name for p in home.rglob("*") if ".new" in p.name and ".kneerisk" not in str(p)]
    if words is not None:
        fake_chain.run(folder, RunSettings(**places, resume=True))
    found.append([limit, words, half])
print(json.dumps(found))
"""


def sweep(
    folder: Path, home: Path, limits: list[int], places: dict[str, str], url: bool = False
) -> list[tuple[int, str, list[str]]]:
    """Runs whose files may have so many bytes at most, each then gone on with; no crash ends them all."""
    given = (str(HERE), str(folder), str(home), json.dumps(limits), json.dumps(places), str(url))
    done = subprocess.run([sys.executable, "-c", SWEEP, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return [tuple(entry) for entry in json.loads(done.stdout)]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX's")
@pytest.mark.parametrize(
    ("places", "limits", "url"),
    [
        ({"out": "r.parquet"}, [1000, 5000, 12_000, 20_000, 30_000, 42_000], False),
        ({"out": "r.csv"}, [3000, 9000, 16_000, 24_000], False),
        ({"out": "r.csv"}, [16_000], True),
        ({"out": "r.parquet", "futures": "f.h5"}, [30_000, 60_000, 61_000, 90_000, 120_000, 150_000], False),
        ({"out": "r.csv", "previews": "p"}, [30_000, 60_000], False),
        ({"out": "r.parquet", "dicom_sr": "sr", "dicom_sc": "sc"}, [20_000, 100_000], False),
    ],
)
def test_a_full_disk_is_told_and_costs_no_row(
    places: dict[str, str], limits: list[int], url: bool, cohort: Path, tmp_path: Path, fake: ModuleType
) -> None:
    if "dicom_sr" in places:  # reports take long to make
        for image in cohort.glob("P0[1-8].txt"):
            image.unlink()
    fake.run(cohort, RunSettings(tmp_path / "whole.parquet"))
    whole = table.read(tmp_path / "whole.parquet")
    (home := tmp_path / "small").mkdir()
    found = sweep(cohort, home, limits, places, url)
    assert [
        words for _, words, _ in found if words is not None
    ]  # else no limit was low enough to try anything
    for limit, words, half in found:
        assert half == []
        if words is not None:
            assert str(home) in words and "--resume" in words, words
            assert "raise the limit" in words or "has space" in words, (
                words
            )  # Polars does not say what failed
        assert table.read(home / f"{limit}-{places['out']}").equals(whole)


OTHERS = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
import fake_chain, polars as pl
from pathlib import Path
from threading import Event
from kneerisk.scoring.merge import merge_tables
from kneerisk.scoring.settings import RunSettings
from kneerisk.scoring.shards import Shard
from kneerisk.scoring.watch import WatchSettings, watch_images
from kneerisk.storage import StorageError
from kneerisk.study import tables
folder, home = Path(sys.argv[2]), Path(sys.argv[3])
parts = [home / "parts" / f"{i}.parquet" for i in (1, 2)]
for number, part in enumerate(parts, start=1):
    fake_chain.run(folder, RunSettings(part, shard=Shard(number, 2)))
frame = pl.read_parquet(parts[0])
risks = frame.select(risk_12m=pl.col("risk_12m") / 2)

def watch(out):
    watched = watch_images(
        lambda: fake_chain.scan(folder), fake_chain.rooms(), RunSettings(),
        WatchSettings(out, settled=0, once=True), lambda part: {"shard": "1/1"}, Event(),
    )
    return list(watched)

ways = {
    "merged.parquet": lambda out: merge_tables(parts, out),
    "merged.csv": lambda out: merge_tables(parts, out),
    "derived.parquet": lambda out: tables.write_beside(parts[0], risks, out, {}),
    "derived.csv": lambda out: tables.write_beside(parts[0], risks, out, {}),
    "enriched.csv": lambda out: tables.write(frame, out, {"note": "x" * 9000}),
    "calibration.json": lambda out: tables.write_text("x" * 9000, out),
    "watched": watch,
}
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
found = []
for name, way in ways.items():
    for limit in (500, 2000):
        place = home / f"{limit}" / name
        place.parent.mkdir(exist_ok=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            way(place)
            words = None
        except StorageError as error:
            words = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        left = [path.name for path in place.parent.iterdir() if path.is_file()]
        found.append([name, limit, words, left])
        way(place)
        if place.is_file():
            place.unlink()
            place.with_name(place.name + ".json").unlink(missing_ok=True)
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX's")
def test_a_full_disk_is_told_by_whatever_else_writes(cohort: Path, tmp_path: Path) -> None:
    (home := tmp_path / "small").mkdir()
    given = [sys.executable, "-c", OTHERS, str(HERE), str(cohort), str(home)]
    done = subprocess.run(given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    found = json.loads(done.stdout)
    assert len(found) == 14
    for name, limit, words, left in found:
        assert words is not None, (name, limit)
        assert str(home / str(limit) / name) in words and "; " in words and "\n" not in words, words
        assert "--resume" not in words, "which none of these has"
        assert left == [], (name, limit, left)
    assert len(list((home / "2000" / "watched").glob("*.parquet"))) == 1


def test_a_folder_that_goes_away_stops_the_run_with_its_name(
    cohort: Path, tmp_path: Path, fake: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "share"
    home.mkdir()
    real = os.fsync

    def unmounted(descriptor: int) -> None:
        shutil.rmtree(home, ignore_errors=True)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", unmounted)
    with pytest.raises(StorageError, match=r"share.*disk or share is still there.*--resume"):
        fake.run(cohort, RunSettings(home / "r.parquet"))


def test_a_journal_that_is_taken_away_stops_the_run_at_once(
    cohort: Path, tmp_path: Path, fake: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "share"
    home.mkdir()
    real, seen = fake.read, []

    def read(ref: RadiographRef) -> object:
        seen.append(ref.path.name)
        if ref.path.name == "P05.txt":
            shutil.rmtree(home)
        return real(ref)

    monkeypatch.setattr(fake, "read", read)
    for number in range(60):
        (cohort / f"Q{number:02d}.txt").write_text(f"one {number}")
    settings = RunSettings(home / "r.parquet", workers=1, batch_size=1)
    with pytest.raises(KneeriskError, match=r"r\.parquet\.kneerisk was taken away.*--resume"):
        fake.run(cohort, settings, parallel=1)
    assert len(seen) < 60, "a night is not scored into a file that nobody will find"


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES]
)
def test_every_error_of_a_disk_names_place_and_remedy(number: int, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as told, writing(tmp_path / "x.csv"):
        raise OSError(number, os.strerror(number))
    words = str(told.value)
    assert str(tmp_path / "x.csv") in words and os.strerror(number) in words
    assert words.rpartition("; ")[2] not in ("", "see that the place is there and may be used")


def test_an_error_of_polars_is_one_of_its_disk(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"x\.parquet"), writing(tmp_path / "x.parquet"):
        raise pl.exceptions.ComputeError("No space left on device (os error 28)")
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "x.parquet"):
        1 / 0  # noqa: B018 (what is no disk's stays what it is)


def test_a_command_says_what_the_system_said(
    cli: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    from kneerisk.scoring import cohort as joined

    def broken(*given: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "/mnt/share/knees")

    monkeypatch.setattr(joined, "score_cohort", broken)
    assert cli("score", tmp_path, "--out", tmp_path / "r.csv") == ExitCode.FATAL
    printed = capsys.readouterr().err
    assert "/mnt/share/knees: Input/output error" in printed and "Traceback" not in printed


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8(tmp_path: Path, fake: ModuleType, cohort: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    odd.mkdir()
    with pytest.raises(UsageError, match="no UTF-8"):
        check_places(InputSettings((cohort,)), RunSettings(odd / "r.parquet"))
    moved = Path(shutil.copytree(cohort, odd / "knees"))
    for name in ("r.parquet", "r.csv"):
        fake.run(moved, RunSettings(tmp_path / name), inputs=[str(odd)])
        run = table.read_metadata(tmp_path / name)["run"]
        assert run["fingerprint"]["inputs"] == [r"caf\udce9"]
    assert shareable({"inputs": [str(odd)]})["inputs"] == [r"caf\udce9"]


def test_names_that_others_take_for_patterns(tmp_path: Path, fake: ModuleType, cohort: Path) -> None:
    from kneerisk.radiograph.sources.scan import scan
    from kneerisk.scoring.merge import merge_tables
    from kneerisk.study import tables
    from kneerisk.study.scores import read_scores

    home = tmp_path / "knees [2024] *?"
    home.mkdir()
    for name in ("r.parquet", "r.csv"):
        fake.run(cohort, RunSettings(home / name))
        assert len(table.read(home / name)) == len(read_scores(home / name).frame) == 15
    parts = [home / f"{number}.parquet" for number in (1, 2)]
    for number, part in enumerate(parts, start=1):
        fake.run(cohort, RunSettings(part, shard=Shard(number, 2)))
    assert merge_tables(parts, home / "m.parquet").rows == 15
    risks = table.read(home / "m.parquet").select("risk_12m")
    assert tables.write_beside(home / "m.parquet", risks, home / "d.parquet", {}) == 15
    for name in ("manifest.csv", "manifest.parquet"):
        listed = pl.DataFrame({"path": ["a.png"], "participant_id": ["7"]})
        listed.write_csv(home / name) if name.endswith("csv") else listed.write_parquet(home / name)
        (found,) = scan([home / name])
        assert "a.png" in str(found)


def test_words_stand_where_the_error_has_none() -> None:
    assert "a file: " in in_words(OSError(errno.EIO, "Input/output error"))
    assert "see that the place" in in_words(OSError(12345, "Strange"), "/x")
