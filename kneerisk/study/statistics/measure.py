"""The figures of every group of knees, all on the same draws of participants, in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kneerisk.study.results import Difference, Figure, Group, ScoreFigures
from kneerisk.study.statistics import agreement, baselines, bootstrap, decisions, discrimination

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Owners = npt.NDArray[np.int64]

FEWEST = 10
"""Events, and knees without one, below which no discrimination or calibration is told."""
MODEL = "model"
ALL = "all"
_GROUP_BINS = 512
_OF_THE_MODEL = Figure.none("told of the model, and of baselines over all knees")


@dataclass(frozen=True)
class Knees:
    """What figures are made from."""

    scores: Mapping[str, Array]
    """``model`` first, then the baselines that tell knees apart, [N] each."""
    event: Flags
    owner: Owners
    """The participant's number, 0..people - 1."""
    people: int
    partial: Mapping[str, Flags]
    """Of a baseline that is not known of every knee: of which it is."""

    def take(self, inside: npt.NDArray[Any]) -> Knees:
        """Some of them; participants keep their numbers."""
        return replace(
            self,
            scores={name: score[inside] for name, score in self.scores.items()},
            event=self.event[inside],
            owner=self.owner[inside],
            partial={name: known[inside] for name, known in self.partial.items()},
        )


def too_few(event: Flags) -> str | None:
    """Why a group's events tell nothing; ``None`` where they do."""
    events = int(event.sum())
    others = len(event) - events
    if events == 0:
        return "no event"
    if others == 0:
        return "every knee has the event"
    if min(events, others) < FEWEST:
        return f"{events} events among {len(event)} knees: fewer than {FEWEST} of a kind tell nothing"
    return None


class Measure:
    """Families of groups gathered first, then drawn for together, then told one by one."""

    def __init__(self, knees: Knees) -> None:
        self.knees = knees
        self._jobs: dict[Any, tuple[bootstrap.Counts, Mapping[str, bootstrap.Statistic]]] = {}
        self._places: dict[str, tuple[Sequence[str], Owners]] = {}
        self._draws: dict[Any, dict[str, Array]] = {}
        self._once: dict[Any, dict[str, Array]] = {}
        self._codes: dict[tuple[str, int], tuple[Owners, int, Array]] = {}

    def add(self, family: str, names: Sequence[str], place: Owners) -> None:
        """One way to part the knees: the groups' names, and each knee's group (negative: none)."""
        self._places[family] = names, place
        for name in self._told(family):
            known = self.knees.partial.get(name)
            inside = place >= 0 if known is None else (place >= 0) & known
            self._count(family, name, name, inside, place, len(names))
            if known is not None:
                self._count(family, f"{MODEL} beside {name}", MODEL, inside, place, len(names))

    def at_thresholds(self, name: str, thresholds: Sequence[float], statistic: bootstrap.Statistic) -> Array:
        """Draw for all knees by threshold of the model's risk too; gives the figure as they are."""
        k = self.knees
        codes = decisions.codes_by_threshold(k.scores[MODEL], thresholds)
        counts = bootstrap.Counts.of(codes, k.event, k.owner, k.people, len(thresholds) + 1)
        self._jobs[name] = counts, {name: statistic}
        return np.asarray(statistic(*counts.once())[0, 0])

    def draw(self, number: int, seed: int) -> None:
        """Draw participants so many times, for everything that was added."""
        if number:
            self._draws = bootstrap.run(self._jobs, self.knees.people, number, seed)
        for key, (counts, statistics) in self._jobs.items():
            once = counts.once()
            self._once[key] = {name: statistic(*once)[:, 0] for name, statistic in statistics.items()}
        self._jobs = {}

    def drawn(self, name: str) -> Array | None:
        """The draws of what :meth:`at_thresholds` added, [number, …]."""
        return np.asarray(self._draws[name][name][0]) if self._draws else None

    def groups(self, family: str) -> list[Group]:
        """The figures of a family's groups that have knees."""
        names, place = self._places[family]
        found = []
        for number, value in enumerate(names):
            inside = np.flatnonzero(place == number)
            if len(inside) == len(place):
                found.append(self._group(family, value, number, self.knees))
            elif len(inside):
                found.append(self._group(family, value, number, self.knees.take(inside)))
        return found

    def _told(self, family: str) -> list[str]:
        """The scores that tell knees of a family's groups apart: not the grade among knees of one grade."""
        return [name for name in self.knees.scores if not name == family == baselines.GRADE]

    def _count(self, family: str, key: str, score: str, inside: Flags, place: Owners, groups: int) -> None:
        k = self.knees
        codes, bins, means = self._coded(score, bootstrap.BINS if family == ALL else _GROUP_BINS)
        parts = (codes, k.event, k.owner)
        if not inside.all():
            parts = (codes[inside], k.event[inside], k.owner[inside])
            place = place[inside]
        counts = bootstrap.Counts.of(*parts, k.people, bins, place, groups)
        statistics: dict[str, bootstrap.Statistic] = {"auc": bootstrap.auc_of}
        if key == MODEL or (family == ALL and key == score):
            statistics["average_precision"] = bootstrap.average_precision_of
            statistics["brier"] = bootstrap.brier_of(means)
        self._jobs[family, key] = counts, statistics

    def _coded(self, score: str, most: int) -> tuple[Owners, int, Array]:
        """A score's places among bins, how many there are, and the mean of each."""
        if (score, most) not in self._codes:
            values = self.knees.scores[score]
            codes, bins = bootstrap.codes_of(values, most)
            knees = np.bincount(codes, minlength=bins)
            means = np.bincount(codes, weights=values, minlength=bins) / np.maximum(knees, 1)
            self._codes[score, most] = codes, bins, means
        return self._codes[score, most]

    def _group(self, family: str, value: str, number: int, knees: Knees) -> Group:
        figures: dict[str, ScoreFigures] = {}
        differences = []
        told = self._told(family)
        whole = [name for name in told if name not in knees.partial]
        reason = too_few(knees.event)
        delong = None
        if reason is None:
            delong = discrimination.delong([knees.scores[n] for n in whole], knees.event, knees.owner)
        for name in told:
            members, own, at = knees, delong, whole.index(name) if name in whole else 1
            if name in knees.partial:
                members = knees.take(np.flatnonzero(knees.partial[name]))
                own = None
                if too_few(members.event) is None:
                    pair = [members.scores[MODEL], members.scores[name]]
                    own = discrimination.delong(pair, members.event, members.owner)
            figures[name] = self._figures(family, name, number, members, own, at)
            if name != MODEL:
                differences.append(self._difference(family, name, number, members.event, own, at))
        figures[baselines.PREVALENCE] = _of_prevalence(knees.event)
        return Group(
            family=family,
            value=value,
            knees=len(knees.event),
            participants=discrimination.participants(knees.owner),
            events=int(knees.event.sum()),
            prevalence=float(knees.event.mean()),
            scores=figures,
            differences=tuple(differences),
        )

    def _figures(
        self,
        family: str,
        name: str,
        number: int,
        knees: Knees,
        delong: discrimination.DeLong | None,
        at: int,
    ) -> ScoreFigures:
        event, owner, score = knees.event, knees.owner, knees.scores[name]
        brier = agreement.brier(score, event) if len(event) else float("nan")
        if delong is None:
            none = Figure.none(too_few(event) or "")
            plain = Figure(brier) if np.isfinite(brier) else none
            return ScoreFigures(none, none, none, plain, *[none] * 6)
        prevalence = float(event.mean())
        value = float(delong.auc[at])
        low, high = delong.interval(at)
        precision = large = slope = ici = e50 = e90 = _OF_THE_MODEL
        if name == MODEL or family == ALL:
            exact = discrimination.average_precision(score, event)
            precision = self._figure(family, name, number, "average_precision", exact)
            large, slope = agreement.intercept_and_slope(score, event, owner)
            ici, e50, e90 = agreement.distances(score, event)
        brier_figure = self._figure(family, name, number, "brier", brier)
        return ScoreFigures(
            auc=self._figure(family, name, number, "auc", value),
            auc_delong=Figure(value, low, high),
            average_precision=precision,
            brier=brier_figure,
            scaled_brier=Figure(agreement.scaled(brier, prevalence)),
            calibration_intercept=large,
            calibration_slope=slope,
            ici=ici,
            e50=e50,
            e90=e90,
        )

    def _figure(self, family: str, name: str, number: int, measure: str, value: float) -> Figure:
        """A figure with its interval, where it was drawn for."""
        drawn = self._draws.get((family, name), {}).get(measure)
        if drawn is None:
            return Figure(value)
        return bootstrap.interval(value, drawn[number], float(self._once[family, name][measure][number]))

    def _difference(
        self,
        family: str,
        name: str,
        number: int,
        event: Flags,
        delong: discrimination.DeLong | None,
        at: int,
    ) -> Difference:
        if delong is None:
            return Difference(name, Figure.none(too_few(event) or ""), None)
        value = float(delong.auc[0] - delong.auc[at])
        beside = (family, f"{MODEL} beside {name}")
        model = beside if beside in self._once else (family, MODEL)
        p = delong.p_of_difference(0, at)
        if not self._draws:
            return Difference(name, Figure(value), p)
        drawn = self._draws[model]["auc"][number] - self._draws[family, name]["auc"][number]
        once = self._once[model]["auc"][number] - self._once[family, name]["auc"][number]
        return Difference(name, bootstrap.interval(value, drawn, float(once)), p)


def _of_prevalence(event: Flags) -> ScoreFigures:
    """The same risk for every knee, the events' share."""
    share = float(event.mean())
    missing = Figure.none("every knee has the same risk")
    both = 0 < share < 1
    return ScoreFigures(
        auc=Figure(0.5) if both else Figure.none(too_few(event) or ""),
        auc_delong=missing,
        average_precision=Figure(share),
        brier=Figure(share * (1 - share)),
        scaled_brier=Figure(0.0) if both else missing,
        calibration_intercept=Figure(0.0) if both else missing,
        calibration_slope=missing,
        ici=missing,
        e50=missing,
        e90=missing,
    )
