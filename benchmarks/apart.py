"""What reading in processes of their own costs: ``python benchmarks/apart.py [--crops 200] [--films 60]``.

The same cohort is scored with each file read apart, as always, and in the scoring process itself, in turns,
each time in a new process.  Told are knees a second, and processor seconds a knee, reading processes counted:
these hardly change where other programs share the machine, so their ratio is the one to trust there.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

UNIQUE_FILMS = 6


def score(manifest: Path, apart: bool) -> dict[str, float]:
    """In a process of its own: score a manifest once."""
    from kneerisk.radiograph import knees
    from kneerisk.radiograph.settings import InputSettings
    from kneerisk.scoring.cohort import score_cohort
    from kneerisk.scoring.settings import RunSettings, StackSettings

    if not apart:

        @contextmanager
        def here(settings: InputSettings, timeout: float | None) -> Any:
            yield knees.reader(settings)

        knees.readers = here  # type: ignore[assignment]
    started, knees_done = None, 0
    with tempfile.TemporaryDirectory() as scratch:
        steps = score_cohort(
            InputSettings((manifest,)), StackSettings(), RunSettings(Path(scratch, "r.parquet"))
        )
        for step in steps:
            if started is None:  # the networks are loaded
                started = time.monotonic()
            knees_done = getattr(step, "ok", knees_done)
        assert started is not None
        seconds = time.monotonic() - started
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "knees": knees_done,
        "per_second": knees_done / seconds,
        "cpu": sum(one.ru_utime + one.ru_stime for one in used) / knees_done,
    }


def write_manifest(home: Path, kind: str, count: int) -> Path:
    """A row an image; few images, many rows, and never one image twice in a row."""
    if kind == "crops":
        unique = sorted((ROOT / "examples" / "cohort").glob("*/*[LR].dcm"))
    else:
        from kneerisk.simulate.dicom import write_dicom
        from kneerisk.simulate.radiograph import simulate_radiograph
        from kneerisk.simulate.vendors import LOOKS

        unique = [home / f"film{seed}.dcm" for seed in range(UNIQUE_FILMS)]
        for seed, path in enumerate(unique):
            write_dicom(simulate_radiograph(seed, look=LOOKS[seed]), path, participant_id=str(seed))
    manifest = home / f"{kind}.csv"
    with manifest.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["path", "participant_id"])
        rows.writerows((path, number) for number, path in enumerate(islice(cycle(unique), count)))
    return manifest


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crops", type=int, default=200)
    parser.add_argument("--films", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(score(Path(given.one[0]), given.one[1] == "apart")))
        return
    with tempfile.TemporaryDirectory() as scratch:
        for kind, count in (("crops", given.crops), ("films", given.films)):
            manifest = write_manifest(Path(scratch), kind, count)
            found: dict[str, list[dict[str, float]]] = {"apart": [], "here": []}
            for _ in range(given.repeats):
                for how, results in found.items():
                    done = subprocess.run(
                        [sys.executable, __file__, "--one", str(manifest), how],
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                    results.append(json.loads(done.stdout.splitlines()[-1]))
            for what, better in (("per_second", max), ("cpu", min)):
                apart, here = (better(one[what] for one in found[how]) for how in ("apart", "here"))
                price = (here / apart if what == "per_second" else apart / here) - 1
                unit = "knees a second" if what == "per_second" else "processor seconds a knee"
                print(f"{count} {kind}: {apart:.3g} {unit} apart, {here:.3g} here: {price:+.1%}", flush=True)
            median = statistics.median(one["knees"] for one in found["apart"])
            print(
                f"{count} {kind}: {median:.0f} knees; load of the machine {os.getloadavg()[0]:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
