"""The front door: what the user named → images → radiographs → the crops of their knees.

Scoring and ``prepare`` come in here. The three steps stay apart, for a file may be known from an earlier run
before it is read, and reading waits for disks where finding knees computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from kneerisk.errors import Reason
from kneerisk.radiograph.apart.readers import Readers
from kneerisk.radiograph.decode.origin import origin_of
from kneerisk.radiograph.decode.read import read
from kneerisk.radiograph.locate.crop import knee_of, whole_as_knee
from kneerisk.radiograph.locate.localise import KneeLocaliser
from kneerisk.radiograph.locate.recognise import side_from_name
from kneerisk.radiograph.settings import InputSettings, Invert
from kneerisk.radiograph.sources.scan import scan
from kneerisk.radiograph.sources.skipped import Skipped
from kneerisk.radiograph.sources.whose import Whose
from kneerisk.records import KneeCrop, Radiograph, RadiographRef, Refusal, refuse

if TYPE_CHECKING:
    from kneerisk_engines.runner import Runner

__all__ = ["as_one_knee", "find_knees", "list_images", "localiser", "origin_of", "reader"]

Read = Callable[[RadiographRef], Radiograph | Refusal]
Localise = Callable[[Radiograph], list[KneeCrop | Refusal]]


def look_on(settings: InputSettings) -> Whose:
    """What tells, once the images were listed, whether they can be told apart by their participants."""
    return Whose(settings.id_from)


def list_images(
    settings: InputSettings, *, may_be_empty: bool = False
) -> tuple[Iterator[RadiographRef | Refusal], Skipped]:
    """Every image among the inputs, in a constant order, and what is passed over as they are listed.

    ``may_be_empty``: a URL below which nothing lies yet is no error.

    Raises:
        UsageError: at once: an input does not exist, or a manifest has rows to mend.
    """
    skipped = Skipped()
    found = scan(
        settings.inputs,
        id_from=settings.id_from,
        side=settings.side,
        skipped=skipped,
        may_be_empty=may_be_empty,
        follow_links=settings.follow_links,
    )
    return found, skipped


def reader(settings: InputSettings) -> Read:
    """What turns one image into a radiograph, or says why it is none; it may be called in threads."""
    return partial(read, spacing_mm=settings.spacing_mm, invert=settings.invert)


def readers(settings: InputSettings, timeout: float | None) -> Readers:
    """As :func:`reader`, but no file can crash, hang or fill the caller's process: to be entered, and closed.

    Args:
        settings: how to understand the files.
        timeout: seconds that a file may take.
    """
    return Readers(reader(settings), timeout=timeout)


def localiser(network: Runner, invert: Invert = "auto") -> Localise:
    """What cuts the knees out of a radiograph, with an open localiser network; it may be called in threads.

    A side that was asked for is in the references already, where a manifest's own goes before an option's.
    """
    (radiograph,) = network.spec.inputs
    return partial(KneeLocaliser(network.run, size=radiograph.shape[-1]).localise, invert=invert)


def find_knees(settings: InputSettings, network: Runner, most: int) -> list[KneeCrop]:
    """The first ``most`` knees among the inputs, cut out; files without one are passed over.

    Args:
        settings: which files.
        network: an open localiser.
        most: knees.
    """
    read_one, localise = reader(settings), localiser(network, settings.invert)
    crops: list[KneeCrop] = []
    images, _ = list_images(settings)
    for image in images:
        radiograph = image if isinstance(image, Refusal) else read_one(image)
        if not isinstance(radiograph, Refusal):
            crops += [knee for knee in localise(radiograph) if isinstance(knee, KneeCrop)]
        if len(crops) >= most:
            break
    return crops[:most]


def as_one_knee(radiograph: Radiograph) -> list[KneeCrop | Refusal]:
    """An image that is one knee's crop already, taken as it is: no network looks at it."""
    side = radiograph.ref.side or radiograph.side or side_from_name(radiograph.ref.source_path)
    if side != "L" and side != "R":
        message = "the crop's side is unknown: give a manifest with a side column, or end its name in L or R"
        return [refuse(radiograph, Reason.SIDE_UNKNOWN, message)]
    cut = whole_as_knee(radiograph.pixels, mirror=side == "L")
    return [knee_of(radiograph, side, cut, radiograph.qc_flags)]
