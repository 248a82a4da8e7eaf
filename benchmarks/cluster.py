"""What a Ray cluster changes, and what it costs: ``python benchmarks/cluster.py equality|overhead|memory``.

``equality``: a simulated cohort with bad files is scored on this machine, in two shards that are merged, and
on a Ray cluster of three nodes of which one is killed in mid-run; the tables are compared.  ``overhead``: the
same command without Ray and on a cluster of one node that has the same cores, in turns.  ``memory``: runs of
more and more images, their networks STUBBED (cluster_memory.py says by what).  Clusters are of nodes on this
machine: no network lies between them.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cluster_memory
import polars as pl
from bench import refuse_loaded
from cluster_parts import BAD_EVERY, Nodes, Watch, cohort, nodes

from kneerisk.radiograph.settings import InputSettings
from kneerisk.scoring.cohort import score_cohort
from kneerisk.scoring.merge import merge_tables
from kneerisk.scoring.outputs import table
from kneerisk.scoring.run import Notice, Progress
from kneerisk.scoring.settings import RunSettings, StackSettings
from kneerisk.scoring.shards import Shard

_PARTIAL = 3
"""Exit status of a run with rows that were refused or failed: the cohort has bad files."""
_ORDER = ("image_index", "side", "source_path")


def in_sorted_form(frame: pl.DataFrame) -> bytes:
    """A table's rows in the order of image and side, one a line, every digit of every number there."""
    kept = io.BytesIO()
    frame.sort(_ORDER, maintain_order=True).write_ndjson(kept)
    return kept.getvalue()


def first_difference(one: pl.DataFrame, other: pl.DataFrame) -> str | None:
    """What differs first in two tables: columns, number of rows, order, or a value; ``None``: nothing."""
    if one.schema != other.schema:
        return f"columns differ: {set(one.schema.items()) ^ set(other.schema.items()) or 'their order'}"
    if one.height != other.height:
        return f"{one.height} rows and {other.height}"
    mine, theirs = (in_sorted_form(frame).splitlines() for frame in (one, other))
    for a, b in zip(mine, theirs, strict=True):
        if a != b:
            row, twin = json.loads(a), json.loads(b)
            name = next(name for name in row if row[name] != twin[name])
            return f"{row['source_path']} {row['side']}: {name} is {row[name]!r} and {twin[name]!r}"
    if one.equals(other):
        return None
    if one.sort(_ORDER, maintain_order=True).equals(other.sort(_ORDER, maintain_order=True)):
        return "the same rows in another order"
    return "a value that is no number in one of them"  # which that form writes as it does an empty cell


def score(inputs: Path, run: RunSettings, at_a_third: Callable[[], None] = lambda: None) -> str:
    """Score as the command line does; what was noticed and how long it took, in words."""
    start, words, due = time.monotonic(), [], True
    for step in score_cohort(InputSettings((inputs,)), StackSettings(), run):
        if isinstance(step, Notice):
            words.append(step.message)
        elif isinstance(step, Progress) and due and step.done > step.total / 3:
            due = False
            at_a_third()
            words.append(f"(a node was killed when {step.done} of {step.total} images were done)")
    seconds = time.monotonic() - start
    return "\n".join([f"{seconds:.0f} s", *(f"    {line}" for line in words if run.runner == "ray")])


def equality(films: int, home: Path, kept: Path) -> bool:
    """Whether one machine, shards and a cluster that loses a node make the same table.

    A table that lies in ``kept`` already is not made again, and one that was begun is gone on with.
    """
    images = cohort(home, films)
    print(
        f"{films:,} simulated films, one of {BAD_EVERY} spoilt; load {os.getloadavg()[0]:.1f}\n", flush=True
    )
    out = {how: kept / f"{how}.parquet" for how in ("local", "shards", "ray")}
    if not out["local"].exists():
        print(f"one machine: {score(images, RunSettings(out['local'], resume=True))}", flush=True)
    parts = [kept / f"part{i}.parquet" for i in (1, 2)]
    for i, part in enumerate(parts, 1):
        if not part.exists():
            run = RunSettings(part, shard=Shard(i, 2), resume=True)
            print(f"shard {i}/2: {score(images, run)}", flush=True)
    merge_tables(parts, out["shards"], overwrite=True)
    if not out["ray"].exists():
        with nodes(1, 1, 1) as cluster:
            run = RunSettings(out["ray"], runner="ray", ray_address=cluster.address, resume=True)
            print(f"Ray, 3 nodes: {score(images, run, lambda: cluster.kill(1))}", flush=True)
    tables = {how: table.read(path) for how, path in out.items()}
    print("\n| table | rows | of which ok | sha256 of its sorted form |\n|---|---|---|---|")
    for how, frame in tables.items():
        digest = hashlib.sha256(in_sorted_form(frame)).hexdigest()
        print(f"| {how} | {frame.height:,} | {frame.filter(status='ok').height:,} | {digest[:16]} |")
    found = {how: first_difference(tables["local"], tables[how]) for how in ("shards", "ray")}
    for how, words in found.items():
        print(f"local and {how}: {words or 'equal, byte for byte, and in the same order'}")
    return not any(found.values())


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of the command, in seconds."""

    whole: float
    """From its start to its end, by the clock."""
    scoring: float
    """Without the start: of the program, of the networks, and of joining the cluster."""
    cpu: float
    """Of every process of the run and the cluster."""


def turn(images: Path, home: Path, cluster: Nodes | None) -> Turn:
    """Score once, in a process of its own."""
    report, out = home / "report.json", home / "risks.parquet"
    command = [sys.executable, "-m", "kneerisk", "score", str(images), "--out", str(out), "--overwrite", "-q"]
    command += ["--run-report", str(report)]
    command += [] if cluster is None else ["--runner", "ray", "--ray-address", cluster.address]
    start = time.monotonic()
    process = subprocess.Popen(command)
    with Watch(process.pid, None if cluster is None else cluster.pid) as watch:
        if process.wait() not in (0, _PARTIAL):
            sys.exit("a run failed")
        whole = time.monotonic() - start
    told = json.loads(report.read_text())["summary"]
    return Turn(whole, told["seconds"] - told["stages"]["load"], watch.cpu_seconds)


def overhead(films: int, turns: int, home: Path) -> None:
    """The cost of Ray on the same cores, against the same command without it."""
    images = cohort(home, films)
    cores = len(os.sched_getaffinity(0))
    found: dict[str, list[Turn]] = {"local": [], "ray": []}
    print(
        f"{films:,} simulated films on {cores} cores, {turns} turns of each; load {os.getloadavg()[0]:.1f}\n"
    )
    print("| turn | runner | whole | without the start | processor time |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        start = time.monotonic()
        with nodes(cores) as cluster:
            started = time.monotonic() - start
            for number in range(1, turns + 1):
                for how, results in found.items():
                    one = turn(images, Path(scratch), cluster if how == "ray" else None)
                    results.append(one)
                    print(
                        f"| {number} | {how} | {one.whole:.1f} s | {one.scoring:.1f} s | {one.cpu:.1f} s |",
                        flush=True,
                    )
    print(f"\nThe cluster itself took {started:.1f} s to start, once; that is in none of these.")
    for what in ("whole", "scoring", "cpu"):
        local, on_ray = (sum(getattr(one, what) for one in found[how]) for how in ("local", "ray"))
        name = {"whole": "with the start", "scoring": "without the start", "cpu": "of processor time"}[what]
        print(f"Ray costs {on_ray / local - 1:+.1%} {name}")


def memory(counts: Sequence[int], home: Path) -> None:
    """Peaks of memory by the number of images."""
    print("The search for knees and the networks are STUBS: no risk here means anything.\n")
    print(
        "| images | rows ok | time | the run | scoring on the node | Ray, with its store | together |\n"
        "|---|---|---|---|---|---|---|",
        flush=True,
    )
    for count in counts:
        images = cluster_memory.write_images(home / f"small-{count}", count)
        with tempfile.TemporaryDirectory() as scratch, nodes(2, also=[cluster_memory.STUBS]) as cluster:
            script = [sys.executable, cluster_memory.__file__, images, Path(scratch, "risks.parquet")]
            start = time.monotonic()
            process = subprocess.Popen([*script, cluster.address], stdout=subprocess.PIPE, text=True)
            with Watch(process.pid, cluster.pid, memory=True) as watch:
                said, _ = process.communicate()
            seconds = time.monotonic() - start
        if process.returncode or int(said.split()[0]) != count:
            sys.exit("a run failed, or images were lost")
        peaks = (f"{watch.peaks[name] / 1e6:,.0f} MB" for name in ("run", "scoring", "ray", "all"))
        ok = int(said.split()[1])
        print(f"| {count:,} | {ok:,} | {seconds:.0f} s | {' | '.join(peaks)} |", flush=True)


def main() -> int:
    """Run as the command line says; 1 where tables differ."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--home", type=Path, help="where cohorts are kept for the next time")
    measures = options.add_subparsers(dest="measure", required=True)
    equal = measures.add_parser("equality")
    equal.add_argument("--films", type=int, default=2000)
    equal.add_argument("--tables", type=Path, help="where tables are kept: none is made twice")
    cost = measures.add_parser("overhead")
    cost.add_argument("--films", type=int, default=400)
    cost.add_argument("--turns", type=int, default=2)
    cost.add_argument("--loaded", action="store_true", help="measure though the machine is busy")
    held = measures.add_parser("memory")
    held.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 50_000])
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = asked.home or Path(scratch)
        if asked.measure == "equality":
            kept = asked.tables or Path(scratch)
            kept.mkdir(parents=True, exist_ok=True)
            return 0 if equality(asked.films, home, kept) else 1
        if asked.measure == "overhead":
            cohort(home, asked.films)
            if not asked.loaded:
                refuse_loaded()
            overhead(asked.films, asked.turns, home)
        else:
            memory(asked.images, home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
