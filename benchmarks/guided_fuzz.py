"""Coverage-guided mutants through the whole reader, for ``python benchmarks/fuzz.py --guided``.

atheris (libFuzzer for Python) keeps the mutants that reach new branches of our reader and of pydicom,
tifffile and Pillow, and mutates these further.  The decoders in C are called, but not watched: wheels have
no such hooks.  Half of the mutants are libFuzzer's own, half :func:`benchmarks.fuzz.altered`'s.

It all happens in this very process, so its first finding ends it: a crash, an exception, an answer that is
neither a sound radiograph nor a refusal with words, more than a minute, or more than 1 GB.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.sound_files import seeds
from kneerisk.records import RadiographRef

WATCHED = ("kneerisk.radiograph", "pydicom", "tifffile", "PIL")
_LATE = (
    "pydicom.pixels.decoders",
    "PIL.PngImagePlugin",
    "PIL.JpegImagePlugin",
    "PIL.TiffImagePlugin",
    "tifffile",
)
"""What the reader imports where it needs it."""
_LONGEST = 40_000
_SECONDS = 60
_MOST_MB = 1000


def guided(runs: int, seed: int, keep: Path | None) -> None:
    """Run so many mutants; never returns.

    Args:
        runs: executions, of the seed files too.
        seed: of libFuzzer's random numbers.
        keep: folder for what was found (``crash-…``, ``timeout-…``, ``oom-…``) and, in ``corpus``, for the
            mutants that reached something new, from which a later run goes on.
    """
    try:
        import atheris
    except ImportError:
        sys.exit("--guided needs atheris: pip install atheris==3.0.0 (Linux, Python 3.11 to 3.13)")
    from benchmarks.fuzz import altered, wrong_with

    files = seeds()
    for name in [name for name in sys.modules if name.startswith(WATCHED)]:
        del sys.modules[name]  # what was imported already is not watched
    with atheris.instrument_imports(include=list(WATCHED), enable_loader_override=False):
        for name in _LATE:
            importlib.import_module(name)
        reader = importlib.import_module("kneerisk.radiograph.decode.read")
        origin = importlib.import_module("kneerisk.radiograph.decode.origin")
        scanner = importlib.import_module("kneerisk.radiograph.sources.scan")

    home = Path(tempfile.mkdtemp()) if keep is None else keep
    scratch = Path(tempfile.mkdtemp()) / "mutant"
    corpus = home / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (corpus / name).write_bytes(data)

    def one(data: bytes) -> None:
        scratch.write_bytes(data)
        list(scanner.scan([scratch.parent]))
        wrong = wrong_with(reader.read(RadiographRef(scratch, "mutant")))
        if wrong:
            raise AssertionError(wrong)
        origin.origin_of(scratch)

    def change(data: bytes, most: int, number: int) -> bytes:
        if number % 2:
            return bytes(atheris.Mutate(data, most))
        return altered(data, np.random.default_rng(number))[:most]

    options = [
        *(f"-runs={runs}", f"-seed={seed + 1}", f"-max_len={_LONGEST}", "-len_control=0"),
        *(f"-timeout={_SECONDS}", f"-rss_limit_mb={_MOST_MB}", f"-artifact_prefix={home}/"),
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()
