"""``--runner ray``: the chain on the nodes of a cluster, the journal and the table on this machine.

The run lists, journals and commits as it always does. Blocks of images go out, each to a node that reads and
scores them by the same chain; their records come back in any order, and a block that a node took with it is
scored again elsewhere. The journal knows a record by its image, so none is there twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from kneerisk.cluster.blocks import Done, Note
from kneerisk.cluster.bridge import Cluster, ClusterError, open_cluster
from kneerisk.errors import KneeriskError, Reason
from kneerisk.method.calibration import Calibration
from kneerisk.method.recalibration import Recalibration
from kneerisk.places.place import is_remote, url_of
from kneerisk.places.reach import head_of
from kneerisk.records import ForecastPicture, KneeScore, RadiographRef, Refusal
from kneerisk.scoring.chain import Earlier, Item, Keeper, Known, Notice, Reporter, Rooms, Walk, ref_of
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.journal.record import FileState, Record
from kneerisk.scoring.outputs.rows import row_of_refusal
from kneerisk.scoring.pseudonyms import Pseudonyms

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Errand:
    """One image to score."""

    index: int
    item: Item
    earlier: Record | None
    """What an earlier run knew of the file; without its rows, which stay here."""


@dataclass(slots=True)
class Outcome:
    """What a node made of a block of errands."""

    records: list[Record] = field(default_factory=list)
    known: list[Known] = field(default_factory=list)
    knees: list[tuple[int, KneeScore, ForecastPicture]] = field(default_factory=list)
    """Scored knees with their pictures, where those are wanted."""
    unopened: list[int] = field(default_factory=list)
    """Images whose file the node cannot open."""
    seconds: dict[str, float] = field(default_factory=dict)

    def keep(self, knees: Sequence[tuple[int, KneeScore, ForecastPicture]]) -> None:
        """As a :class:`.chain.Keeper`."""
        self.knees += knees


@dataclass(frozen=True, slots=True)
class NodeWork:
    """What a node opens, and how it works; pickled on its way there."""

    open_rooms: Callable[[Clock], AbstractContextManager[Rooms]]
    walk: Walk
    pictures: bool
    """Whether scored knees go back with their pictures, for outputs that are made of them."""
    recalibration: Recalibration | None = None
    hidden: Pseudonyms | None = None

    @contextmanager
    def __call__(self) -> Iterator[tuple[Mapping[str, Any], Callable[[Sequence[Errand]], Outcome]]]:
        """See :data:`kneerisk.cluster.blocks.Opener`; a node is what its rows would say of it."""
        clock = Clock()
        with self.open_rooms(clock) as rooms:
            rooms = replace(rooms, recalibration=self.recalibration)
            if self.hidden is not None:
                rooms = replace(rooms, hide=self.hidden.knee)
            yield rooms.provenance, partial(self._serve, rooms, clock)

    def _serve(self, rooms: Rooms, clock: Clock, errands: Sequence[Errand]) -> Outcome:
        images = {errand.index: errand.item for errand in errands}
        earlier = {errand.index: errand.earlier for errand in errands}
        outcome = Outcome()
        keepers = [outcome] if self.pictures else []
        for part in rooms.score(images.items(), self.walk, clock, earlier.get, keepers):
            if isinstance(part, Known):
                outcome.known.append(part)
            elif not isinstance(part, Notice):
                outcome.records += part
        outcome.unopened = [
            record.index
            for record in outcome.records
            if any(row["reason"] == Reason.FILE_UNREADABLE for row in record.rows)
            and not _opens(images[record.index])
        ]
        outcome.seconds = clock.take()
        return outcome


class Spread:
    """A :class:`.chain.Scorer` that has the nodes of a cluster do the work."""

    def __init__(
        self,
        cluster: Cluster,
        work: NodeWork,
        calibration: Calibration,
        origin: Callable[[Path], Any] = lambda path: None,
    ) -> None:
        self._cluster, self._work = cluster, work
        self.provenance = cluster.identity
        self.calibration = calibration
        self.recalibration = work.recalibration
        self.origin = origin

    def score(
        self,
        images: Iterable[tuple[int, Item]],
        walk: Walk,
        clock: Clock,
        earlier: Earlier,
        keepers: Sequence[Keeper] = (),
        reporters: Sequence[Reporter] = (),
    ) -> Iterator[list[Record] | Known | Notice]:
        """See :class:`.chain.Scorer`.

        Raises:
            ClusterError: the cluster is gone.
            KneeriskError: a node cannot open a file that this machine can.
        """
        source = iter(images)
        out: dict[int, Item] = {}
        # About two batches of knees; their pictures are large, and come in smaller parts.
        most = max(1, walk.batch_size // 2 if self._work.pictures else 2 * walk.batch_size)

        def next_block() -> list[Errand] | None:
            taken = list(islice(source, most))
            out.update(taken)
            return [Errand(index, _anywhere(item), _bare(earlier(index))) for index, item in taken] or None

        try:
            for message in self._cluster.serve(next_block):
                if isinstance(message, Note):
                    yield Notice(message.words)
                    continue
                if isinstance(message, Done):
                    outcome: Outcome = message.result
                    self._refuse_if_hidden_from(message.node, outcome, out)
                else:
                    errand: Errand = message.item
                    outcome = Outcome([self._given_up(errand.index, out[errand.index], message.words)])
                clock.add(outcome.seconds)
                for record in outcome.records:
                    ref = ref_of(out.pop(record.index))
                    for reporter in reporters:
                        with clock.stage("reports"):
                            reporter.report(record.index, ref, record.rows)
                if outcome.knees:
                    with clock.stage("pictures"):
                        for keeper in keepers:
                            keeper.keep(outcome.knees)
                for known in outcome.known:
                    del out[known.index]
                    yield known
                if outcome.records:
                    yield outcome.records
        except ClusterError as error:
            raise ClusterError(f"{error}. {_GO_ON}") from error

    def _refuse_if_hidden_from(self, node: str, outcome: Outcome, out: Mapping[int, Item]) -> None:
        for index in outcome.unopened:
            item = out[index]
            if isinstance(item, RadiographRef) and _opens(item):
                path = url_of(item.path) if is_remote(item.path) else item.path
                remedy = (
                    "give the nodes the store's credentials and address (the environment of ray start)"
                    if is_remote(item.path)
                    else "with --runner ray every node must see the inputs in the same place, as on a shared "
                    "disk, or by URL"
                )
                raise KneeriskError(
                    f"node {node} of the Ray cluster cannot open {path}, which this machine can: {remedy}. "
                    + _GO_ON
                )

    def _given_up(self, index: int, item: Item, words: str) -> Record:
        ref = ref_of(item)
        message = (
            f"each time that this image was scored, a process of the Ray cluster ended ({words}); the other "
            "rows are sound; try --retry-failed on nodes with more memory, or leave it out"
        )
        knee = Refusal(ref, Reason.READER_CRASHED, message)
        if self._work.hidden is not None:
            hidden = self._work.hidden.knee(knee)
            assert isinstance(hidden, Refusal)
            knee = hidden
        return Record(index, None, FileState.of(ref.path), [row_of_refusal(knee, self.provenance)])


_GO_ON = "Every finished row is kept: mend that, and go on with --resume"


@contextmanager
def open_spread(
    address: str | None,
    work: NodeWork,
    expected: Mapping[str, Any],
    calibration: Calibration,
    origin: Callable[[Path], Any] = lambda path: None,
    *,
    gpus: bool,
) -> Iterator[Spread]:
    """Join a cluster and have its nodes open what they need; :func:`kneerisk.cluster.bridge.open_cluster`."""
    with open_cluster(address, work, expected, lambda words: log.warning("%s", words), gpus=gpus) as cluster:
        yield Spread(cluster, work, calibration, origin)


def _anywhere(item: Item) -> Item:
    """An image by a path that does not depend on the folder that the run was started in."""
    if isinstance(item, Refusal) or is_remote(item.path):
        return item
    return replace(item, path=item.path.absolute())


def _bare(record: Record | None) -> Record | None:
    return None if record is None else replace(record, rows=[])


def _opens(item: Item) -> bool:
    """Whether a file can be opened here; what the scan refused is nobody's to open."""
    if isinstance(item, Refusal):
        return True
    try:
        head_of(item.path, 1)
    except OSError:
        return False
    return True
