"""What a cohort of millions costs, and how many workers it pays to have: ``python benchmarks/scale.py``.

First each stage's cost is measured here (scale_costs.py; ``--save`` keeps it, ``--costs`` reads it). Then
runs of up to a thousand workers are SIMULATED: an image goes to the part that scoring's own ``Shard`` says,
the listing and the merge cost what the real code was measured to cost on a simulated store and on tables of
a thousand parts, and the rest is arithmetic. Nothing ran on a thousand machines. All that is assumed is an
option.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scale_costs import Costs, Pair, measure
from simulated_store import key_of

from kneerisk.scoring.shards import Shard

WORKERS = (1, 2, 10, 100, 1000)
_AT_ONCE = 64
_CORES = 2
MACHINES = (
    "2 cores with AVX2, as measured:2:1:0.10",
    "16 cores with AVX2:16:1:0.80",
    "16 cores with bf16 units, networks twice as quick:16:2:0.85",
    "16 cores and a GPU, networks for nothing:16:inf:2.50",
)


@dataclass(frozen=True, slots=True)
class Assumed:
    """What nobody measured here."""

    images: int
    latency: float
    """Seconds until a store answers."""
    bandwidth: float
    """Bytes a second to one worker."""
    store_requests: float
    """What a store answers in a second, to all workers together."""
    spread: float
    """Of the workers' speeds: the standard deviation of their logarithm."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind that may be rented."""

    name: str
    cores: int
    networks: float
    """How much quicker its networks are than a core's of this machine, a core."""
    price: float
    """An hour."""

    @classmethod
    def parse(cls, text: str) -> Machine:
        """``NAME:CORES:NETWORKS:PRICE``."""
        name, cores, networks, price = text.rsplit(":", 3)
        return cls(name, int(cores), float(networks), float(price))


@dataclass(frozen=True, slots=True)
class Run:
    """A simulated run, in seconds."""

    listing: float
    """Before the workers start, where one lists for all."""
    scan: float
    """The longest of a worker's."""
    workers: float
    """From their start to the end of the last."""
    merge: float

    @property
    def whole(self) -> float:
        """Until the table is there."""
        return self.listing + self.workers + self.merge


def compute_of(costs: Costs, networks: float = 1.0) -> float:
    """Seconds of a core for an image."""
    infer = costs.infer_image / networks
    return costs.transfer_image + costs.decode_image + infer + costs.knees_an_image * costs.write_row


@cache
def _images_of(images: int, workers: int) -> np.ndarray:
    """How many images each worker gets."""
    parts = [Shard.part_of(key_of(number), workers) for number in range(images)]
    return np.bincount(parts, minlength=workers + 1)[1:]


def simulate(workers: int, costs: Costs, assumed: Assumed, *, listed_once: bool) -> Run:
    """A run of ``workers`` machines like this one."""
    images = _images_of(assumed.images, workers)
    seen = images if listed_once else np.full(workers, assumed.images)
    an_object = max(costs.list_object + costs.first_bytes, assumed.latency / _AT_ONCE)
    scan = np.maximum(seen * an_object, seen.sum() / assumed.store_requests)
    an_image = max(compute_of(costs) / _CORES, costs.image_bytes / assumed.bandwidth)
    speed = np.exp(np.random.default_rng(0).normal(0, assumed.spread, workers))
    spent = scan + speed * (costs.start + images * an_image)
    pages = assumed.images / 1000
    listing = max(assumed.images * costs.list_object, pages * assumed.latency) if listed_once else 0.0
    rows = assumed.images * costs.knees_an_image
    merge = rows * costs.merge_row + workers * costs.merge_part if workers > 1 else 0.0
    return Run(listing, float(scan.max()), float(spent.max()), merge)


def print_costs(costs: Costs) -> None:
    """The table of measured costs."""
    knees = costs.knees_an_image
    print("Measured, in seconds of one core:\n\n| stage | an image | share |\n|---|---|---|")
    stages = {
        "list": costs.list_object,
        "first 4 KB": costs.first_bytes,
        f"transfer ({costs.image_bytes / 1e6:.1f} MB), without waiting": costs.transfer_image,
        "decode": costs.decode_image,
        "find the knees, networks, risk": costs.infer_image,
        "write": knees * costs.write_row,
        "merge": knees * costs.merge_row,
    }
    for name, seconds in stages.items():
        print(f"| {name} | {seconds * 1e3:.3g} ms | {seconds / sum(stages.values()):.1%} |")
    print(
        f"\nBesides: {costs.start:.1f} s to start a worker, {costs.merge_part * 1e3:.3g} ms to merge a part, "
        f"{costs.row_bytes:,} bytes of memory for a row that is merged; {knees:.2f} knees an image.\n"
    )


def print_pair(pair: Pair, costs: Costs) -> None:
    """From one worker to two, measured."""
    start = costs.start
    bare = (pair.one - start) / (pair.two - 2 * start)
    busy = ": other programs were at work, and the clock says little" if pair.load > _CORES + 1 else ""
    print(
        f"Measured on {pair.images} images: one worker on one core takes {pair.one:.1f} s of processor time, "
        f"two on two and the merge {pair.two:.1f} s: efficiency {pair.one / pair.two:.0%}, and {bare:.0%} "
        f"without the workers' start. By the clock {pair.wall_one:.1f} s and {pair.wall_two:.1f} s, at a "
        f"load of {pair.load:.0f} on {_CORES} cores{busy}.\n"
    )


def print_runs(costs: Costs, assumed: Assumed) -> None:
    """From one worker to a thousand, simulated."""
    print(f"SIMULATED, {assumed.images:,} images:\n")
    print("| workers | every part scans all | efficiency | each has a list of its own | efficiency |")
    print("|---|---|---|---|---|")
    for workers in WORKERS:
        cells = []
        for listed_once in (False, True):
            alone = simulate(1, costs, assumed, listed_once=listed_once).whole
            run = simulate(workers, costs, assumed, listed_once=listed_once)
            told = f"{_hours(run.whole)} (scan {_hours(run.scan + run.listing)}, merge {_hours(run.merge)})"
            cells += [told, f"{alone / workers / run.whole:.0%}"]
        print(f"| {workers} | {' | '.join(cells)} |", flush=True)
    memory = assumed.images * costs.knees_an_image * costs.row_bytes / 1e9
    print(f"\nThe merge holds {memory:.1f} GB of rows.\n")


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def print_prices(costs: Costs, machines: list[Machine], request_price: float) -> None:
    """Per million knees."""
    print("| machine (assumed) | an hour (assumed) | knees/s, by arithmetic | a million knees |")
    print("|---|---|---|---|")
    images = 1e6 / costs.knees_an_image
    requests = 3 * images / 1000 * request_price
    for machine in machines:
        rate = machine.cores / compute_of(costs, machine.networks) * costs.knees_an_image
        price = 1e6 / rate / 3600 * machine.price + requests
        print(f"| {machine.name} | {machine.price:.2f} | {rate:.3g} | {price:.3g} |")
    print(f"\nThree requests an image are in the price: {requests:.2f} a million knees.")


def main() -> None:
    """Run as the command line says."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--costs", type=Path, help="measured earlier; else they are measured now")
    options.add_argument("--save", type=Path, help="keep what is measured")
    options.add_argument("--images", type=int, default=1_000_000)
    options.add_argument("--latency", type=float, default=30.0, help="milliseconds until the store answers")
    options.add_argument("--bandwidth", type=float, default=1.0, help="Gbit/s to one worker")
    options.add_argument("--store-requests", type=float, default=5500.0, help="a second, of all workers")
    options.add_argument("--spread", type=float, default=0.1, help="of the workers' speeds")
    options.add_argument("--request-price", type=float, default=0.0004, help="of a thousand requests")
    options.add_argument(
        "--machine", action="append", metavar="NAME:CORES:NETWORKS:PRICE", help="a kind, and its hour's price"
    )
    asked = options.parse_args()
    if asked.costs is None:
        costs, pair = measure()
        if asked.save is not None:
            asked.save.write_text(json.dumps({"costs": asdict(costs), "pair": asdict(pair)}, indent=1))
    else:
        kept = json.loads(asked.costs.read_text())
        costs, pair = Costs(**kept["costs"]), Pair(**kept["pair"])
    if not (costs.infer_image > 0 and costs.decode_image > 0):
        sys.exit("the costs cannot be: measure again")
    assumed = Assumed(
        *(asked.images, asked.latency / 1e3, asked.bandwidth * 1e9 / 8, asked.store_requests, asked.spread)
    )
    print_costs(costs)
    print_pair(pair, costs)
    print_runs(costs, assumed)
    print_prices(costs, [Machine.parse(text) for text in asked.machine or MACHINES], asked.request_price)


if __name__ == "__main__":
    main()
