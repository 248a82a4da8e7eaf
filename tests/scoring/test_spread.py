"""The run's side of a cluster, with a cluster that is this process: what goes out, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kneerisk.cluster.blocks import Done, GivenUp
from kneerisk.errors import KneeriskError
from kneerisk.radiograph.settings import InputSettings
from kneerisk.scoring.chain import Walk, source_path_of
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.outputs import table
from kneerisk.scoring.run import score_images
from kneerisk.scoring.settings import RunSettings, fingerprint
from kneerisk.scoring.spread import Errand, NodeWork, Outcome, Spread

Change = Callable[[Outcome], object]


class OneNode:
    """A cluster of one node; ``deadly`` ends its process, ``change`` what it answers."""

    def __init__(self, work: NodeWork, deadly: str = "", change: Change = lambda outcome: None) -> None:
        self._work, self._deadly, self._change = work, deadly, change
        self.seen: list[Errand] = []
        with work() as (self.identity, _):
            pass

    def serve(self, ask: Callable[[], Sequence[Errand] | None]) -> Iterator[Any]:
        with self._work() as (_, serve):
            while (errands := ask()) is not None:
                self.seen += errands
                dead = [errand for errand in errands if source_path_of(errand.item) == self._deadly]
                yield from (GivenUp(errand, "killed") for errand in dead)
                outcome = serve([errand for errand in errands if errand not in dead])
                self._change(outcome)
                yield Done(outcome, "node seven")


@pytest.fixture
def work(fake: ModuleType) -> NodeWork:
    return NodeWork(partial(fake.opened, 0.0), Walk(2, None, 2), pictures=False)


@pytest.fixture
def readable(cohort: Path) -> Path:
    (cohort / "P11.bad").unlink()
    return cohort


def score(fake: ModuleType, folder: Path, cluster: OneNode, work: NodeWork, out: Path, clock: Clock) -> None:
    run = RunSettings(out, batch_size=2)
    scorer = Spread(cluster, work, fake.CALIBRATION)  # type: ignore[arg-type]
    marks = fingerprint(InputSettings((folder,)), run, scorer.provenance)
    list(score_images(fake.scan(folder), {}, scorer, run, marks, clock))


def test_rows_are_those_of_this_machine_and_time_is_the_nodes(
    fake: ModuleType, cohort: Path, work: NodeWork, tmp_path: Path
) -> None:
    out, alone, clock = tmp_path / "r.parquet", tmp_path / "alone.parquet", Clock()
    score(fake, cohort, OneNode(work), work, out, clock)
    fake.run(cohort, RunSettings(alone))
    assert table.read(out).equals(table.read(alone))
    assert {"read", "networks"} <= set(clock.seconds())


def test_a_path_does_not_depend_on_the_folder_that_the_run_was_started_in(
    fake: ModuleType, readable: Path, work: NodeWork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(readable.parent)
    cluster = OneNode(work)
    score(fake, Path(readable.name), cluster, work, tmp_path / "r.parquet", Clock())
    assert cluster.seen
    assert all(errand.item.path.is_absolute() for errand in cluster.seen)


def test_a_node_that_cannot_open_what_this_machine_can_ends_the_run_by_name(
    fake: ModuleType, readable: Path, work: NodeWork, tmp_path: Path
) -> None:
    def blind(outcome: Outcome) -> None:
        outcome.unopened = [record.index for record in outcome.records]

    out = tmp_path / "r.parquet"
    words = r"node seven .* cannot open .*P0\d\.txt, which this machine can: .*go on with --resume"
    with pytest.raises(KneeriskError, match=words):
        score(fake, readable, OneNode(work, change=blind), work, out, Clock())
    assert not out.exists()


def test_what_no_machine_can_open_is_no_fault_of_the_node(
    fake: ModuleType, readable: Path, work: NodeWork, tmp_path: Path
) -> None:
    """The file went away meanwhile, here and there."""

    def gone(outcome: Outcome) -> None:
        for record in outcome.records:
            (readable / record.rows[0]["source_path"]).unlink()
        outcome.unopened = [record.index for record in outcome.records]

    out = tmp_path / "r.parquet"
    score(fake, readable, OneNode(work, change=gone), work, out, Clock())
    assert table.read(out)["image_index"].n_unique() == 13


def test_an_image_that_ends_its_process_has_a_row_and_the_others_theirs(
    fake: ModuleType, cohort: Path, work: NodeWork, tmp_path: Path
) -> None:
    out, alone = tmp_path / "r.parquet", tmp_path / "alone.parquet"
    score(fake, cohort, OneNode(work, deadly="P03.txt"), work, out, Clock())
    fake.run(cohort, RunSettings(alone))
    found, whole = table.read(out), table.read(alone)
    (row,) = found.filter(source_path="P03.txt").rows(named=True)
    assert (row["status"], row["reason"]) == ("failed", "reader-crashed")
    assert "--retry-failed" in row["message"] and "killed" in row["message"]
    rest = [frame.remove(source_path="P03.txt") for frame in (found, whole)]
    assert rest[0].equals(rest[1])


def test_a_node_is_told_what_an_earlier_run_knew_of_a_file_and_not_its_rows(
    fake: ModuleType, readable: Path, work: NodeWork, tmp_path: Path
) -> None:
    out = tmp_path / "r.parquet"
    with pytest.raises(KneeriskError):
        score(fake, readable, OneNode(work, change=_stop_at(6)), work, out, Clock())
    run = RunSettings(out, batch_size=2, resume=True)
    cluster = OneNode(work)
    scorer = Spread(cluster, work, fake.CALIBRATION)  # type: ignore[arg-type]
    marks = fingerprint(InputSettings((readable,)), run, scorer.provenance)
    last = list(score_images(fake.scan(readable), {}, scorer, run, marks, Clock()))[-1]
    known = [errand.earlier for errand in cluster.seen if errand.earlier is not None]
    assert len(known) == last.reused >= 4
    assert all(record.rows == [] and record.state is not None for record in known)


def _stop_at(index: int) -> Change:
    def stop(outcome: Outcome) -> None:
        if any(record.index >= index for record in outcome.records):
            raise KneeriskError("enough")

    return stop
