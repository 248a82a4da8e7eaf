"""What the scan found: the settings, every image in order, and their count, a line each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kneerisk_engines.plain import from_plain, to_plain

from kneerisk.records import CarriedKind, RadiographRef, Refusal
from kneerisk.scoring.journal.folder import LISTING
from kneerisk.scoring.journal.gone import Found
from kneerisk.scoring.journal.lines import sealed, unsealed
from kneerisk.scoring.outputs.table import replace_with

KEY_BYTES = 16

Fingerprint = Mapping[str, Any]
"""Setting → value, plain JSON: everything but the images that a row depends on."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What the scan found."""

    images: int
    sha256: str
    """Over the source paths in order: shards that saw different folders differ here."""
    extra: Mapping[str, CarriedKind]
    """The manifest's own columns, and of what kind each is."""
    skipped: Mapping[str, int]
    """Files that the scan passed over, by why."""


class PathsDigest:
    """sha256 over the source paths of a scan, in order: two scans of the same images agree in it."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, source_path: str) -> None:
        """The next image's."""
        self._sha256.update(source_path.encode("utf-8", "surrogateescape") + b"\n")

    def hexdigest(self) -> str:
        """Of all so far."""
        return self._sha256.hexdigest()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the listing: one of these."""

    fingerprint: dict[str, Any] | None = None
    ref: RadiographRef | None = None
    refusal: Refusal | None = None
    listing: Listing | None = None

    @property
    def item(self) -> RadiographRef | Refusal | None:
        """What the scan found at this place, or refused."""
        return self.ref or self.refusal


@dataclass(slots=True)
class Earlier:
    """What can still be read of an earlier run's listing."""

    fingerprint: dict[str, Any] | None = None
    images: int = 0
    whole: bool = True


def read_listing(path: Path) -> Earlier:
    """An earlier run's listing, as far as it is there and its lines are whole."""
    earlier = Earlier()
    if not path.exists():
        return earlier
    end: Listing | None = None
    for line in lines_of(path):
        if line is None:
            earlier.whole = False
        elif line.fingerprint is not None:
            earlier.fingerprint = line.fingerprint
        elif line.item is not None:
            earlier.images += 1
        else:
            end = line.listing
    if earlier.fingerprint is None or end is None or end.images != earlier.images:
        earlier.whole = False
    return earlier


def list_images(
    folder: Path,
    fingerprint: Fingerprint,
    images: Iterable[RadiographRef | Refusal],
    skipped: Mapping[str, int],
    carried: Mapping[str, CarriedKind],
    earlier: Earlier,
) -> tuple[Listing, bytes, list[str]]:
    """Scan into a new listing, which takes the place of an earlier one; each image's key; notices."""
    settings = json.dumps(fingerprint, sort_keys=True).encode()
    digest, keys = PathsDigest(), bytearray()
    extra: dict[str, CarriedKind] = {}
    aside = folder / f"{LISTING}.new"
    found = Found()
    with aside.open("wb") as stream:
        stream.write(sealed(json.dumps({"fingerprint": fingerprint}).encode()))
        for item in images:
            ref = item if isinstance(item, RadiographRef) else item.ref
            digest.add(ref.source_path)
            extra.update({name: carried.get(name, "text") for name in ref.extra})
            kind = "refusal" if isinstance(item, Refusal) else "ref"
            body = json.dumps({kind: to_plain(item)}).encode()
            keys += hashlib.blake2b(settings + body, digest_size=KEY_BYTES).digest()
            stream.write(sealed(body))
            if earlier.images:
                found.add(item)
        listing = Listing(len(keys) // KEY_BYTES, digest.hexdigest(), extra, dict(skipped))
        stream.write(sealed(json.dumps({"listing": to_plain(listing)}).encode()))
    notices = []
    if earlier.images:
        lines = (line.item for line in lines_of(folder / LISTING) if line is not None)
        items = (item for item in lines if item is not None)
        notices += found.compare(items, whole=earlier.whole)
    if not earlier.whole:
        notices.append("the unfinished run's list of images was damaged: it was made again from the inputs")
    replace_with(aside, folder / LISTING)
    return listing, bytes(keys), notices


def lines_of(path: Path) -> Iterator[Line | None]:
    """A listing's lines; ``None`` for one that is damaged."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            body = unsealed(line)
            try:
                found = None if body is None else from_plain(Line, json.loads(body), f"line {number}")
            except ValueError:  # of another version, as the settings say
                found = None
            yield found
