"""Cohorts in an object store: listed and read as from a disk, whatever the store does to requests."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.places import objects
from kneerisk.places.place import is_remote, place, url_of
from kneerisk.places.reach import read_bytes, remote_at, warmed
from kneerisk.radiograph.decode.read import read
from kneerisk.radiograph.settings import InputSettings
from kneerisk.radiograph.sources.scan import scan
from kneerisk.radiograph.sources.skipped import Skipped
from kneerisk.records import Radiograph, RadiographRef, Refusal
from kneerisk.scoring.journal.record import FileState
from kneerisk.scoring.settings import RunSettings
from kneerisk.scoring.stores.tables import at_home, send

KNEES = place("s3://knees")


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Forty pictures, two of them the same, with a text, a hidden file and an empty one among them."""
    folder = tmp_path / "cohort"
    for i in range(40):
        pixels = np.random.default_rng(i % 39).integers(0, 255, (300, 300), np.uint8)
        path = folder / f"P{i:02d} é" / "knee.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
    (folder / "notes.txt").write_text("of no interest")
    (folder / ".hidden").write_text("x")
    (folder / "empty.png").write_bytes(b"")
    return folder


def upload(folder: Path, target: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            objects.put(path, target / path.relative_to(folder))


def told(items: list[RadiographRef | Refusal]) -> list[tuple[object, ...]]:
    """Everything of a scan but where its files lie."""
    found = []
    for item in items:
        ref = item if isinstance(item, RadiographRef) else item.ref
        why = (item.reason, item.message) if isinstance(item, Refusal) else None
        found.append((ref.source_path, ref.participant_id, ref.side, ref.qc_flags, why))
    return sorted(found, key=lambda row: str(row[0]))


def test_a_url_is_a_path_and_a_path_is_its_url() -> None:
    path = place("s3://knees/a b/ü.dcm")
    assert (is_remote(path), url_of(path), path.name) == (True, "s3://knees/a b/ü.dcm", "ü.dcm")
    assert place("file:///data/a%20b") == Path("/data/a b")
    assert not is_remote(Path("/data/s3:/x"))
    for bad in ("s3://", "http://server/x", "ftp://server/x"):
        with pytest.raises(UsageError):
            place(bad)
    assert InputSettings((Path("file:///data"),)).inputs == (Path("/data"),)


def test_a_store_gives_the_scan_and_the_pixels_that_a_disk_gives(cohort: Path, s3: Any) -> None:
    upload(cohort, KNEES / "cohort")
    s3.ranges.clear()
    here, there = Skipped(), Skipped()
    local = list(scan([cohort], id_from="folder", skipped=here))
    remote = list(scan([KNEES / "cohort"], id_from="folder", skipped=there))
    assert told(remote) == told(local)
    assert len(told(remote)) == 41
    assert there.counts == here.counts
    assert ("duplicate-file",) in [item.qc_flags for item in remote if isinstance(item, RadiographRef)]
    assert set(s3.ranges) == {"bytes=0-4095"} | {f"bytes=0-{14 - 1}"}, "a scan reads first bytes alone"
    assert len(s3.ranges) == 41, "once each: 40 pictures and a text; an empty object has none"
    by_path = {item.source_path: item for item in local if isinstance(item, RadiographRef)}
    for item in remote[:3]:
        assert isinstance(item, RadiographRef)
        ours, theirs = read(by_path[item.source_path]), read(item)
        assert isinstance(ours, Radiograph) and isinstance(theirs, Radiograph)
        assert theirs.input_sha256 == ours.input_sha256
        assert np.array_equal(theirs.pixels, ours.pixels)


def test_with_one_request_in_twenty_failing_nothing_is_lost(cohort: Path, s3: Any) -> None:
    s3.faults = 0.05
    upload(cohort, KNEES / "cohort")
    remote = list(scan([KNEES / "cohort"], id_from="folder"))
    assert told(remote) == told(list(scan([cohort], id_from="folder")))
    for item in remote:
        if isinstance(item, RadiographRef):
            assert read_bytes(item.path, 1 << 30) == (cohort / item.source_path).read_bytes()
    assert s3.failed >= 5, "the faults were there"


def test_a_listing_costs_a_request_for_a_thousand_objects(tmp_path: Path, s3: Any) -> None:
    fill(2100)
    found = list(remote_at(KNEES).files(KNEES / "many"))
    assert len(found) == 2100 and found == sorted(found)
    assert len(s3.requests) == 3


def test_a_page_that_breaks_off_is_asked_for_again_from_where_it_broke(s3: Any) -> None:
    fill(2100)
    s3.breaks = {1, 2}
    found = [path.name for path in remote_at(KNEES).files(KNEES / "many")]
    assert found == [f"{i:06d}.dcm" for i in range(2100)]
    assert len(s3.requests) == 5
    assert any("start-after" in request for request in s3.requests)


def test_a_listing_that_always_breaks_off_is_an_error(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    fill(10)
    s3.breaks = set(range(100))
    with pytest.raises(UsageError, match="cannot be read: the store's answer broke off"):
        scan([KNEES / "many"])
    assert len(s3.requests) == 8, "whether it is one object, the page, and six times the page again"


def fill(count: int) -> None:
    """Objects put into the server's memory without a request each."""
    from moto.s3.models import s3_backends

    (backend,) = s3_backends.values()
    for i in range(count):
        backend["aws"].put_object("knees", f"many/{i:06d}.dcm", b"DICM")


def test_an_object_that_changes_or_goes_is_noticed(tmp_path: Path, s3: Any) -> None:
    (tmp_path / "a").write_bytes(b"one")
    path = KNEES / "a.dcm"
    objects.put(tmp_path / "a", path)
    before = FileState.of(path)
    assert before is not None and before == FileState.of(path)
    (tmp_path / "a").write_bytes(b"two")
    objects.put(tmp_path / "a", path)
    assert FileState.of(path) != before
    assert FileState.of(KNEES / "nothing.dcm") is None
    refused = read(RadiographRef(KNEES / "nothing.dcm", "nothing.dcm"))
    assert isinstance(refused, Refusal)
    assert "no such object" in refused.message


def test_copies_in_parts_are_known_by_their_bytes(tmp_path: Path, s3: Any) -> None:
    """An object written in parts has an ETag that is no MD5."""
    pixels = np.random.default_rng(0).integers(0, 255, (2500, 2500), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "big.png", compress_level=0)
    objects.put(tmp_path / "big.png", KNEES / "a" / "one.png")
    objects.put(tmp_path / "big.png", KNEES / "a" / "two.png")
    pixels[1200] = 0
    Image.fromarray(pixels).save(tmp_path / "big.png", compress_level=0)
    objects.put(tmp_path / "big.png", KNEES / "a" / "zoo.png")
    assert any("uploads" in request for request in s3.requests)
    flags = [item.qc_flags for item in scan([KNEES / "a"]) if isinstance(item, RadiographRef)]
    assert flags == [(), ("duplicate-file",), ()]


def test_objects_are_named_by_a_manifest_or_one_by_one(cohort: Path, tmp_path: Path, s3: Any) -> None:
    upload(cohort, KNEES / "cohort")
    (tmp_path / "list.csv").write_text(
        "path,participant_id,side\ns3://knees/cohort/P01 é/knee.png,A,L\ns3://knees/cohort/none.png,B,R\n"
    )
    first, second = scan([tmp_path / "list.csv"])
    assert isinstance(first, RadiographRef) and isinstance(second, Refusal)
    assert (first.participant_id, first.side, isinstance(read(first), Radiograph)) == ("A", "L", True)
    assert "no such object" in second.message
    (alone,) = scan([KNEES / "cohort" / "P02 é" / "knee.png"], id_from="folder")
    assert isinstance(alone, RadiographRef)
    assert (alone.source_path, alone.participant_id) == ("knee.png", "P02 é")
    twice = Skipped()
    both = list(scan([KNEES / "cohort" / "P03 é", KNEES / "cohort"], skipped=twice))
    assert (len(both), twice.counts["given twice"]) == (41, 1)
    both = list(scan([KNEES / "cohort", KNEES / "cohort" / "P03 é"], skipped=twice))
    assert (len(both), twice.counts["given twice"]) == (41, 2)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://knees/nothing", "nothing lies at s3://knees/nothing"),
        ("s3://nowhere/cohort", "the bucket does not exist"),
        ("s3://knees/list.csv", "is a table"),
    ],
)
def test_a_wrong_url_is_an_error_at_once(url: str, words: str, s3: Any) -> None:
    with pytest.raises(UsageError, match=words):
        scan([place(url)])


def test_without_credentials_or_an_answer_the_error_says_so(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    objects._opened.cache_clear()
    with pytest.raises(UsageError, match="does not answer"):
        scan([KNEES / "cohort"])
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    objects._opened.cache_clear()
    with pytest.raises(UsageError, match="no credentials"):
        scan([KNEES / "cohort"])


def test_a_bucket_that_vanishes_ends_the_scan_with_an_error(cohort: Path, s3: Any) -> None:
    fill(1100)
    found = scan([KNEES])
    next(found)
    reset(s3)
    with pytest.raises(KneeriskError, match="cannot be listed to its end: the bucket does not exist"):
        list(found)


def reset(s3: Any) -> None:
    import urllib.request

    urllib.request.urlopen(urllib.request.Request(f"{s3.url}/moto-api/reset", method="POST")).close()


def test_a_table_goes_into_a_store_whole(tmp_path: Path, s3: Any) -> None:
    out = KNEES / "out" / "risks.csv"
    table, beside = tmp_path / "risks.csv", tmp_path / "risks.csv.json"
    table.write_text("a table")
    beside.write_text("{}")
    send(table, out)
    assert list(tmp_path.iterdir()) == []
    assert read_bytes(out, 100) == b"a table"
    assert read_bytes(KNEES / "out" / "risks.csv.json", 100) == b"{}"
    with pytest.raises(UsageError, match=r"s3://knees/out/risks.csv exists"), at_home(RunSettings(out)):
        pass
    with at_home(RunSettings(out, overwrite=True)) as here:
        assert here.out == Path("risks.csv")


def test_a_table_that_a_store_does_not_take_is_kept(tmp_path: Path, s3: Any) -> None:
    table = tmp_path / "risks.parquet"
    table.write_text("a table")
    reset(s3)
    with pytest.raises(
        KneeriskError, match=r"the bucket does not exist\. The whole table is .*risks\.parquet"
    ):
        send(table, KNEES / "risks.parquet")
    assert table.read_text() == "a table"


def test_other_outputs_by_url_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--dicom-sr writes to this machine alone"):
        RunSettings(tmp_path / "risks.parquet", dicom_sr=Path("s3://knees/sr"))


def test_requests_go_out_many_at_once_but_not_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, most, asked = [0], [0], []
    lock = threading.Lock()

    def head(self: objects.Objects, path: Path, length: int) -> bytes:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
            asked.append(path)
        time.sleep(0.02)
        with lock:
            busy[0] -= 1
        return b""

    monkeypatch.setattr(objects.Objects, "head", head)
    monkeypatch.setattr(objects.Objects, "likeness", head)
    paths = [KNEES / f"{i:04d}.dcm" for i in range(200)]
    assert list(warmed(paths, Path, 4096)) == paths
    assert 16 <= most[0] <= 64
    asked.clear()
    half_way = warmed((KNEES / f"{i}.dcm" for i in range(100_000)), Path, 4096)
    assert next(half_way) == KNEES / "0.dcm"
    half_way.close()
    assert len(set(asked)) < 400, "what was not yet on its way is not asked for"


def test_objects_of_a_manifest_are_looked_at_many_at_once(
    tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, busy, most = objects.Objects.head, [0], [0]
    lock = threading.Lock()

    def counted(self: objects.Objects, path: Path, length: int) -> bytes:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.05)
        found = head(self, path, length)
        with lock:
            busy[0] -= 1
        return found

    fill(30)
    monkeypatch.setattr(objects.Objects, "head", counted)
    rows = [f"s3://knees/many/{i:06d}.dcm" for i in range(30)]
    (tmp_path / "list.csv").write_text("\n".join(["path", *rows]))
    assert [
        item.ref.source_path for item in scan([tmp_path / "list.csv"]) if isinstance(item, Refusal)
    ] == rows
    assert most[0] >= 8


def test_what_an_earlier_scan_saw_is_looked_at_again(tmp_path: Path, s3: Any) -> None:
    target = KNEES / "a" / "knee.png"
    for content, found in ((b"no picture", Refusal), (b"\x89PNG\r\n\x1a\n", RadiographRef)):
        (tmp_path / "knee.png").write_bytes(content)
        objects.put(tmp_path / "knee.png", target)
        (item,) = scan([target.parent])
        assert isinstance(item, found)


def test_an_account_that_is_not_named_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AZURE")]:
        monkeypatch.delenv(name)
    objects._opened.cache_clear()
    with pytest.raises(UsageError, match="set AZURE_STORAGE_ACCOUNT_NAME"):
        scan([place("az://knees/cohort")])
