"""A run on a Ray cluster whose networks are STUBS, for cohorts of more images than this machine could score.

The listing, the journal, the bridge to Ray, the blocks, the reading processes on the node and the table are
those of ``kneerisk score --runner ray``.  Stubbed are the search for knees (each image is taken for one
crop) and the networks (arithmetic on 16 x 16 pixels, from tests/scoring/fake_chain.py): risks mean nothing.
Run as a script it scores a folder once, so that its memory is that of a run and of nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from kneerisk.method.predict import ForecastSettings, ForwardPass, StackPredictor
from kneerisk.radiograph import knees
from kneerisk.radiograph.settings import InputSettings
from kneerisk.scoring.chain import Rooms, Walk
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.run import Summary, score_images
from kneerisk.scoring.settings import RunSettings, fingerprint
from kneerisk.scoring.spread import NodeWork, open_spread

ROOT = Path(__file__).parents[1]
STUBS = ROOT / "tests" / "scoring"
_PIXELS = 64
"""A side, of an image: the smallest that the reader takes."""


def write_images(folder: Path, count: int) -> Path:
    """So many small images of noise in a folder, one in fifty of them no image; those there are kept."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / f"P{number:06d}_R.png"
        if path.exists():
            continue
        path.parent.mkdir(exist_ok=True)
        if number % 50 == 25:
            path.write_bytes(b"no image at all")
            continue
        noise = np.random.default_rng(number).integers(0, 256, (_PIXELS, _PIXELS), dtype=np.uint8)
        Image.fromarray(noise).save(path, compress_level=1)
    return folder


@contextmanager
def stubs(inputs: InputSettings, timeout: float | None, clock: Clock) -> Iterator[Rooms]:
    """As :func:`kneerisk.scoring.cohort.open_rooms`, with the real readers, and no networks."""
    import fake_chain

    made = fake_chain.PROVENANCE
    settings = ForecastSettings(made["steps"], made["samples"], made["seed"])
    predictor = StackPredictor(ForwardPass(fake_chain.COMPONENTS), settings, crop_size=fake_chain.S)
    with knees.readers(inputs, timeout) as read:
        yield Rooms(read, knees.as_one_knee, predictor, fake_chain.CALIBRATION, made, 2)


def score(folder: Path, out: Path, address: str) -> Summary:
    """Score a folder on a cluster, with stubs for networks."""
    import fake_chain

    inputs = InputSettings((folder,))
    run = RunSettings(out, overwrite=True, runner="ray", ray_address=address)
    walk = Walk(run.workers, run.timeout, run.batch_size)
    work = NodeWork(partial(stubs, inputs, run.timeout), walk, pictures=False)
    images, skipped = knees.list_images(inputs)
    with open_spread(address, work, {}, fake_chain.CALIBRATION, gpus=False) as spread:
        marks = fingerprint(inputs, run, spread.provenance)
        for step in score_images(images, skipped.counts, spread, run, marks, Clock()):  # noqa: B007
            pass
    assert isinstance(step, Summary)
    return step


if __name__ == "__main__":
    sys.path.append(str(STUBS))
    from cluster_memory import score as _score  # by a name that the nodes find, too

    done = _score(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    sys.stdout.write(f"{done.images} {done.ok} {done.failed}\n")
