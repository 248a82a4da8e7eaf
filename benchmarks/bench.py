"""Speed and memory of scoring on this machine, as a user meets them: ``kneerisk score`` in its own process.

Usage: python benchmarks/bench.py [--quick] [--cpus 2] [--steps N] [--json FILE] [--loaded]

Measured are knees a second end to end (start-up, scan and table included), the time of each stage, how much
of the reading is hidden behind the networks, and the highest resident memory of the process,

- from full-size radiographs: simulated bilateral ones of about 2048 x 2494 pixels, JPEG-lossless DICOM;
- from crops, the single knees of examples/cohort: a hundred, and up to as many as a large cohort has, so that
  start-up, and memory that grows, would show;

against what bounds it: how fast the same files are read and decoded and nothing else, and how fast the
networks would be at the processor's measured peak (benchmarks/networks.py, which also tells what keeps each
from it, by backend and precision); and against a naive reference on the same crops (benchmarks/naive.py),
with how far the two sets of risks differ.

Images are repeated by the rows of a manifest, so thousands of them cost no disk; every row is read, decoded
and scored.  A full run takes about half an hour, a quick one a few minutes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import cycle, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from benchmarks.networks import Network

ROOT = Path(__file__).parents[1]
COHORT = ROOT / "examples" / "cohort"
POLL_SECONDS = 0.05
DEFAULT = ("cpu", "auto")
"""Backend and precision of a run that is asked for neither."""
UNIQUE_RADIOGRAPHS = 8
MOST_LOAD = 0.15
"""Of the processors, that others may use: more would go into the figures."""


def load_of_others(seconds: float = 3.0) -> float:
    """Share of the processors that is busy while this process sleeps, 0..1."""
    return float(psutil.cpu_percent(interval=seconds)) / 100


def refuse_loaded() -> None:
    """End where the machine is busy with other work: ratios of speeds would be of no use."""
    if (load := load_of_others()) > MOST_LOAD:
        sys.exit(
            f"Other programs use {load:.0%} of this machine's processors: times measured now would mislead. "
            "Wait until it is idle, or give --loaded for figures that say so."
        )


@dataclass(frozen=True)
class Size:
    """How many images each part scores."""

    radiographs: int
    crops: tuple[int, ...]
    naive: int


FULL = Size(radiographs=100, crops=(100, 1_000, 10_000), naive=100)
QUICK = Size(radiographs=16, crops=(100, 400), naive=20)


@dataclass(frozen=True)
class Measured:
    """One run of `kneerisk score`."""

    name: str
    images: int
    knees: int
    seconds: float
    """Wall time of the process, from start to end."""
    knees_per_second: float
    stages: dict[str, float]
    """Seconds by stage, over all threads: stages overlap."""
    reading_hidden: float | None
    """Share of the time for reading, localising and standardising that the networks did not wait for."""
    peak_rss_mb: float


def simulate_radiographs(folder: Path) -> list[Path]:
    """Full-size radiographs, JPEG lossless, each of another simulated participant."""
    from kneerisk.simulate.dicom import write_dicom
    from kneerisk.simulate.radiograph import simulate_radiograph
    from kneerisk.simulate.vendors import LOOKS

    paths = []
    for number in range(1, UNIQUE_RADIOGRAPHS + 1):
        path = folder / f"SIM{number:04d}.dcm"
        radiograph = simulate_radiograph(number, look=LOOKS[number % len(LOOKS)], shape=(2048, 2494))
        write_dicom(radiograph, path, participant_id=path.stem, syntax="jpeg-lossless")
        paths.append(path)
    return paths


def write_manifest(images: Sequence[Path], count: int, path: Path) -> None:
    """A manifest of ``count`` rows that goes round the images."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "participant_id"])
        writer.writerows([image, f"{i:06d}"] for i, image in enumerate(islice(cycle(images), count)))


def measure(name: str, images: Sequence[Path], count: int, cpus: int, steps: int, folder: Path) -> Measured:
    """Score ``count`` images in a new process on ``cpus`` processors, watching its memory."""
    manifest, report, out = folder / f"{name}.csv", folder / f"{name}.json", folder / f"{name}.parquet"
    write_manifest(images, count, manifest)
    command = [
        sys.executable,
        "-m",
        "kneerisk",
        "score",
        manifest,
        "--out",
        out,
        "--run-report",
        report,
        "--quiet",
        "--steps",
        steps,
    ]
    start = time.perf_counter()
    process = subprocess.Popen([*map(str, command)], cwd=ROOT)
    watched = psutil.Process(process.pid)
    if hasattr(watched, "cpu_affinity"):
        watched.cpu_affinity(list(range(min(cpus, os.cpu_count() or cpus))))
    peak = 0
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(POLL_SECONDS)
    status, seconds = process.wait(), time.perf_counter() - start
    if status not in (0, 3):
        raise SystemExit(f"kneerisk score ended with {status} on {name}")
    summary = json.loads(report.read_text())["summary"]
    stages = {stage: round(spent, 2) for stage, spent in summary["stages"].items()}
    reading = sum(stages.get(stage, 0.0) for stage in ("read", "localise", "standardise"))
    waiting = stages.get("wait for files", 0.0)
    return Measured(
        name=name,
        images=count,
        knees=summary["ok"],
        seconds=round(seconds, 2),
        knees_per_second=round(summary["ok"] / seconds, 2),
        stages=stages,
        reading_hidden=round(1 - min(waiting / reading, 1.0), 3) if reading else None,
        peak_rss_mb=round(peak / 2**20, 1),
    )


@dataclass(frozen=True)
class Against:
    """The tool against the naive reference, on the same images."""

    naive_knees_per_second: float
    ratio: float
    """Of knees a second, the tool's start-up and table included."""
    risk_p50: float
    risk_p99: float
    risk_max: float
    """|Δ risk_12m_image| between the two."""


def against_naive(crops: Sequence[Path], count: int, fast: Measured, folder: Path) -> Against:
    """Run the reference on ``count`` crops and compare speed and risks with a run of the tool."""
    import polars as pl

    from benchmarks.naive import run_naive
    from kneerisk.stack.stack import Stack

    manifest = folder / "naive.csv"
    write_manifest(crops, count, manifest)
    naive = run_naive(manifest, Stack.load("compact"))
    table = pl.read_parquet(folder / f"{fast.name}.parquet").filter(pl.col("status") == "ok")
    ours = dict(table.select("source_path", "risk_12m_image").iter_rows())
    apart = [abs(risk - ours[path]) for path, risk in naive.risks.items() if path in ours]
    p50, p99 = statistics.median(apart), sorted(apart)[int(0.99 * (len(apart) - 1))]
    return Against(
        round(naive.knees_per_second, 3),
        round(fast.knees_per_second / naive.knees_per_second, 1),
        *(round(value, 4) for value in (p50, p99, max(apart))),
    )


def reading_rate(images: Sequence[Path], cpus: int) -> float:
    """Images a second that are read and decoded, and nothing else done, in as many threads."""
    from kneerisk.radiograph.decode.read import read
    from kneerisk.records import RadiographRef

    refs = [RadiographRef(image, image.name) for image in islice(cycle(images), max(16, len(images)))]
    with ThreadPoolExecutor(cpus) as threads:
        start = time.perf_counter()
        list(threads.map(lambda ref: read(ref, spacing_mm=None, invert="auto"), refs))
        return len(refs) / (time.perf_counter() - start)


@dataclass(frozen=True)
class Bound:
    """What a run cannot be faster than, and how near it came."""

    name: str
    reading_knees_per_second: float
    networks_knees_per_second: float
    """At the measured peak of a matrix multiplication, in each network's precision."""
    ratio: float
    """Of the measured knees a second to the lower of the two."""


def bound(run: Measured, images: Sequence[Path], networks: Sequence[Network], cpus: int) -> Bound:
    """Bounds of a run on the default backend."""
    reading = reading_rate(images, cpus) * run.knees / run.images
    computing = 1000 / sum(n.ms * n.peak_share for n in networks if (n.backend, n.asked) == DEFAULT)
    ratio = run.knees_per_second / min(reading, computing)
    return Bound(run.name, round(reading, 1), round(computing, 1), round(ratio, 3))


def show(result: Measured) -> None:
    """One run in words."""
    hidden = "" if result.reading_hidden is None else f", {result.reading_hidden:.0%} of reading hidden"
    print(
        f"{result.name}: {result.images} images, {result.knees} knees in {result.seconds:.1f} s = "
        f"{result.knees_per_second:.2f} knees/s, peak {result.peak_rss_mb:.0f} MB{hidden}"
    )
    for stage, spent in sorted(result.stages.items(), key=lambda item: -item[1]):
        print(f"    {stage:<16} {spent:8.2f} s  {1000 * spent / max(result.knees, 1):8.1f} ms a knee")


def show_networks(networks: Sequence[Network]) -> None:
    """The networks as a table, the sums of each backend and precision last."""
    print(
        f"{'network':<16} {'backend':<8} {'in':<5} {'calls':>5} {'GFLOP':>6} {'ms a knee':>9} {'of peak':>8}"
        f" {'dense':>6} {'depthwise':>9} {'other':>6}"
    )
    for n in networks:
        kinds = " " * 23
        if n.dense is not None and n.depthwise is not None:
            kinds = f"{n.dense:6.0%} {n.depthwise:9.0%} {1 - n.dense - n.depthwise:6.0%}"
        print(
            f"{n.name:<16} {n.backend:<8} {n.precision:<5} {n.calls:5d} {n.gflop:6.2f} {n.ms:9.2f} "
            f"{n.peak_share:8.0%} {kinds}"
        )
    for group in totals(networks):
        print(
            f"{'all':<16} {group['backend']:<8} {group['precision']:<5} {'':5} {group['gflop']:6.2f} "
            f"{group['ms']:9.2f} {group['peak_share']:8.0%}"
        )


def totals(networks: Sequence[Network]) -> list[dict[str, Any]]:
    """A knee's networks together, in each way to run them; the share of the peak is the time's at peak."""
    runs = [list(part) for _, part in groupby(networks, key=lambda n: (n.backend, n.asked))]
    return [
        {
            "backend": run[0].backend,
            "precision": run[0].asked,
            "gflop": sum(n.gflop for n in run),
            "ms": sum(n.ms for n in run),
            "peak_share": sum(n.ms * n.peak_share for n in run) / sum(n.ms for n in run),
        }
        for run in runs
    ]


def main() -> None:
    """Run all parts, print them, and write them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer images: a first impression in minutes")
    parser.add_argument("--cpus", type=int, default=2, help="processors the scoring may use (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--steps", type=int, help="sampler steps (default: the stack's)")
    parser.add_argument("--loaded", action="store_true", help="measure although other programs are running")
    options = parser.parse_args()
    if options.loaded:
        print(
            f"Measured while other programs used {load_of_others():.0%} of the processors: not to be quoted."
        )
    else:
        refuse_loaded()
    sys.path.insert(0, str(ROOT))
    from benchmarks.networks import measure_networks
    from kneerisk.stack.stack import Stack

    stack = Stack.load("compact")
    steps = options.steps or stack.description.steps
    size = QUICK if options.quick else FULL
    crops = sorted(p for p in COHORT.rglob("*") if p.stem[-1:] in "LR" and p.suffix in (".dcm", ".png"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        radiographs = simulate_radiographs(folder / "radiographs")
        parts = [
            ("full-size", radiographs, size.radiographs),
            *((f"crops-{n}", crops, n) for n in size.crops),
        ]
        results = []
        for name, images, count in parts:
            results.append(measure(name, images, count, options.cpus, steps, folder))
            show(results[-1])
        against = against_naive(crops, size.naive, results[-1], folder)
        networks = list(measure_networks(stack, options.cpus, steps))
        bounds = [
            bound(run, images, networks, options.cpus)
            for run, (_, images, _) in zip(results, parts, strict=True)
        ]
    few, many = results[1], results[-1]
    print(f"sampler steps: {steps}")
    print(
        f"naive reference: {against.naive_knees_per_second:.2f} knees/s; kneerisk score on {many.images} "
        f"crops is {against.ratio:.1f} times as fast; risks differ by {against.risk_p50:.4f} (median), "
        f"{against.risk_max:.4f} (most)"
    )
    print(
        f"memory: {few.peak_rss_mb:.0f} MB at {few.images} images, {many.peak_rss_mb:.0f} MB at {many.images}"
    )
    show_networks(networks)
    for limit in bounds:
        print(
            f"{limit.name}: reading alone {limit.reading_knees_per_second:.0f} knees/s, networks at peak "
            f"{limit.networks_knees_per_second:.0f} knees/s: {limit.ratio:.0%} of the lower is reached"
        )
    if options.json:
        machine = {"python": platform.python_version(), "cpus": options.cpus, "machine": platform.machine()}
        document = {
            "quick": options.quick,
            "steps": steps,
            "machine": machine,
            "runs": [asdict(result) for result in results],
            "against_naive": asdict(against),
            "networks": [asdict(network) for network in networks],
            "networks_together": totals(networks),
            "bounds": [asdict(limit) for limit in bounds],
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
