"""Whole runs over an object store that stumbles, with made-up networks: nothing lost, the same rows."""

from __future__ import annotations

import importlib.util
import io
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from pydicom import dcmread

import kneerisk
from kneerisk.errors import KneeriskError, UsageError
from kneerisk.places import dicomweb, objects
from kneerisk.places.place import place, url_of
from kneerisk.places.reach import read_bytes
from kneerisk.radiograph import knees
from kneerisk.radiograph.settings import InputSettings
from kneerisk.records import KneeCrop, Radiograph
from kneerisk.scoring import cohort as scoring
from kneerisk.scoring.chain import Rooms
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.merge import merge_tables
from kneerisk.scoring.outputs import table
from kneerisk.scoring.outputs.summary import Summary
from kneerisk.scoring.run import Progress
from kneerisk.scoring.settings import RunSettings, StackSettings
from kneerisk.simulate.dicom import write_dicom
from kneerisk.simulate.radiograph import simulate_radiograph

KNEES = place("s3://knees")
COHORT = KNEES / "cohort"
OUT = KNEES / "out" / "risks.parquet"


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    path = Path(__file__).parents[1] / "scoring" / "fake_chain.py"
    spec = importlib.util.spec_from_file_location("fake_chain_of_stores", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def made_up(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that cost nothing; what reads and lists is the real thing."""

    @contextmanager
    def rooms(
        inputs: InputSettings, networks: StackSettings, run: RunSettings, clock: Clock
    ) -> Iterator[Rooms]:
        yield replace(fake.rooms(), read=knees.reader(inputs), localise=whole_picture)

    monkeypatch.setattr(scoring, "open_rooms", rooms)


def whole_picture(radiograph: Radiograph) -> list[KneeCrop]:
    return [
        KneeCrop(
            ref=radiograph.ref,
            side="R",
            pixels=radiograph.pixels[:16, :16],
            to_source=np.eye(2, 3, dtype=np.float32),
            input_sha256=radiograph.input_sha256,
            spacing_mm=None,
            spacing_source=radiograph.spacing_source,
            participant_id=radiograph.ref.participant_id,
        )
    ]


def picture(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(i).integers(0, 255, (64, 64), np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def fill(count: int, folder: Path | None = None) -> None:
    """Pictures in the server's memory, and the same in a folder."""
    from moto.s3.models import s3_backends

    (backend,) = s3_backends.values()
    for i in range(count):
        backend["aws"].put_object("knees", f"cohort/P{i:03d}/knee.png", picture(i))
        if folder is not None:
            path = folder / f"P{i:03d}" / "knee.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(picture(i))


def run(inputs: Path, out: Path, **asked: Any) -> list[object]:
    settings = RunSettings(out, workers=8, **asked)
    return list(scoring.score_cohort(InputSettings((inputs,), id_from="folder"), StackSettings(), settings))


def stopped(inputs: Path, out: Path, images: int, **asked: Any) -> None:
    """A run that ends after some images, as a killed one does."""
    settings = RunSettings(out, workers=2, batch_size=1, **asked)
    steps = scoring.score_cohort(InputSettings((inputs,), id_from="folder"), StackSettings(), settings)
    for step in steps:
        if isinstance(step, Progress) and step.done >= images:
            break
    steps.close()  # type: ignore[attr-defined]


def rows(path: Path) -> pl.DataFrame:
    return table.read(path).drop("source_path")


def stored(out: Path = OUT) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(read_bytes(out, 1 << 30))).drop("source_path")


def vanish(s3: Any) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{s3.url}/moto-api/reset", method="POST")).close()


def test_a_store_that_fails_one_request_in_twenty_costs_no_row(here: Path, s3: Any) -> None:
    fill(200, here / "cohort")
    run(here / "cohort", here / "local.parquet")
    s3.faults = 0.05
    summary = run(COHORT, here / "remote.parquet")[-1]
    assert isinstance(summary, Summary)
    assert (summary.images, summary.ok) == (200, 200)
    assert rows(here / "remote.parquet").equals(rows(here / "local.parquet"))
    assert s3.failed >= 20, "the faults were there"


def test_a_stopped_run_into_a_store_goes_on(here: Path, s3: Any) -> None:
    fill(12)
    stopped(COHORT, OUT, 4)
    with pytest.raises(UsageError, match="holds an unfinished run"):
        run(COHORT, OUT)
    steps = run(COHORT, OUT, resume=True)
    reused = max(step.reused for step in steps if isinstance(step, Progress))
    assert reused >= 4
    run(COHORT, here / "fresh.parquet")
    assert stored().equals(rows(here / "fresh.parquet"))
    assert [path.name for path in here.iterdir()] == ["fresh.parquet"]


@pytest.mark.parametrize("name", ["risks.parquet", "risks.csv"])
def test_a_finished_table_in_a_store_is_gone_on_with(name: str, here: Path, s3: Any) -> None:
    out = KNEES / "out" / name
    fill(4)
    put("cohort/P001/knee.png", b"no picture")
    put("cohort/P002/knee.png", picture(2)[:-80])
    first = run(COHORT, out)[-1]
    assert isinstance(first, Summary) and first.ok == 2
    before = read_bytes(out, 1 << 30)
    with pytest.raises(UsageError, match=r"s3://knees/out/risks\..* exists: .*--resume"):
        run(COHORT, out)
    put("cohort/P001/knee.png", picture(1))
    put("cohort/P002/knee.png", picture(2))
    steps = run(COHORT, out, retry_failed=True)
    last = steps[-1]
    assert isinstance(last, Summary) and (last.ok, last.out) == (4, url_of(out))
    assert max(step.reused for step in steps if isinstance(step, Progress)) == 2
    assert list(here.iterdir()) == []
    fresh = here / name
    run(COHORT, fresh)
    assert read_bytes(out, 1 << 30) != before
    for path in (out, out.with_name(name + ".json")) if name.endswith("csv") else (out,):
        (here / "again").mkdir(exist_ok=True)
        (here / "again" / path.name).write_bytes(read_bytes(path, 1 << 30))
    assert rows(here / "again" / name).equals(rows(fresh))


def put(key: str, content: bytes) -> None:
    from moto.s3.models import s3_backends

    (backend,) = s3_backends.values()
    backend["aws"].put_object("knees", key, content)


def test_a_table_in_a_store_that_cannot_be_gone_on_with_is_left_alone(here: Path, s3: Any) -> None:
    fill(3)
    run(COHORT, OUT)
    before = read_bytes(OUT, 1 << 30)
    put("cohort/P009/knee.png", picture(9))
    with pytest.raises(UsageError, match="was made of other images"):
        run(COHORT, OUT, resume=True)
    assert list(here.iterdir()) == []
    (here / OUT.name).write_bytes(b"something else")
    with pytest.raises(UsageError, match=r"exists, and so does risks\.parquet in the working folder"):
        run(COHORT, OUT, resume=True)
    assert (here / OUT.name).read_bytes() == b"something else"
    assert read_bytes(OUT, 1 << 30) == before


def test_a_table_that_could_not_be_sent_is_sent_by_resuming(here: Path, s3: Any) -> None:
    fill(3)
    elsewhere = place("s3://results/risks.parquet")
    make, drop = (urllib.request.Request(f"{s3.url}/results", method=m) for m in ("PUT", "DELETE"))
    urllib.request.urlopen(make).close()
    settings = RunSettings(elsewhere, batch_size=1)
    steps = scoring.score_cohort(InputSettings((COHORT,)), StackSettings(), settings)
    with pytest.raises(KneeriskError, match=r"the bucket does not exist\. The whole table is risks\.parquet"):
        for step in steps:
            if isinstance(step, Progress) and not step.done:
                urllib.request.urlopen(drop).close()
    assert [path.name for path in here.iterdir()] == ["risks.parquet"]
    urllib.request.urlopen(make).close()
    again = list(
        scoring.score_cohort(InputSettings((COHORT,)), StackSettings(), replace(settings, resume=True))
    )
    assert max(step.reused for step in again if isinstance(step, Progress)) == 3
    assert stored(elsewhere).height == 3
    assert list(here.iterdir()) == []


def test_the_call_of_python_goes_on_with_a_table_in_a_store(here: Path, s3: Any) -> None:
    fill(2)
    first = kneerisk.score(url_of(COHORT), url_of(OUT))
    again = kneerisk.score(url_of(COHORT), url_of(OUT), resume=True)
    assert first.height == 2 and again.equals(first)
    assert list(here.iterdir()) == []


def test_a_bucket_that_vanishes_in_mid_run_keeps_what_was_scored(here: Path, s3: Any) -> None:
    fill(12)
    out = here / "risks.parquet"
    settings = RunSettings(out, workers=2, batch_size=1)
    done = 0
    for step in scoring.score_cohort(InputSettings((COHORT,)), StackSettings(), settings):
        if isinstance(step, Progress) and step.done == 3:
            vanish(s3)
        done = getattr(step, "done", done)
    found = table.read(out)
    assert found.height == 12
    lost = found.filter(pl.col("status") == "failed")
    assert 1 <= lost.height <= 9
    assert set(lost["reason"]) == {"file-unreadable"}
    assert all("the bucket does not exist" in message for message in lost["message"])
    with pytest.raises(UsageError, match="the bucket does not exist"):
        run(COHORT, out, resume=True)
    assert table.read(out).equals(found)


@pytest.mark.parametrize(
    ("url", "out", "words"),
    [
        (
            "s3://nowhere/cohort",
            "risks.parquet",
            "s3://nowhere/cohort cannot be read: the bucket does not exist",
        ),
        ("s3://knees/cohrot", "risks.parquet", "nothing lies at s3://knees/cohrot"),
        ("s3:/", "risks.parquet", "names no bucket"),
        (
            "s3://knees/cohort",
            "s3://nowhere/r.parquet",
            "r.parquet cannot be reached: the bucket does not exist",
        ),
        ("s3://knees/cohort", "dicomweb://pacs/r.parquet", "a PACS keeps no tables"),
    ],
)
def test_a_wrong_url_ends_a_run_at_once_and_leaves_nothing(
    url: str,
    out: str,
    words: str,
    here: Path,
    s3: Any,
    cli: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(1)
    assert cli("score", url, "--out", out) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said and "Traceback" not in said
    assert list(here.iterdir()) == []


def test_without_credentials_a_run_ends_at_once_and_leaves_nothing(
    here: Path,
    s3: Any,
    cli: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    objects._opened.cache_clear()
    assert cli("score", url_of(COHORT), "--out", "risks.parquet") == 2
    assert "no credentials: set AWS_ACCESS_KEY_ID" in " ".join(capsys.readouterr().err.split())
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("part", "out", "words"),
    [
        ("s3://knees/part.parquet", "all.parquet", "s3://knees/part.parquet: copy the table to this machine"),
        ("part.parquet", "s3://knees/all.parquet", "merge writes to this machine; name a file"),
    ],
)
def test_merge_works_on_this_machine_and_says_so(part: str, out: str, words: str, here: Path) -> None:
    with pytest.raises(UsageError, match=words):
        merge_tables([Path(part)], Path(out))
    assert list(here.iterdir()) == []


def test_a_study_list_with_an_unknown_study_costs_that_row_alone(
    here: Path, servers: dict[str, ModuleType], cli: Callable[..., int]
) -> None:
    film = here.parent / "film.dcm"
    write_dicom(simulate_radiograph(3, spacing_mm=1.0), film, participant_id="SIM3")
    (here.parent / "pacs").mkdir()
    with servers["pacs"].Pacs(here.parent / "pacs") as server:
        dicomweb.store([film], place(server.web))
        known = f"{server.web}/studies/{dcmread(film).StudyInstanceUID},A"
        (here / "studies.csv").write_text(f"path,participant_id\n{known}\n{server.web}/studies/1.2.3,B\n")
        assert cli("score", "studies.csv", "--out", "risks.parquet", "-q") == 3
    found = table.read(here / "risks.parquet")
    assert found["participant_id"].to_list() == ["A", "B"]
    assert found["status"].to_list() == ["ok", "failed"]
    assert "check the UID" in found["message"][1]
    assert sorted(path.name for path in here.iterdir()) == ["risks.parquet", "studies.csv"]
