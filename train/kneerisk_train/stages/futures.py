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

Latents = npt.NDArray[np.float32]

_CODES_FILE, _SURROGATES_FILE = "latents.npz", "surrogates.npz"


class Drawn(NamedTuple):
    """B knees, now and twelve months on."""

    current: Latents
    """z0, [B, C, h, w]."""
    future: Latents
    """ẑ12, [B, C, h, w]."""


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
    codebook: npt.NDArray[np.float32]
    """[G, K, C / G]."""
    pairs: VisitPairs
    chances: npt.NDArray[np.float64]
    """[P]: how often each pair is drawn."""

    def draw(self, rng: np.random.Generator, count: int) -> Drawn:
        """``count`` pairs at random, both visits in one view."""
        pair = rng.choice(len(self.chances), count, p=self.chances)
        view = rng.integers(0, self.coded.views, count)
        now, later = self.pairs.current[pair], self.pairs.future[pair]
        return Drawn(*(embed(self.codebook, self.coded.codes[visit, view]) for visit in (now, later)))

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
    codebook: npt.NDArray[np.float32]
    """[G, K, C / G]."""
    made: Surrogates
    chances: npt.NDArray[np.float64]
    """[N]: how often each knee is drawn."""

    def draw(self, rng: np.random.Generator, count: int) -> Drawn:
        """``count`` knees at random, each as far on as chance has it; a knee of KL 4 stays as it is."""
        knee = rng.choice(len(self.chances), count, p=self.chances)
        grade, view = self.coded.grade[knee], rng.integers(0, self.coded.views, count)
        current = embed(self.codebook, self.coded.codes[knee, view])
        far = rng.exponential(size=count) * self.made.progress(self.coded.grade)[knee]
        change = far[:, None, None, None] * self.made.steps[np.minimum(grade, 3)]
        return Drawn(current, current + change.astype(np.float32))

    def lessons(self) -> Lessons:
        """Every knee teaches all rows, by how likely image and reader find it to be of that grade."""
        read = np.eye(5)[self.coded.grade]
        weight = (read + self.made.posterior) / 2 * self.chances[:, None] * len(self.chances)
        return Lessons(np.arange(len(self.chances)), self.made.moves, weight)


Futures = VisitFutures | SurrogateFutures


def embed(codebook: npt.NDArray[np.float32], codes: Codes) -> Latents:
    """Codes [B, G, h, w] of codebooks [G, K, C / G] → latents float32 [B, C, h, w]."""
    groups = [np.moveaxis(book[codes[:, group]], -1, 1) for group, book in enumerate(codebook)]
    return np.concatenate(groups, axis=1)


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
    autoencoder = load_autoencoder(session)
    codebook = autoencoder.encoder.quantiser.codebook.detach().float().cpu().numpy()
    if uses_visits(session):
        pairs = session.data.pairs["train"]
        log.info("learning from %d real pairs of visits", len(pairs.current))
        chances = draw_chances(coded.grade[pairs.current], labels.balance)
        return VisitFutures(coded, codebook, pairs, chances)
    purpose = _purpose(
        session,
        session.data.rates.moves.tolist(),
        None if session.equations is None else session.equations.read_text(encoding="utf-8"),
    )
    path = session.out / _SURROGATES_FILE

    def make() -> Surrogates:
        return make_surrogates(autoencoder, session.data.knees["train"].graded(), coded, session)

    made = _made_once(session, path, Surrogates, purpose, make)
    assert isinstance(made, Surrogates)
    log.info("learning from surrogate futures of %d knees", len(coded.grade))
    return SurrogateFutures(coded, codebook, made, draw_chances(coded.grade, labels.balance))


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
