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
    weight: npt.NDArray[np.float32]
    """[B], mean one: how many of the population's pairs each stands for."""


class Lessons(NamedTuple):
    """What becomes of M knees, for the classifier that reads their forecasts."""

    knee: npt.NDArray[np.int64]
    """[M]: row of the coded knees, as they are now."""
    moves: npt.NDArray[np.float64]
    """[M, 5, 5]: P(KL j at twelve months), were the knee read as i now; rows sum to one."""
    weight: npt.NDArray[np.float64]
    """[M, 5]: how much row i is to count."""


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
        ones = np.ones(count, np.float32)
        return Drawn(self.coded.codes[now, view], self.coded.codes[later, view], ones)

    def lessons(self) -> Lessons:
        """Each pair teaches the row of its grade now; a fall, which is a reader's doubt, counts as a stay."""
        now = self.coded.grade[self.pairs.current]
        later = np.maximum(now, self.coded.grade[self.pairs.future])
        moves = np.tile(np.eye(5), (len(now), 1, 1))
        moves[np.arange(len(now)), now] = np.eye(5)[later]
        return Lessons(self.pairs.current, moves, np.eye(5)[now])


@dataclass(frozen=True)
class SurrogateFutures:
    """Made-up futures of the coded knees."""

    coded: CodedKnees
    made: Surrogates
    chances: npt.NDArray[np.float64]
    """[N]: how often each knee is drawn."""

    def draw(self, rng: np.random.Generator, count: int) -> Drawn:
        """``count`` knees at random; half of them rise, weighted so that as many do as their chances say.

        A rise changes the latent and a stay does not: drawn as they come, one rise or two would be all that a
        batch had to teach.
        """
        own = self.made.moves[np.arange(len(self.chances)), self.coded.grade]
        rise = (own * (np.arange(5) > self.coded.grade[:, None])).sum(axis=1)
        share = float(self.chances @ rise) if len(self.made.knee) else 0.0
        rises = rng.random(count) < (0.5 if share else 0.0)
        stays = self.chances * (1 - rise)
        knee = rng.choice(len(stays), count, p=stays / stays.sum())
        view = rng.integers(0, self.coded.views, count)
        drawn = rng.integers(0, max(1, len(self.made.knee)), count)[rises]
        knee[rises], view[rises] = self.made.knee[drawn], self.made.view[drawn]
        current = self.coded.codes[knee, view]
        future = current.copy()
        future[rises] = self.made.risen[drawn]
        weight = np.where(rises, share, 1 - share) / (0.5 if share else 1.0)
        return Drawn(current, future, weight.astype(np.float32))

    def lessons(self) -> Lessons:
        """Every knee teaches all rows, by how likely image and reader find it to be of that grade."""
        read = np.eye(5)[self.coded.grade]
        weight = (read + self.made.posterior) / 2 * self.chances[:, None] * len(self.chances)
        return Lessons(np.arange(len(self.chances)), self.made.moves, weight)


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
    purpose = _purpose(
        session,
        coded.views,
        session.recipe.diffusion.rises,
        session.data.rates.moves.tolist(),
        None if session.equations is None else session.equations.read_text(encoding="utf-8"),
    )
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
