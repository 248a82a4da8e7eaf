"""Mutated files through the whole reader: ``python benchmarks/fuzz.py [--mutants 50000] [--guided]``.

Small pictures in every transfer syntax and container that is read (:mod:`benchmarks.sound_files`) are
mutated: bits and bytes changed, numbers set to ones that trouble programs, parts lost, repeated, moved and
joined with another file's.  Half of that hits the first 1,200 bytes, where headers lie; deflated data sets
are mutated unpacked, and PNG chunks get their checksums again.  Each is read as ``kneerisk score`` reads it,
in a process of its own.  A finding is a mutant that ends the process, takes too long or too much memory, from
which an exception escapes, or whose answer is neither a sound radiograph nor a refusal with reason and words.
A mutant follows from the seed and its number alone: ``--only NUMBER`` writes it again, ``--keep`` findings.

``--guided`` looks for mutants that reach new lines instead: see :mod:`benchmarks.guided_fuzz`.
"""

from __future__ import annotations

import argparse
import os
import queue
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from benchmarks.sound_files import seeds  # noqa: E402
from kneerisk.errors import Reason  # noqa: E402
from kneerisk.radiograph.apart.readers import Readers  # noqa: E402
from kneerisk.radiograph.decode.read import read  # noqa: E402
from kneerisk.records import Radiograph, RadiographRef, Refusal  # noqa: E402

SECONDS = 30.0
"""That a mutant may take, on a busy machine."""
MOST_BYTES = 1_000_000_000
"""Of memory, that the process which reads a mutant may hold at most."""
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PNG = b"\x89PNG"
NUMBERS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 4095, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)

Harm = tuple[str, float, int]
"""What is wrong with an answer (empty: nothing), seconds that it took, bytes that its process held most."""


def mutant(seed: int, number: int) -> tuple[str, bytes]:
    """Name of the seed file, and its mutant of this number."""
    rng = np.random.default_rng((seed, number))
    files = seeds()
    name = list(files)[number % len(files)]
    return name, altered(files[name], rng)


def altered(content: bytes, rng: np.random.Generator) -> bytes:
    """A file's bytes, changed in a few places."""
    data = bytearray(content)
    if _DEFLATED in data[:400] and rng.random() < 0.7:
        try:
            return _inside_deflated(data, rng)
        except zlib.error:  # of a mutant's mutant
            pass
    for _ in range(int(rng.choice([1, 1, 2, 4, 16]))):
        _one(data, rng, seeds())
    if data.startswith(_PNG) and rng.random() < 0.8:
        _sum_chunks(data)
    return bytes(data)


def _one(data: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> None:
    # Headers are a small part of a file and the larger part of a reader.
    size = len(data) if rng.random() < 0.5 else min(len(data), 1200)
    if size < 16:
        data += bytes(16)
        size = len(data)
    place = int(rng.integers(size - 8))
    length = int(min(2 ** rng.uniform(0, 10), len(data) - place))
    how = rng.integers(10)
    if how <= 1:
        data[place] ^= 1 << int(rng.integers(8))
    elif how == 2:
        data[place] = int(rng.integers(256))
    elif how <= 4:
        form = str(rng.choice(["<H", ">H", "<I", ">I"]))
        value = int(rng.choice(NUMBERS)) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
        struct.pack_into(form, data, place, value)
    elif how == 5:
        data[place : place + length] = bytes(length)
    elif how == 6:
        del data[place : place + length]
    elif how == 7:
        data[place:place] = data[place : place + length] * int(rng.integers(1, 4))
    elif how == 8:
        other = files[str(rng.choice(list(files)))]
        start = int(rng.integers(len(other)))
        data[place : place + length] = other[start : start + length]
    else:
        del data[int(rng.integers(len(data))) :]


def _inside_deflated(data: bytearray, rng: np.random.Generator) -> bytes:
    """A mutant of what is unpacked, packed again."""
    start = 144 + int.from_bytes(data[140:144], "little")
    plain = bytearray(zlib.decompress(bytes(data[start:]), -15))
    for _ in range(int(rng.choice([1, 2, 4]))):
        _one(plain, rng, seeds())
    packer = zlib.compressobj(wbits=-15)
    return bytes(data[:start]) + packer.compress(bytes(plain)) + packer.flush()


def _sum_chunks(data: bytearray) -> None:
    """Right checksums for the chunks of a PNG file, so that what they hold is looked at."""
    place = 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(data):
            return
        data[end : end + 4] = zlib.crc32(data[place + 4 : end]).to_bytes(4, "big")
        place = end + 4


def measured(ref: RadiographRef) -> Any:
    """In the reading process: what was found, with the most memory that the process held meanwhile."""
    _forget_peak()
    found = read(ref)
    return (wrong_with(found), _peak())


def wrong_with(found: object) -> str:
    """What is wrong with an answer; empty where nothing is."""
    if isinstance(found, Refusal):
        if not isinstance(found.reason, Reason) or not found.message.strip():
            return "a refusal without reason or words"
        return ""
    if not isinstance(found, Radiograph):
        return f"the answer is a {type(found).__name__}"
    pixels = found.pixels
    if pixels.ndim != 2 or pixels.dtype != np.float32 or min(pixels.shape) < 1:
        return f"pixels {pixels.dtype} {pixels.shape}"
    if not (np.isfinite(pixels).all() and 0 <= pixels.min() <= pixels.max() <= 1):
        return "pixels beyond 0..1"
    return ""


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def _peak() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


@dataclass
class Found:
    """What a campaign came to."""

    mutants: int = 0
    sound: int = 0
    slowest: float = 0.0
    peak: int = 0


def ask(readers: Readers, path: Path) -> Harm:
    """Read one file apart, and judge it."""
    start = time.monotonic()
    peak = 0
    try:
        answer: Any = readers(RadiographRef(path, path.name))
        if isinstance(answer, Refusal):  # the readers' own
            wrong = f"{answer.reason}: {answer.message}"
        else:
            wrong, peak = answer
    except RuntimeError as error:
        wrong = f"escaped: {error}"
    took = time.monotonic() - start
    if not wrong and peak > MOST_BYTES:
        wrong = f"held {peak / 1e6:.0f} MB"
    return wrong, took, peak


def campaign(
    numbers: range, seed: int, workers: int, keep: Path | None, tell: Callable[[str], None]
) -> Found:
    """Read the mutants of some numbers; findings are told, and kept where a folder is given."""
    found, lock = Found(), threading.Lock()
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in numbers:
        waiting.put(number)
    began = time.monotonic()

    def work(scratch: Path) -> None:
        while True:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            name, data = mutant(seed, number)
            path = scratch / f"{number}"
            path.write_bytes(data)
            wrong, took, peak = ask(readers, path)
            path.unlink()
            with lock:
                found.mutants += 1
                found.sound += not wrong
                found.slowest = max(found.slowest, took)
                found.peak = max(found.peak, peak)
                if wrong:
                    tell(f"FINDING {number} ({name}): {wrong}")
                    if keep is not None:
                        (keep / f"{seed}-{number}").write_bytes(data)
                if found.mutants % 2000 == 0:
                    tell(
                        f"{found.mutants} mutants, {found.mutants / (time.monotonic() - began):.0f} a second"
                    )

    with tempfile.TemporaryDirectory() as scratch, Readers(measured, timeout=SECONDS) as readers:
        threads = [threading.Thread(target=work, args=(Path(scratch),)) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found


def main() -> int:
    """Print the figures; exit status 1 where there are findings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutants", type=int, default=50_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--keep", type=Path, help="folder for the findings")
    parser.add_argument("--only", type=int, help="write the mutant of this number to standard output")
    parser.add_argument("--guided", action="store_true")
    given = parser.parse_args()
    if given.only is not None:
        sys.stdout.buffer.write(mutant(given.seed, given.only)[1])
        return 0
    if given.guided:
        from benchmarks.guided_fuzz import guided

        guided(given.mutants, given.seed, given.keep)
        return 0
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    numbers = range(given.first, given.first + given.mutants)
    found = campaign(numbers, given.seed, given.workers, given.keep, lambda text: print(text, flush=True))
    print(
        f"{found.mutants} mutants of {len(seeds())} files: {found.mutants - found.sound} findings; "
        f"slowest {found.slowest:.1f} s, most memory {found.peak / 1e6:.0f} MB"
    )
    return int(found.sound < found.mutants)


if __name__ == "__main__":
    from benchmarks import fuzz  # by its name, under which the reading processes find it too

    sys.exit(fuzz.main())
