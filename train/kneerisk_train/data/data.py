"""A prepared cohort as the training stages see it: split, in memory, with its pairs of visits and rates."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError
from kneerisk.simulate.rates import KL_TRANSITIONS
from kneerisk_train.data import splits
from kneerisk_train.data.dataset import PreparedCohort
from kneerisk_train.data.knees import UNGRADED, Knees
from kneerisk_train.data.splits import SplitConfig
from kneerisk_train.prepare.pairs import VisitPairs

log = logging.getLogger(__name__)

HORIZON = 12
"""Months ahead that are forecast."""
_FEWEST_RISES = 20
"""Fewer real rises than this among the training pairs teach nothing: surrogates are used instead."""
OAI_RATES = (
    "Osteoarthritis Initiative, knees of the train and val participants of Chen's set: P(KL grade rises "
    "within 12 months) by reader's grade"
)


@dataclass(frozen=True)
class Rates:
    """How grades move within twelve months, and among whom."""

    moves: npt.NDArray[np.float64]
    """[5, 5]: P(KL at 12 months | KL now), rows summing to one."""
    population: str
    """In words."""
    borrowed: bool = False
    """Whether they are another population's, because the cohort has too few pairs of visits of its own."""


@dataclass(frozen=True)
class TrainingData:
    """All splits of a prepared cohort."""

    name: str
    """What was prepared, in words."""
    knees: dict[str, Knees]
    """Split → its knees; ``test`` may be missing."""
    pairs: dict[str, VisitPairs]
    """Split → pairs of graded visits about twelve months apart, rows of that split's knees."""
    rates: Rates
    splits_sha256: str
    provenance: dict[str, Any]
    """What ``prepare`` recorded."""

    @property
    def has_futures(self) -> bool:
        """Whether the training split has real second visits to learn from."""
        pairs, grade = self.pairs["train"], self.knees["train"].grade
        return bool((grade[pairs.future] > grade[pairs.current]).sum() >= _FEWEST_RISES)


def open_data(
    folder: Path, config: SplitConfig, size: int, out: Path, rates: Path | None = None
) -> TrainingData:
    """Read a prepared cohort into memory: one byte a pixel, 50 kB a knee of 224 pixels a side.

    Args:
        folder: what ``kneerisk prepare`` wrote.
        config: how participants are shared out.
        size: pixels a side of the crops the networks see.
        out: the run's folder, where the splits are kept.
        rates: a table as :func:`transition_rates` reads; else the cohort's own pairs give the rates and,
            where it has too few, the OAI's.
    """
    with PreparedCohort(folder) as cohort:
        assigned = splits.assign(cohort.manifest, config)
        sha256 = splits.keep(assigned, out)
        pairs = cohort.graded_pairs(HORIZON)
        split_of = np.array([assigned[person] for person in cohort.manifest["participant_id"]])
        place = np.full(len(split_of), -1)
        knees, split_pairs = {}, {}
        for split in splits.SPLITS:
            rows = np.flatnonzero(split_of == split)
            if not len(rows):
                continue
            place[rows] = np.arange(len(rows))
            knees[split] = cohort.knees(rows).resized(size)
            held = split_of[pairs.current] == split
            split_pairs[split] = VisitPairs(
                place[pairs.current[held]],
                place[pairs.future[held]],
                pairs.months[held],
                pairs.horizon[held],
            )
        provenance = cohort.provenance
    graded = int((knees["train"].grade != UNGRADED).sum())
    if graded < 5:
        raise UsageError(
            f"{folder}: only {graded} knees of the training split have a grade; nothing to learn"
        )
    name = str(provenance.get("name") or provenance.get("kind") or folder.name)
    data = TrainingData(
        name=name,
        knees=knees,
        pairs=split_pairs,
        rates=_rates(name, rates, knees, split_pairs),
        splits_sha256=sha256,
        provenance=provenance,
    )
    counts = ", ".join(f"{split} {len(k)}" for split, k in knees.items())
    log.info("%s: knees %s; 12-month pairs %d in train", folder, counts, len(split_pairs["train"].current))
    return data


def transition_rates(path: Path, months: int = HORIZON) -> npt.NDArray[np.float64]:
    """P(KL at ``months`` | KL now), [5, 5], from a table with columns months, kl_now, p_kl0 … p_kl4.

    Raises:
        UsageError: where the table lacks a grade at that month, or a row does not sum to one.
    """
    import csv

    rates = np.full((5, 5), np.nan)
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if int(row["months"]) == months:
                rates[int(row["kl_now"])] = [float(row[f"p_kl{grade}"]) for grade in range(5)]
    if not np.allclose(rates.sum(axis=1), 1, atol=1e-3):
        raise UsageError(f"{path}: the {months}-month rates of every grade must be there and sum to one")
    return rates


def counted_rates(now: npt.NDArray[np.int64], later: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
    """P(later | now) [5, 5] of pairs of grades, falls counted as staying; None where a grade has too few.

    A quarter of a knee is added to every rise by one grade, so that none is impossible.
    """
    counts = np.zeros((5, 5))
    np.add.at(counts, (now, np.maximum(now, later)), 1)
    if (counts.sum(axis=1)[:4] < 20).any():
        return None
    counts += 0.25 * np.eye(5, k=1)
    counts[4, 4] = max(counts[4, 4], 1)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _rates(name: str, path: Path | None, knees: dict[str, Knees], pairs: dict[str, VisitPairs]) -> Rates:
    if path is not None:
        return Rates(transition_rates(path), f"{name}: rates of {path.name}")
    chosen = [split for split in ("train", "val") if split in pairs]
    now = np.concatenate([knees[s].grade[pairs[s].current] for s in chosen])
    later = np.concatenate([knees[s].grade[pairs[s].future] for s in chosen])
    own = counted_rates(now, later)
    if own is None:
        return Rates(np.array(KL_TRANSITIONS[HORIZON]), OAI_RATES, borrowed=True)
    return Rates(own, f"{name}: its train and val participants, {len(now)} pairs of visits a year apart")
