"""What each stage of a run costs on this machine, in seconds of processor time.

Of processor time, so that what other programs do on the machine spoils it little; what is reported is the
cost of the real code: the scan of a simulated store, ``kneerisk score`` on simulated radiographs of full
size, the table's writer, and the merge of as many parts as there are workers.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from simulated_store import BUCKET, PREFIX, SimulatedStore, StoreSettings, environment, key_of

_OBJECTS = 10_000
_IMAGES = 12
_FEW = 2
_ROUNDS = 8
_ROWS = 20_000
_PARTS = (10, 1000)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of one core unless it says otherwise; an image is a bilateral radiograph of full size."""

    start: float
    """Of a worker: the program, its networks."""
    list_object: float
    first_bytes: float
    """Of an object: the request for its first 4 KB, and what the scan does with them."""
    transfer_image: float
    """What the client does while an image comes, without waiting."""
    decode_image: float
    infer_image: float
    """Finding the knees, the networks, the risk."""
    write_row: float
    merge_row: float
    merge_part: float
    row_bytes: int
    """Of memory, while parts are merged."""
    image_bytes: int
    knees_an_image: float


@dataclass(frozen=True, slots=True)
class Pair:
    """One worker on one core, and two on two, on the same images."""

    images: int
    one: float
    """Seconds of processor time."""
    two: float
    """Of both workers and the merge."""
    wall_one: float
    wall_two: float
    load: float
    """Of the machine, while this ran: programs that wanted a core."""


def measure() -> tuple[Costs, Pair]:
    """Some minutes of processor time."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "images")
        _simulate(folder)
        start, image, rows, part = _scoring(folder, Path(home))
        decode, size = _decoding(folder)
        listing, first, transfer = _store(size)
        write, merge, a_part, memory = _tables(rows, part, Path(home))
        knees = len(rows) / _IMAGES
        infer = image - decode - knees * write
        costs = Costs(
            start, listing, first, transfer, decode, infer, write, merge, a_part, memory, size, knees
        )
        return costs, _pair(folder, Path(home))


def _simulate(folder: Path) -> None:
    from kneerisk.simulate.dicom import write_dicom
    from kneerisk.simulate.radiograph import simulate_radiograph

    for i in range(_IMAGES):
        path = folder / f"SIM{i:04d}.dcm"
        write_dicom(
            simulate_radiograph(i, shape=(2048, 2494)), path, participant_id=path.stem, syntax="jpeg-lossless"
        )


def _scoring(folder: Path, home: Path) -> tuple[float, float, list[dict[str, Any]], dict[str, Any]]:
    """Start of a worker, an image, the rows, and the table's documents."""
    from kneerisk.scoring.outputs import table

    few, _ = _score([*sorted(folder.iterdir())[:_FEW]], home / "few.parquet")
    many, _ = _score([folder], home / "many.parquet")
    image = (many - few) / (_IMAGES - _FEW)
    rows = table.read(home / "many.parquet").rows(named=True)
    return few - _FEW * image, image, rows, table.read_metadata(home / "many.parquet")


def _score(
    inputs: Sequence[Path], out: Path, *options: str, cores: set[int] | None = None
) -> tuple[float, float]:
    """Processor time and wall time of ``kneerisk score`` in a process of its own."""
    return _wait([_started(inputs, out, cores=cores)])


def _started(
    inputs: Sequence[Path], out: Path, *options: str, cores: set[int] | None = None
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kneerisk", "score", *map(str, inputs), "--out", str(out), "-q"]
    command += ["--workers", "1", *options]
    return subprocess.Popen(
        command, preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores)
    )


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> tuple[float, float]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for process in processes:
        if process.wait() not in (0, 3):
            sys.exit("a run failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return busy, time.perf_counter() - start


def _decoding(folder: Path) -> tuple[float, int]:
    from kneerisk.radiograph.decode.read import read
    from kneerisk.records import RadiographRef

    files = sorted(folder.iterdir())
    start = time.process_time()
    for file in files:
        read(RadiographRef(file, file.name))
    return (time.process_time() - start) / len(files), sum(f.stat().st_size for f in files) // len(files)


def _store(image_bytes: int) -> tuple[float, float, float]:
    """Listing an object, reading its first bytes, and receiving an image."""
    from kneerisk.places.place import place
    from kneerisk.places.reach import read_bytes, remote_at
    from kneerisk.radiograph.sources.scan import scan

    root = place(f"s3://{BUCKET}/{PREFIX}")
    with SimulatedStore(StoreSettings(_OBJECTS, object_bytes=image_bytes)) as store:
        os.environ.update(environment(store.url))
        start = time.process_time()
        listed = sum(1 for _ in remote_at(root).files(root))
        middle = time.process_time()
        scanned = sum(1 for _ in scan([root]))
        end = time.process_time()
        if listed != _OBJECTS or scanned != _OBJECTS:
            sys.exit("objects were lost")
        for i in range(20):
            read_bytes(place(f"s3://{BUCKET}/{key_of(i)}"), 1 << 30)
        listing = (middle - start) / _OBJECTS
        return listing, (end - middle) / _OBJECTS - listing, (time.process_time() - end) / 20


def _tables(
    rows: list[dict[str, Any]], documents: dict[str, Any], home: Path
) -> tuple[float, float, float, int]:
    """Writing a row, merging one, merging a part, and memory of a row."""
    from kneerisk.scoring.journal.listing import PathsDigest
    from kneerisk.scoring.merge import merge_tables
    from kneerisk.scoring.outputs import table
    from kneerisk.scoring.shards import Shard

    digest, many = PathsDigest(), []
    for index, row in enumerate(islice(cycle(rows), _ROWS)):
        many.append({**row, "image_index": index, "source_path": key_of(index)})
        digest.add(key_of(index))
    run = {**documents["run"], "images_in_scan": _ROWS, "scan_sha256": digest.hexdigest()}

    def write(some: list[dict[str, Any]], out: Path, shard: Shard) -> None:
        told = {**run, "shard": str(shard)}
        (home / "work").mkdir(exist_ok=True)
        table.write(some, out, lambda: table.metadata(told, documents["calibration"], {}), {}, home / "work")

    start = time.process_time()
    write(many, home / "all.parquet", Shard())
    a_row = (time.process_time() - start) / _ROWS
    memory = table.read(home / "all.parquet").estimated_size() // _ROWS
    seconds = []
    for count in _PARTS:
        cut: list[list[dict[str, Any]]] = [[] for _ in range(count)]
        for row in many:
            cut[Shard.part_of(row["source_path"], count) - 1].append(row)
        parts = [home / f"part-{count}-{index}.parquet" for index in range(count)]
        for index, (some, part) in enumerate(zip(cut, parts, strict=True)):
            write(some, part, Shard(index + 1, count))
        start = time.process_time()
        merge_tables(parts, home / f"merged-{count}.parquet")
        seconds.append(time.process_time() - start)
    a_part = (seconds[1] - seconds[0]) / (_PARTS[1] - _PARTS[0])
    return a_row, (seconds[0] - _PARTS[0] * a_part) / _ROWS, a_part, int(memory)


def _pair(folder: Path, home: Path) -> Pair:
    """On a manifest that names every image again and again: each row is read, decoded and scored."""
    rows = [str(file) for file in sorted(folder.iterdir())] * _ROUNDS
    (home / "rounds.csv").write_text("\n".join(["path", *rows]))
    one, wall_one = _score([home / "rounds.csv"], home / "one.parquet", cores={0})
    halves = [
        _started([home / "rounds.csv"], home / f"half-{i}.parquet", "--shard", f"{i}/2", cores={i - 1})
        for i in (1, 2)
    ]
    two, wall_two = _wait(halves)
    parts = [str(home / f"half-{i}.parquet") for i in (1, 2)]
    command = [sys.executable, "-m", "kneerisk", "merge", *parts, "--out", str(home / "both.parquet"), "-q"]
    merged, wall_merge = _wait([subprocess.Popen(command)])
    return Pair(len(rows), one, two + merged, wall_one, wall_two + wall_merge, os.getloadavg()[0])
