"""Current and future latents to learn from: a cohort's own second visits, or surrogates where it has none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError
from kneerisk_train.data.labels import LabelConfig, draw_chances
from kneerisk_train.prepare.pairs import VisitPairs
from kneerisk_train.run.session import Session, fingerprint
from kneerisk_train.stages.coding import CodedKnees, Codes, code_knees, load_arrays, save_arrays
from kneerisk_train.stages.surrogate import Surrogates, make_surrogates
from kneerisk_train.stages.vqvae import NAME as VQVAE
from kneerisk_train.stages.vqvae import load_autoencoder

log = logging.getLogger(__name__)

_CODES_FILE, _SURROGATES_FILE = "latents.npz", "surrogates.npz"


class Drawn(NamedTuple):
    """B knees, now and twelve months on."""

    current: Codes
    """[B, G, h, w]."""
    future: Codes
    """[B, G, h, w]."""
    grade: npt.NDArray[np.int64]
    """[B]: at twelve months."""


@dataclass(frozen=True)
class VisitFutures:
    """Real pairs of visits of the coded knees."""

    coded: CodedKnees
    pairs: VisitPairs
    chances: npt.NDArray[np.float64]
    """[P]: how often each pair is drawn."""

    def draw(self, rng: np.random.Generator, count: int) -> Drawn:
        """``count`` pairs at random, both visits in one view."""
        pair = rng.choice(len(self.chances), count, p=self.chances)
        view = rng.integers(0, self.coded.views, count)
        now, later = self.pairs.current[pair], self.pairs.future[pair]
        return Drawn(self.coded.codes[now, view], self.coded.codes[later, view], self.coded.grade[later])


@dataclass(frozen=True)
class SurrogateFutures:
    """Made-up futures of the coded knees."""

    coded: CodedKnees
    made: Surrogates
    chances: npt.NDArray[np.float64]
    """[N]: how often each knee is drawn."""

    def draw(self, rng: np.random.Generator, count: int) -> Drawn:
        """``count`` knees at random, each with a future that rises as often as its chance says."""
        chosen = rng.choice(len(self.chances), count, p=self.chances)
        rises = rng.random(count) < self.made.rise_probability[chosen]
        risen_views = self.made.rise.shape[1]
        view = np.where(rises, rng.integers(0, risen_views, count), rng.integers(0, self.coded.views, count))
        capped = np.minimum(view, risen_views - 1)
        future = np.where(
            rises[:, None, None, None], self.made.rise[chosen, capped], self.made.stay[chosen, view]
        )
        grade = np.where(rises, self.made.rise_grade[chosen, capped], self.coded.grade[chosen])
        return Drawn(self.coded.codes[chosen, view], future, grade)


Futures = VisitFutures | SurrogateFutures


def uses_visits(session: Session) -> bool:
    """Whether this run learns from real second visits.

    Raises:
        UsageError: the recipe asks for visits that the cohort does not have.
    """
    asked = session.recipe.diffusion.futures
    if asked == "visits" and not session.data.has_futures:
        raise UsageError(
            "diffusion.futures is visits, but hardly a knee of the training split rises between two visits a "
            "year apart: use surrogate futures (auto does), or a larger cohort"
        )
    return asked == "visits" or (asked == "auto" and session.data.has_futures)


def coded_knees(session: Session) -> CodedKnees:
    """The training split's views, encoded once a run (``latents.npz``).

    Knees without a grade are among them only where pairs of visits may need them.
    """
    knees = session.data.knees["train"]
    knees = knees if uses_visits(session) else knees.graded()
    views = session.recipe.diffusion.views
    purpose = _purpose(session, views)
    path = session.out / _CODES_FILE

    def make() -> CodedKnees:
        log.info("encoding %d knees in %d views", len(knees), views)
        return code_knees(load_autoencoder(session), knees, views, session)

    coded = _made_once(session, path, CodedKnees, purpose, make)
    assert isinstance(coded, CodedKnees)
    return coded


def open_futures(session: Session) -> Futures:
    """What the diffusion and the later classifier learn from; encoded once a run."""
    coded = coded_knees(session)
    labels: LabelConfig = session.recipe.labels
    if uses_visits(session):
        pairs = session.data.pairs["train"]
        log.info("learning from %d real pairs of visits", len(pairs.current))
        return VisitFutures(coded, pairs, draw_chances(coded.grade[pairs.current], labels.balance))
    purpose = _purpose(session, coded.views, session.data.rates.moves.tolist())
    path = session.out / _SURROGATES_FILE

    def make() -> Surrogates:
        knees = session.data.knees["train"].graded()
        return make_surrogates(load_autoencoder(session), knees, coded, session)

    made = _made_once(session, path, Surrogates, purpose, make)
    assert isinstance(made, Surrogates)
    log.info("learning from surrogate futures of %d knees", len(coded.grade))
    return SurrogateFutures(coded, made, draw_chances(coded.grade, labels.balance))


def _purpose(session: Session, *parts: object) -> str:
    """What a cache is good for: this VQ-VAE, these knees, this seed."""
    weights = session.out / f"{VQVAE}.pt"
    stamp = weights.stat().st_mtime_ns if weights.exists() else None
    return fingerprint(session.recipe.seed, session.data.splits_sha256, stamp, *parts)


def _made_once(session: Session, path: Path, kind: type, purpose: str, make: Callable[[], object]) -> object:
    """What is cached at ``path`` for this purpose; the first process makes it where it is missing."""
    if session.fabric.is_global_zero and load_arrays(path, kind, purpose) is None:
        save_arrays(path, make(), purpose)
    session.fabric.barrier()
    return load_arrays(path, kind, purpose)
